"""When windows turn, by the clock of their zone. Made for the certificate alone: who grants counts for himself.

A window that stands still is known by a number: the same number, the same window. Where clocks are set back, an hour that comes
twice is two hours, and a day that lasts 25 hours is one day.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec import Struct

from farebox.core.errors import BadInput
from farebox.core.quotas import CALENDAR, FOR_EVER, kind_of, window_s

DAY_S = 86_400
MONDAY = 3
"""Days from a Monday to 1970-01-01, a Thursday."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Turn(Struct, frozen=True):
    """One window: its name, its length in seconds (0: it never turns), whether it always looks back, and its zone."""

    name: str
    length_s: int
    rolling: bool
    zone: str = "UTC"

    @property
    def length_ms(self) -> int:
        """Its length in milliseconds."""
        return self.length_s * 1000

    def number(self, at_ms: int) -> int:
        """Return the number of the window that holds `at_ms` (ms since 1970). Rolling ones have none."""
        if not self.length_s:
            return 0
        offset_s = 0 if self.zone == "UTC" else _offset_s(self.zone, at_ms // 1000)
        wall_s = at_ms // 1000 + offset_s
        if self.name == "month":
            day = _EPOCH + timedelta(seconds=wall_s)
            return day.year * 12 + day.month
        if self.name == "week":
            return (wall_s // DAY_S + MONDAY) // 7
        if self.name in {"minute", "hour"}:
            # An hour that comes twice is told apart by how far its clock is from UTC.
            return (wall_s // self.length_s) * 2 * DAY_S + offset_s
        if self.name == "day":
            return wall_s // DAY_S
        # A duration is counted in time that passed, from the zone's first midnight of 1970 on, whatever its clock did since.
        return (at_ms // 1000 + (0 if self.zone == "UTC" else _offset_s(self.zone, 0))) // self.length_s


@lru_cache(maxsize=1024)
def turn_of(window: str, kind: Literal["fixed", "rolling"] | None = None, zone: str = "UTC") -> Turn:
    """Return the window that settings name. Raises BadInput for one that nobody knows, or a zone that does not exist."""
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise BadInput(f"There is no time zone {zone[:60]!r}.") from error
    name = window if window in CALENDAR or window == FOR_EVER else ""
    return Turn(name, window_s(window), kind_of(window, kind) == "rolling" and window != FOR_EVER, zone)


@lru_cache(maxsize=4096)
def _offset_s(zone: str, at_s: int) -> int:
    offset = datetime.fromtimestamp(at_s, ZoneInfo(zone)).utcoffset()
    return 0 if offset is None else int(offset.total_seconds())
