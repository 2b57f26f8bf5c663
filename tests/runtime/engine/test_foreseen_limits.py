"""A provider that enforces its own limit never has to say 429, as far as farebox could know the limit."""

import asyncio
import time

import msgspec
import pytest

from farebox.core import events
from farebox.core.quotas import QuotaSettings

pytestmark = pytest.mark.slow
WINDOW_S = 4
CALLS = 5
TASKS = 13


@pytest.fixture
async def provider(stand_in):
    return await stand_in(requests_max=CALLS, window_s=WINDOW_S, delay_ms=20)


def configured():
    return {"known": QuotaSettings(platform="rehearsal", window=f"{WINDOW_S}s", limit=CALLS, kind="fixed")}


@pytest.mark.parametrize(("slots", "quotas"), [(1, {}), (4, configured())], ids=["learned", "configured"])
async def test_a_limit_that_is_known_is_kept_without_a_429(tape, engines, provider, slots, quotas):
    stand_in, settings = provider
    settings = msgspec.structs.replace(settings, limit=slots)
    await engines.make(tape.log(), {"rehearsal": settings}, quotas=quotas)
    await asyncio.sleep(WINDOW_S - time.time() % WINDOW_S)  # no call is on its way from one window into the next
    for number in range(TASKS):
        tape.submit(f"t{number}", platform="rehearsal", prompt=f"Tell of {number}.")
    await tape.until(lambda: len(tape.said(events.TaskCompleted)) == TASKS, timeout_s=100)
    assert {end.status for end in tape.said(events.TaskCompleted)} == {"completed"}
    assert [line.outcome for line in stand_in.books.lines] == ["ok"] * TASKS
    turns = {int(grant.at_ms / 1000) // WINDOW_S for grant in tape.said(events.QuotaReserved)}
    assert len(turns) >= -(-TASKS // CALLS)
