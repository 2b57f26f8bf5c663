"""A process's connection to the log of its world: slow, and at times without an answer. The store behind it is the real one."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncGenerator, Callable, Sequence
from random import Random

from farebox.core.errors import AppendBusy, AppendUnknown, BusError, NotReachable
from farebox.core.subjects import ALL
from farebox.log.memory import MemoryLog
from farebox.log.port import Delivery, Entry, Stored, Subscription
from farebox.log.store import MemoryStore
from farebox.simulation.chances import Chances
from farebox.simulation.handout import Handout

ANSWER_S = 5.0
"""How long a publisher waits for an answer before it takes the outcome for unknown."""


class Network:
    """What all connections share: one store, one stream of luck, one server that hands out reservations."""

    def __init__(self, store: MemoryStore, random: Random, chances: Callable[[], Chances]) -> None:
        self.store = store
        self.random = random
        self._chances = chances
        self._handouts: dict[str, Handout] = {}
        self.acknowledged: list[tuple[int, str, bytes]] = []
        """Sequence, subject and body of all that anybody was told is stored."""

    @property
    def chances(self) -> Chances:
        """What may go wrong now."""
        return self._chances()

    def delay_s(self) -> float:
        """Return how long one way takes: mostly a moment, at times seconds."""
        slow = self.random.random() < self.chances.slow
        return self.random.random() * (8.0 if slow else 0.02)

    def happens(self, chance: float) -> bool:
        """Draw once."""
        return chance > 0 and self.random.random() < chance

    def handout(self, name: str) -> Handout:
        """Return the server's side of a durable."""
        if name not in self._handouts:
            self._handouts[name] = Handout(self, self.store.durable(name))
        return self._handouts[name]


class Connection(MemoryLog):
    """The log as one life of one process sees it."""

    def __init__(self, network: Network) -> None:
        super().__init__(network.store)
        self._network = network
        self._undo: list[Callable[[], None]] = []

    def drop(self) -> None:
        """The process is gone: the server forgets it."""
        while self._undo:
            self._undo.pop()()

    async def append(self, entries: Sequence[Entry]) -> tuple[int, ...]:
        """Append as the port says. The message or its answer may be lost, or the message may arrive after all hope."""
        network, chances = self._network, self._network.chances
        await asyncio.sleep(network.delay_s())
        if network.happens(chances.lost):
            return await self._no_answer()
        if network.happens(chances.arrives_late):
            delay_s = ANSWER_S * 2 * network.random.random()
            asyncio.get_running_loop().call_later(delay_s, self._arrive, entries, context=contextvars.Context())
            return await self._no_answer()
        if network.happens(chances.busy):
            raise AppendBusy("An earlier write is still being applied.")
        try:
            seqs = self.store.append(entries)
        except BusError:
            await asyncio.sleep(network.delay_s())
            if network.happens(chances.answer_lost):
                return await self._no_answer()
            raise
        await asyncio.sleep(network.delay_s())
        if network.happens(chances.answer_lost):
            return await self._no_answer()
        told = zip(seqs, entries, strict=True)
        network.acknowledged += [(seq, entry.subject, entry.body) for seq, entry in told]
        return seqs

    async def last(self, subject: str) -> Stored | None:
        """Read one fact back; the log may be out of reach."""
        await asyncio.sleep(self._network.delay_s())
        if self._network.happens(self._network.chances.unreadable):
            raise NotReachable("No answer.")
        found = self.store.last(subject)
        await asyncio.sleep(self._network.delay_s())
        return found

    async def follow(self, start: int, only: str = ALL) -> AsyncGenerator[Sequence[Stored]]:
        """Yield all facts from `start` on, in order, a few at a time, at this reader's own pace."""
        assert only == ALL, "followers read everything"
        news = asyncio.Event()
        self._undo.append(self.store.watch(news.set))
        next_seq = max(start, 1)
        while True:
            news.clear()
            facts = self.store.read(next_seq, self._network.random.randint(1, 12))
            if not facts:
                await news.wait()
                continue
            await asyncio.sleep(self._network.delay_s())
            next_seq = facts[-1].seq + 1
            yield facts

    async def consume(self, name: str, on: Callable[[Delivery], None]) -> Subscription:
        """Compete for the facts of a durable."""
        subscription = self._network.handout(name).subscribe(on)
        self._undo.append(subscription.end)
        return subscription

    async def listen(self, subject: str, on: Callable[[str, bytes], None]) -> Subscription:
        """Hear what is said from now on, or miss it."""
        loop, context = asyncio.get_running_loop(), contextvars.copy_context()

        def ear(found: str, body: bytes) -> None:
            if not self._network.happens(self._network.chances.deaf):
                loop.call_later(self._network.delay_s(), on, found, body, context=context)

        stop = self.store.bus.listen(subject, ear)
        self._undo.append(stop)
        return Listening(stop)

    async def _no_answer(self) -> tuple[int, ...]:
        await asyncio.sleep(ANSWER_S)
        raise AppendUnknown("No answer came.")

    def _arrive(self, entries: Sequence[Entry]) -> None:
        try:
            self.store.append(entries)
        except BusError:
            return  # refused like any other; nobody is left to be told


class Listening:
    """What `listen` gives back."""

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop

    async def close(self) -> None:
        """Hear no more."""
        self._stop()
