"""A mind: what it decides follows from the log alone, whatever becomes of its appends."""

import msgspec

from actors import cost, quota, router
from farebox.core import wire
from farebox.core.events import (
    AttemptFailed,
    TaskCancelRequested,
    TaskRouted,
)
from farebox.core.terms import Fault, Usage
from farebox.runtime import mind as minds

SECRET = b"secret"


def test_nothing_is_decided_before_the_past_is_folded(desk):
    desk.put("client", desk.task("a"))
    mind = desk.mind(router.ACTOR, live=False)
    assert list(mind.decisions()) == []
    mind.go_live(1)
    (decision,) = mind.decisions()
    assert isinstance(decision.facts[0], TaskRouted)


def test_what_was_answered_in_the_past_is_not_answered_again(desk):
    desk.put("client", desk.task("a"))
    desk.all(desk.mind(router.ACTOR))
    second = desk.mind(router.ACTOR)
    assert second.idle
    assert list(second.decisions()) == []


def test_a_fact_is_stamped_with_its_cause_its_id_and_what_its_fence_expects(desk):
    desk.put("client", desk.task("a", id="mine"))
    mind = desk.mind(router.ACTOR)
    (said,) = desk.all(mind)
    assert (said.cause, said.chain, said.task) == ("mine", "c", "a")
    desk.put("adapter", AttemptFailed(chain="c", task="a", attempt=1, platform="p", fault=Fault(error_class="network")))
    desk.read(mind)
    (decision,) = mind.decisions()
    (entry,) = mind.entries(decision)
    assert (entry.fence.filter, entry.fence.last) == ("farebox.log.router.*.*.c.a", 4)
    assert wire.decode(entry.subject, entry.body).prev == 4


def test_tasks_whose_clients_chose_the_same_ids_are_told_apart(make_desk):
    desk = make_desk(limit=5)
    for name in ("a", "b"):
        desk.put("client", desk.task(name, id="mine"))
    routing, granting = desk.mind(router.ACTOR), desk.mind(quota.ACTOR)
    assert len({fact.id for fact in desk.all(routing)}) == 2
    desk.read(granting)
    said = desk.all(granting)
    assert len({fact.id for fact in said}) == 2
    for name in ("a", "b"):
        desk.put("adapter", desk.done(name, id="same"))
    desk.read(granting)
    assert [type(fact).__name__ for fact in desk.all(granting)][:1] == ["QuotaSettled"]
    assert msgspec.json.encode(granting.state) == msgspec.json.encode(granting.ahead)


def test_a_task_is_decided_anew_only_when_its_own_fact_came_back(desk):
    desk.put("client", desk.task("a"))
    mind = desk.mind(router.ACTOR)
    (decision,) = mind.decisions()
    seq = desk.put("client", TaskCancelRequested(chain="c", task="a"))
    desk.read(mind)
    assert list(mind.decisions()) == []
    assert desk.append(mind, decision)
    assert not mind.idle
    assert list(mind.decisions()) == []
    desk.read(mind)
    assert mind.seq == seq + 1
    assert list(mind.decisions()) == []
    assert mind.idle


def test_an_answer_that_comes_after_the_fact_itself_frees_the_task(desk):
    desk.put("client", desk.task("a"))
    mind = desk.mind(router.ACTOR)
    (decision,) = mind.decisions()
    seqs = desk.store.append(mind.entries(decision))
    desk.read(mind)
    mind.stored(decision, seqs)
    assert mind.idle


def test_one_of_two_engines_is_refused_reads_on_and_has_nothing_more_to_say(desk):
    desk.put("client", desk.task("a"))
    one, other = desk.mind(router.ACTOR), desk.mind(router.ACTOR)
    (mine,), (his,) = one.decisions(), other.decisions()
    assert desk.append(one, mine)
    assert not desk.append(other, his)
    assert list(other.decisions()) == [], "it waits for what it has not read"
    desk.read(other)
    assert list(other.decisions()) == []
    assert other.idle
    assert desk.subjects.count("router.routed.-.c.a") == 1


def test_a_refusal_that_names_no_sequence_waits_for_the_next_fact(desk):
    desk.put("client", desk.task("a"))
    mind = desk.mind(router.ACTOR)
    (decision,) = mind.decisions()
    mind.refused(decision, None)
    assert list(mind.decisions()) == []
    mind.skip(mind.seq + 1)
    assert [again.facts for again in mind.decisions()] == [decision.facts]


def test_what_nobody_can_read_is_passed_over_once(desk):
    mind = desk.mind(router.ACTOR)
    mind.skip(9)
    mind.skip(4)
    assert mind.seq == 9


def test_a_task_submitted_again_long_after_its_end_is_not_begun_again(desk):
    desk.put("client", desk.task("a"))
    mind = desk.mind(router.ACTOR)
    desk.all(mind)
    desk.put("adapter", desk.done("a"))
    desk.put("client", desk.task("a"))
    desk.read(mind)
    assert desk.all(mind) == []
    assert mind.idle
    assert desk.subjects.count("router.routed.-.c.a") == 1


def test_a_forgotten_sequence_is_learned_from_the_refusal_it_causes(desk, monkeypatch):
    monkeypatch.setattr(minds, "FENCES_MAX", 2)
    mind = desk.mind(cost.ACTOR)
    ended = AttemptFailed(
        chain="c", task="a", attempt=1, platform="p", charged="known", usage=Usage(), fault=Fault(error_class="refused")
    )
    for name in ("a", "b", "d"):
        desk.put("adapter", msgspec.structs.replace(ended, task=name))
        desk.read(mind)
        assert len(desk.all(mind)) == 1
    assert len(mind._last) <= 2
    desk.put("adapter", msgspec.structs.replace(ended, attempt=2))
    desk.read(mind)
    (said,) = desk.all(mind)
    assert said.attempt == 2
