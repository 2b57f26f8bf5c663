"""Waiting for a server elsewhere at a start: what runs under a supervisor may be started before its server."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack

from farebox.core.errors import NotReachable

RETRY_S = 0.5
"""Pause between two tries: nobody tells that a server has come."""


class Waiting:
    """Tries until a server is there, `limit_s` at most. `say` hears once what is waited for."""

    def __init__(self, limit_s: float, say: Callable[[str], None]) -> None:
        self._limit_s = limit_s
        self._say = say
        self.waits = False
        """Whether it has begun to wait and nobody has answered yet."""

    async def entered[Entered](
        self, stack: AsyncExitStack, start: Callable[[], AbstractAsyncContextManager[Entered]]
    ) -> Entered:
        """Enter what `start` makes, on `stack`. Raises NotReachable after the limit, all else at once."""
        clock = asyncio.get_running_loop().time
        until_s = clock() + self._limit_s
        while True:
            try:
                entered = await stack.enter_async_context(start())
            except NotReachable as error:
                if clock() >= until_s:
                    raise
                self._tell(error)
            else:
                self.waits = False
                return entered
            await asyncio.sleep(RETRY_S)

    def _tell(self, error: NotReachable) -> None:
        if not self.waits:
            self.waits = True
            end = "Waiting until it does." if self._limit_s == math.inf else f"Waiting for {self._limit_s:g} s at most."
            self._say(f"{error.message} {end}")
