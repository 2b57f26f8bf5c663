"""What is told of a platform: what it is, who pays, whether it is there, what is missing and how to get it."""

from __future__ import annotations

from typing import Any

from farebox.core.events import PlatformReported
from farebox.core.settings import PlatformSettings

Json = dict[str, Any]


def row(name: str, settings: PlatformSettings, report: PlatformReported | None) -> Json:
    """Return one platform as documents show it."""
    return {
        "platform": name,
        "kind": settings.kind,
        "enabled": settings.enabled,
        "billing": settings.billing,
        "tier": settings.cost_tier,
        "limit": settings.limit,
        "only_by_name": not settings.open,
        "available": bool(report and report.available),
        "detail": report.detail if report else "disabled",
        "mend": report.mend if report else "",
        "models": list(report.models) if report else [],
    }
