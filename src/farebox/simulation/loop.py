"""An event loop in virtual time that runs many processes in one thread, each of which may crash or freeze between two steps.

Nothing waits: when no step is ready, time jumps to the next one. Steps of a process that crashed are dropped, steps of one
that is frozen come later. Which process a step belongs to is known from its context, so the code that runs needs no change.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import heapq
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from farebox.core.errors import BusError

type Owner = tuple[Process, int] | None


class Process:
    """What crashes and freezes as a whole. `life` counts its lives; steps of an earlier one are dropped."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.life = 0
        self.frozen_until_s = 0.0

    def freeze(self, until_s: float) -> None:
        """Do nothing before `until_s` (virtual seconds), then go on as if nothing had been."""
        self.frozen_until_s = until_s

    def die(self) -> None:
        """Drop all that this life still wanted to do."""
        self.life += 1
        self.frozen_until_s = 0.0


_owner: contextvars.ContextVar[Owner] = contextvars.ContextVar("owner", default=None)


class VirtualLoop(asyncio.AbstractEventLoop):
    """Runs steps in the order of their virtual time. `before_step` may crash or freeze the process whose turn it is.

    `broken` holds what escaped from any step or task: in a right program nothing.
    """

    def __init__(self, before_step: Callable[[Process], None]) -> None:
        self.now_s = 0.0
        self.steps = 0
        self.broken: list[BaseException] = []
        self._before_step = before_step
        self._soon: deque[asyncio.Handle] = deque()
        self._later: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._count = 0
        # Tasks of the dead are kept until the end: were they collected, their `finally` would run while others live.
        self._tasks: list[asyncio.Task[Any]] = []

    def spawn(self, process: Process, work: Coroutine[Any, Any, Any]) -> None:
        """Run `work` as a part of the present life of `process`."""
        contextvars.copy_context().run(self._spawn, (process, process.life), work)

    def run_for(self, until: Callable[[], bool], seconds: float) -> bool:
        """Run until `until` holds (True), nothing is left to do or `seconds` of virtual time are over (False)."""
        end_s = self.now_s + seconds
        events._set_running_loop(self)  # noqa: SLF001 - how a loop says that it runs
        try:
            while not until():
                if not self._advance(end_s):
                    return False
                self._step(self._soon.popleft())
        finally:
            events._set_running_loop(None)  # noqa: SLF001
        return True

    def let_go(self) -> None:
        """End all that still waits, at the end of the world."""
        self._soon.clear()
        self._later.clear()
        for task in self._tasks:
            coroutine = task.get_coro()
            if not task.done() and coroutine is not None:
                with contextlib.suppress(RuntimeError):  # some wait once more in their `finally`
                    coroutine.close()
        self._tasks.clear()

    def time(self) -> float:
        """Return virtual time, seconds."""
        return self.now_s

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        """Run `callback` after what is ready already."""
        handle = asyncio.Handle(callback, args, self, context)
        self._soon.append(handle)
        return handle

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        """Run `callback` in `delay` virtual seconds."""
        return self.call_at(self.now_s + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        """Run `callback` at a moment of virtual time."""
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._count += 1
        heapq.heappush(self._later, (when, self._count, handle))
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        """Return a future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        """Run a coroutine; what escapes from it is kept in `broken`."""
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, **options)
        self._tasks.append(task)
        task.add_done_callback(self._look)
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Keep what escaped from a step; that the dead never finished a task or took a result is no news."""
        if "handle" in context:
            self.broken.append(context["exception"])

    def get_debug(self) -> bool:
        """Never."""
        return False

    def is_running(self) -> bool:
        """Return True: nobody outside asks."""
        return True

    def is_closed(self) -> bool:
        """Return False: there is nothing to close."""
        return False

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """A cancelled handle does nothing when its time comes."""

    def _spawn(self, owner: Owner, work: Coroutine[Any, Any, Any]) -> None:
        _owner.set(owner)
        self.create_task(work)

    def _look(self, task: asyncio.Task[Any]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, BusError):  # whoever waits for the log hears of its troubles
            self.broken.append(error)

    def _advance(self, end_s: float) -> bool:
        """Make sure that a step is ready; False when none comes before `end_s`."""
        while not self._soon:
            if not self._later or self._later[0][0] > end_s:
                self.now_s = max(self.now_s, end_s)
                return False
            when, _, handle = heapq.heappop(self._later)
            self.now_s = max(self.now_s, when)
            if not handle.cancelled():
                self._soon.append(handle)
        return True

    def _step(self, handle: asyncio.Handle) -> None:
        owner: Owner = handle._context.get(_owner)  # type: ignore[attr-defined]  # noqa: SLF001 - asyncio has no other door
        if handle.cancelled():
            return
        self.steps += 1
        if owner is not None:
            process, life = owner
            if process.life == life and process.frozen_until_s <= self.now_s:
                self._before_step(process)
            if process.life != life:
                return
            if process.frozen_until_s > self.now_s:
                self._count += 1
                heapq.heappush(self._later, (process.frozen_until_s, self._count, handle))  # type: ignore[arg-type]
                return
        handle._run()  # noqa: SLF001
