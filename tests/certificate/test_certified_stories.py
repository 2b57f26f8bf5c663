"""Stories that are hard to count: what the quota actor says to them is certified, fact by fact."""

import msgspec
import pytest

from actors import quota
from farebox.certificate.fold import Fold
from farebox.core import subjects, wire
from farebox.core.actor import Wake
from farebox.core.events import (
    CostRecorded,
    QuotaLearned,
    QuotaReserved,
    QuotaSettled,
    SettingsAdopted,
    TaskCompleted,
    TaskRouted,
    TaskStarted,
)
from farebox.core.quotas import BudgetSettings, QuotaSettings
from farebox.core.settings import PlatformSettings, Settings, canonical
from farebox.core.terms import Allowance, CallRecord, Candidate

DAY_MS = 86_400_000


class Story:
    """A log that quota and the certificate read side by side; its clock says what it is told to."""

    def __init__(self, **fields):
        self.state, self.fold = quota.ACTOR.new(), Fold()
        self.now_ms, self.seq = 1_774_741_500_000, 0
        platforms = {"p": PlatformSettings(kind="test", limit=9, billing="metered")}
        plain, sha256 = canonical(Settings(platforms=platforms, warn_at_percent=100, **fields))
        self.tell(SettingsAdopted(settings=plain, sha256=sha256), "engine")

    def adopt(self, **fields):
        """Let there be one quota of two requests a day, in another window than before."""
        platforms = {"p": PlatformSettings(kind="test", limit=9, billing="metered")}
        quotas = {"q": QuotaSettings(**{"platform": "p", "window": "day", "limit": 2, **fields})}
        plain, sha256 = canonical(Settings(platforms=platforms, warn_at_percent=100, quotas=quotas))
        self.tell(SettingsAdopted(settings=plain, sha256=sha256), "engine")

    def tell(self, fact, writer="router"):
        """Put a fact into the log, as it is read from there."""
        self.seq += 1
        fact = msgspec.structs.replace(fact, id=fact.id or f"seq-{self.seq}")
        fact = wire.decode(subjects.subject_of(writer, fact), wire.encode(fact), self.seq, self.now_ms)
        self.fold.take(fact)
        if type(fact) in quota.ACTOR.folded():
            self.state = quota.evolve(self.state, fact)
        self.last = fact
        return fact

    def say(self, heard=None):
        """Let quota say all it has to say; return whose turn it was."""
        grants = []
        while said := quota.decide(self.state, heard or Wake(self.now_ms)):
            for fact in said:
                self.tell(fact, "quota")
                grants += [fact.task] if isinstance(fact, QuotaReserved) else []
        return grants

    def wrong(self):
        """Return what the certificate blames, in words."""
        found = self.fold.certificate(facts=self.seq, first=1, last=self.seq, digest="")
        return [breach.text for breach in found.breaches]


def routed(task, **allowed):
    candidate = Candidate(platform="p", billing="metered", bound_usd="0.5", input_tokens_max=1, output_tokens_max=1)
    return TaskRouted(chain="c", task=task, attempt=1, candidates=(candidate,), allowance=Allowance(**allowed))


def done(task, **fields):
    return TaskCompleted(chain="c", task=task, attempt=1, platform="p", status="completed",
                         calls=(CallRecord(status=200),), **{"charged": "none", **fields})  # fmt: skip


def test_a_tag_as_long_as_a_letter_has_a_budget_of_its_own_that_is_certified():
    story = Story(budgets={"team": BudgetSettings(limit_usd="0.9", scope="tag", window="day")})
    for task, value in (("a", "x" * 5_000), ("b", "x" * 5_000), ("d", "x" * 4_999 + "y")):
        story.tell(routed(task, tags={"team": value}))
    assert story.say() == ["a", "d"]
    assert story.wrong() == []


def overtaken(story, end):
    """A grant's time is over, and it has ended; an engine that had not read the end says that its time was over."""
    story.tell(routed("a"))
    assert story.say() == ["a"]
    story.now_ms = quota.due(story.state)
    (expired,) = quota.decide(story.state, Wake(story.now_ms))
    ended = story.tell(end, "adapter")
    story.tell(expired, "quota")
    return ended, expired


@pytest.mark.parametrize("quotas", [{}, {"q": QuotaSettings(platform="p", window="5h", limit=9)}])
def test_a_deadline_and_the_end_it_had_not_seen_are_one_settlement_and_a_third_is_none(quotas):
    story = Story(quotas=quotas)
    _, expired = overtaken(story, done("a"))
    assert story.say() == []
    settled = [take.amount for take in story.last.takes]
    assert (type(story.last), story.last.expired, settled) == (QuotaSettled, False, ["1"] * len(quotas))
    story.tell(routed("b"))
    assert story.say() == ["b"]
    assert story.wrong() == []
    last = story.tell(msgspec.structs.replace(expired, id="again"), "quota")
    assert [f"Fact {last.seq} settles" in text for text in story.wrong()] == [True]


def test_a_deadline_said_twice_is_no_correction():
    story = Story()
    _, expired = overtaken(story, done("a"))
    last = story.tell(msgspec.structs.replace(expired, id="again"), "quota")
    assert [f"Fact {last.seq} settles" in text for text in story.wrong()] == [True]


