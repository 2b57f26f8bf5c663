"""farebox down: stop the engine of a store and wait until it is gone."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path

from farebox.cli import session
from farebox.cli.options import DEFAULT, Common
from farebox.cli.output import document, line
from farebox.core.errors import BadInput, BusError, NotReachable
from farebox.runtime.store import EngineRecord, Store

STATUS_WAIT_S = 5.0


def command(*, wait: float = 60.0, common: Common = DEFAULT) -> int:
    """Stop the engine. What runs is ended or booked; what waits goes on with the next start.

    Parameters
    ----------
    wait
        Seconds to wait for its end.
    """
    if not wait >= 0:
        raise BadInput(f"--wait is {wait:g}; it must be 0 or more seconds.")
    place = common.place(common.settings())
    engine = Store(place).engine()
    if engine is None:
        raise NotReachable(f"No farebox engine runs on {place}.", hint="Start one: farebox up --detach")
    waiting = session.run(lambda: _unfinished(common))
    _stop(engine, place, wait)
    resume = None if waiting < 0 else waiting
    if common.json:
        document({"schema": "farebox.down/1", "stopped": True, "pid": engine.pid, "will_resume": resume})
    else:
        line("stopped" if resume is None else f"stopped; {resume} tasks go on with the next start")
    return 0


async def _unfinished(common: Common) -> int:
    """Return how many tasks have not ended, -1 when the engine does not say."""
    with suppress(BusError, TimeoutError):
        async with asyncio.timeout(STATUS_WAIT_S), session.opened(common, "running") as client:
            return int((await client.status(limit=1))["unfinished"])
    return -1


def _stop(engine: EngineRecord, place: Path, wait_s: float) -> None:
    import psutil  # noqa: PLC0415 - 15 ms

    with suppress(ProcessLookupError, psutil.NoSuchProcess):
        process = psutil.Process(engine.pid)
        os.kill(engine.pid, signal.SIGTERM)
        try:
            process.wait(wait_s)
        except psutil.TimeoutExpired as late:
            raise BusError(
                f"The engine (process {engine.pid}) has not ended after {wait_s:g} s.", hint=f"Its log: {place}/engine.log"
            ) from late
