"""The worker when things break: contents that are gone, plug-ins that raise, stops, platforms that are retired."""

import asyncio
import errno

import pytest

from farebox.core import events, wire
from farebox.core.errors import BadFact, BadInput
from farebox.core.platform import Verdict
from farebox.core.terms import FileInput, Usage
from farebox.log.memory import MemoryLog
from farebox.log.names import check_entry
from farebox.runtime import spool as spool_module
from farebox.runtime import worker as module
from farebox.runtime.spool import Spool


@pytest.mark.fault(17)
@pytest.mark.parametrize("step", ["mark_sending", "keep"])
async def test_a_full_disk_means_no_call_and_a_paid_answer_goes_from_memory(tape, workers, stand_in, monkeypatch, step):
    provider, settings = await stand_in()
    worker = await workers.make(tape, settings=settings)

    def full(_file, _data):
        raise OSError(errno.ENOSPC, "No space left on device")

    if step == "mark_sending":
        monkeypatch.setattr(spool_module.os, "write", full)
    else:
        keep = worker._spool.keep

        async def keep_on_a_full_disk(key, outcome, promise):
            monkeypatch.setattr(spool_module.os, "write", full)
            await keep(key, outcome, promise)

        monkeypatch.setattr(worker._spool, "keep", keep_on_a_full_disk)
    tape.reserve()
    end = await tape.end_of()
    monkeypatch.undo()
    if step == "mark_sending":
        assert (type(end).__name__, end.charged, end.fault.error_class) == ("AttemptFailed", "none", "crashed")
        assert "No space left" in end.fault.message
        assert provider.seen == 0
    else:
        assert (end.status, end.charged) == ("completed", "known")
        assert provider.seen == 1


async def test_a_big_answer_goes_into_the_object_store_after_it_is_on_disk(tape, workers, kind_of, tmp_path):
    log = tape.deaf_log()
    text = "long words " * 30_000
    worker = await workers.make(tape, log=log, kind=kind_of(text.encode()))
    keep = worker._spool.keep

    async def keep_then_lose_the_bucket(key, outcome, promise):
        await keep(key, outcome, promise)
        assert text in (tmp_path / "one" / "journal").read_text()
        log.deaf = 2

    worker._spool.keep = keep_then_lose_the_bucket
    tape.reserve()
    end = await tape.end_of()
    assert (end.status, end.output) == ("completed", "")
    assert tape.store.get_blob(end.output_ref).decode() == text
    assert log.deaf == 0


async def test_an_answer_of_control_characters_is_big_once_it_is_written_as_json(tape, workers, kind_of):
    text = "\x01" * 200_000
    await workers.make(tape, kind=kind_of(text.encode()))
    tape.reserve()
    end = await tape.end_of()
    assert end.status == "completed"
    assert tape.store.get_blob(end.output_ref).decode() == text


async def test_a_big_spooled_answer_is_moved_when_it_is_found(tape, workers, tmp_path, ended):
    spool = Spool(tmp_path / "one" / "journal")
    tape.reserve()
    started = tape.say("adapter", events.TaskStarted(id="s1", chain="c1", task="t1", attempt=1, platform="rehearsal"))
    await spool.keep(f"rehearsal.c1.t1.{started.seq}", ended(started.seq, "s1", "x" * 600_000))
    await workers.make(tape, spool=spool)
    assert (await tape.end_of()).output_ref.bytes == 600_000


async def test_contents_in_the_object_store_are_fetched_and_a_short_absence_is_waited_out(tape, workers):
    log = tape.deaf_log()
    submitted = tape.submit(
        prompt="",
        prompt_ref=tape.store.put_blob(b"A large prompt from the store."),
        context_ref=tape.store.put_blob(b'{"who":"an oak"}'),
        files=(FileInput(name="a.md", ref=tape.store.put_blob(b"in the store")), FileInput(name="b.md", content="in the fact")),
    )
    worker = await workers.make(tape, log=log)
    whole = worker._lane.whole

    async def whole_after_a_break(task):
        log.deaf = 2
        return await whole(task)

    worker._lane.whole = whole_after_a_break
    tape.reserve(submitted=submitted)
    end = await tape.end_of()
    assert end.status == "completed"
    assert "A large prompt from the store." in end.output
    assert "a.md, b.md" in end.output


@pytest.mark.parametrize("body", [None, b"\xff\xfe"])
async def test_contents_that_are_gone_or_no_text_are_damage(tape, workers, body):
    ref = tape.store.put_blob(body or b"soon gone")
    if body is None:
        tape.store.blobs.clear()
    await workers.make(tape)
    tape.reserve(submitted=tape.submit(prompt="", prompt_ref=ref))
    end = await tape.end_of()
    assert (end.fault.error_class, end.charged) == ("damaged", "none")


