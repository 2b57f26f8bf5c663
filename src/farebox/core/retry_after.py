"""How long a provider asks to wait: the headers retry-after-ms and retry-after, in seconds or as a date. Pure.

A date is compared with the answer's own `date` header, so that no clock of ours is needed.
Source: RFC 9110, sections 5.6.7 and 10.2.3 (read 2026-11-21); `retry-after-ms` is OpenAI's own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DATE = re.compile(r"[A-Za-z]{3}, (\d{2}) ([A-Za-z]{3}) (\d{4}) (\d{2}):(\d{2}):(\d{2}) GMT", re.ASCII)
_NUMBER = re.compile(r"\d{1,12}(\.\d{1,9})?", re.ASCII)
WAIT_MAX_MS = 32 * 86_400_000
"""Longer waits are cut to this: a month and a day, the longest window a provider has."""


def retry_after_ms(headers: Mapping[str, str]) -> int | None:
    """Return the wait (milliseconds) that `headers` (names in lower case) ask for, None where they do not say."""
    millis = _number(headers.get("retry-after-ms", ""))
    if millis is not None:
        return min(round(millis), WAIT_MAX_MS)
    wanted = headers.get("retry-after", "")
    seconds = _number(wanted)
    if seconds is not None:
        return min(round(seconds * 1000), WAIT_MAX_MS)
    until, now = date_ms(wanted), date_ms(headers.get("date", ""))
    return None if until is None or now is None else min(max(until - now, 0), WAIT_MAX_MS)


def date_ms(text: str) -> int | None:
    """Return the moment of an HTTP date like `Sun, 06 Nov 1994 08:49:37 GMT` (ms since 1970), None for anything else."""
    found = _DATE.fullmatch(text.strip())
    if found is None or found[2].lower() not in _MONTHS:
        return None
    day, year, hour, minute, second = (int(found[group]) for group in (1, 3, 4, 5, 6))
    try:
        moment = datetime(year, _MONTHS.index(found[2].lower()) + 1, day, hour, minute, min(second, 59), tzinfo=UTC)
    except ValueError:
        return None
    return round(moment.timestamp() * 1000)


def _number(text: str) -> float | None:
    return float(text) if _NUMBER.fullmatch(text.strip()) else None
