"""The state of quota itself: a copy is a state of its own, and one that only folds does not grow."""

import copy

import msgspec
import pytest

from actors import quota
from farebox.core.actor import Parked, Wake
from farebox.core.events import QuotaRefused, QuotaReserved, TaskCancelRequested, TaskCompleted, TaskRouted
from farebox.core.terms import Candidate, Fault


def routed(task, seq, not_before_ms=0):
    candidates = (Candidate(platform="p", not_before_ms=not_before_ms),)
    return TaskRouted(id=f"r-{task}", chain="c", task=task, attempt=1, candidates=candidates, seq=seq)


def cancel(task, seq):
    return TaskCancelRequested(chain="c", task=task, seq=seq)


def folded(state, *facts):
    for fact in facts:
        state = quota.evolve(state, fact)
    return state


def test_a_copy_shares_nothing_that_changes():
    reserved = QuotaReserved(chain="c", task="a", attempt=1, platform="p", seq=2)
    ended = TaskCompleted(id="e", chain="c", task="a", attempt=1, platform="p", status="completed", seq=6)
    state = folded(
        quota.Quota(limits={"p": 2}), routed("a", 1), reserved, routed("b", 3, 5_000), routed("c", 4), cancel("x", 5), ended
    )
    tables = (state.lines, state.later, state.used, state.unwanted)
    before, found = msgspec.json.encode(state), copy.deepcopy(tables)
    twin = copy.deepcopy(state)
    assert (twin.lines, twin.later, twin.used, twin.unwanted) == found
    assert msgspec.json.encode(twin) == before
    twin = folded(twin, routed("d", 7), routed("e", 8, 9_000), cancel("c", 9), cancel("y", 10), reserved)
    quota.decide(twin, Wake(6_000))
    assert msgspec.json.encode(state) == before
    assert tables == found


@pytest.mark.parametrize("not_before_ms", [0, 5_000])
def test_a_state_that_only_folds_does_not_grow(not_before_ms):
    state = quota.Quota(limits={"p": 1})
    for number in range(1, 3_000):
        refused = QuotaRefused(chain="c", task=f"t{number}", fault=Fault(error_class="cancelled"))
        state = folded(state, routed(f"t{number}", number, not_before_ms), refused)
    assert sum(map(len, state.lines.values())) + len(state.later) <= quota.SLACK + 2
    state = folded(state, routed("last", 9_000, not_before_ms))
    assert [fact.task for fact in quota.decide(state, Wake(6_000))] == ["last"]


def test_it_can_be_asked_whose_slots_are_in_use():
    reserved = QuotaReserved(chain="c", task="a", attempt=1, platform="p", seq=2)
    assert quota.held(folded(quota.Quota(limits={"p": 1}), routed("a", 1), reserved)) == [("p", "c", "a")]


def test_a_task_that_a_later_farebox_spoke_of_leaves_the_line_and_the_next_gets_the_slot():
    state = quota.ACTOR.new()
    state.limits = {"p": 1}
    state = folded(state, routed("a", 1), routed("b", 2), Parked(chain="c", task="a", seq=3, at_ms=3, reason="later"))
    (said,) = quota.decide(state, Wake(10))
    assert (type(said), said.task) == (QuotaReserved, "b")
    assert "c.a" not in state.waiting
