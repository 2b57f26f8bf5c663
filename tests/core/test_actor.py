"""The contract of an actor: what it hears, says and folds is read from its type hints."""

import pytest

from actors import ACTORS
from farebox.core import subjects
from farebox.core.actor import Actor, Quarantined, Wake
from farebox.core.events import Fact, LateResult, QuotaReserved, TaskCompleted, TaskRouted, TaskSubmitted


def decide(state: int, heard: TaskSubmitted | TaskCompleted) -> list[TaskRouted]:
    return [TaskRouted(chain=heard.chain, task=heard.task)] * state


def evolve(state: int, fact: TaskSubmitted) -> int:
    return state + bool(fact)


def test_type_hints_are_subscription_and_vocabulary():
    actor = Actor(name="x", new=int, decide=decide, evolve=evolve)
    assert actor.heard() == {TaskSubmitted, TaskCompleted}
    assert actor.said() == {TaskRouted}
    assert actor.folded() == {TaskSubmitted}
    assert decide(evolve(0, TaskSubmitted()), TaskSubmitted(chain="c", task="t"))[0].key == ("c", "t")


@pytest.mark.parametrize("actor", ACTORS, ids=lambda actor: actor.name)
def test_an_actor_folds_what_it_says_and_says_only_what_its_writer_may(actor):
    assert actor.said() <= actor.folded()
    for kind in actor.said():
        writer = "late" if kind is LateResult else actor.name
        assert (writer, kind) in subjects.ROWS


@pytest.mark.parametrize("actor", ACTORS, ids=lambda actor: actor.name)
def test_an_actor_folds_every_fact_it_hears(actor):
    facts = {kind for kind in actor.heard() if issubclass(kind, Fact | Quarantined)}
    assert facts <= actor.folded()


def test_the_actors_stand_in_the_order_a_task_meets_them():
    assert [actor.name for actor in ACTORS] == ["router", "quota", "adapter", "cost", "aggregator"]
    assert [actor.name for actor in ACTORS if actor.pace == "writer"] == ["quota"]
    assert [actor.name for actor in ACTORS if Wake in actor.heard()] == ["quota"]
    assert [actor.name for actor in ACTORS if QuotaReserved in actor.heard()] == ["adapter"]


def test_a_quarantined_submission_answers_like_a_fact():
    bad = Quarantined("c", "t", 7, 8, "why")
    assert (bad.id, bad.key) == ("seq-7", ("c", "t"))
