"""Capacity that was given to others is not used any more, however late its adapter wakes up."""

import pytest

from farebox.core import events
from farebox.runtime import lane


@pytest.mark.fault(62)
@pytest.mark.parametrize(("attempt", "expired", "calls"), [(1, True, 0), (1, False, 1), (2, True, 1)])
async def test_a_reservation_that_was_given_up_is_not_called(
    tape, workers, stand_in, attempt, expired, calls, monkeypatch
):  # fmt: skip
    monkeypatch.setattr(lane, "FRESH_MS", -1)  # every reservation is old enough to be looked up
    provider, settings = await stand_in()
    tape.reserve(attempt=1)
    tape.say(
        "quota",
        events.QuotaSettled(chain="c1", task="t1", platform="rehearsal", attempt=attempt, requests=1, expired=expired),
    )
    await workers.make(tape, settings=settings)
    end = await tape.end_of()
    assert provider.seen == calls
    assert end.charged == ("known" if calls else "none")
    assert calls or "capacity had been given to others" in end.fault.message


async def test_the_answer_is_bounded_where_its_money_is(tape, workers, stand_in):
    provider, settings = await stand_in()
    tape.reserve(output_tokens_max=7)
    await workers.make(tape, settings=settings)
    await tape.end_of()
    (started,) = tape.said(events.TaskStarted)
    assert started.output_tokens_max == 7
    (line,) = provider.books.lines
    assert line.output_tokens <= 7
