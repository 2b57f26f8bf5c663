"""Mind: what is refused, unknown or repeated."""

import dataclasses

import msgspec
import pytest

from actors import aggregator, quota, router
from farebox.core.actor import Actor, Quarantined, Wake
from farebox.core.events import (
    AttemptFailed,
    BatchSubmitted,
    PlatformReported,
    QuotaReserved,
    SettingsAdopted,
    TaskCancelRequested,
    TaskCompleted,
    TaskRouted,
    TaskSubmitted,
)
from farebox.core.quotas import QuotaSettings
from farebox.core.settings import PlatformSettings, Settings, canonical
from farebox.core.terms import CallRecord, Candidate, Fault
from farebox.runtime import mind as minds
from farebox.runtime.mind import Mind

SECRET = b"secret"


def test_an_unknown_outcome_is_decided_anew_under_the_same_fence(make_desk):
    for arrived in (False, True):
        desk = make_desk()
        desk.put("client", desk.task("a"))
        mind = desk.mind(router.ACTOR)
        (decision,) = mind.decisions()
        entries = mind.entries(decision)
        if arrived:
            desk.store.append(entries)
        mind.unknown(decision)
        (again,) = mind.decisions()
        assert mind.entries(again) == entries
        assert desk.append(mind, again) is not arrived
        desk.read(mind)
        assert list(mind.decisions()) == []
        assert desk.subjects.count("router.routed.-.c.a") == 1


def test_the_end_of_another_engine_answers_what_still_waits(desk):
    mind = desk.mind(router.ACTOR)
    desk.put("client", desk.task("a"))
    desk.all(desk.mind(router.ACTOR))
    desk.read(mind)
    assert mind.idle


def test_a_quarantined_submission_is_answered_like_a_fact(desk):
    mind = desk.mind(router.ACTOR)
    mind.hear(Quarantined("c", "a", mind.seq + 1, 9, "a lie"), "client")
    (decision,) = mind.decisions()
    assert (decision.facts[0].fault.error_class, decision.facts[0].cause) == ("quarantined", "seq-3")
    grouped = desk.mind(aggregator.ACTOR)
    grouped.hear(Quarantined("c", "a", grouped.seq + 1, 9, "a lie"), "client")
    assert grouped.idle


def test_a_batch_is_decided_as_one_whichever_task_of_it_is_heard(desk):
    desk.put("client", BatchSubmitted(batch="b", count=2, id="batch"))
    mind = desk.mind(aggregator.ACTOR)
    for name in ("b-1", "b-2"):
        desk.put("router", TaskCompleted(chain="b", task=name, batch="b", status="failed"))
    desk.read(mind)
    (said,) = desk.all(mind)
    assert (said.count, said.cause) == (2, "batch")


def test_a_decision_that_breaks_leaves_the_others_to_be_decided(desk):
    def brittle(state: dict, heard: TaskSubmitted) -> list[TaskRouted]:
        if heard.task == "bad":
            raise ZeroDivisionError
        return [TaskRouted(chain=heard.chain, task=heard.task)]

    def fold(state: dict, fact: TaskRouted) -> dict:
        return state

    for name in ("bad", "good"):
        desk.put("client", desk.task(name))
    mind = desk.mind(Actor(name="router", new=dict, decide=brittle, evolve=fold))
    with pytest.raises(ZeroDivisionError):
        list(mind.decisions())
    assert [decision.facts[0].task for decision in mind.decisions()] == ["good"]


def test_what_nothing_guards_is_appended_without_a_fence(desk):
    def talker(state: dict, heard: TaskSubmitted) -> list[PlatformReported]:
        return [PlatformReported(platform="p", detail=heard.task)]

    def fold(state: dict, fact: PlatformReported) -> dict:
        return state

    desk.put("client", desk.task("a"))
    mind = desk.mind(Actor(name="adapter", new=dict, decide=talker, evolve=fold))
    (decision,) = mind.decisions()
    assert mind.entries(decision)[0].fence is None
    mind.unknown(decision)
    (again,) = mind.decisions()
    mind.refused(again, 1)
    (once_more,) = mind.decisions()
    assert desk.append(mind, once_more)
    desk.read(mind)