async def test_a_plug_in_that_breaks_before_the_call_costs_nothing(tape, workers, kind_of):
    def breaks(_ask):
        raise ZeroDivisionError("sum of nothing")

    await workers.make(tape, kind=kind_of(ask=breaks))
    tape.reserve()
    end = await tape.end_of()
    assert (type(end).__name__, end.fault.error_class, end.charged) == ("AttemptFailed", "invalid", "none")
    assert "sum of nothing" in end.fault.message


async def test_a_platform_that_refuses_a_task_says_so_in_few_enough_words(tape, workers, kind_of):
    def refuses(_ask):
        raise BadInput("too strange " * 1000)

    await workers.make(tape, kind=kind_of(ask=refuses))
    tape.reserve()
    end = await tape.end_of()
    assert end.fault.error_class == "invalid"
    assert len(end.fault.message) == 4000


async def test_a_plug_in_that_breaks_during_the_call_may_have_cost_something(tape, workers, kind_of):
    await workers.make(tape, kind=kind_of(b"", ask=lambda _ask: "no call at all"))
    tape.reserve()
    end = await tape.end_of()
    assert (type(end).__name__, end.fault.error_class, end.charged) == ("AttemptInterrupted", "crashed", "possible")


@pytest.mark.parametrize(
    "wrong",
    [
        Verdict(ok=True, usage=Usage(input_tokens=-1, output_tokens=5), charged="known"),
        Verdict(ok=True, usage=Usage(input_tokens=10**30, output_tokens=5), charged="known"),
        Verdict(ok=True, provider_usd="NaN", charged="known"),
        Verdict(ok=True, model="half a pair: \ud800", charged="known"),
        Verdict(ok=True, files_created=("x" * 1_200_000,), charged="known"),
    ],
)
async def test_an_outcome_that_no_fact_can_hold_still_ends_the_attempt(tape, workers, kind_of, wrong):
    await workers.make(tape, kind=kind_of(b"said before", verdict=wrong))
    tape.reserve()
    end = await tape.end_of()
    assert (type(end).__name__, end.fault.error_class, end.charged) == ("AttemptInterrupted", "invalid", "possible")
    assert end.partial_output == "said before"


async def test_half_a_surrogate_pair_in_an_answer_becomes_a_question_mark(tape, workers, kind_of):
    await workers.make(tape, kind=kind_of("cut \ud83d".encode("utf-8", "surrogatepass")))
    tape.reserve()
    assert (await tape.end_of()).output == "cut ?"


async def test_an_endless_line_of_live_text_is_not_said_but_the_answer_is_there(tape, workers, kind_of):
    refused = []

    class Bounded(MemoryLog):
        """As on the server."""

        async def publish(self, subject, body):
            try:
                check_entry(subject, body, None)
            except BadFact:
                refused.append(len(body))
                raise

    text = b"\x01" * 400_000
    await workers.make(tape, log=Bounded(tape.store), kind=kind_of(text))
    tape.reserve()
    assert (await tape.end_of()).output_ref.bytes == 400_000
    assert len(refused) == 1


async def test_a_stop_lets_short_calls_finish(tape, workers, stand_in):
    _, settings = await stand_in(delay_ms=150)
    worker = await workers.make(tape, settings=settings)
    tape.reserve()
    await tape.until(lambda: tape.said(events.TaskStarted))
    assert await worker.stop(grace_s=10) == 0
    assert tape.said(events.TaskCompleted)[0].status == "completed"


async def test_a_stop_during_a_long_call_books_it_as_possibly_charged(tape, workers, stand_in):
    provider, settings = await stand_in(delay_ms=60_000)
    worker = await workers.make(tape, settings=settings)
    tape.reserve()
    async with asyncio.timeout(100):
        while not provider.open:
            await asyncio.sleep(0.01)
    assert await worker.stop() == 1
    (end,) = tape.said(tape.ENDS)
    assert (type(end).__name__, end.charged, end.fault.error_class) == ("AttemptInterrupted", "possible", "crashed")
    assert not worker._spool.sending


async def test_a_stop_begins_nothing_and_hands_back_what_it_had_not_begun(tape, workers, stand_in):
    provider, settings = await stand_in()
    worker = await workers.make(tape, settings=settings)
    load, loading = worker._lane.load, asyncio.Event()

    async def load_while_it_stops(reserved, *, whole):
        loading.set()
        await worker._stopping.wait()
        return await load(reserved, whole=whole)

    worker._lane.load = load_while_it_stops
    tape.reserve()
    await loading.wait()
    await worker.stop()
    assert tape.names() == ["TaskSubmitted", "QuotaReserved"]
    await workers.make(tape, settings=settings, spool=worker._spool)
    assert (await tape.end_of()).status == "completed"
    assert provider.seen == 1


