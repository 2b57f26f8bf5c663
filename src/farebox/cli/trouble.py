"""What is wrong while a command waits, and what waits for a person: asked of the engine, said once."""

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
async def troubles_said(common: Common, log: Log, about: str = "") -> AsyncGenerator[None]:
    """Say on stderr what keeps facts from being stored, for as long as the block runs.

    And which tasks wait for a decision: the task `about`, or those of the batch `about`.
    """
    saying = asyncio.create_task(_say(common, log, about))
    try:
        yield
    finally:
        saying.cancel()
        await asyncio.gather(saying, return_exceptions=True)


async def _say(common: Common, log: Log, about: str) -> None:
    said = ""
    known: set[str] = set()
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
        if about:
            await _say_what_waits(common, log, about, known)
        await asyncio.sleep(AGAIN_S)


async def _say_what_waits(common: Common, log: Log, about: str, known: set[str]) -> None:
    """Say, once each, which of the tasks that are waited for wait for a person themselves."""
    for task in await api.waiting(log):
        if task not in known and (task == about or task.startswith(f"{about}-")):
            known.add(task)
            note(common, f"Task {task} was interrupted and waits for your decision. See: farebox status {task}")
