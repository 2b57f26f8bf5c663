"""The follower: facts in log order, decisions under their fences, and what breaks one task breaks only that."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from farebox.core import events, subjects, wire
from farebox.core.actor import Actor, Parked, Quarantined, Wake
from farebox.core.errors import AppendRefused, LogDamaged
from farebox.engines import actors
from farebox.log.memory import Fate
from farebox.log.port import Entry
from farebox.runtime.clock import StreamClock
from farebox.runtime.committer import Committer
from farebox.runtime.follower import Follower
from farebox.runtime.mind import Mind

SECRET = b"s" * 32
BY_NAME = {actor.name: actor for actor in actors()}


class Tally(msgspec.Struct):
    seen: list[str] = []
    routed: list[str] = []
    wait_until: int = 0
    woken: int = 0


def tally(**options) -> Actor[Any]:
    """An actor in the router's place that routes each task once."""

    def decide(state: Tally, heard: events.TaskSubmitted | Quarantined | Wake) -> Sequence[events.TaskRouted]:
        if isinstance(heard, Wake):
            return []
        if heard.task in state.routed or isinstance(heard, Quarantined):
            return []
        if heard.task == "poison":
            raise ZeroDivisionError("no actor is perfect")
        return [events.TaskRouted(chain=heard.chain, task=heard.task, attempt=1)]

    def evolve(state: Tally, fact: events.TaskSubmitted | events.TaskRouted | Quarantined | Parked) -> Tally:
        if isinstance(fact, Parked):
            return state
        if fact.task == "deadly":
            raise ZeroDivisionError("a fact that cannot be folded")
        (state.routed if isinstance(fact, events.TaskRouted) else state.seen).append(fact.task)
        return state

    return Actor(name="router", new=Tally, decide=decide, evolve=evolve, **options)


@asynccontextmanager
async def following(tape, *minds, taps=(), clock=None, durability="always"):
    log = tape.log()
    committer = Committer(log, durability)
    follower = Follower(log, minds, committer, clock or StreamClock(), taps=taps, durability=durability)
    running = asyncio.ensure_future(follower.run())
    live = asyncio.ensure_future(follower.live.wait())
    await asyncio.wait({running, live}, return_when=asyncio.FIRST_COMPLETED)
    try:
        yield follower, running
    finally:
        live.cancel()
        running.cancel()
        await asyncio.gather(running, live, return_exceptions=True)
        await follower.close()
        await committer.close()


async def test_the_past_is_folded_before_anything_is_decided(tape):
    for number in range(2500):
        tape.submit(f"t{number}")
    tape.say("router", events.TaskRouted(chain="c1", task="t2499", attempt=1))
    mind = Mind(tally(), SECRET)
    async with following(tape, mind):
        routed = await tape.until(lambda: len(found := tape.said(events.TaskRouted)) == 2500 and found)
    assert mind.state.seen == [f"t{number}" for number in range(2500)]
    assert [fact.task for fact in routed].count("t2499") == 1


async def test_a_tap_sees_every_fact_as_stored_and_in_order(tape):
    seen = []
    tape.submit("t1", prompt="x")
    tape.say("client", events.TaskSubmitted(chain="c1", task="t2"), body=b"garbage")
    async with following(tape, Mind(tally(), SECRET), taps=[seen.extend]):
        tape.submit("t3")
        await tape.until(lambda: len(tape.said(events.TaskRouted)) == 2)
        await _caught_up(tape, lambda: len(seen) == 5)
    assert [one.seq for one in seen] == [1, 2, 3, 4, 5]


async def _caught_up(tape, condition):
    async with asyncio.timeout(100):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.fault(28)
