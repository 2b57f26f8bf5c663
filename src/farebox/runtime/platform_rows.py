"""What is told of a platform: what it is, who pays, whether it is there, what is missing and how to get it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Any

from farebox.config import Config, platform_kinds
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


async def look(config: Config, environ: Mapping[str, str] = os.environ) -> list[Json]:
    """Look for the platforms of this machine without any engine. Costs nothing; raises nothing for what it meets."""
    from farebox.runtime import caller  # noqa: PLC0415 - HTTP is imported where it is used

    kinds = {kind.name: kind for kind in platform_kinds()}
    platforms = config.settings.platforms
    used = {name: settings for name, settings in platforms.items() if settings.enabled}
    try:
        found = await asyncio.gather(
            *(caller.probe(kinds[settings.kind], name, settings, environ) for name, settings in used.items())
        )
    finally:
        await caller.close()
    reports = {report.platform: report for report in found}
    return [row(name, settings, reports.get(name)) for name, settings in platforms.items()]