def test_an_actor_may_say_only_what_is_his(desk):
    def liar(state: dict, heard: TaskSubmitted) -> list[TaskRouted]:
        return [QuotaReserved(chain=heard.chain, task=heard.task, platform="p")]

    def fold(state: dict, fact: TaskRouted) -> dict:
        return state

    desk.put("client", desk.task("a"))
    with pytest.raises(AssertionError, match="router may not say QuotaReserved"):
        list(desk.mind(Actor(name="router", new=dict, decide=liar, evolve=fold)).decisions())


def test_facts_come_in_order_each_once(desk):
    mind = desk.mind(router.ACTOR)
    with pytest.raises(AssertionError, match="in log order"):
        mind.hear(desk.task("a"), "client")


# A whole writer: quota.


def waiting(desk, *names):
    for name in names:
        desk.put("router", desk.route(name, id=f"route-{name}"))


def test_a_whole_writer_has_one_append_in_flight_and_runs_ahead_of_the_log(make_desk):
    desk = make_desk(limit=2)
    mind = desk.mind(quota.ACTOR)
    waiting(desk, "a", "b", "d")
    desk.read(mind)
    (decision,) = mind.decisions()
    assert [fact.task for fact in decision.facts] == ["a", "b"]
    first, second = mind.entries(decision)
    assert (first.fence.filter, first.fence.last, second.fence) == ("farebox.log.quota.>", 0, None)
    desk.put("client", TaskCancelRequested(chain="c", task="d"))
    desk.read(mind)
    assert list(mind.decisions()) == [], "one append at a time"
    assert desk.append(mind, decision)
    desk.put("adapter", desk.done("a"))
    desk.read(mind)
    (again,) = mind.decisions()
    assert [type(fact).__name__ for fact in again.facts] == ["QuotaSettled", "QuotaRefused"]
    assert mind.entries(again)[0].fence.last == 8
    assert desk.append(mind, again)
    desk.read(mind)
    assert msgspec.json.encode(mind.state, order="sorted") == msgspec.json.encode(mind.ahead, order="sorted")


def test_a_refused_writer_throws_away_what_it_guessed(desk):
    one, other = desk.mind(quota.ACTOR), desk.mind(quota.ACTOR)
    waiting(desk, "a", "b")
    desk.read(one)
    desk.read(other, count=1)
    (mine,), (his,) = one.decisions(), other.decisions()
    assert desk.append(one, mine)
    assert not desk.append(other, his)
    desk.read(other)
    assert list(other.decisions()) == []
    assert list(other.ahead.holds) == ["c.a"]
    assert other.ahead.used == {"p": 1}


def test_a_writer_that_gets_no_answer_first_reads_what_it_stored_before(make_desk):
    desk = make_desk(limit=2)
    mind = desk.mind(quota.ACTOR)
    waiting(desk, "a")
    desk.read(mind)
    (first,) = mind.decisions()
    waiting(desk, "b", "d")
    seqs = desk.store.append(mind.entries(first))
    desk.read(mind, count=2)
    mind.stored(first, seqs)
    (second,) = mind.decisions()
    mind.unknown(second)  # it never arrived
    assert list(mind.decisions()) == [], "the state does not know the first grant yet, the fence does"
    desk.read(mind)
    assert [fact.task for fact in desk.all(mind)] == ["b"]
    assert desk.subjects.count("quota.reserved.p.c.a") == 1


def test_what_a_writer_decided_before_it_broke_is_neither_lost_nor_granted_twice(desk):
    def brittle(state: quota.Quota, heard: TaskRouted) -> list[QuotaReserved]:
        if heard.task == "bad":
            raise ZeroDivisionError
        return quota.ACTOR.decide(state, heard)

    mind = desk.mind(dataclasses.replace(quota.ACTOR, decide=brittle))
    waiting(desk, "a", "bad")
    desk.read(mind)
    (decision,) = mind.decisions()
    assert [fact.task for fact in decision.facts] == ["a"]
    assert desk.append(mind, decision)
    desk.read(mind)
    with pytest.raises(ZeroDivisionError):
        list(mind.decisions())
    assert list(mind.decisions()) == [], "it would only break again"
    assert msgspec.json.encode(mind.state, order="sorted") == msgspec.json.encode(mind.ahead, order="sorted")
    assert desk.subjects.count("quota.reserved.p.c.a") == 1


