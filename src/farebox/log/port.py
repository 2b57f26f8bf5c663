"""The port: what every event log can do. `memory.py` and `jetstream.py` pass one contract suite (tests/contract/).

An append has three outcomes: stored (sequences come back), refused (nothing stored: AppendRefused, AppendBusy, LogFull) or
unknown (AppendUnknown: read back before anything else).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Protocol

from msgspec import Struct

from farebox.core.filling import Filling
from farebox.core.terms import Ref

BATCH_MAX = 1000
"""Entries of one atomic append (JetStream error 10199 above it)."""


class Fence(Struct, frozen=True, gc=False):
    """Store only if the last sequence below `filter` is `last` (0: nothing stands there)."""

    filter: str
    last: int


class Entry(Struct, frozen=True, gc=False):
    """One fact to append."""

    subject: str
    body: bytes
    fence: Fence | None = None


class Stored(Struct, frozen=True, gc=False):
    """One fact as the log holds it; `at_ms` is the stream's time (ms since 1970)."""

    subject: str
    body: bytes
    seq: int
    at_ms: int


class Position(Struct, frozen=True):
    """Which log this is (`created`: the stream's creation time as text) and what it holds; 0 and 0 when it is empty.

    `gone` facts between the two are missing, as far as the server knows that speaks for the log, `gone_first` is the first
    of them (0: unknown). `filling` is what it takes of its room.
    """

    created: str
    first_seq: int
    last_seq: int
    gone: int = 0
    filling: Filling = Filling()
    gone_first: int = 0


class GivenUp(Struct, frozen=True, gc=False):
    """A fact that a durable hands out no more: nobody could carry it in so many `tries`, or somebody said why nobody can."""

    seq: int
    consumer: str
    tries: int
    reason: str
    at_ms: int


class Delivery(Protocol):
    """One fact handed to one of several competing consumers. Acks may be lost: they never decide anything."""

    @property
    def stored(self) -> Stored:
        """The fact."""
        ...

    @property
    def tries(self) -> int:
        """How often it was handed out, this time included."""
        ...

    async def ack(self) -> None:
        """Done: do not hand it out again (best effort)."""
        ...

    async def nak(self, delay_s: float) -> None:
        """Hand it out again after `delay_s`."""
        ...

    async def progress(self) -> None:
        """Still working: do not hand it to another one yet."""
        ...

    async def term(self, reason: str) -> None:
        """Never hand it out again; the reason becomes visible in the dead stream."""
        ...


class Subscription(Protocol):
    """Something that goes on until it is closed."""

    async def close(self) -> None:
        """Stop it. Safe to call twice."""
        ...


Handler = Callable[[bytes], Awaitable[bytes]]
OnStored = Callable[[Sequence[Entry], Sequence[int]], None]
"""Told of each append that was acknowledged."""


class Log(Protocol):
    """The event log and the small talk beside it (live text, questions and answers, large contents)."""

    on_stored: OnStored | None

    async def append(self, entries: Sequence[Entry]) -> tuple[int, ...]:
        """Store all entries or none and return their sequences; one entry goes as a single, several as an atomic batch.

        Fences of a batch are checked against the log before the batch.
        Raises AppendRefused, AppendBusy, AppendUnknown, LogFull, AccessDenied.
        """
        ...

    async def last(self, subject: str) -> Stored | None:
        """Return the last fact on one exact subject, None if there is none. Raises NotReachable, AccessDenied."""
        ...

    async def at(self, seq: int) -> Stored | None:
        """Return the fact at one sequence, None if there is none. Raises NotReachable, AccessDenied."""
        ...

    async def given_up(self) -> Sequence[GivenUp]:
        """Return the facts that durables gave up last (the dead stream), oldest first. Raises NotReachable, AccessDenied."""
        ...

    async def position(self) -> Position:
        """Return which log this is and what it holds. Raises LogUnfit when the stream is missing."""
        ...

    def follow(self, start: int, only: str = "farebox.log.>") -> AsyncGenerator[Sequence[Stored]]:
        """Yield all facts from sequence `start` on, in order and without end, as they come, many at a time.

        Survives reconnects. Raises LogDamaged when an unfiltered reading has a hole.
        """
        ...

    async def consume(self, name: str, on: Callable[[Delivery], None]) -> Subscription:
        """Be one of the competing consumers of the durable `name`; `on` is called for each delivery and must not block."""
        ...

    async def listen(self, subject: str, on: Callable[[str, bytes], None]) -> Subscription:
        """Hear what is published on `subject` (wildcards allowed) from now on, without any memory: live text, cancels."""
        ...

    async def publish(self, subject: str, body: bytes) -> None:
        """Publish live text (farebox.live.>): nobody waits for it, it may be lost."""
        ...

    async def put_blob(self, body: bytes) -> Ref:
        """Keep a large content; the same content twice is kept once. Raises LogFull."""
        ...

    async def get_blob(self, ref: Ref) -> bytes:
        """Return a large content. Raises LogDamaged when it is missing or its hash is wrong."""
        ...

    async def request(self, subject: str, body: bytes, timeout_s: float) -> bytes:
        """Ask the engine. Raises NotReachable when nobody answers."""
        ...

    async def serve(self, subject: str, handler: Handler) -> Subscription:
        """Answer questions on `subject`."""
        ...

    async def close(self) -> None:
        """Let go of everything, at once."""
        ...
