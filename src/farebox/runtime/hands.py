"""The hands of a worker: which attempts it carries now, and whose end somebody wants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from farebox.log.port import Delivery
from farebox.runtime.reserve import Promise

CANCELS_MAX = 10_000
"""Cancels heard that are remembered: one may come between a reservation and its start."""


@dataclass
class Running:
    """An attempt in a worker's hands. `number` tells apart how often this life of the worker took one into them."""

    number: int
    deliveries: list[Delivery]
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    promise: Promise | None = None
    """The room on disk that its answer has for sure."""


class Hands:
    """What one worker carries. Names are `<chain>.<task>.<attempt>`."""

    def __init__(self) -> None:
        self.running: dict[str, Running] = {}
        self._taken = 0
        self._cancels: dict[str, None] = {}

    def next_number(self) -> int:
        """Return a number that this life of the worker has not used."""
        self._taken += 1
        return self._taken

    def hold(self, name: str, *deliveries: Delivery) -> Running:
        """Take an attempt into the hands; nobody else may have it there."""
        running = self.running[name] = Running(self.next_number(), [*deliveries])
        return running

    def let_go(self, name: str) -> None:
        """Have it no longer: whoever waits for it may take it."""
        running = self.running.pop(name)
        if running.promise is not None:
            running.promise.give_back()
        running.over.set()

    @asynccontextmanager
    async def holding(self, name: str) -> AsyncGenerator[Running]:
        """Have it as soon as nobody else has; deliveries that come meanwhile are handed out again afterwards."""
        while (other := self.running.get(name)) is not None:
            await other.over.wait()
        running = self.hold(name)
        try:
            yield running
        finally:
            self.let_go(name)
            for one in running.deliveries:
                await one.nak(0)

    def cancel(self, chain: str, task: str) -> None:
        """Remember that somebody wants the end of the task, and tell its attempts."""
        wanted = f"{chain}.{task}"
        self._cancels[wanted] = None
        if len(self._cancels) > CANCELS_MAX:
            del self._cancels[next(iter(self._cancels))]
        for name, running in self.running.items():
            if name.startswith(f"{wanted}."):
                running.cancelled.set()

    def is_cancelled(self, chain: str, task: str) -> bool:
        """Say whether somebody wants the end of the task, as far as it was heard."""
        return f"{chain}.{task}" in self._cancels
