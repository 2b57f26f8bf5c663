"""A disk that fills up and empties again, as the watch over it sees it."""

from __future__ import annotations

import asyncio

from farebox.core.errors import LogFull
from farebox.runtime.room import FULL_BYTES, ROOM_BYTES, watch_room


async def watched(free: list[int], restarts: list[BaseException | None]) -> list[str]:
    """Let the watch see `free`, one value a look, and return what it said until it has seen them all."""
    said: list[str] = []
    seen = asyncio.Event()
    looks = iter(free)

    def free_bytes() -> int:
        value = next(looks, None)
        if value is None:
            seen.set()
            return ROOM_BYTES
        return value

    async def restart() -> None:
        if (error := restarts.pop(0)) is not None:
            raise error

    watching = asyncio.create_task(watch_room(free_bytes, restart, said.append, look_s=0.001))
    await seen.wait()
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    return said


async def test_a_disk_with_room_is_not_talked_about():
    assert await watched([ROOM_BYTES, FULL_BYTES], []) == []


async def test_a_full_disk_is_said_once_and_the_server_starts_again_when_there_is_room():
    restarts = [None]
    said = await watched([ROOM_BYTES, 0, 0, FULL_BYTES, ROOM_BYTES], restarts)
    assert restarts == []
    assert [line.split(":")[0] for line in said] == ["The disk is full", "There is room again"]


async def test_a_server_that_does_not_start_is_said_and_the_watch_goes_on():
    restarts = [LogFull("Only 3 MiB are free."), None]
    said = await watched([0, ROOM_BYTES, 0, ROOM_BYTES], restarts)
    assert restarts == []
    assert "Only 3 MiB are free." in said[1]
    assert said[-1].startswith("There is room again")
