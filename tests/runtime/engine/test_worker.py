"""The worker: whatever happens to it, one call an attempt, one end an attempt, and money that is booked."""

import asyncio

import msgspec
import pytest

from farebox.core import events, subjects
from farebox.log.memory import Fate
from farebox.runtime import worker as module
from farebox.runtime.spool import Spool


async def test_a_reserved_attempt_runs_to_its_end(tape, workers):
    worker = await workers.make(tape)
    tape.reserve()
    end = await tape.end_of()
    assert (end.status, end.charged, end.epoch) == ("completed", "known", 3)
    assert "Hello." in end.output
    started = tape.said(events.TaskStarted)[0]
    assert end.cause == started.id
    await tape.until(lambda: not worker._spool.sending)
    assert worker.running == 0


async def test_live_text_goes_out_as_it_comes(tape, workers, stand_in):
    provider, settings = await stand_in(delay_ms=300)
    heard = []
    await tape.log().listen("farebox.live.>", lambda _subject, body: heard.append(msgspec.json.decode(body)))
    await workers.make(tape, settings=settings)
    tape.reserve()
    end = await tape.end_of()
    assert len(heard) > 1
    assert [chunk["number"] for chunk in heard] == list(range(1, len(heard) + 1))
    assert "".join(chunk["text"] for chunk in heard) == end.output
    assert len(provider.books.lines) == 1


@pytest.mark.fault(21)
async def test_a_reservation_that_comes_again_while_it_runs_is_not_run_again(make_tape, workers, stand_in):
    tape = make_tape(ack_wait_s=0.05)
    provider, settings = await stand_in(delay_ms=300)
    await workers.make(tape, settings=settings)
    tape.reserve()
    await tape.end_of()
    assert provider.seen == 1
    assert len(tape.said(events.TaskStarted)) == 1


@pytest.mark.fault(21)
async def test_one_that_comes_again_after_its_end_is_only_acked(tape, workers, stand_in):
    provider, settings = await stand_in()
    worker = await workers.make(tape, settings=settings)
    tape.reserve()
    await tape.end_of()
    tape.store._durables.clear()  # what a durable knew is lost, as when somebody resets it
    again = await workers.make(tape, settings=settings, spool=worker._spool)
    await tape.idle(again)
    assert provider.seen == 1
    assert len(tape.said(tape.ENDS)) == 1


@pytest.mark.fault(23)
async def test_a_zombie_loses_by_its_fence_and_its_paid_answer_is_booked_late(make_tape, workers, stand_in):
    tape = make_tape(ack_wait_s=0.1)
    provider, settings = await stand_in(delay_ms=1500)
    frozen = await workers.make(tape, settings=settings, home="frozen")
    reserved = tape.reserve()
    await tape.until(lambda: tape.said(events.TaskStarted))
    frozen._heartbeat.cancel()
    await workers.make(tape, settings=settings, home="other")  # takes over what nobody acked in time
    end = await tape.end_of()
    assert (type(end).__name__, end.reason, end.charged) == ("AttemptInterrupted", "crash", "possible")
    (late,) = await tape.until(lambda: tape.said(events.LateResult))
    assert (late.attempt, late.epoch, late.charged) == (1, end.epoch, "known")
    assert late.usage.output_tokens > 0
    assert late.platform == reserved.platform
    assert provider.seen == 1


async def test_of_two_who_have_the_same_reservation_one_calls(tape, workers, stand_in):
    provider, settings = await stand_in(delay_ms=100)
    first = await workers.make(tape, settings=settings, home="a")
    second = await workers.make(tape, settings=settings, home="b")
    tape.reserve()
    await tape.end_of()
    tape.store._durables.clear()
    for worker in (first, second):
        await workers.crash(worker)
    third = await workers.make(tape, settings=settings, home="c")
    await tape.idle(third)
    assert provider.seen == 1
    assert len(tape.said(events.TaskStarted)) == 1
    assert len(tape.said(tape.ENDS)) == 1


