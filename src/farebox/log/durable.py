"""Competing consumers without waiting: who holds which fact until when. The memory log's twin of a JetStream durable."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from farebox.log.names import HANDED_OUT_MAX, TRIES_MAX, matches
from farebox.log.port import Stored


class _Held:
    """One fact that is with somebody, or waits to be handed out again."""

    __slots__ = ("due_ms", "fact", "tries")

    def __init__(self, fact: Stored) -> None:
        self.fact = fact
        self.due_ms = 0
        self.tries = 0


class Durable:
    """Facts of `facts` below `pattern`: each is handed out until it is acked. `dead` holds what was given up, and why."""

    def __init__(self, facts: Sequence[Stored], pattern: str, ack_wait_ms: int) -> None:
        self.dead: list[tuple[int, str]] = []
        self._facts = facts
        self._pattern = pattern
        self._ack_wait_ms = ack_wait_ms
        self._seen = 0
        self._held: dict[int, _Held] = {}
        self._dues: list[tuple[int, int]] = []

    def take(self, now_ms: int) -> tuple[Stored, int] | None:
        """Hand out one fact and say how often it was handed out; None when there is nothing to do now."""
        held = self._again(now_ms) or self._fresh()
        if held is None:
            return None
        held.tries += 1
        self._wait(held, now_ms + self._ack_wait_ms)
        return held.fact, held.tries

    def due_ms(self) -> int | None:
        """Return when a fact that is out must be handed out again, None if none is out."""
        while self._dues:
            due_ms, seq = self._dues[0]
            held = self._held.get(seq)
            if held is not None and held.due_ms == due_ms:
                return due_ms
            heapq.heappop(self._dues)
        return None

    def ack(self, seq: int) -> None:
        """Done, also when it comes late."""
        self._held.pop(seq, None)

    def nak(self, seq: int, now_ms: int, delay_ms: int) -> None:
        """Hand it out again after a while."""
        if held := self._held.get(seq):
            self._wait(held, now_ms + delay_ms)

    def progress(self, seq: int, now_ms: int) -> None:
        """Its holder still works."""
        self.nak(seq, now_ms, self._ack_wait_ms)

    def term(self, seq: int, reason: str) -> None:
        """Never hand it out again; the reason stays in `dead`."""
        if self._held.pop(seq, None) is not None:
            self.dead.append((seq, reason))

    def lose_tail(self, last_seq: int) -> None:
        """Forget what the log lost: the server sets a consumer that is ahead of its stream back to the end of it."""
        self._seen = min(self._seen, len(self._facts))
        self._held = {seq: held for seq, held in self._held.items() if seq <= last_seq}

    def _again(self, now_ms: int) -> _Held | None:
        while (due_ms := self.due_ms()) is not None and due_ms <= now_ms:
            _, seq = heapq.heappop(self._dues)
            if self._held[seq].tries < TRIES_MAX:
                return self._held[seq]
            self.term(seq, f"{TRIES_MAX} tries")
        return None

    def _fresh(self) -> _Held | None:
        while self._seen < len(self._facts) and len(self._held) < HANDED_OUT_MAX:
            fact = self._facts[self._seen]
            self._seen += 1
            if matches(self._pattern, fact.subject):
                self._held[fact.seq] = _Held(fact)
                return self._held[fact.seq]
        return None

    def _wait(self, held: _Held, due_ms: int) -> None:
        held.due_ms = due_ms
        heapq.heappush(self._dues, (due_ms, held.fact.seq))
