"""How quotas stand: what is told to people is what grants are held against, and telling it changes nothing."""

import copy

import msgspec
import pytest

from actors import quota
from actors.standings import shown
from farebox.core.events import CostRecorded, QuotaLearned, QuotaReserved, SettingsAdopted, TaskCompleted, TaskRouted
from farebox.core.quotas import BudgetSettings, QuotaSettings
from farebox.core.settings import PlatformSettings, Settings, canonical
from farebox.core.terms import Allowance, CallRecord, Candidate, Usage

PLATFORMS = {
    "a": PlatformSettings(kind="x", account="me", billing="plan", limit=4),
    "b": PlatformSettings(kind="x", account="me", billing="plan"),
    "paid": PlatformSettings(kind="x", billing="metered", limit=3),
}
SETTINGS = Settings(
    platforms=PLATFORMS,
    quotas={
        "day": QuotaSettings(platform="a", window="day", limit=250, source="published", zone="America/Los_Angeles"),
        "mine": QuotaSettings(platform="b", window="day", limit=200),
        "rolls": QuotaSettings(platform="a", window="5h", limit=50),
        "tokens": QuotaSettings(platform="paid", window="minute", unit="tokens"),
        "free": QuotaSettings(platform="paid", window="day", limit=5, billing="free"),
    },
    budgets={
        "month": BudgetSettings(limit_usd="50", window="month"),
        "ever": BudgetSettings(limit_usd="9", scope="platform", key="paid"),
        "each": BudgetSettings(limit_usd="2", scope="chain"),
    },
)


@pytest.fixture
def story(told):
    one = told.Story(quota.ACTOR)
    one.now_ms = 1_790_000_000_000
    plain, sha256 = canonical(SETTINGS)
    one.tell(SettingsAdopted(settings=plain, sha256=sha256))
    return one


def route(task, platform, billing="plan", **more):
    candidate = Candidate(
        platform=platform, billing=billing, input_tokens_max=100, output_tokens_max=50, bound_usd="0.5", limit=4, **more
    )
    allowance = Allowance(batch_max_cost_usd="3")
    return TaskRouted(chain="c", task=task, attempt=1, batch="b1", candidates=(candidate,), allowance=allowance)


def standing(story, name, later_ms=0):
    found = [one for one in shown(story.state, story.now_ms + later_ms) if one.quota == name]
    assert len(found) == 1, [one.quota for one in shown(story.state, story.now_ms)]
    return found[0]


def granted(story, task, platform, billing="plan"):
    said = story.all_said(story.tell(route(task, platform, billing)))
    assert any(isinstance(one, QuotaReserved) for one in said)


def ended(story, task, platform):
    usage = Usage(input_tokens=10, output_tokens=5)
    fact = TaskCompleted(
        chain="c",
        task=task,
        attempt=1,
        batch="b1",
        platform=platform,
        status="completed",
        usage=usage,
        charged="known",
        calls=(CallRecord(status=200),),
    )
    story.all_said(story.tell(fact))


def test_slots_windows_and_budgets_are_told_from_the_first_moment_on(story):
    day = standing(story, "me/day/requests")
    assert (day.used, day.limit, day.source, day.platforms) == ("0", "200", "configured", ("a", "b"))
    assert day.resets_at_ms is not None and day.resets_at_ms > story.now_ms  # noqa: PT018 - one moment
    slots = standing(story, "a/now/calls")
    assert (slots.used, slots.limit, slots.most, slots.unit) == ("0", "4", "4", "calls")
    assert standing(story, "paid/minute/tokens").limit is None
    assert standing(story, "me/5h/requests").resets_at_ms is None
    ever = standing(story, "budget:ever/all/usd")
    assert (ever.limit, ever.platforms, ever.resets_at_ms) == ("9", ("paid",), None)
    assert standing(story, "budget:month/month/usd").platforms == ()
    names = {one.quota for one in shown(story.state, story.now_ms)}
    assert "paid/day/requests" not in names
    assert not any(name.startswith("budget:each") for name in names)


def test_what_is_in_flight_counts_and_what_has_ended_rolls_off(story):
    granted(story, "t1", "a")
    day = standing(story, "me/day/requests")
    assert (day.used, day.open, day.evidence) == ("1", "1", "own count")
    assert standing(story, "a/now/calls").used == "1"
    ended(story, "t1", "a")
    rolls = standing(story, "me/5h/requests")
    assert (rolls.used, rolls.open) == ("1", "0")
    assert rolls.resets_at_ms is not None
    assert standing(story, "me/5h/requests", 5 * 3_600_000).used == "0"
    assert standing(story, "me/day/requests").used == "1"
    assert standing(story, "me/day/requests", 2 * 86_400_000).used == "0"


def test_budgets_of_each_chain_and_of_a_batch_are_told_once_they_are_used(story):
    granted(story, "t1", "paid", "metered")
    for name, limit in (("budget:each=c/all/usd", "2"), ("budget:batch=b1/all/usd", "3"), ("budget:month/month/usd", "50")):
        found = standing(story, name)
        assert (found.open, found.limit, found.source) == ("0.5", limit, "configured")
    ended(story, "t1", "paid")
    charge = CostRecorded(chain="c", task="t1", attempt=1, platform="paid", status="priced", paid_usd="0.125", cause="x")
    story.all_said(story.tell(msgspec.structs.replace(charge, cause=story.facts[-2].id)))
    assert standing(story, "budget:each=c/all/usd").used == "0.125"


def test_what_a_provider_told_counts_until_its_reset_with_all_that_came_after(story):
    until_ms = story.now_ms + 60_000
    learned = QuotaLearned(platform="a", account="me", window_s=18_000, unit="percent", used=40, resets_at_ms=until_ms)
    story.tell(msgspec.structs.replace(learned, evidence="rate_limit_event"))
    granted(story, "t1", "a")
    found = standing(story, "me/5h/percent")
    assert (found.used, found.limit, found.evidence, found.resets_at_ms) == ("41", "100", "rate_limit_event", until_ms)
    assert found.evidence_ms is not None
    ended(story, "t1", "a")
    story.tell(msgspec.structs.replace(learned, used=43))
    assert standing(story, "me/5h/percent").per_call == "3"
    void = standing(story, "me/5h/percent", 120_000)
    assert (void.used, void.evidence, void.evidence_ms) == ("1", "own count", None)


def test_telling_changes_nothing(story):
    granted(story, "t1", "a")
    ended(story, "t1", "a")
    before = copy.deepcopy(story.state)
    shown(story.state, story.now_ms + 10**9)
    assert msgspec.json.encode(story.state, order="sorted") == msgspec.json.encode(before, order="sorted")
    assert story.state.uses.live == before.uses.live
