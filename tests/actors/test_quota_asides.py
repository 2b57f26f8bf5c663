"""Who steps aside for a quota that others do not share: in which order all come back, and what is left of who leaves."""

import copy

import msgspec
import pytest

from actors import quota
from farebox.core.actor import Stored, Wake
from farebox.core.events import CostRecorded, QuotaReserved, TaskCancelRequested, TaskCompleted, TaskRouted
from farebox.core.quotas import BudgetSettings, QuotaSettings
from farebox.core.terms import CallRecord, Candidate

MINUTE_MS = 60_000
ONE = 10**12
MONEY = {"m": {"billing": "metered", "limit": 2}}
OWN = {"each": BudgetSettings(limit_usd="0.9", scope="chain", window="day")}


@pytest.fixture
def story(told):
    def tell(platforms, **more):
        one = told.Story(quota.ACTOR)
        one.now_ms = 1_774_741_500_000
        one.tell(told.adopted(platforms, warn_at_percent=100, **more))
        return one

    return tell


def routed(task, chain="c", platform="m", billing="metered", bound="0.5"):
    candidate = Candidate(platform=platform, billing=billing, bound_usd=bound, input_tokens_max=1, output_tokens_max=1)
    return TaskRouted(chain=chain, task=task, attempt=1, candidates=(candidate,))


def done(task, chain="c", platform="m"):
    return TaskCompleted(
        chain=chain, task=task, attempt=1, platform=platform, status="completed", charged="known",
        calls=(CallRecord(status=200),),
    )  # fmt: skip


def bill(ended, paid, **fields):
    return CostRecorded(
        chain=ended.chain, task=ended.task, attempt=1, platform=ended.platform, cause=ended.id, paid_usd=paid,
        **{"status": "priced", **fields},
    )  # fmt: skip


def granted(one, fact):
    """Tell a fact and return whose turn it was after it."""
    return [said.task for said in one.all_said(one.tell(fact)) if isinstance(said, QuotaReserved)]


def called_back_without_a_slot(story):
    """A chain's budget has room again for its b, but both slots are taken; z waits for a slot, too."""
    one = story(MONEY, budgets=OWN)
    assert granted(one, routed("a")) == ["a"]
    assert granted(one, routed("b")) == granted(one, routed("b2")) == []
    assert granted(one, routed("x", "d")) == ["x"]
    assert granted(one, routed("y", "e")) == granted(one, routed("z", "f")) == []
    ended = one.tell(done("a"))
    assert granted(one, Wake(one.now_ms)) == ["y"]
    assert granted(one, bill(ended, "0.3", status="possible")) == []
    assert [rank[3] for rank in one.state.called.values()] == ["c.b"]
    return one, ended


def test_one_who_was_called_back_keeps_his_place_when_somebody_else_leaves_the_line(story):
    one, _ = called_back_without_a_slot(story)
    assert granted(one, TaskCancelRequested(chain="f", task="z")) == []
    assert [rank[3] for rank in one.state.called.values()] == ["c.b"]
    assert granted(one, done("x", "d")) == ["b"]


def test_only_one_at_a_time_is_called_back_however_often_there_is_more_room(story):
    one, ended = called_back_without_a_slot(story)
    assert granted(one, bill(ended, "0.2", late=True)) == []
    assert [rank[3] for rank in one.state.called.values()] == ["c.b"]
    waiting = next(iter(one.state.aside.values()))["m"]
    assert [rank[3] for rank in waiting if rank[3] in one.state.waiting] == ["c.b2"]
    assert granted(one, TaskCancelRequested(chain="f", task="z")) == []
    assert granted(one, done("x", "d")) == ["b"]


def test_a_small_task_does_not_overtake_a_large_one_of_its_budget(story):
    one = story({"m": {"billing": "metered", "limit": 9}}, budgets=OWN)
    assert granted(one, routed("a")) == ["a"]
    assert granted(one, routed("large")) == []
    assert granted(one, routed("small", bound="0.1")) == [], "there would be room for it, but not for who came first"
    ended = one.tell(done("a"))
    one.all_said(ended)
    assert granted(one, bill(ended, "0.1")) == ["large", "small"]


