"""A window that turns while calls run: what began before belongs to the window in which it began, and nothing is below none."""

import pytest

from actors import quota
from farebox.core.actor import Wake
from farebox.core.events import CallRecord, QuotaLearned, QuotaReserved, TaskCompleted, TaskRouted
from farebox.core.quotas import QuotaSettings
from farebox.core.terms import Candidate

pytestmark = pytest.mark.fault(63)
HOUR_MS = 3_600_000
TURNS = {
    "an hour": ("hour", "UTC", 1_774_742_400_000),
    "the night without an hour, in Berlin": ("day", "Europe/Berlin", 1_774_738_800_000 + 23 * HOUR_MS),
    "the night with an hour more, in Los Angeles": ("day", "America/Los_Angeles", 1_793_516_400_000 + 25 * HOUR_MS),
}


def routed(task):
    candidates = (Candidate(platform="p", billing="plan"),)
    return TaskRouted(chain="c", task=task, attempt=1, candidates=candidates, timeout_s=7 * 86_400)


def done(task):
    calls = (CallRecord(status=200),)
    return TaskCompleted(chain="c", task=task, platform="p", attempt=1, calls=calls, charged="known", status="completed")


def story_of(told, at_ms, **more):
    one = told.Story(quota.ACTOR)
    one.now_ms = at_ms
    one.tell(told.adopted({"p": {"limit": 9, "billing": "plan"}}, **more))
    return one


def granted(one, *facts):
    """Tell facts, ask until nothing more is said, and return whom capacity was given to."""
    one.tell(*facts)
    return [fact.task for fact in one.all_said(Wake(one.now_ms)) if isinstance(fact, QuotaReserved)]


@pytest.mark.parametrize(("window", "zone", "turn_ms"), TURNS.values(), ids=TURNS)
def test_a_call_over_the_turn_counts_in_both_while_it_runs_and_then_where_it_began(told, window, zone, turn_ms):
    limit = QuotaSettings(platform="p", window=window, zone=zone, limit=4)
    one = story_of(told, turn_ms - 1_000, quotas={"q": limit}, warn_at_percent=100)
    assert granted(one, routed("a"), routed("b"), routed("c"), routed("d")) == ["a", "b"]
    one.now_ms = turn_ms
    assert granted(one) == [], "two run, half of the new window"
    assert granted(one, done("a"), done("b")) == ["c", "d"]
    (used, open_now) = one.state.uses.use(f"p/{window}/requests", one.now_ms)
    assert used == open_now, "what began before the turn is used there and not here"
    granted(one, done("c"), done("d"))
    assert one.state.uses.use(f"p/{window}/requests", one.now_ms)[0] == 2 * 10**12
    assert all(tally.open == 0 for tally in one.state.uses.tallies.values())


def test_who_is_reset_early_goes_on_at_once(told):
    one = story_of(told, 1_774_741_500_000)
    report = {"platform": "p", "window_s": 18_000, "unit": "requests", "limit": 10, "evidence": "told"}
    full = QuotaLearned(**report, used=10, resets_at_ms=one.now_ms + 4 * HOUR_MS)
    assert granted(one, full, routed("a")) == []
    assert granted(one, QuotaLearned(**report, used=0, resets_at_ms=one.now_ms + 5 * HOUR_MS)) == ["a"]


def test_a_report_of_less_than_was_used_here_gives_nothing_back(told):
    limit = QuotaSettings(platform="p", window="hour", limit=1)
    one = story_of(told, 1_774_741_500_000, quotas={"q": limit})
    assert granted(one, routed("a")) == ["a"]
    granted(one, done("a"))
    assert granted(one, QuotaLearned(platform="p", window_s=3600, unit="requests", limit=1, used=0), routed("b")) == []
