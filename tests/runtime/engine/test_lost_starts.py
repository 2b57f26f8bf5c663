"""What a store's spool knows of calls whose start the log lost in a power cut: no money without a word."""

import msgspec
import pytest

from farebox.core import events
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

    async def full(_line):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(spool, "_write", full)
    _, settings = await stand_in()
    tape.reserve()
    await workers.make(tape, spool=spool, settings=settings)
    assert (await tape.end_of()).charged == "known"
