"""The server's side of a durable: hands each reservation to one of the workers, again when no ack came, at times to two."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import TYPE_CHECKING

from farebox.log.durable import Durable
from farebox.log.port import Delivery, Stored

if TYPE_CHECKING:
    from farebox.simulation.network import Network


class Handout:
    """One durable and those who compete for its facts."""

    def __init__(self, network: Network, durable: Durable) -> None:
        self.network = network
        self.durable = durable
        self._workers: list[_Subscription] = []
        self._loop = asyncio.get_running_loop()
        self._planned_s = float("inf")
        network.store.watch(self.look)

    def subscribe(self, on: Callable[[Delivery], None]) -> _Subscription:
        """Let one more compete."""
        subscription = _Subscription(self._workers, on)
        self._workers.append(subscription)
        self.look()
        return subscription

    def look(self) -> None:
        """Hand out what there is, soon."""
        self._plan(self._loop.time())

    def _plan(self, when_s: float) -> None:
        if when_s < self._planned_s:
            self._planned_s = when_s
            self._loop.call_at(when_s, self._turn, when_s, context=contextvars.Context())

    def _turn(self, when_s: float) -> None:
        if when_s != self._planned_s:
            return  # an earlier turn was planned meanwhile
        self._planned_s = float("inf")
        while self._workers and (taken := self.durable.take(self.network.store.clock())):
            self._give(*taken)
            if self.network.happens(self.network.chances.handed_twice):
                self._give(*taken)
        due_ms = self.durable.due_ms()
        if due_ms is not None and self._workers:
            self._plan(max(due_ms / 1000, self._loop.time() + 0.001))

    def _give(self, stored: Stored, tries: int) -> None:
        """Bring a fact to one of the workers; ways differ, so facts overtake each other."""
        worker = self.network.random.choice(self._workers)
        delivery = _Handed(self, stored, tries)
        self._loop.call_later(self.network.delay_s(), worker.on, delivery, context=worker.context)


class _Subscription:
    """One worker's place among those who compete."""

    def __init__(self, all_of_them: list[_Subscription], on: Callable[[Delivery], None]) -> None:
        self.on = on
        self.context = contextvars.copy_context()
        self._all = all_of_them

    async def close(self) -> None:
        """Take nothing more."""
        self.end()

    def end(self) -> None:
        """Take nothing more."""
        if self in self._all:
            self._all.remove(self)


class _Handed:
    """One fact in the hands of one worker. Its acks may be lost."""

    def __init__(self, handout: Handout, stored: Stored, tries: int) -> None:
        self._handout = handout
        self.stored = stored
        self.tries = tries

    async def ack(self) -> None:
        """Done."""
        if await self._arrives():
            self._handout.durable.ack(self.stored.seq)

    async def nak(self, delay_s: float) -> None:
        """Hand it out again after `delay_s`."""
        if await self._arrives():
            self._handout.durable.nak(self.stored.seq, self._handout.network.store.clock(), round(delay_s * 1000))
            self._handout.look()

    async def progress(self) -> None:
        """Still working."""
        if await self._arrives():
            self._handout.durable.progress(self.stored.seq, self._handout.network.store.clock())

    async def term(self, reason: str) -> None:
        """Never again."""
        if await self._arrives():
            self._handout.durable.term(self.stored.seq, reason)

    async def _arrives(self) -> bool:
        network = self._handout.network
        await asyncio.sleep(network.delay_s())
        return not network.happens(network.chances.ack_lost)
