"""The log of the port in memory: every example and most tests run on it with nothing installed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence

from farebox.core.errors import NotReachable
from farebox.core.subjects import ALL
from farebox.core.terms import Ref
from farebox.log.durable import Durable
from farebox.log.gaps import check_gapless, check_start
from farebox.log.names import matches
from farebox.log.port import Delivery, Entry, GivenUp, Handler, OnStored, Position, Stored, Subscription
from farebox.log.store import Fate, MemoryStore

__all__ = ["Fate", "MemoryLog", "MemoryStore"]

FOLLOW_FACTS_MAX = 1000
"""Facts that a follower is given at once."""


class _Stop:
    """A subscription that ends by calling one function."""

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop: Callable[[], None] | None = stop

    async def close(self) -> None:
        """Stop it."""
        self.end()

    def end(self) -> None:
        stop, self._stop = self._stop, None
        if stop is not None:
            stop()


class MemoryLog:
    """One process's connection to a MemoryStore. Several over one store compete and hear each other."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.on_stored: OnStored | None = None
        self._open = True
        self._stops: list[_Stop] = []
        self._followers: set[asyncio.Event] = set()

    async def append(self, entries: Sequence[Entry]) -> tuple[int, ...]:
        """Store all entries or none and return their sequences. Raises as the port says."""
        await asyncio.sleep(0)  # a real log lets others run before the answer comes
        self._check_open()
        seqs = self.store.append(entries)
        if self.on_stored is not None:
            self.on_stored(entries, seqs)
        return seqs

    async def last(self, subject: str) -> Stored | None:
        """Return the last fact on one exact subject, None if there is none."""
        await asyncio.sleep(0)
        self._check_open()
        return self.store.last(subject)

    async def at(self, seq: int) -> Stored | None:
        """Return the fact at one sequence, None if there is none."""
        await asyncio.sleep(0)
        self._check_open()
        found = self.store.read(seq, 1)
        return found[0] if found and found[0].seq == seq else None

    async def given_up(self) -> Sequence[GivenUp]:
        """Return the facts that durables gave up last, the oldest first."""
        self._check_open()
        return self.store.given_up()

    async def position(self) -> Position:
        """Return which log this is and what it holds."""
        self._check_open()
        return self.store.position()

    async def follow(self, start: int, only: str = ALL) -> AsyncGenerator[Sequence[Stored]]:
        """Yield all facts from `start` on as they come; ends when the log is closed. Raises LogDamaged at a hole."""
        news = asyncio.Event()
        stop = self.store.watch(news.set)
        self._followers.add(news)
        next_seq = check_start(start, self.store.position())
        try:
            while self._open:
                news.clear()
                facts = self.store.read(next_seq, FOLLOW_FACTS_MAX)
                if not facts:
                    await news.wait()
                    continue
                if only == ALL:
                    check_gapless(facts, next_seq)
                next_seq = facts[-1].seq + 1
                if wanted := [fact for fact in facts if only == ALL or matches(only, fact.subject)]:
                    yield wanted
        finally:
            self._followers.discard(news)
            stop()

    async def consume(self, name: str, on: Callable[[Delivery], None]) -> Subscription:
        """Be one of the competing consumers of the durable `name`. Raises LogUnfit when there is no such durable."""
        self._check_open()
        durable = self.store.durable(name)
        return self._kept(_Stop(_Pump(self.store, durable, on).start()))

    async def listen(self, subject: str, on: Callable[[str, bytes], None]) -> Subscription:
        """Hear what is published on `subject` from now on."""
        self._check_open()
        soon = asyncio.get_running_loop().call_soon

        def ear(found: str, body: bytes) -> None:
            soon(on, found, body)

        return self._kept(_Stop(self.store.bus.listen(subject, ear)))

    async def publish(self, subject: str, body: bytes) -> None:
        """Publish live text: nobody waits for it."""
        self._check_open()
        self.store.bus.say(subject, body)

    async def put_blob(self, body: bytes) -> Ref:
        """Keep a large content once."""
        self._check_open()
        return self.store.put_blob(body)

    async def get_blob(self, ref: Ref) -> bytes:
        """Return a large content. Raises LogDamaged when it is missing or its hash is wrong."""
        self._check_open()
        return self.store.get_blob(ref)

    async def request(self, subject: str, body: bytes, timeout_s: float) -> bytes:
        """Ask who serves `subject`. Raises NotReachable when nobody answers in time."""
        self._check_open()
        handler = self.store.bus.handler_of(subject)
        if handler is None:
            raise NotReachable(f"Nobody answers on {subject}.")
        try:
            async with asyncio.timeout(timeout_s):
                return await handler(body)
        except TimeoutError as late:
            raise NotReachable(f"No answer on {subject} in {timeout_s} s.") from late

    async def serve(self, subject: str, handler: Handler) -> Subscription:
        """Answer questions on `subject`."""
        self._check_open()
        return self._kept(_Stop(self.store.bus.serve(subject, handler)))

    async def close(self) -> None:
        """Let go of everything; followers end."""
        self._open = False
        for stop in self._stops:
            stop.end()
        for news in self._followers:
            news.set()

    def _kept(self, stop: _Stop) -> _Stop:
        self._stops.append(stop)
        return stop

    def _check_open(self) -> None:
        if not self._open:
            raise NotReachable("The log is closed.")


class _Handed:
    """One fact in the hands of one consumer."""

    def __init__(self, store: MemoryStore, durable: Durable, stored: Stored, tries: int) -> None:
        self._store = store
        self._durable = durable
        self._stored = stored
        self._tries = tries

    @property
    def stored(self) -> Stored:
        """The fact."""
        return self._stored

    @property
    def tries(self) -> int:
        """How often it was handed out."""
        return self._tries

    async def ack(self) -> None:
        """Done."""
        self._durable.ack(self._stored.seq)
        self._store.stir()

    async def nak(self, delay_s: float) -> None:
        """Hand it out again after `delay_s`."""
        self._durable.nak(self._stored.seq, self._store.clock(), round(delay_s * 1000))
        self._store.stir()

    async def progress(self) -> None:
        """Still working."""
        self._durable.progress(self._stored.seq, self._store.clock())

    async def term(self, reason: str) -> None:
        """Never again."""
        self._durable.term(self._stored.seq, reason)
        self._store.stir()


class _Pump:
    """Hands the facts of a durable to one consumer, one each turn of the loop, so that several consumers share the work."""

    def __init__(self, store: MemoryStore, durable: Durable, on: Callable[[Delivery], None]) -> None:
        self._store = store
        self._durable = durable
        self._on = on
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.Handle | None = None
        self._open = True

    def start(self) -> Callable[[], None]:
        """Begin; the result ends it."""
        unwatch = self._store.watch(self._wake)
        self._wake()

        def stop() -> None:
            self._open = False
            unwatch()
            if self._timer is not None:
                self._timer.cancel()

        return stop

    def _wake(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        taken = self._durable.take(self._store.clock())
        if taken is not None:
            self._wake()
            self._on(_Handed(self._store, self._durable, *taken))
            return
        due_ms = self._durable.due_ms()
        if due_ms is not None:
            delay_s = max(due_ms - self._store.clock(), 1) / 1000
            self._timer = self._loop.call_later(delay_s, self._turn)