async def test_garbage_is_quarantined_and_ends_the_task_it_would_have_begun(tape):
    router = Mind(BY_NAME["router"], SECRET)
    subject = "farebox.log.client.submitted.-.c1"
    for task, body in {"t1": b"garbage", "t2": wire.encode(events.TaskSubmitted(chain="c1", task="other"))}.items():
        tape.store.append([Entry(f"{subject}.{task}", body)])
    tape.store.append([Entry("farebox.log.client.submitted", b"{}")])
    tape.store.append([Entry("farebox.log.quota.reserved.openai.c1.t3", b"{}")])
    async with following(tape, router) as (follower, _):
        ends = await tape.until(lambda: len(found := tape.said(events.TaskCompleted)) == 2 and found)
        assert follower.quarantined == 4
    assert {(end.task, end.status, end.fault.error_class) for end in ends} == {
        ("t1", "failed", "quarantined"),
        ("t2", "failed", "quarantined"),
    }


@pytest.mark.fault(25)
async def test_a_fact_that_breaks_an_actor_stops_its_task_and_not_the_others(tape, caplog):
    async with following(tape, Mind(tally(), SECRET)) as (_, running):
        for task in ("t1", "poison", "t2"):
            tape.submit(task)
        await tape.until(lambda: len(tape.said(events.TaskRouted)) == 2)
        tape.submit("t3")
        await tape.until(lambda: tape.said(events.TaskRouted, task="t3"))
        assert not running.done()
    assert {fact.task for fact in tape.said(events.TaskRouted)} == {"t1", "t2", "t3"}
    assert "stays undecided" in caplog.text


@pytest.mark.fault(25)
async def test_a_fact_that_cannot_be_folded_stops_its_task_and_not_the_others(tape, caplog):
    mind = Mind(tally(), SECRET)
    async with following(tape, mind) as (_, running):
        for task in ("t1", "deadly", "t2"):
            tape.submit(task)
        await tape.until(lambda: tape.said(events.TaskRouted, task="t2"))
        assert not running.done()
    assert {fact.task for fact in tape.said(events.TaskRouted)} == {"t1", "t2"}
    assert "router: fact 2 cannot be taken in, its task stops: ZeroDivisionError" in caplog.text
    assert not mind.whole


@pytest.mark.fault(25)
async def test_an_actor_that_guards_others_and_breaks_stands_still_until_it_can_go_on(tape, caplog):
    mind = Mind(tally(pace="writer"), SECRET)
    async with following(tape, mind) as (follower, running):
        tape.submit("poison")
        await _caught_up(tape, lambda: mind.stopped.stuck is not None)
        tape.submit("t1")
        await _caught_up(tape, lambda: mind.seq == 2)
        assert not running.done()
        assert follower.retry(1)
    assert not tape.said(events.TaskRouted), "the same breaks again"
    assert [(halt.seq, halt.reason) for halt in mind.stopped.halts()] == [(1, "ZeroDivisionError: no actor is perfect")]
    assert caplog.text.count("Traceback") == 1, "the same is said once"


@pytest.mark.parametrize("pace", ["task", "writer"])
async def test_what_cannot_be_stored_is_told(tape, pace, caplog):
    def decide(_state: Tally, heard: events.TaskSubmitted) -> Sequence[events.TaskRouted]:
        return [events.TaskRouted(chain=heard.chain, task=heard.task, submission_sha256="x" * 2_000_000)]

    def evolve(state: Tally, _fact: events.TaskRouted) -> Tally:
        return msgspec.structs.replace(state, routed=["done"])

    def decide_once(state: Tally, heard: events.TaskSubmitted) -> Sequence[events.TaskRouted]:
        return [] if state.routed else decide(state, heard)

    actor = Actor(name="router", new=Tally, decide=decide_once, evolve=evolve, pace=pace)
    mind = Mind(actor, SECRET)
    async with following(tape, mind) as (_, running):
        tape.submit()
        await _caught_up(tape, lambda: "cannot be stored" in caplog.text)
        tape.submit("t2")
        await _caught_up(tape, lambda: mind.seq == 2 and mind.idle)
        assert not running.done()
    assert not mind.whole


async def test_a_hole_in_the_log_ends_the_engine(tape):
    for number in range(4):
        tape.submit(f"t{number}")
    del tape.store.facts[1]
    async with following(tape, Mind(tally(), SECRET)) as (_, running):
        with pytest.raises(LogDamaged):
            await asyncio.wait_for(running, 100)


