"""What was used of one quota, at any moment since its last grant: holds, what its window has settled, what providers said."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterator
from decimal import Decimal

from msgspec import Struct

from farebox.certificate.turns import Turn

ZERO = Decimal(0)
EVIDENCE_KEPT = 256
"""Reports of a provider that are remembered: a grant counts by the last one that its writer had read."""
GONE_MAX = 1000
LATEST = 1 << 62
Hold = tuple[str, str, int]
"""(chain, task, attempt)."""


class Evidence(Struct):
    """A use that the provider reported at `seq`; void from `until_ms` on. `since` is what later grants settled."""

    seq: int
    used: Decimal
    until_ms: int
    since: Decimal = ZERO


class Use:
    """The use of one quota. Holds count in every window that they touch, settled amounts in the one of their start."""

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self.rewound = False
        """Whether its window became another one: then whoever counts may have kept more than is in it now."""
        self.holds: dict[Hold, tuple[Decimal, int]] = {}
        self._held = ZERO
        self._sums: dict[int, Decimal] = {}
        self._total = ZERO
        self._settled: list[tuple[int, int, Decimal]] = []
        self._gone = 0
        self._count = 0
        self._evidence: list[Evidence] = []

    def turn_to(self, turn: Turn) -> None:
        """Take another window of the same length: it may turn by another zone now, or look back."""
        self.rewound = True
        entries, self.turn = self._settled[self._gone :], turn
        self._settled, self._gone, self._total = [], 0, ZERO
        self._sums.clear()
        for start_ms, _, amount in entries:
            self._enter(start_ms, amount)

    def hold(self, hold: Hold, amount: Decimal, seq: int) -> None:
        """Count a grant."""
        self.holds[hold] = (amount, seq)
        self._held += amount

    def settle(self, hold: Hold, start_ms: int, amount: Decimal) -> None:
        """Put what was really used in the place of a hold."""
        reserved, seq = self.holds.pop(hold)
        self._held -= reserved
        self.correct(start_ms, amount, seq)

    def correct(self, start_ms: int, difference: Decimal, seq: int) -> None:
        """Add to what was settled for an attempt that started at `start_ms` and was granted at `seq`."""
        for evidence in self._evidence:
            if evidence.seq < seq:
                evidence.since += difference
        if difference:
            self._enter(start_ms, difference)

    def learn(self, seq: int, used: Decimal, until_ms: int) -> None:
        """Count what a provider reported."""
        self._evidence.append(Evidence(seq, used, until_ms))
        del self._evidence[:-EVIDENCE_KEPT]

    def forget(self, before_ms: int) -> None:
        """Forget what no moment from `before_ms` on looks back at."""
        # A window that turns may be longer than its name says: a month, a day on which clocks are set back.
        back_ms = self.turn.length_ms if self.turn.rolling else 2 * self.turn.length_ms
        edge = bisect_right(self._settled, (before_ms - back_ms, LATEST, ZERO), lo=self._gone)
        if edge == self._gone:
            return
        for at in range(self._gone, edge):
            start_ms, _, amount = self._settled[at]
            self._total -= amount
            if not self.turn.rolling:
                self._sums.pop(self.turn.number(start_ms), None)
        self._gone = edge
        if self._gone > GONE_MAX and self._gone > len(self._settled) // 2:
            del self._settled[: self._gone]
            self._gone = 0

    def at(self, at_ms: int, as_of: int) -> Decimal:
        """Return the use at a moment, with what had been reported by sequence `as_of`."""
        own = self._own(at_ms)
        evidence = next((one for one in reversed(self._evidence) if one.seq <= as_of), None)
        if evidence is None or at_ms >= evidence.until_ms:
            return own
        return max(own, evidence.used + evidence.since + self._held)

    def moments(self, from_ms: int, to_ms: int, as_of: int) -> Iterator[int]:
        """Yield the moments between two at which the use may have changed by time alone, both ends included."""
        yield to_ms
        yield from_ms
        for evidence in self._evidence:
            if evidence.seq <= as_of and from_ms < evidence.until_ms <= to_ms:
                yield evidence.until_ms - 1
                yield evidence.until_ms
        if not self.turn.rolling:
            if 0 < self.turn.length_ms < to_ms - from_ms:
                yield from_ms + self.turn.length_ms
            return
        for at in range(self._gone, len(self._settled)):
            moment = self._settled[at][0] + self.turn.length_ms
            if from_ms <= moment <= to_ms:
                yield moment

    def _enter(self, start_ms: int, amount: Decimal) -> None:
        if not self.turn.rolling:
            number = self.turn.number(start_ms)
            self._sums[number] = self._sums.get(number, ZERO) + amount
        if self.turn.length_s:
            self._count += 1
            self._total += amount
            insort(self._settled, (start_ms, self._count, amount), lo=self._gone)

    def _own(self, at_ms: int) -> Decimal:
        if not self.turn.rolling:
            return self._held + self._sums.get(self.turn.number(at_ms), ZERO)
        use, edge_ms = self._held + self._total, at_ms - self.turn.length_ms
        for at in range(self._gone, len(self._settled)):
            start_ms, _, amount = self._settled[at]
            if start_ms > edge_ms:
                break
            use -= amount
        return use
