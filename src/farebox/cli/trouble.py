"""What is wrong while a command waits: asked of the engine, said once, and once when it is over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from farebox import api
from farebox.cli.options import Common
from farebox.cli.output import note
from farebox.core.errors import FareboxError, LogFull
from farebox.log.port import Log

FIRST_S = 2.0
"""Who waits for less does not ask."""
AGAIN_S = 5.0


@asynccontextmanager
async def troubles_said(common: Common, log: Log) -> AsyncGenerator[None]:
    """Say on stderr what keeps facts from being stored, for as long as the block runs."""
    saying = asyncio.create_task(_say(common, log))
    try:
        yield
    finally:
        saying.cancel()
        await asyncio.gather(saying, return_exceptions=True)


async def _say(common: Common, log: Log) -> None:
    said = ""
    await asyncio.sleep(FIRST_S)
    while True:
        with suppress(FareboxError):  # who does not answer says neither that it is over nor that it is not
            trouble = await api.trouble(log)
            code = trouble.code if trouble is not None else ""
            if trouble is not None and code != said:
                note(common, f"{code} {trouble}")
            if said and trouble is None:
                note(
                    common,
                    "There is room again; the work goes on." if said == LogFull.code else "That is over; the work goes on.",
                )
            said = code
        await asyncio.sleep(AGAIN_S)
