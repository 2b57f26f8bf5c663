"""The memory log's heart: a log in a list, without waiting, under a clock that is given. Same calls, same log, every time.

The simulation runs on it directly; memory.py puts the port over it.
"""

from __future__ import annotations

import hashlib
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from enum import Enum

from farebox.core.errors import AppendBusy, AppendRefused, AppendUnknown, LogDamaged, LogFull
from farebox.core.filling import Filling
from farebox.core.terms import Ref
from farebox.log.bus import MemoryBus
from farebox.log.durable import Durable
from farebox.log.names import ACK_WAIT_S, check_batch, durable_filter
from farebox.log.port import Entry, GivenUp, Position, Stored


class Fate(Enum):
    """What becomes of an append, when a test plays the network."""

    ARRIVES = "arrives"
    ANSWER_LOST = "stored or refused as usual, but nobody learns it"
    LOST = "never arrives, and nobody learns it"
    BUSY = "a cluster says: try again"


def wall_ms() -> int:
    """Return the time in ms since 1970."""
    return time.time_ns() // 1_000_000


class _Node:
    """One token of all subjects: the last sequence on it and the last one on or below it."""

    __slots__ = ("below", "children", "last")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.last = 0
        self.below = 0


class MemoryStore:
    """A log in memory. `clock` gives ms since 1970; `fate` may lose appends or their answers.

    `facts` is what it holds: a test may damage it. Several MemoryLog objects may share one store.
    """

    def __init__(
        self,
        clock: Callable[[], int] = wall_ms,
        *,
        fate: Callable[[Sequence[Entry]], Fate] = lambda _: Fate.ARRIVES,
        bytes_max: int | None = None,
        ack_wait_s: float = ACK_WAIT_S,
        created: str = "memory",
    ) -> None:
        self.clock = clock
        self.facts: list[Stored] = []
        self.blobs: dict[str, bytes] = {}
        self.bus = MemoryBus()
        self._fate = fate
        self._bytes, self._bytes_max = 0, bytes_max
        self._ack_wait_ms = round(ack_wait_s * 1000)
        self._created = created
        self._root = _Node()
        self._next = 1
        self._durables: dict[str, Durable] = {}
        self._watchers: list[Callable[[], None]] = []

    def append(self, entries: Sequence[Entry]) -> tuple[int, ...]:
        """Store all entries or none and return their sequences; fences are checked against the log before the batch.

        Who listens on the bus hears them in any case, as on the server: also what is refused.
        Raises AppendRefused, AppendBusy, AppendUnknown, LogFull, BadFact.
        """
        check_batch(entries)
        fate = self._fate(entries)
        if fate is Fate.LOST:
            raise AppendUnknown("No answer came.")
        for entry in entries:
            self.bus.say(entry.subject, entry.body)
        if fate is Fate.BUSY:
            raise AppendBusy("An earlier write is still being applied.")
        try:
            self._check(entries)
        except (AppendRefused, LogFull) as refusal:
            if fate is Fate.ANSWER_LOST:
                raise AppendUnknown("No answer came.") from refusal
            raise
        seqs = self._store(entries)
        if fate is Fate.ANSWER_LOST:
            raise AppendUnknown("No answer came.")
        return seqs

    def last(self, subject: str) -> Stored | None:
        """Return the last fact on one exact subject."""
        node = self._root
        for token in subject.split("."):
            found = node.children.get(token)
            if found is None:
                return None
            node = found
        return self._at(node.last)

    def last_below(self, pattern: str) -> int:
        """Return the last sequence below a filter, 0 if nothing stands there."""
        nodes = [self._root]
        for step in pattern.split("."):
            if step == ">":
                return max((child.below for node in nodes for child in node.children.values()), default=0)
            nodes = [child for node in nodes for child in _children(node, step)]
        return max((node.last for node in nodes), default=0)

    def position(self) -> Position:
        """Return which log this is and what it holds."""
        filling = Filling(self._bytes, self._bytes_max or 0)
        first, last = (self.facts[0].seq, self.facts[-1].seq) if self.facts else (0, 0)
        return Position(created=self._created, first_seq=first, last_seq=last, filling=filling)

    def read(self, start: int, count_max: int = 1000) -> Sequence[Stored]:
        """Return up to `count_max` facts from sequence `start` on."""
        index = bisect_left(self.facts, start, key=_seq_of)
        return self.facts[index : index + count_max]

    def put_blob(self, body: bytes) -> Ref:
        """Keep a large content once."""
        digest = hashlib.sha256(body).hexdigest()
        self.blobs.setdefault(digest, body)
        return Ref(ref=digest, sha256=digest, bytes=len(body))

    def get_blob(self, ref: Ref) -> bytes:
        """Return a large content. Raises LogDamaged when it is missing or its hash is wrong."""
        body = self.blobs.get(ref.ref)
        if body is None:
            raise LogDamaged(f"The content {ref.ref} is missing.")
        if hashlib.sha256(body).hexdigest() != ref.sha256:
            raise LogDamaged(f"The content {ref.ref} is not what was stored.")
        return body

    def given_up(self) -> list[GivenUp]:
        """Return what the durables gave up, by sequence."""
        now_ms = self.clock()
        dead = ((name, seq, why) for name, one in self._durables.items() for seq, why in one.dead)
        return sorted((GivenUp(seq, name, 0, why, now_ms) for name, seq, why in dead), key=lambda one: one.seq)

    def durable(self, name: str) -> Durable:
        """Return the competing consumers' state of `name`, made at first use. Raises LogUnfit for an unknown name."""
        if name not in self._durables:
            self._durables[name] = Durable(self.facts, durable_filter(name), self._ack_wait_ms)
        return self._durables[name]

    def watch(self, on_stored: Callable[[], None]) -> Callable[[], None]:
        """Call `on_stored` after each append; the result ends that."""
        self._watchers.append(on_stored)
        return lambda: self._watchers.remove(on_stored)

    def stir(self) -> None:
        """Let all watchers look again."""
        for on_stored in tuple(self._watchers):
            on_stored()

    def lose_tail(self, count: int) -> None:
        """Forget the last facts, as a power cut does: their sequences are used again."""
        del self.facts[len(self.facts) - count :]
        self._next = self.facts[-1].seq + 1 if self.facts else 1
        self._root = _Node()
        for fact in self.facts:
            self._index(fact.subject, fact.seq)
        for durable in self._durables.values():
            durable.lose_tail(self._next - 1)

    def _check(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if entry.fence is None:
                continue
            last = self.last_below(entry.fence.filter)
            if last != entry.fence.last:
                raise AppendRefused(f"Below {entry.fence.filter} the last sequence is {last}.", last_seq=last)
        needed = sum(len(entry.body) for entry in entries)
        if self._bytes_max is not None and self._bytes + needed > self._bytes_max:
            raise LogFull("The log has no room for more facts.")

    def _store(self, entries: Sequence[Entry]) -> tuple[int, ...]:
        at_ms = self.clock()
        first = self._next
        for entry in entries:
            self.facts.append(Stored(subject=entry.subject, body=entry.body, seq=self._next, at_ms=at_ms))
            self._index(entry.subject, self._next)
            self._next += 1
        self._bytes += sum(len(entry.body) for entry in entries)
        self.stir()
        return tuple(range(first, self._next))

    def _index(self, subject: str, seq: int) -> None:
        node = self._root
        for token in subject.split("."):
            node = node.children.setdefault(token, _Node())
            node.below = seq
        node.last = seq

    def _at(self, seq: int) -> Stored | None:
        index = bisect_left(self.facts, seq, key=_seq_of)
        return self.facts[index] if seq and index < len(self.facts) and self.facts[index].seq == seq else None


def _seq_of(fact: Stored) -> int:
    return fact.seq


def _children(node: _Node, step: str) -> Sequence[_Node]:
    if step == "*":
        return tuple(node.children.values())
    child = node.children.get(step)
    return () if child is None else (child,)
