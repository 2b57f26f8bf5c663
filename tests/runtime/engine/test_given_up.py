"""An attempt that nobody can carry: ended without its adapter, booked as it stands in the lane, under the lane's fence."""

import dataclasses

import pytest

from farebox.core import events
from farebox.core.terms import Fault
from farebox.engines import actors
from farebox.log.memory import Fate
from farebox.runtime import worker as module

(ADAPTER,) = (actor for actor in actors() if actor.perform is not None)


@pytest.fixture
async def breaking(workers, make_tape, monkeypatch):
    """A worker whose adapter breaks over everything, over a tape that hands out again at once."""
    monkeypatch.setattr(module, "BROKEN_TRIES", 2)
    tape = make_tape(ack_wait_s=0.05)

    async def start():
        found = await workers.make(tape)

        def broken(_state, _heard):
            raise ZeroDivisionError

        found._adapter = dataclasses.replace(ADAPTER, decide=broken)
        return found

    tape.start = start
    return tape


def started(tape, attempt=1):
    return tape.say(
        "adapter",
        events.TaskStarted(
            id=f"s{attempt}", chain="c1", task="t1", attempt=attempt, platform="rehearsal", billing="rehearsal", cause="r1-t1"
        ),
    )


async def over(tape, count=1):
    durable = tape.store.durable("adapter-rehearsal")
    return await tape.until(lambda: len(durable.dead) >= count and durable.dead)


async def test_what_was_never_started_cost_nothing(breaking):
    await breaking.start()
    reserved = breaking.reserve()
    end = await breaking.end_of("t1")
    assert (type(end), end.charged, end.fault.error_class) == (events.AttemptFailed, "none", "quarantined")
    assert (end.cause, end.attempt, end.prev) == (reserved.id, 1, 0)
    assert end.fault.message == "The adapter broke over it 2 times: ZeroDivisionError()"


async def test_what_was_started_may_have_been_charged(breaking):
    submission = breaking.submit()
    start = started(breaking)
    await breaking.start()
    breaking.reserve(submitted=submission)
    end = await breaking.end_of("t1")
    assert (type(end), end.charged, end.epoch) == (events.AttemptInterrupted, "possible", start.seq)
    assert (end.cause, end.prev) == (start.id, start.seq)


async def test_what_has_ended_is_only_put_away(breaking):
    submission = breaking.submit()
    start = started(breaking)
    breaking.say(
        "adapter",
        events.AttemptFailed(
            chain="c1", task="t1", attempt=1, epoch=start.seq, platform="rehearsal",
            fault=Fault(error_class="network"),
        ),
    )  # fmt: skip
    before = len(breaking.store.facts)
    await breaking.start()
    breaking.reserve(submitted=submission)
    assert "ZeroDivisionError" in (await over(breaking))[0][1]
    assert len(breaking.store.facts) == before + 1


async def test_an_earlier_attempt_in_the_lane_is_not_taken_for_this_one(breaking):
    submission = breaking.submit()
    start = started(breaking)
    await breaking.start()
    breaking.reserve(submitted=submission, attempt=2)
    end = await breaking.end_of("t1")
    assert (type(end), end.attempt, end.prev) == (events.AttemptFailed, 2, start.seq)


async def test_a_log_that_refuses_is_tried_again_at_the_next_try(breaking):
    breaking.fates.of["failed"] = [Fate.LOST]
    await breaking.start()
    breaking.reserve()
    end = await breaking.end_of("t1")
    assert end.fault.error_class == "quarantined"
    assert breaking.count("failed") == 1
