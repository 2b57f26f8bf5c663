"""What a store's spool knows of calls whose start the log lost in a power cut: no money without a word."""

import asyncio

import msgspec
import pytest

from farebox import api
from farebox.core import events
from farebox.runtime import journal
from farebox.runtime.spool import Spool


@pytest.mark.fault(6, 73)
async def test_an_answer_whose_start_the_log_lost_is_the_answer_of_the_attempt_when_it_is_started_again(
    tape, workers, tmp_path, ended, stand_in
):
    spool = Spool(tmp_path / "one" / "journal")
    provider, settings = await stand_in()
    await spool.mark_sending("rehearsal.c1.t1.9")
    await spool.keep("rehearsal.c1.t1.9", ended(9, "lost"))
    tape.reserve()
    worker = await workers.make(tape, spool=spool, settings=settings)
    end = await tape.end_of()
    assert (end.status, end.charged, end.epoch) == ("completed", "known", 3)
    assert (len(tape.said(events.TaskStarted)), provider.seen) == (1, 0)
    await tape.idle(worker)
    assert (spool.outcomes, spool.sending) == ({}, set())


@pytest.mark.fault(6, 73)
async def test_a_call_whose_start_the_log_lost_may_have_been_charged_and_is_not_made_again_in_silence(
    tape, workers, tmp_path, stand_in
):
    spool = Spool(tmp_path / "one" / "journal")
    provider, settings = await stand_in()
    await spool.mark_sending("rehearsal.c1.t1.9")
    worker = await workers.make(tape, spool=spool, settings=settings)
    tape.reserve()  # the reservation was lost too, and is made again after the start
    end = await tape.end_of()
    assert (type(end).__name__, end.charged, end.epoch) == ("AttemptInterrupted", "possible", 3)
    assert provider.seen == 0
    await tape.idle(worker)
    assert spool.sending == set()


async def test_an_answer_of_another_attempt_is_not_taken_for_that_of_this_one(tape, workers, tmp_path, ended, stand_in):
    spool = Spool(tmp_path / "one" / "journal")
    provider, settings = await stand_in()
    await spool.keep("rehearsal.c1.t1.9", msgspec.structs.replace(ended(9, "lost"), attempt=2))
    worker = await workers.make(tape, spool=spool, settings=settings)
    tape.reserve()
    assert (await tape.end_of()).status == "completed"
    assert provider.seen == 1
    await tape.idle(worker)
    assert list(spool.outcomes) == ["rehearsal.c1.t1.9"]


async def test_a_kept_answer_that_no_disk_takes_again_goes_to_the_log_from_memory(
    tape, workers, tmp_path, ended, stand_in, monkeypatch
):
    spool = Spool(tmp_path / "one" / "journal")
    await spool.keep("rehearsal.c1.t1.9", ended(9, "lost"))

    async def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(spool, "_write", full)
    _, settings = await stand_in()
    tape.reserve()
    await workers.make(tape, spool=spool, settings=settings)
    assert (await tape.end_of()).charged == "known"


@pytest.mark.fault(73)
async def test_an_answer_to_a_task_that_the_log_does_not_know_is_kept_and_said_and_taken_when_the_task_comes_back(
    tape, workers, tmp_path, ended, stand_in, caplog
):
    path = tmp_path / "one" / "journal"
    spool = Spool(path)
    provider, settings = await stand_in()
    await spool.mark_sending("rehearsal.c1.t1.9")
    await spool.keep("rehearsal.c1.t1.9", ended(9, "lost", "paid for"))
    first = await workers.make(tape, spool=spool, settings=settings)
    said = "no attempt of task t1 on rehearsal; the answer to it (8 bytes) is kept here: farebox spool show rehearsal.c1.t1.9"
    async with asyncio.timeout(100):
        while said not in caplog.text:
            await asyncio.sleep(0.005)
    await first.stop()
    caplog.clear()
    again = Spool(path)
    assert list(again.unclaimed) == list(journal.answers(path)) == ["rehearsal.c1.t1.9"]
    second = await workers.make(tape, spool=again, settings=settings)
    await tape.idle(second)
    assert "no attempt of task t1" not in caplog.text, "said once"
    tape.reserve()  # its client submitted it again
    end = await tape.end_of()
    assert (end.status, end.output, provider.seen) == ("completed", "paid for", 0)
    await tape.idle(second)
    assert journal.answers(path) == again.unclaimed == {}


@pytest.mark.fault(73)
async def test_of_two_lost_answers_to_one_task_none_is_forgotten(tape, workers, tmp_path, ended):
    spool = Spool(tmp_path / "one" / "journal")
    for epoch in (9, 12):
        await spool.keep(f"rehearsal.c1.t1.{epoch}", ended(epoch, "lost"))
    await workers.make(tape, spool=spool)
    async with asyncio.timeout(100):
        while len(spool.unclaimed) < 2:
            await asyncio.sleep(0.005)


async def test_a_note_about_an_unclaimed_answer_that_no_disk_takes_is_told_and_the_answer_stays(
    tape, workers, tmp_path, ended, monkeypatch, caplog
):
    spool = Spool(tmp_path / "one" / "journal")
    await spool.keep("rehearsal.c1.t1.9", ended(9, "lost"))

    async def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(spool, "_write", full)
    worker = await workers.make(tape, spool=spool)
    await tape.idle(worker)
    assert "does not take the note" in caplog.text
    assert list(spool.outcomes) == ["rehearsal.c1.t1.9"]


@pytest.mark.fault(73)
async def test_status_names_the_answers_that_nobody_claims_also_while_no_adapter_runs(tape, engines, tmp_path, ended):
    spool = Spool(tmp_path / "store" / journal.PLACE)
    await spool.keep("rehearsal.c1.t1.9", ended(9, "lost", "paid for"))
    await spool.close()
    engine = await engines.make(tape.log())
    async with asyncio.timeout(100):
        while not (told := (await api.ask(tape.log(), "status", {}))["unclaimed"]):
            await asyncio.sleep(0.01)
    assert told == [
        {"answer": "rehearsal.c1.t1.9", "chain": "c1", "task": "t1", "platform": "rehearsal", "attempt": 1,
         "charged": "known", "bytes": 8, "error": None}
    ]  # fmt: skip
    await engines.stop(engine)
    watching = await engines.make(tape.log(), start=False)
    await watching.look()
    assert (await api.ask(tape.log(), "status", {}))["unclaimed"] == told