@pytest.mark.fault(2)
async def test_what_crashed_before_its_call_was_never_charged(make_tape, workers, kind_of, monkeypatch):
    tape = make_tape(ack_wait_s=0.2)
    worker = await workers.make(tape)
    at_the_door = asyncio.Event()

    async def never(_key, _promise):
        at_the_door.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(worker._spool, "mark_sending", never)
    tape.reserve()
    await at_the_door.wait()
    await workers.crash(worker)
    monkeypatch.undo()
    await workers.make(tape)
    end = await tape.end_of()
    assert (end.reason, end.charged, end.fault.error_class) == ("crash", "none", "crashed")


@pytest.mark.fault(2)
async def test_what_crashed_after_sending_may_have_been_charged_and_is_ended_at_once(tape, workers, stand_in):
    provider, settings = await stand_in(delay_ms=60_000)
    worker = await workers.make(tape, settings=settings)
    tape.reserve()
    await tape.until(lambda: tape.said(events.TaskStarted))
    async with asyncio.timeout(100):
        while not provider.open:
            await asyncio.sleep(0.01)
    await workers.crash(worker)
    again = await workers.make(tape, settings=settings)  # long before the ack wait of 30 s
    end = await tape.end_of(timeout_s=100)
    assert (end.reason, end.charged) == ("crash", "possible")
    assert provider.seen == 1
    async with asyncio.timeout(100):
        while again._spool.sending:
            await asyncio.sleep(0.01)


@pytest.mark.fault(2)
async def test_a_spooled_answer_is_recorded_without_a_second_call(tape, workers, stand_in, monkeypatch):
    provider, settings = await stand_in()
    worker = await workers.make(tape, settings=settings)
    kept = asyncio.Event()

    async def keeps_and_dies(*_args):
        kept.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(worker, "_record", keeps_and_dies)
    tape.reserve()
    await kept.wait()
    await workers.crash(worker)
    again = await workers.make(tape, settings=settings)
    end = await tape.end_of(timeout_s=100)
    assert (end.status, end.charged) == ("completed", "known")
    assert provider.seen == 1
    async with asyncio.timeout(100):
        while again._spool.outcomes:
            await asyncio.sleep(0.01)


async def test_a_spooled_answer_of_a_lane_that_went_on_becomes_a_late_result(tape, workers, tmp_path, ended):
    spool = Spool(tmp_path / "one" / "journal")
    submitted = tape.submit()
    tape.reserve(submitted=submitted)
    told = {"chain": "c1", "task": "t1", "platform": "rehearsal"}
    first = tape.say("adapter", events.TaskStarted(id="s1", attempt=1, **told))
    tape.say("adapter", events.AttemptInterrupted(id="i1", cause="s1", epoch=first.seq, attempt=1, fault=_crashed(), **told))
    tape.reserve(attempt=2, submitted=submitted, lane_seq=4)
    second = tape.say("adapter", events.TaskStarted(id="s2", attempt=2, **told))
    tape.say("adapter", events.TaskCompleted(id="e2", cause="s2", epoch=second.seq, attempt=2, status="completed", **told))
    await spool.mark_sending(f"rehearsal.c1.t1.{first.seq}")
    await spool.keep(f"rehearsal.c1.t1.{first.seq}", ended(first.seq, "s1"))
    await spool.mark_sending("rehearsal.c1.t1.2")  # a mark whose attempt ended long ago
    await spool.mark_sending("rehearsal.c1.gone.9")  # one of which this log knows nothing
    await spool.mark_sending("elsewhere.c1.t1.9")
    worker = await workers.make(tape, spool=spool)
    (late,) = await tape.until(lambda: tape.said(events.LateResult))
    assert (late.attempt, late.epoch, late.cause) == (1, first.seq, "s1")
    await tape.idle(worker)
    assert spool.outcomes == {}
    assert spool.sending == {"elsewhere.c1.t1.9", "rehearsal.c1.gone.9"}, "a power cut may have taken its start: it is kept"


def _crashed():
    from farebox.core.terms import Fault

    return Fault(error_class="crashed")