async def test_a_stop_between_start_and_call_costs_nothing(tape, workers, stand_in):
    provider, settings = await stand_in()
    worker = await workers.make(tape, settings=settings)
    whole = worker._lane.whole

    async def whole_while_it_stops(task):
        worker._stopping.set()
        return await whole(task)

    worker._lane.whole = whole_while_it_stops
    tape.reserve()
    end = await tape.end_of()
    assert (type(end).__name__, end.charged, end.fault.error_class) == ("AttemptFailed", "none", "crashed")
    assert provider.seen == 0


async def test_a_stop_over_a_log_that_is_away_ends_and_the_next_start_records(tape, workers, stand_in, monkeypatch):
    monkeypatch.setattr(module, "BREAK_OFF_S", 0.2)
    provider, settings = await stand_in()
    worker = await workers.make(tape, settings=settings)
    tape.reserve()
    await tape.until(lambda: tape.said(events.TaskStarted))
    tape.fates.down = True
    async with asyncio.timeout(100):
        while not worker._spool.outcomes:
            await asyncio.sleep(0.005)
    await worker.stop()
    assert not tape.said(tape.ENDS)
    tape.fates.down = False
    await worker._spool.close()
    await workers.make(tape, settings=settings, spool=Spool(worker._spool._path))
    assert (await tape.end_of(timeout_s=100)).status == "completed"
    assert provider.seen == 1


async def test_an_adapter_that_breaks_is_told_and_stops_its_task_only(make_tape, workers, monkeypatch, caplog):
    tape = make_tape(ack_wait_s=60)
    worker = await workers.make(tape)
    decide = worker._decide

    async def breaks_over_one(state, reserved, running):
        if reserved.task == "t1":
            raise ArithmeticError("an adapter of somebody else")
        return await decide(state, reserved, running)

    monkeypatch.setattr(worker, "_decide", breaks_over_one)
    tape.reserve("t1")
    tape.reserve("t2")
    assert (await tape.end_of("t2")).status == "completed"
    assert "broke the adapter" in caplog.text
    assert list(worker._hands.running) != ["c1.t1.1"]


def test_the_reason_for_an_end_fits_into_a_fact():
    assert wire.BODY_BYTES_MAX > wire.INLINE_BYTES_MAX * 2


async def test_a_reservation_of_a_platform_that_is_not_used_any_more_goes_back_to_the_router(tape, workers):
    tape.reserve(platform="retired")
    worker = await workers.make(tape, platform="retired")
    await workers.crash(worker)
    tape.reserve("t2", platform="retired")
    await worker.retire("c1", "t2")
    (end,) = tape.said(events.AttemptFailed, task="t2")
    assert (end.fault.error_class, end.charged, end.cause) == ("unavailable", "none", "r1-t2")
    await worker.retire("c1", "t2")
    await worker.retire("c1", "never-heard-of")
    assert len(tape.said(tape.ENDS, task="t2")) == 1


async def test_what_others_began_on_a_retired_platform_they_end_themselves(tape, workers):
    worker = await workers.make(tape, platform="retired")
    await workers.crash(worker)
    told = {"chain": "c1", "task": "t1", "platform": "retired", "attempt": 1}
    tape.reserve(platform="retired")
    tape.say("adapter", events.TaskStarted(id="s1", adapter="somebody else", **told))
    await worker.retire("c1", "t1")
    assert not tape.said(tape.ENDS)


async def test_what_this_store_began_on_a_retired_platform_is_ended(tape, workers):
    worker = await workers.make(tape, platform="retired")
    await workers.crash(worker)
    told = {"chain": "c1", "task": "t1", "platform": "retired", "attempt": 1}
    tape.reserve(platform="retired")
    tape.say("adapter", events.TaskStarted(id="s1", adapter=worker._spool.owner, **told))
    await worker.retire("c1", "t1")
    (end,) = tape.said(tape.ENDS)
    assert (type(end).__name__, end.charged) == ("AttemptInterrupted", "none")


async def test_who_begins_while_a_platform_is_retired_keeps_the_task(tape, workers):
    worker = await workers.make(tape, platform="retired")
    await workers.crash(worker)
    tape.reserve(platform="retired")
    load = worker._lane.load

    async def load_then_lose(reserved, *, whole):
        state = await load(reserved, whole=whole)
        tape.say("adapter", events.TaskStarted(id="s1", chain="c1", task="t1", platform="retired", attempt=1))
        return state

    worker._lane.load = load_then_lose
    await worker.retire("c1", "t1")
    assert not tape.said(tape.ENDS)
