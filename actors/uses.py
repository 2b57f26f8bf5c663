"""What is used of each quota: open holds, what was settled in its window, and what the provider itself reported. Pure.

A hold counts as reserved from its grant to its settlement, in every window it touches; what it really used counts in the
window in which it began. What a provider reported counts until its reset, with all that was granted since.
Amounts are millionths of millionths (rules.py).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from math import gcd

import msgspec
from msgspec import Struct

from actors.rules import FOREVER, MOST, ONE
from actors.windows import Window, span
from farebox.core.events import QuotaLearned
from farebox.core.quotas import CALENDAR

PERCENT_MAX = 100 * ONE
PIECE_MS = 900_000
"""Clocks of zones differ by quarters of an hour (IANA tables, 2026)."""
ODD_PIECE_MS = 30_000
"""Durations are counted from a zone's midnight of 1970, when one differed by 44 minutes and 30 seconds (Monrovia)."""


class Tally(Struct, frozen=True, gc=False):
    """What farebox itself counts of one quota. `spent` and `calls` are those of the turn that began at `start_ms`."""

    window: Window
    open: int = 0
    start_ms: int = 0
    spent: int = 0
    calls: int = 0


class Evidence(Struct, frozen=True, gc=False):
    """What the provider last reported, in fact `seq`. `since` are grants after it, `before` holds that were open then.

    `used` counts until `until_ms` (stream time). `percent` is what a call took of late, `calls` how many ended since.
    """

    seq: int
    at_ms: int
    until_ms: int
    said: str = ""
    limit: int | None = None
    used: int | None = None
    since: int = 0
    before: int = 0
    percent: int = ONE
    calls: int = 0


