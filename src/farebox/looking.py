"""Looking for the platforms of this machine without any engine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping

from farebox.config import Config, platform_kinds
from farebox.runtime import caller
from farebox.runtime.platform_rows import Json, row


async def look(config: Config, environ: Mapping[str, str] = os.environ) -> list[Json]:
    """Look for the platforms of this machine without any engine. Costs nothing; raises nothing for what it meets."""
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