async def test_of_two_engines_over_one_log_each_task_is_routed_once(tape):
    async with following(tape, Mind(tally(), SECRET)), following(tape, Mind(tally(), b"another secret")):
        for number in range(200):
            tape.submit(f"t{number}")
            if number % 20 == 0:
                await asyncio.sleep(0)
        await tape.until(lambda: len(tape.said(events.TaskRouted)) >= 200)
        tape.submit("last")
        await tape.until(lambda: tape.said(events.TaskRouted, task="last"))
    assert len(tape.said(events.TaskRouted)) == 201


@pytest.mark.fault(20)
@pytest.mark.parametrize("fate", [Fate.LOST, Fate.ANSWER_LOST, Fate.BUSY])
async def test_an_unknown_append_is_decided_again_under_the_same_fence(tape, fate):
    tape.fates.of["routed"] = [fate, fate]
    async with following(tape, Mind(tally(), SECRET)):
        tape.submit("t1")
        tape.submit("t2")
        await tape.until(lambda: len(tape.said(events.TaskRouted)) == 2)
        tape.submit("t3")
        await tape.until(lambda: tape.said(events.TaskRouted, task="t3"))
    assert sorted(fact.task for fact in tape.said(events.TaskRouted)) == ["t1", "t2", "t3"]


@pytest.mark.parametrize("count", [3, 300, 1400])
@pytest.mark.parametrize("fate", [Fate.ARRIVES, Fate.LOST, Fate.ANSWER_LOST, Fate.BUSY])
async def test_quota_grants_each_waiting_task_once_however_many_wait(tape, count, fate):
    """One append in flight, never more facts in it than the server takes, whatever becomes of an answer."""
    settings = {"platforms": {"openai": {"kind": "compatible", "limit": 5000}}}
    for number in range(count):
        tape.say("router", _routed(f"t{number}"))
    tape.say("engine", events.SettingsAdopted(settings=settings))
    tape.fates.of["reserved"] = [fate, fate]
    async with following(tape, Mind(BY_NAME["quota"], SECRET)):
        granted = await tape.until(lambda: tape.count("reserved") == count and tape.said(events.QuotaReserved))
        tape.say("router", _routed("late"))
        await tape.until(lambda: tape.said(events.QuotaReserved, task="late"))
    assert len({fact.task for fact in granted}) == count
    assert len(tape.said(events.QuotaReserved)) == count + 1
    assert max(map(len, tape.fates.appends)) <= 1000


def _routed(task, not_before_ms=0):
    candidate = {"platform": "openai", "not_before_ms": not_before_ms}
    return msgspec.convert(
        {"fact": "TaskRouted", "id": f"r-{task}", "chain": "c1", "task": task, "attempt": 1, "candidates": [candidate]},
        events.TaskRouted,
    )


@pytest.mark.fault(61)
async def test_quota_that_meets_another_writer_reads_on_and_decides_anew(tape):
    tape.say("engine", events.SettingsAdopted(settings={"platforms": {"openai": {"kind": "compatible", "limit": 1}}}))
    log = tape.log()
    append, interfered = log.append, []

    async def interfere(entries):
        if not interfered and "reserved" in entries[0].subject:
            interfered.append(1)
            tape.say("quota", events.QuotaReserved(id="x", chain="c1", task="t1", attempt=1, platform="openai"))
        return await append(entries)

    log.append = interfere
    mind = Mind(BY_NAME["quota"], SECRET)
    committer = Committer(log)
    follower = Follower(log, [mind], committer, StreamClock())
    running = asyncio.ensure_future(follower.run())
    tape.say("router", _routed("t1"))
    tape.say("router", _routed("t2"))
    await tape.until(lambda: interfered)
    tape.say("adapter", events.TaskCompleted(id="e1", chain="c1", task="t1", attempt=1, platform="openai", status="completed"))
    await tape.until(lambda: tape.said(events.QuotaReserved, task="t2"))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await follower.close()
    assert [fact.task for fact in tape.said(events.QuotaReserved)] == ["t1", "t2"]