class Uses(Struct, dict=True):
    """All that is used, by quota. `rolled` holds what rolls off one by one: (began, whose, amount), the oldest first.

    Of a fixed window it holds sums of pieces of time that no zone's clock divides, for when the window becomes another one.
    """

    tallies: dict[str, Tally] = msgspec.field(default_factory=dict[str, Tally])
    rolled: dict[str, list[tuple[int, str, int]]] = msgspec.field(default_factory=dict[str, list[tuple[int, str, int]]])
    learned: dict[str, Evidence] = msgspec.field(default_factory=dict[str, Evidence])

    def __post_init__(self) -> None:
        """Sum up what rolls: `live` is how many of the oldest have rolled off, and the sum of the others."""
        self.live = {quota: (0, sum(amount for _, _, amount in spent)) for quota, spent in self.rolled.items()}
        self.clock_ms = 0

    def __deepcopy__(self, _memo: object) -> Uses:
        """Return uses of their own; what never changes is shared."""
        twin = Uses(dict(self.tallies), {quota: spent.copy() for quota, spent in self.rolled.items()}, dict(self.learned))
        twin.live, twin.clock_ms = dict(self.live), self.clock_ms
        return twin

    def reserve(self, quota: str, window: Window, amount: int) -> None:
        """Count a grant's part as in use."""
        tally = self.tallies.get(quota) or Tally(window)
        self.tallies[quota] = msgspec.structs.replace(tally, open=tally.open + amount)
        found = self.learned.get(quota)
        if found is not None:
            self.learned[quota] = msgspec.structs.replace(found, since=found.since + amount)

    def settle(self, quota: str, whose: str, began: tuple[int, int], reserved: int, used: int) -> None:
        """Count what a hold really used in the window in which it began: `began` is (stream time in ms, sequence)."""
        at_ms, seq = began
        tally = self.tallies.get(quota)
        if tally is None:
            return
        self.tallies[quota] = msgspec.structs.replace(tally, open=tally.open - reserved)
        self._spend(quota, whose, at_ms, used)
        found = self.learned.get(quota)
        if found is not None and seq > found.seq:
            self.learned[quota] = msgspec.structs.replace(found, since=found.since + used - reserved)
        elif found is not None:
            self.learned[quota] = msgspec.structs.replace(found, before=max(found.before - reserved, 0))

    def ended(self, quota: str) -> None:
        """Count a call that ended, to learn what one takes of a window told in percent."""
        found = self.learned.get(quota)
        if found is not None:
            self.learned[quota] = msgspec.structs.replace(found, calls=found.calls + 1)

    def correct(self, quota: str, whose: str, began: tuple[int, int], before: int, used: int) -> None:
        """Count what was settled before as something else: a late end knows better than the bound that was booked."""
        at_ms, seq = began
        tally = self.tallies.get(quota)
        if tally is None:
            return
        if tally.window.kind == "rolling":
            back = self._take_back(quota, (at_ms, whose, before))
            self._spend(quota, whose, at_ms, used if back else used - before)
        elif tally.window.kind == "fixed":
            self._keep(quota, tally.window, at_ms, used - before)
        if tally.window.kind == "all" or (tally.window.kind == "fixed" and self._start_ms(tally, at_ms) == tally.start_ms):
            self.tallies[quota] = msgspec.structs.replace(tally, spent=tally.spent + used - before)
        found = self.learned.get(quota)
        if found is not None and seq > found.seq:
            self.learned[quota] = msgspec.structs.replace(found, since=found.since + used - before)

    def learn(self, quota: str, window: Window, fact: QuotaLearned, unstored: int) -> bool:
        """Take in what a provider reported; `unstored` is what grants hold that come after it.

        What a fact does not tell stays as it was known. Returns whether the limit is new.
        """
        old = self.learned.get(quota) or Evidence(0, 0, 0)
        if quota not in self.tallies:
            self.tallies[quota] = Tally(window)
        limit = old.limit if fact.limit is None else min(fact.limit * ONE, MOST)
        if fact.used is None:
            self.learned[quota] = msgspec.structs.replace(old, limit=limit, said=old.said or fact.evidence)
            return limit != old.limit
        used = min(fact.used * ONE, MOST)
        until_ms = fact.at_ms + window.length_ms if fact.resets_at_ms is None else fact.resets_at_ms
        self.learned[quota] = Evidence(
            seq=fact.seq, at_ms=fact.at_ms, until_ms=until_ms, said=fact.evidence, limit=limit, used=used, since=unstored,
            before=self.tallies[quota].open - unstored, percent=_percent(old, fact.at_ms, used),
        )  # fmt: skip
        return limit != old.limit

    def use(self, quota: str, now_ms: int) -> tuple[int, int]:
        """Return (use, the part of it that is open holds) at a moment (stream time, ms)."""
        tally = self.tallies.get(quota)
        if tally is None:
            return 0, 0
        own = tally.open + self._spent(quota, tally, now_ms)
        found = self.learned.get(quota)
        if found is not None and found.used is not None and now_ms < found.until_ms:
            return max(own, found.used + found.since + found.before), tally.open
        return own, tally.open

    def calls(self, quota: str, now_ms: int) -> int:
        """Return how many ended calls the own count of this window rests on."""
        tally = self.tallies[quota]
        if tally.window.kind == "rolling":
            return len(self.rolled.get(quota, ()))
        return tally.calls if self._spent(quota, tally, now_ms) else 0

    def room_ms(self, quota: str, most: int, now_ms: int) -> int | None:
        """Return when at most `most` of a quota will be used, if nothing more is granted; None: no clock brings that."""
        tally = self.tallies.get(quota) or Tally(FOREVER)
        moments = [now_ms]
        found = self.learned.get(quota)
        if found is not None and found.used is not None and now_ms < found.until_ms:
            moments += [found.until_ms] if found.used + found.since + found.before > most else []
        if tally.open + self._spent(quota, tally, now_ms) > most:
            moments.append(self._own_room_ms(quota, tally, most - tally.open, now_ms))
        return None if 0 in moments else max(moments)

    def turn_ms(self, quota: str, now_ms: int) -> int | None:
        """Return when the window of a quota turns (one that rolls: when all used by now has rolled off); None: never."""
        found = self.learned.get(quota)
        if found is not None and found.used is not None and now_ms < found.until_ms:
            return found.until_ms
        window = self.tallies[quota].window
        if window.kind == "fixed":
            return span(window, now_ms).turn_ms
        return now_ms + window.length_ms if window.kind == "rolling" else None

    def prune(self, clock_ms: int) -> None:
        """Forget what has rolled off for good: the clock of the log never goes back."""
        self.clock_ms = clock_ms
        for quota, spent in list(self.rolled.items()):
            window = self.tallies[quota].window
            oldest_ms = clock_ms - kept_ms(window)
            if spent and spent[0][0] <= oldest_ms:
                gone, rest = self._roll(quota, clock_ms) if window.kind == "rolling" else (0, 0)
                count = bisect_left(spent, (oldest_ms + 1, "", 0))
                del spent[:count]
                self.live[quota] = (max(gone - count, 0), rest)
                self._tidy(quota)

    def rewindow(self, quota: str, window: Window) -> None:
        """Count under another window from here on: what counts there is told anew from when it began."""
        tally = self.tallies[quota]
        if tally.window == window:
            return
        spent = self.rolled.pop(quota, [])
        self.live.pop(quota, None)
        self.tallies[quota] = Tally(window, open=tally.open)
        for at_ms, whose, amount in spent:
            self._spend(quota, whose, at_ms, amount)

    def forget(self, quota: str) -> None:
        """Forget a quota that nobody will ask for again."""
        self.tallies.pop(quota, None)
        self.rolled.pop(quota, None)
        self.live.pop(quota, None)

    def _spend(self, quota: str, whose: str, at_ms: int, amount: int) -> None:
        tally = self.tallies[quota]
        if tally.window.kind == "untold":
            return
        if tally.window.kind == "rolling" and at_ms <= self.clock_ms - tally.window.length_ms:
            return
        if tally.window.kind == "rolling":
            spent = self.rolled.setdefault(quota, [])
            entry = (at_ms, whose, amount)
            gone, rest = self.live.get(quota, (0, 0))
            late = bisect_left(spent, entry) < gone
            insort(spent, entry)
            self.live[quota] = (gone + 1, rest) if late else (gone, rest + amount)
            return
        if tally.window.kind == "fixed":
            self._keep(quota, tally.window, at_ms, amount)
        start_ms = self._start_ms(tally, at_ms)
        if start_ms > tally.start_ms:
            self.tallies[quota] = msgspec.structs.replace(tally, start_ms=start_ms, spent=amount, calls=1)
        elif start_ms == tally.start_ms:
            self.tallies[quota] = msgspec.structs.replace(tally, spent=tally.spent + amount, calls=tally.calls + 1)

    def _keep(self, quota: str, window: Window, at_ms: int, amount: int) -> None:
        """Add to the sum of a piece of time, at its last moment."""
        piece_ms = gcd(window.length_ms, PIECE_MS if window.name in CALENDAR else ODD_PIECE_MS)
        last_ms = at_ms - at_ms % piece_ms + piece_ms - 1
        if last_ms <= self.clock_ms - kept_ms(window):
            return
        spent = self.rolled.setdefault(quota, [])
        place = bisect_left(spent, (last_ms, "", -MOST))
        self.live[quota] = (0, 0)
        if place < len(spent) and spent[place][0] == last_ms:
            spent[place] = (last_ms, "", spent[place][2] + amount)
        else:
            spent.insert(place, (last_ms, "", amount))

    def _take_back(self, quota: str, entry: tuple[int, str, int]) -> bool:
        spent = self.rolled.get(quota, [])
        place = bisect_left(spent, entry)
        if place < len(spent) and spent[place] == entry:
            del spent[place]
            gone, rest = self.live[quota]
            self.live[quota] = (gone - 1, rest) if place < gone else (gone, rest - entry[2])
            self._tidy(quota)
            return True
        return False

    def _tidy(self, quota: str) -> None:
        if not self.rolled[quota]:
            del self.rolled[quota], self.live[quota]

    def _spent(self, quota: str, tally: Tally, now_ms: int) -> int:
        """Return what was settled of what began in the window that holds this moment."""
        if tally.window.kind == "rolling":
            return self._roll(quota, now_ms)[1] if quota in self.rolled else 0
        if tally.window.kind == "fixed" and self._start_ms(tally, now_ms) > tally.start_ms:
            return 0
        return tally.spent

    def _roll(self, quota: str, now_ms: int) -> tuple[int, int]:
        """Let roll off what began a whole window ago."""
        spent = self.rolled[quota]
        gone, rest = self.live[quota]
        oldest_ms = now_ms - self.tallies[quota].window.length_ms
        while gone < len(spent) and spent[gone][0] <= oldest_ms:
            rest -= spent[gone][2]
            gone += 1
        self.live[quota] = gone, rest
        return gone, rest

    def _own_room_ms(self, quota: str, tally: Tally, most: int, now_ms: int) -> int:
        """Return when at most `most` of what was settled will count; 0: never by itself."""
        if most < 0 or tally.window.kind in {"all", "untold"}:
            return 0
        if tally.window.kind == "fixed":
            return span(tally.window, now_ms).turn_ms
        gone, rest = self._roll(quota, now_ms)
        for at_ms, _, amount in self.rolled[quota][gone:]:  # pragma: no branch - without all of it nothing is used
            rest -= amount
            if rest <= most:
                return at_ms + tally.window.length_ms
        return 0  # pragma: no cover

    @staticmethod
    def _start_ms(tally: Tally, at_ms: int) -> int:
        return span(tally.window, at_ms).start_ms if tally.window.kind == "fixed" else 0


def kept_ms(window: Window) -> int:
    """Return how long what began is remembered: a turn of a fixed window may be longer than its name says."""
    return 2 * window.length_ms if window.kind == "fixed" else window.length_ms


def _percent(old: Evidence, at_ms: int, used: int) -> int:
    """Return what a call takes of a window told in percent: as two reports of one turn show, at least 1."""
    if old.used is None or at_ms >= old.until_ms or used <= old.used or not old.calls:
        return old.percent
    return min(max(ONE, -(-(used - old.used) // old.calls)), PERCENT_MAX)