@pytest.mark.fault(19, 20)
@pytest.mark.parametrize("fate", [Fate.LOST, Fate.ANSWER_LOST])
@pytest.mark.parametrize("token", ["started", "completed"])
async def test_an_unknown_append_is_read_back_and_never_doubled(tape, workers, stand_in, fate, token):
    provider, settings = await stand_in()
    tape.fates.of[token] = [fate, fate]
    await workers.make(tape, settings=settings)
    tape.reserve()
    assert (await tape.end_of()).status == "completed"
    assert tape.names(task="t1") == ["TaskSubmitted", "QuotaReserved", "TaskStarted", "TaskCompleted"]
    assert provider.seen == 1


@pytest.mark.fault(37)
async def test_a_log_that_is_away_for_a_while_is_waited_for(tape, workers, stand_in):
    provider, settings = await stand_in(delay_ms=100)
    await workers.make(tape, settings=settings)
    tape.reserve()
    await tape.until(lambda: tape.said(events.TaskStarted))
    tape.fates.down = True
    async with asyncio.timeout(100):
        while ("completed",) not in tape.fates.appends:
            await asyncio.sleep(0.01)
    tape.fates.down = False
    assert (await tape.end_of()).status == "completed"
    assert provider.seen == 1


async def test_a_reservation_that_cannot_be_looked_up_is_handed_out_again(tape, workers):
    log = tape.deaf_log()
    worker = await workers.make(tape, log=log)
    log.deaf = 3
    tape.reserve()
    assert (await tape.end_of()).status == "completed"
    await tape.idle(worker)


async def test_a_log_that_cannot_be_read_at_the_start_leaves_the_spool_to_the_durable(make_tape, workers, tmp_path):
    tape = make_tape(ack_wait_s=0.2)
    worker = await workers.make(tape, home="x")
    await workers.crash(worker)
    tape.reserve()
    await worker._spool.mark_sending("rehearsal.c1.t1.9")
    log = tape.deaf_log()
    log.deaf = 1
    await workers.make(tape, spool=worker._spool, log=log)
    assert (await tape.end_of()).charged == "possible", "a mark without a start: the log lost it"


async def test_a_cancel_before_the_start_costs_nothing(tape, workers, stand_in):
    provider, settings = await stand_in()
    tape.reserve()
    tape.say("client", events.TaskCancelRequested(chain="c1", task="t1"))
    await workers.make(tape, settings=settings)
    end = await tape.end_of()
    assert (end.status, end.charged, end.epoch) == ("cancelled", "none", 0)
    assert provider.seen == 0


async def test_a_cancel_during_the_call_keeps_what_came(tape, workers, stand_in):
    _, settings = await stand_in(delay_ms=5_000)
    live = asyncio.Event()
    await tape.log().listen("farebox.live.*.*.*.c1.t1", lambda *_: live.set())
    worker = await workers.make(tape, settings=settings)
    tape.reserve()
    tape.reserve("t2")
    await live.wait()
    tape.say("client", events.TaskCancelRequested(chain="c1", task="t1"))
    end = await tape.end_of()
    assert (end.status, end.charged) == ("cancelled", "possible")
    assert end.partial_output
    assert end.fault.error_class == "cancelled"
    assert not worker._hands.running["c1.t2.1"].cancelled.is_set()


async def test_a_cancel_that_was_not_heard_is_found_by_the_heartbeat(tape, workers, stand_in, monkeypatch):
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.05)
    _, settings = await stand_in(delay_ms=20_000)
    log = tape.deaf_log()
    worker = await workers.make(tape, settings=settings, log=log)
    await worker._subscriptions[0].close()  # deaf for cancels
    tape.reserve()
    await tape.until(lambda: tape.said(events.TaskStarted))
    tape.say("client", events.TaskCancelRequested(chain="c1", task="t1"))
    log.deaf = 1  # a heartbeat that finds no log is only one heartbeat
    assert (await tape.end_of(timeout_s=100)).status == "cancelled"


async def test_odd_subjects_among_the_cancels_are_passed_over(tape, workers):
    await workers.make(tape)
    tape.store.bus.say("farebox.log.client.cancel_requested.>", b"")
    tape.store.bus.say("farebox.log.client.cancel_requested.a.b.c.d", b"")
    tape.reserve()
    assert (await tape.end_of()).status == "completed"


