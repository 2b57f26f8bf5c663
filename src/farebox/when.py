"""Moments as people write them: 7d, 12h, 30m, a date, a date with a time. Dates without a zone are local."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from farebox.core.errors import BadInput

_SPAN = re.compile(r"\A([1-9][0-9]{0,5})([smhdw])\Z", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def moment_ms(text: str, now_ms: int, what: str = "moment") -> int:
    """Return the moment (ms since 1970) that `text` says: a span before `now_ms`, or a date. Raises BadInput."""
    span = _SPAN.match(text)
    if span:
        return max(0, now_ms - int(span[1]) * _SECONDS[span[2]] * 1000)
    try:
        moment = datetime.fromisoformat(text)
        return max(0, round(moment.astimezone(UTC).timestamp() * 1000))
    except (ValueError, OverflowError, OSError) as error:
        raise BadInput(f"{what} {text[:40]!r} is no moment.", hint="Write 7d, 12h, or a date like 2026-11-01.") from error