def test_dollars_that_a_deadline_booked_while_their_bill_was_waited_for_are_corrected_by_the_bill():
    story = Story(budgets={"day": BudgetSettings(limit_usd="0.9", window="day")})
    ended, _ = overtaken(story, done("a", charged="known"))
    assert story.say() == []
    assert story.state.uses.use("budget:day/day/usd", story.now_ms) == (0, 0), "midnight has passed since it began"
    story.tell(routed("b"))
    assert story.say() == ["b"]
    story.tell(
        CostRecorded(chain="c", task="a", attempt=1, platform="p", cause=ended.id, paid_usd="0.2", status="priced"), "cost"
    )
    assert story.say() == []
    assert [take.amount for take in story.last.takes] == ["0.2"]
    assert story.wrong() == []


@pytest.mark.parametrize(("window", "kind"), [("day", "fixed"), ("hour", "rolling"), ("5h", "fixed")])
def test_a_clock_that_jumps_a_day_ahead_and_back_lets_nobody_pass_a_limit(window, kind):
    story = Story(quotas={"q": QuotaSettings(platform="p", window=window, kind=kind, limit=2)})
    for task in "abcdef":
        story.tell(routed(task))
    began_ms, granted = story.now_ms, []
    for ahead_ms in (0, DAY_MS, 0, -DAY_MS, 1_000):
        story.now_ms = began_ms + ahead_ms
        for _ in range(4):
            for task in story.say():
                granted.append(task)
                story.tell(done(task), "adapter")
        assert len(granted) == (2 if ahead_ms == 0 and len(granted) < 3 else 4), (
            "two before the jump, two by the clock after it"
        )
    assert story.wrong() == []
    story.now_ms = due_ms = quota.due(story.state)
    assert began_ms + DAY_MS < due_ms <= began_ms + 3 * DAY_MS
    assert story.say() == ["e"]
    assert story.wrong() == []


def test_what_is_held_when_the_clock_jumps_back_ends_at_no_time_that_is_over():
    story = Story(quotas={"q": QuotaSettings(platform="p", window="day", limit=9)})
    story.now_ms += DAY_MS
    story.tell(routed("a"))
    story.now_ms -= DAY_MS
    assert story.say() == ["a"]
    story.tell(TaskStarted(chain="c", task="a", attempt=1, platform="p", timeout_s=60), "adapter")
    assert quota.due(story.state) == story.now_ms + DAY_MS + 180_000
    assert quota.decide(story.state, Wake(story.now_ms)) == []
    learned = story.tell(QuotaLearned(platform="p", window_s=86_400, limit=9, used=8), "adapter")
    assert story.state.uses.learned["p/day/requests"].until_ms == learned.at_ms + 2 * DAY_MS, "a day from the latest time seen"
    story.tell(routed("b"))
    assert story.say() == [], "eight by the report, and the one that runs"
    story.now_ms += 2 * DAY_MS
    assert story.say() == ["b"]
    assert story.wrong() == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"zone": "Europe/Berlin"}, {"zone": "America/Los_Angeles"}),
        ({"kind": "fixed"}, {"kind": "rolling"}),
        ({"kind": "rolling"}, {"kind": "fixed", "zone": "America/Los_Angeles"}),
    ],
)
def test_a_window_that_becomes_another_one_counts_all_that_began_in_it(before, after):
    story = Story()
    story.now_ms = 1_780_344_000_000  # 20:00 of 1 June 2026, UTC; 22:00 in Berlin
    story.adopt(**before)
    for task in "ab":
        story.tell(routed(task))
        assert story.say() == [task]
        story.tell(done(task), "adapter")
        assert story.say() == []
    story.now_ms += 270 * 60_000
    story.adopt(**after)
    story.tell(routed("d"))
    assert story.say() == [], "in Los Angeles, and a day back, it is still the day of both"
    story.now_ms = quota.due(story.state)
    assert story.say() == ["d"]
    assert story.wrong() == []


def test_a_bill_that_comes_after_its_window_became_another_one_corrects_what_is_counted_there():
    story = Story()
    story.adopt(unit="usd", limit=2, kind="fixed", zone="Europe/Berlin")
    ended = []
    for task in "ab":
        story.tell(routed(task))
        assert story.say() == [task]
        ended.append(story.tell(done(task, charged="known"), "adapter"))
        story.say()
        story.tell(bill(ended[-1], None, "possible"), "cost")
        story.say()
    story.adopt(unit="usd", limit=2, kind="rolling")
    assert story.state.uses.use("p/day/usd", story.now_ms) == (10**12, 0)
    story.tell(bill(ended[0], "0.2", "priced", late=True), "cost")
    story.say()
    assert story.state.uses.use("p/day/usd", story.now_ms) == (7 * 10**11, 0)
    story.adopt(unit="usd", limit=2, kind="fixed")
    assert story.state.uses.use("p/day/usd", story.now_ms) == (7 * 10**11, 0)
    story.now_ms += 3 * DAY_MS
    story.tell(routed("d"))
    assert story.say() == ["d"]
    assert not story.state.uses.rolled, "nobody looks back three days"
    story.tell(bill(ended[1], "0.3", "priced", late=True), "cost")
    story.say()
    assert (story.state.uses.use("p/day/usd", story.now_ms), story.state.uses.rolled) == ((5 * 10**11, 5 * 10**11), {})


def bill(ended, paid, status, **fields):
    return CostRecorded(
        chain="c", task=ended.task, attempt=1, platform="p", cause=ended.id, paid_usd=paid, status=status, **fields
    )
