"""What `account/rateLimits/updated` of the codex app-server tells about the windows of a plan. Pure.

Windows are told apart by their minutes (300 = 5 hours, 10080 = 7 days), never by `primary` and `secondary`; either may be
missing. `usedPercent` is a whole number, `resetsAt` unix seconds. Limits of single models (another `limitId`) are passed
over: they are no limits of the plan. Formats from codex 0.169.0 (2026-11-21).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from actors.platforms.foreign_json import at, count_at, text_at
from farebox.core.events import QuotaLearned

PLAN = "codex"
"""The `limitId` of the plan itself."""
FULL = 100


class PlanLimits:
    """Reads the snapshots of one run, which repeat themselves; each news is told once."""

    def __init__(self, platform: str) -> None:
        self._platform = platform
        self._told: dict[str, QuotaLearned] = {}

    def learned_from(self, limits: Any) -> Iterator[QuotaLearned]:
        """Yield each window that is told for the first time, or otherwise than before, in percent of its limit."""
        if text_at(limits, "limitId") not in {"", PLAN}:
            return
        for name in ("primary", "secondary"):
            learned = self._window(name, limits)
            if learned is not None and self._told.get(name) != learned:
                self._told[name] = learned
                yield learned

    def _window(self, name: str, limits: Any) -> QuotaLearned | None:
        window = at(limits, name)
        used = count_at(window, "usedPercent")
        resets_at_s = count_at(window, "resetsAt")
        if used is None:
            return None
        reached = text_at(limits, "rateLimitReachedType")
        evidence = f"rateLimits {name}" + (f", {reached}" if reached else "")
        if used >= FULL and at(limits, "credits", "hasCredits") is True:
            evidence += ", paid overage"
        return QuotaLearned(
            platform=self._platform,
            window_s=(count_at(window, "windowDurationMins") or 0) * 60,
            unit="percent",
            limit=FULL,
            used=used,
            resets_at_ms=None if resets_at_s is None else resets_at_s * 1000,
            evidence=evidence,
        )
