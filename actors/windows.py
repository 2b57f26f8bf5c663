"""Windows of quotas: when the one that holds a moment began, and when it turns. Pure: zones come from the IANA tables.

Days, weeks and months turn at the zone's own midnight, however long they are with daylight saving; minutes and hours at the
zone's own offset. A fixed duration like `5h` is counted in elapsed time from the zone's midnight of 1970-01-01. A rolling
window has no beginning, one `all` no end, and of one that its provider did not name only its reset is known.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Literal
from zoneinfo import ZoneInfo

from msgspec import Struct

from farebox.core.quotas import CALENDAR, FOR_EVER, UNTOLD, canonical_window, kind_of, window_s

Kind = Literal["fixed", "rolling", "all", "untold"]
DAY_MS = 86_400_000
LAST_MS = 253_000_000_000_000
"""No calendar goes further (about the year 9987)."""


class Window(Struct, frozen=True):
    """How a quota's use is cut up in time. `length_ms` is 0 for `all` and for one that nobody named."""

    name: str
    kind: Kind
    length_ms: int
    zone: str = "UTC"


class Span(Struct, frozen=True):
    """One turn of a fixed window: from `start_ms` to just before `turn_ms` (ms since 1970)."""

    start_ms: int
    turn_ms: int


def window_of(name: str, kind: Literal["fixed", "rolling"] | None = None, zone: str = "UTC") -> Window:
    """Return the window that settings or a provider name. Raises BadInput for an unknown name."""
    name = canonical_window(name)
    length_ms = window_s(name) * 1000
    if name in {FOR_EVER, UNTOLD}:
        return Window(name, "all" if name == FOR_EVER else "untold", 0)
    return Window(name, kind_of(name, kind), length_ms, zone)


def span(window: Window, at_ms: int) -> Span:
    """Return the turn of a fixed window that holds `at_ms` (ms since 1970)."""
    at_ms = min(max(at_ms, 0), LAST_MS)
    zone = _zone(window.zone)
    if window.name not in CALENDAR:
        first_ms = _midnight_ms(date(1970, 1, 1), zone)
        start_ms = at_ms - (at_ms - first_ms) % window.length_ms
        return Span(start_ms, start_ms + window.length_ms)
    if window.length_ms < DAY_MS:
        offset_ms = _offset_ms(at_ms, zone)
        start_ms = at_ms - (at_ms + offset_ms) % window.length_ms
        return Span(start_ms, start_ms + window.length_ms)
    begin, end = _days(window.name, datetime.fromtimestamp(at_ms / 1000, zone).date())
    return Span(_midnight_ms(begin, zone), _midnight_ms(end, zone))


def _days(name: str, today: date) -> tuple[date, date]:
    """Return the first day of a day, week (from Monday) or month, and that of the next."""
    if name == "day":
        return today, today + timedelta(days=1)
    if name == "week":
        monday = today - timedelta(days=today.weekday())
        return monday, monday + timedelta(days=7)
    first = today.replace(day=1)
    return first, (first + timedelta(days=31)).replace(day=1)


def _midnight_ms(day: date, zone: tzinfo) -> int:
    """Return the first moment of a day; where the clock jumps over midnight, the moment of the jump."""
    return round(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()) * 1000


def _offset_ms(at_ms: int, zone: tzinfo) -> int:
    offset = datetime.fromtimestamp(at_ms / 1000, zone).utcoffset()
    assert offset is not None, "every zone of the tables has an offset"
    return round(offset.total_seconds()) * 1000


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    """Return the zone; UTC for one that this machine does not know: settings with such a one are refused before."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return ZoneInfo("UTC")
