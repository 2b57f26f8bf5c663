"""A mind before what it cannot answer: it keeps what broke it, leaves parked tasks alone, and goes on with the rest."""

import dataclasses
from typing import get_type_hints

import pytest

from actors import quota, router
from farebox.core.actor import Parked, Wake
from farebox.core.events import QuotaReserved, TaskCompleted, TaskRouted
from farebox.runtime.mind import Mind

SECRET = b"secret"


def parked(mind, task, seq):
    mind.hear(Parked(chain="c", task=task, seq=seq, at_ms=1, reason="later"), "client")


@pytest.fixture
def sick():
    """A router that breaks over task "a" as long as `over` says so."""
    over = {"a"}

    def decide(state, heard):
        if heard.task in over:
            raise KeyError(heard.task)
        return router.ACTOR.decide(state, heard)

    decide.__annotations__ = get_type_hints(router.ACTOR.decide)
    return dataclasses.replace(router.ACTOR, decide=decide), over


def test_a_parked_task_is_not_decided_about_and_the_others_are(desk):
    desk.put("client", desk.task("a"))
    desk.put("client", desk.task("b"))
    mind = desk.mind(router.ACTOR, live=False)
    parked(mind, "a", mind.seq + 1)
    mind.go_live(1)
    (decision,) = mind.decisions()
    assert decision.facts[0].task == "b"
    assert mind.stopped.parked == {("c", "a"): 5}
    assert not mind.whole


def test_what_is_heard_of_a_parked_task_later_is_folded_and_not_answered(desk):
    mind = desk.mind(router.ACTOR)
    parked(mind, "a", mind.seq + 1)
    desk.put("client", desk.task("x"))
    desk.put("client", desk.task("a"))
    desk.read(mind, 2)
    assert "c.a" in mind.state.tasks
    assert [decision.facts[0].task for decision in mind.decisions()] == []


def test_quota_gives_a_parked_task_nothing_and_the_next_in_line_gets_the_slot(desk):
    desk.put("router", desk.route("a"))
    desk.put("router", desk.route("b"))
    mind = desk.mind(quota.ACTOR, live=False)
    parked(mind, "a", mind.seq + 1)
    mind.go_live(1)
    (decision,) = mind.decisions()
    assert [(type(fact), fact.task) for fact in decision.facts] == [(QuotaReserved, "b")]


def test_what_broke_the_actor_is_kept_and_decided_about_again(desk, sick):
    actor, over = sick
    desk.put("client", desk.task("a"))
    desk.put("client", desk.task("b"))
    mind = desk.mind(actor)
    with pytest.raises(KeyError):
        list(mind.decisions())
    (decision,) = mind.decisions()
    assert decision.facts[0].task == "b"
    desk.append(mind, decision)
    desk.read(mind)
    assert (mind.stopped.broken[3].reason, mind.stopped.broken[3].heard.task) == ("KeyError: 'a'", "a")
    assert (mind.idle, mind.whole) == (True, False), "idle, but no snapshot may stand for what was not answered"
    over.clear()
    mind.retry(3)
    (said,) = desk.all(mind)
    assert (type(said), said.task) == (TaskRouted, "a")
    assert mind.whole
    assert not mind.retry(3), "nothing of it is left undecided"


def test_what_cannot_be_stored_frees_its_task_for_the_next_word(desk):
    desk.put("client", desk.task("a"))
    mind = desk.mind(router.ACTOR)
    (decision,) = mind.decisions()
    mind.unsayable(decision, "too large")
    assert [(seq, broken.reason) for seq, broken in mind.stopped.broken.items()] == [(3, "too large")]
    assert mind.idle


def test_a_mute_mind_folds_and_says_nothing(desk):
    desk.put("client", desk.task("a"))
    desk.put("router", TaskCompleted(chain="c", task="z", status="failed"))
    mind = Mind(router.ACTOR, SECRET, mute=True)
    desk.read(mind)
    mind.go_live(1)
    assert "c.a" in mind.state.tasks
    assert (list(mind.decisions()), mind.idle, mind.whole, mind.due()) == ([], True, False, None)
    other = Mind(quota.ACTOR, SECRET, mute=True)
    other.go_live(1)
    assert (list(other.decisions()), other.due()) == ([], None)


def test_a_wake_that_breaks_an_actor_leaves_nothing_to_retry(desk):
    mind = desk.mind(router.ACTOR)
    mind.stopped.leave(Wake(1), "broke")
    assert mind.stopped.broken == {}
