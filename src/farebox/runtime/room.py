"""An eye on the disk below an embedded server: JetStream that once ran out of room writes again only after a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from farebox.core.errors import BusError

FULL_BYTES = 2 * 1024**2
"""With less room than this a write may have failed already."""
ROOM_BYTES = 64 * 1024**2
"""With this much the server is started again."""
LOOK_S = 2.0
"""Nobody tells when a file system has room again, so it is looked at so often (statvfs: a few microseconds)."""


async def watch_room(
    free_bytes: Callable[[], int], restart: Callable[[], Awaitable[None]], report: Callable[[str], None], look_s: float = LOOK_S
) -> None:
    """Say once that the disk is full, and `restart` the server when there is room again; runs until it is cancelled."""
    while True:
        await _until(lambda: free_bytes() < FULL_BYTES, look_s)
        report(
            "The disk is full: nothing new can be stored, nothing that was stored is lost. Make room; the work goes on then."
        )
        await _until(lambda: free_bytes() >= ROOM_BYTES, look_s)
        try:
            await restart()
        except BusError as error:
            report(f"There was room again, but the server does not start: {error}")
        else:
            report("There is room again: the server was started anew.")


async def _until(seen: Callable[[], bool], look_s: float) -> None:
    while not seen():  # noqa: ASYNC110 - a file system sets no event
        await asyncio.sleep(look_s)
