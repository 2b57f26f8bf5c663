"""Running a command: its event loop, its connection, Ctrl-C.

The first Ctrl-C cancels the command, which brings its work to an end and says what was spent; the second lets it go on no
longer; a third leaves at once.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from contextvars import ContextVar
from typing import Any, Literal

from farebox import discovery
from farebox.cli.options import Common
from farebox.cli.output import note
from farebox.client import Client, joined
from farebox.core.errors import NotReachable

Need = Literal["engine", "running", "answers"]
"""What a command needs when no engine runs: one started in this process; one that runs already; just answers."""
Opener = Callable[[Common, Need], AbstractAsyncContextManager[Client]]


@asynccontextmanager
async def _opened(common: Common, need: Need) -> AsyncGenerator[Client]:
    config = common.settings()
    place = common.place(config)
    where = discovery.find(common.server, common.nats_context, place, store_given=common.store is not None, bus=config.bus)
    if where is not None:
        async with joined(where) as client:
            yield client
        return
    if need == "running":
        raise NotReachable(f"No farebox engine runs on {place}.", hint="Start one: farebox up --detach")
    from farebox import engines  # noqa: PLC0415 - an engine only where one is started

    if need == "answers":
        note(common, f"No engine runs: reading the log of {place} for this one question.")
        starting = engines.offline(place, config)
    else:
        note(common, "No engine runs: starting one for this command. Keep one: farebox up --detach")
        starting = engines.embedded(place, config)
    async with starting:
        where = discovery.of_store(place)
        assert where is not None, "an engine that runs has said where"
        async with joined(where) as client:
            yield client


OPENER: ContextVar[Opener] = ContextVar("OPENER", default=_opened)
"""How commands come to a client; tests bring the memory log."""


def opened(common: Common, need: Need) -> AbstractAsyncContextManager[Client]:
    """Return a connection for a command. Raises BusError, BadSettings."""
    return OPENER.get()(common, need)


class Interrupts:
    """Signals of one command. `number` is the signal that came, 0 while none did."""

    def __init__(self, task: asyncio.Task[int]) -> None:
        self._task = task
        self._count = 0
        self.number = 0

    def install(self) -> None:
        """Listen to Ctrl-C and SIGTERM."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            with suppress(NotImplementedError, RuntimeError, ValueError):  # not in the main thread, or no such signals
                loop.add_signal_handler(number, self.on, number)

    def on(self, number: int) -> None:
        """Take a signal: cancel, cancel again, leave. The cancellation carries the signal's name."""
        self._count += 1
        self.number = number
        if self._count > 2:
            os._exit(128 + number)
        self._task.cancel(signal.Signals(number).name)


def run(work: Callable[[], Coroutine[Any, Any, int]], *, serves: bool = False) -> int:
    """Run a command and return its exit code: 128 + n after signal n.

    A command that `serves` until a signal comes keeps its own code, and takes uvloop where it exists.
    """
    with asyncio.Runner(loop_factory=_fast_loop() if serves else None) as runner:
        return runner.run(_guarded(work, serves))


async def _guarded(work: Callable[[], Coroutine[Any, Any, int]], serves: bool) -> int:
    task = asyncio.ensure_future(work())
    interrupts = Interrupts(task)
    interrupts.install()
    try:
        code = await task
    except asyncio.CancelledError:
        if not interrupts.number:
            raise
        return 128 + interrupts.number
    return 128 + interrupts.number if interrupts.number and not serves else code


def _fast_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - engines only
    except ImportError:
        return None
    return uvloop.new_event_loop