async def test_a_cancel_that_nobody_can_read_counts_as_never_said(tape, workers):
    tape.say("client", events.TaskCancelRequested(chain="c1", task="t1"), body=b"{broken")
    tape.reserve()
    await workers.make(tape)
    assert (await tape.end_of()).status == "completed"


async def test_what_an_adapter_wrote_and_nobody_can_read_stops_its_task_only(make_tape, workers):
    tape = make_tape(ack_wait_s=0.05)
    told = {"chain": "c1", "task": "t1", "platform": "rehearsal"}
    tape.reserve()
    tape.say("adapter", events.TaskStarted(attempt=1, **told), body=b"{broken")
    await workers.make(tape)
    tape.reserve("t2")
    assert (await tape.end_of("t2")).status == "completed"
    await tape.until(lambda: tape.store.durable("adapter-rehearsal").dead)
    assert [seq for seq, _ in tape.store.durable("adapter-rehearsal").dead] == [2]


@pytest.mark.parametrize("change", ["missing", "changed", "unreadable"])
async def test_a_submission_that_is_not_the_routed_one_is_damage(tape, workers, stand_in, change):
    provider, settings = await stand_in()
    routed = events.TaskSubmitted(id="t1", chain="c1", task="t1", prompt="Hello.")
    if change == "changed":
        tape.submit(prompt="Something dearer.")
    if change == "unreadable":
        tape.say("client", routed, body=b'{"fact":"TaskSubmitted","task":7}')
    await workers.make(tape, settings=settings)
    tape.reserve(submitted=routed)
    end = await tape.end_of()
    assert (type(end).__name__, end.fault.error_class, end.charged) == ("AttemptFailed", "damaged", "none")
    assert provider.seen == 0


@pytest.mark.fault(25)
async def test_a_poison_reservation_is_put_away_and_the_others_go_on(tape, workers):
    worker = await workers.make(tape)
    tape.submit("t1")
    tape.say("quota", events.QuotaReserved(chain="c1", task="t1", platform="rehearsal"), body=b"{poison")
    tape.reserve("t2")
    await tape.idle(worker)
    (dead,) = tape.store.durable("adapter-rehearsal").dead
    assert "Not a fact" in dead[1]
    assert tape.store.last(subjects.exact("adapter", "completed", "c1", "t2", "rehearsal"))


async def test_what_another_adapter_has_just_begun_is_left_to_it_for_an_ack_wait(tape, workers, stand_in):
    """Both have the reservation, as after a durable was reset; neither breaks off what the other pays for."""
    provider, settings = await stand_in(delay_ms=400)
    await workers.make(tape, settings=settings, home="a")
    tape.reserve()
    await tape.until(lambda: tape.said(events.TaskStarted))
    tape.store._durables.clear()
    second = await workers.make(tape, settings=settings, home="b")
    async with asyncio.timeout(100):
        while not (held := tape.store.durable("adapter-rehearsal")._held) or second.running:
            await asyncio.sleep(0.005)
    (waits,) = held.values()
    assert waits.due_ms > tape.store.clock() + 25_000
    assert (await tape.end_of()).status == "completed"
    assert provider.seen == 1


async def test_what_was_reserved_before_the_start_is_taken_up_without_waiting_for_it(tape, workers, stand_in):
    provider, settings = await stand_in()
    taken = asyncio.Event()
    dead = await tape.log().consume("adapter-rehearsal", lambda _delivery: taken.set())
    tape.reserve()
    await taken.wait()
    await dead.close()
    log = tape.deaf_log()
    worker = await workers.make(tape, settings=settings, log=log)
    worker.take_up("c1", "t1")
    worker.take_up("c1", "never-heard-of")
    assert (await tape.end_of(timeout_s=100)).status == "completed"
    await workers.crash(worker)
    log.deaf = 1
    worker.take_up("c1", "t1")  # a log that is away: the durable hands it out in the end
    await asyncio.gather(*worker._tasks)
    assert provider.seen == 1