@pytest.mark.fault(61)
async def test_what_another_writer_says_between_decision_and_append_is_not_overlooked(tape):
    """The fence expects what was known at the decision, not what has been read since: a slot would be given away twice."""
    tape.say("engine", events.SettingsAdopted(settings={"platforms": {"openai": {"kind": "compatible", "limit": 1}}}))
    log, mind, interfered = tape.log(), Mind(BY_NAME["quota"], SECRET), []
    follower = Follower(log, [mind], Committer(log), StreamClock())
    append = follower._append_writer

    async def late(mind, decision, *entries):
        if not interfered:
            interfered.append(
                tape.say("quota", events.QuotaReserved(id="x", chain="c1", task="t1", attempt=1, platform="openai"))
            )
            await _caught_up(tape, lambda: mind.seq >= 3)
        await append(mind, decision, *entries)

    follower._append_writer = late
    running = asyncio.ensure_future(follower.run())
    tape.say("router", _routed("t1"))
    await _caught_up(tape, lambda: interfered and mind.idle)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await follower.close()
    assert len(tape.said(events.QuotaReserved)) == 1


async def test_who_asked_to_be_woken_is_woken_in_time_and_not_before(tape):
    tape.say("engine", events.SettingsAdopted(settings={"platforms": {"openai": {"kind": "compatible"}}}))
    async with following(tape, Mind(BY_NAME["quota"], SECRET)):
        due_ms = time.time_ns() // 1_000_000 + 150
        tape.say("router", _routed("t1", due_ms))
        (reserved,) = await tape.until(lambda: tape.said(events.QuotaReserved))
    assert tape.said(events.QuotaDeferred)[0].due_ms == due_ms
    assert reserved.at_ms >= due_ms - 2


@pytest.mark.fault(38)
async def test_stream_time_is_taken_from_the_log_when_this_machines_clock_is_behind(make_tape):
    tape = make_tape(clock=lambda: time.time_ns() // 1_000_000 + 3_600_000)
    tape.say("engine", events.SettingsAdopted(settings={"platforms": {"openai": {"kind": "compatible"}}}))
    tape.say("router", _routed("t1", tape.store.clock() - 60_000))
    clock = StreamClock()
    async with following(tape, Mind(BY_NAME["quota"], SECRET), clock=clock):
        await tape.until(lambda: tape.said(events.QuotaReserved), timeout_s=100)
        assert abs(clock.now_ms() - tape.store.clock()) < 600_000, "an hour it was off before"


async def test_after_its_end_a_follower_decides_nothing(tape):
    tape.fates.of["routed"] = [Fate.LOST]
    async with following(tape, Mind(tally(), SECRET)) as (follower, running):
        tape.submit()
        await _caught_up(tape, lambda: ("routed",) in tape.fates.appends)
        running.cancel()
        await follower.close()
        await asyncio.sleep(0.06)  # longer than the pause before an unknown append is decided again
    assert tape.fates.appends.count(("routed",)) == 1
    assert not tape.said(events.TaskRouted)


async def test_a_snapshot_beyond_the_taps_hears_nothing_twice(tape):
    for number in range(5):
        tape.submit(f"t{number}")
    ahead = Mind(tally(), SECRET, Tally(seen=["t0", "t1", "t2"], routed=["t0", "t1", "t2"]), seq=3)
    behind = Mind(tally(), b"other")
    async with following(tape, ahead, behind):
        await tape.until(lambda: len(tape.said(events.TaskRouted)) >= 5)
        await _caught_up(tape, lambda: ahead.seq == behind.seq == tape.store.facts[-1].seq)
    assert ahead.state.seen == [f"t{number}" for number in range(5)]
    assert behind.state.seen == ahead.state.seen


def test_a_refusal_names_the_last_sequence():
    assert AppendRefused("no", last_seq=4).last_seq == 4
    assert subjects.ALL.startswith("farebox.log")
