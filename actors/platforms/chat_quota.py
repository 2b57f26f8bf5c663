"""What the headers of an OpenAI-like answer tell about quota: x-ratelimit-{limit,remaining,reset}-{requests,tokens}. Pure.

Source: platform.openai.com/docs/guides/rate-limits (read 2026-11-21): counts are integers, resets durations like `120ms`,
`6m0s`. They count from the answer's own `date` header: no clock of ours is believed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from farebox.core.events import QuotaLearned
from farebox.core.retry_after import date_ms

_UNITS: tuple[Literal["requests", "tokens"], ...] = ("requests", "tokens")
_MILLIS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"(?:\d{1,9}(?:\.\d{1,9})?(?:ms|s|m|h|d)){1,5}", re.ASCII)
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", re.ASCII)
_COUNT = re.compile(r"\d{1,15}", re.ASCII)


def learned_from(platform: str, headers: Mapping[str, str]) -> list[QuotaLearned]:
    """Return what `headers` (names in lower case) say about the limits of `platform`; nothing where they are silent."""
    return [
        QuotaLearned(
            platform=platform,
            unit=unit,
            limit=limit,
            used=None if left is None else max(limit - left, 0),
            resets_at_ms=_resets_at_ms(headers, unit),
            evidence=f"x-ratelimit-limit-{unit}",
        )
        for unit in _UNITS
        if (limit := _count(headers, f"x-ratelimit-limit-{unit}")) is not None
        for left in [_count(headers, f"x-ratelimit-remaining-{unit}")]
    ]


def _count(headers: Mapping[str, str], name: str) -> int | None:
    text = headers.get(name, "").strip()
    return int(text) if _COUNT.fullmatch(text) else None


def _resets_at_ms(headers: Mapping[str, str], unit: str) -> int | None:
    now = date_ms(headers.get("date", ""))
    wait = duration_ms(headers.get(f"x-ratelimit-reset-{unit}", ""))
    return None if now is None or wait is None else now + wait


def duration_ms(text: str) -> int | None:
    """Return a duration like `6m0s` or `120ms` in milliseconds, None for anything else."""
    text = text.strip()
    if not _DURATION.fullmatch(text):
        return None
    return round(sum(float(number) * _MILLIS[unit] for number, unit in _PART.findall(text)))