def test_a_window_that_turns_when_all_who_waited_for_it_have_left_wakes_nobody(story):
    one = story(MONEY, budgets=OWN)
    one.all_said(one.tell(routed("a")))
    ended = one.tell(done("a"))
    one.all_said(ended)
    one.all_said(one.tell(bill(ended, "0.45", status="possible")))
    (deferred,) = one.all_said(one.tell(routed("b")))
    one.all_said(one.tell(TaskCancelRequested(chain="c", task="b")))
    one.all_said(one.tell(bill(ended, "0.44", late=True)))
    assert not one.state.aside
    one.now_ms = deferred.due_ms
    assert one.all_said(Wake(one.now_ms)) == []
    assert quota.due(one.state) is None
    assert granted(one, routed("next")) == ["next"]


def test_what_began_before_the_window_turned_counts_no_more_when_it_ends_after_it(story):
    one = story({"p": {"limit": 9}}, quotas={"q": QuotaSettings(platform="p", window="hour", limit=100)})
    for task in "ab":
        assert granted(one, routed(task, platform="p", billing="plan")) == [task]
    one.now_ms += 16 * MINUTE_MS
    assert granted(one, routed("now", platform="p", billing="plan")) == ["now"]
    for task in ("now", "a"):
        one.all_said(one.tell(done(task, platform="p")))
    assert one.state.uses.use("p/hour/requests", one.now_ms) == (2 * ONE, ONE), "the one of now, and b that still runs"


def test_a_deadline_on_its_way_frees_nothing_and_an_end_that_came_first_counts_once(story, told):
    one = story({"p": {"limit": 1}}, quotas={"q": QuotaSettings(platform="p", window="5h", limit=100)})
    one.all_said(one.tell(routed("a", platform="p", billing="plan")))
    one.tell(routed("b", platform="p", billing="plan"))
    one.now_ms = quota.due(one.state)
    (expired,) = quota.decide(one.state, Wake(one.now_ms))
    guess = msgspec.structs.replace(expired, id="guess")
    ahead = quota.evolve(copy.deepcopy(one.state), guess)
    assert (ahead.used, quota.decide(ahead, Wake(one.now_ms)), quota.due(ahead)) == ({"p": 1}, [], None)
    end = one.tell(done("a", platform="p"))
    ahead = quota.evolve(ahead, end)
    (settled,) = quota.decide(ahead, end)
    assert (settled.cause, settled.expired) == (end.id, False)
    ahead = quota.evolve(ahead, Stored(one.tell(guess)))
    assert (told.same(ahead, one.state), ahead.expiring, ahead.used) == (True, {}, {"p": 0})
    one.all_said(end)
    assert one.state.uses.use("p/5h/requests", one.now_ms) == (2 * ONE, ONE), "what a used, and b that runs now"


def test_a_second_bill_that_comes_while_the_first_is_being_settled_is_counted_once_by_all(story, told):
    one = story(MONEY, budgets={"b": BudgetSettings(limit_usd="9")})
    one.all_said(one.tell(routed("a")))
    ended = one.tell(done("a"))
    one.all_said(ended)
    first = one.tell(bill(ended, "0.1"))
    (settled,) = quota.decide(one.state, first)
    guess = msgspec.structs.replace(settled, id="guess")
    ahead = quota.evolve(copy.deepcopy(one.state), guess)
    second = one.tell(bill(ended, "0.2", late=True))
    ahead = quota.evolve(ahead, second)
    ahead = quota.evolve(ahead, Stored(one.tell(guess)))
    (again,) = quota.decide(ahead, second)
    guess = msgspec.structs.replace(again, id="again")
    ahead = quota.evolve(ahead, guess)
    ahead = quota.evolve(ahead, Stored(one.tell(guess)))
    assert told.same(ahead, one.state)
    assert (one.state.uses.use("budget:b/all/usd", one.now_ms), one.state.booked) == ((2 * 10**11, 0), {})