@pytest.mark.fault(70)
def test_after_a_start_a_writer_is_woken_instead_of_hearing_its_past_again(desk):
    waiting(desk, "a")
    mind = desk.mind(quota.ACTOR, live=False)
    assert mind.idle
    mind.go_live(desk.now_ms)
    (said,) = desk.all(mind)
    assert said.task == "a"


def test_one_append_never_holds_more_than_a_batch_may(make_desk, monkeypatch):
    monkeypatch.setattr(minds, "AHEAD_MAX", 5)
    desk = make_desk(limit=100)
    waiting(desk, *[f"t{number}" for number in range(23)])
    mind = desk.mind(quota.ACTOR)
    sizes = []
    while decisions := list(mind.decisions()):
        (decision,) = decisions
        sizes.append(len(decision.facts))
        assert desk.append(mind, decision)
        desk.read(mind)
    assert sizes == [5, 5, 5, 5, 3]
    assert mind.idle


@pytest.mark.fault(70)
def test_a_due_moment_is_one_wake_however_often_somebody_looks(desk):
    mind = desk.mind(quota.ACTOR)
    assert desk.all(mind) == []
    desk.put(
        "router", TaskRouted(chain="c", task="a", attempt=1, candidates=(Candidate(platform="p", not_before_ms=5_000),), id="r")
    )
    desk.read(mind)
    assert [type(fact).__name__ for fact in desk.all(mind)] == ["QuotaDeferred"]
    assert mind.due() == 5_000
    desk.now_ms = 5_000
    mind.wake(5_000)
    assert mind.due() is None, "it is woken already"
    mind.wake(5_000)
    assert sum(isinstance(one, Wake) for one in mind._pending["", ""]) == 1
    (decision,) = mind.decisions()
    assert mind.due() is None
    mind.unknown(decision)
    assert mind._woken, "the moment is not lost with the append"
    assert len(desk.all(mind)) == 1
    assert mind.due() == mind.state.holds["c.a"].deadline_ms


def test_who_hears_no_wake_is_not_woken(desk):
    mind = desk.mind(router.ACTOR)
    mind.wake(1)
    assert mind.idle
    assert mind.due() is None


def test_a_mind_goes_on_from_a_snapshot(desk):
    desk.put("client", desk.task("a"))
    first = desk.mind(router.ACTOR)
    desk.all(first)
    state = msgspec.json.decode(msgspec.json.encode(first.state), type=router.Router)
    second = Mind(router.ACTOR, SECRET, state, first.seq)
    second.go_live(1)
    desk.put("adapter", AttemptFailed(chain="c", task="a", attempt=1, platform="p", fault=Fault(error_class="network")))
    desk.read(second)
    (said,) = desk.all(second)
    assert (said.attempt, said.prev) == (2, 4)


def test_what_a_writer_has_on_its_way_counts_by_the_settings_that_came_before_it(desk):
    def adopt(**fields):
        quotas = {"q": QuotaSettings(platform="p", window="hour", unit="requests", limit=9, **fields)}
        plain, sha256 = canonical(Settings(platforms={"p": PlatformSettings(kind="test", limit=2)}, quotas=quotas))
        desk.put("engine", SettingsAdopted(settings=plain, sha256=sha256, id=f"settings-{fields}"))

    adopt()
    mind = desk.mind(quota.ACTOR)
    waiting(desk, "a")
    desk.read(mind)
    assert [fact.task for fact in desk.all(mind)] == ["a"]
    desk.put("adapter", desk.done("a", id="end", calls=(CallRecord(status=200),)))
    desk.read(mind)
    (settlement,) = mind.decisions()
    adopt(kind="rolling", zone="Europe/Berlin")
    desk.read(mind)
    assert desk.append(mind, settlement)
    desk.read(mind)
    assert msgspec.json.encode(mind.state, order="sorted") == msgspec.json.encode(mind.ahead, order="sorted")
    assert mind.ahead.uses.use("p/hour/requests", desk.now_ms) == (10**12, 0)
