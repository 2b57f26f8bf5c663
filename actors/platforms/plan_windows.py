"""What a `rate_limit_event` of a logged-in agent program tells about the windows of its plan. Pure.

Windows are told apart by their names' durations; utilizations are fractions from 0 to 1, resets unix seconds.
Formats from Claude Code 2.1.329, run against a local server (2026-11-21).
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any, cast

from actors.platforms.foreign_json import at, count_at, text_at
from farebox.core.events import QuotaLearned

WINDOWS_S = {"five_hour": 5 * 3600, "seven_day": 7 * 86_400}


def learned_from(platform: str, info: Any) -> Iterator[QuotaLearned]:
    """Yield each window that `info` tells about, in percent of its limit."""
    windows = at(info, "unifiedWindows")
    named = cast("dict[str, Any]", windows) if isinstance(windows, dict) else {text_at(info, "rateLimitType"): info}
    evidence = f"rate_limit_event {text_at(info, 'status')}".strip()
    if at(info, "isUsingOverage") is True:
        evidence += ", paid overage"
    for name, window in named.items():
        used = _percent(at(window, "utilization"))
        if used is None and text_at(window, "status") == "rejected":
            used = 100
        resets_at_s = count_at(window, "resetsAt")
        if used is not None or resets_at_s is not None:
            yield QuotaLearned(
                platform=platform,
                window_s=WINDOWS_S.get(name, 0),
                unit="percent",
                limit=100,
                used=used,
                resets_at_ms=None if resets_at_s is None else resets_at_s * 1000,
                evidence=f"{evidence}, {name}",
            )


def _percent(fraction: Any) -> int | None:
    if type(fraction) not in {int, Decimal} or not 0 <= fraction <= 100:
        return None
    return int(fraction * 100)
