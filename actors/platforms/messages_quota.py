"""What the headers of an Anthropic answer tell about quota: anthropic-ratelimit-*-{limit,remaining,reset}. Pure.

Source: docs.anthropic.com/en/api/rate-limits (read 2026-11-21): counts are integers, limits a minute, a reset is the moment
(RFC 3339) at which all of the limit is there again. Successes carry them too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from farebox.core.events import QuotaLearned
from farebox.core.retry_after import WAIT_MAX_MS, date_ms

WINDOW_S = 60
_UNITS: dict[str, Literal["requests", "tokens", "tokens_in", "tokens_out"]] = {
    "requests": "requests",
    "tokens": "tokens",
    "input-tokens": "tokens_in",
    "output-tokens": "tokens_out",
}
_COUNT = re.compile(r"\d{1,15}", re.ASCII)
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)
_REGAINED = re.compile(r"regain access on (\d{4}-\d\d-\d\d) at (\d\d:\d\d) UTC", re.ASCII)


def learned_from(platform: str, headers: Mapping[str, str]) -> list[QuotaLearned]:
    """Return what `headers` (names in lower case) say about the limits of `platform`; nothing where they are silent."""
    return [
        QuotaLearned(
            platform=platform,
            window_s=WINDOW_S,
            unit=unit,
            limit=limit,
            used=None if left is None else max(limit - left, 0),
            resets_at_ms=moment_ms(headers.get(f"anthropic-ratelimit-{name}-reset", "")),
            evidence=f"anthropic-ratelimit-{name}",
        )
        for name, unit in _UNITS.items()
        if (limit := _count(headers, f"anthropic-ratelimit-{name}-limit")) is not None
        for left in [_count(headers, f"anthropic-ratelimit-{name}-remaining")]
    ]


def regained_in_ms(message: str, headers: Mapping[str, str]) -> int | None:
    """Return how long the account's own limit holds (milliseconds), as the message and the answer's `date` say; else None."""
    found, now = _REGAINED.search(message), date_ms(headers.get("date", ""))
    until = moment_ms(f"{found[1]}T{found[2]}:00Z") if found else None
    return None if until is None or now is None else min(max(until - now, 0), WAIT_MAX_MS)


def moment_ms(text: str) -> int | None:
    """Return an RFC 3339 moment in ms since 1970, None for anything else."""
    if not _MOMENT.fullmatch(text.strip()):
        return None
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return max(round(moment.timestamp() * 1000), 0)


def _count(headers: Mapping[str, str], name: str) -> int | None:
    text = headers.get(name, "").strip()
    return int(text) if _COUNT.fullmatch(text) else None
