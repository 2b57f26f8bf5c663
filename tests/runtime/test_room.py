"""A disk that fills up and empties again, as the eye on it sees it, and what a server on a disk of its own makes of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from farebox.core.errors import LogFull, LogUnfit
from farebox.runtime.room import FULL_BYTES, PAUSE_MAX_S, ROOM_BYTES, Room, _Pauses

STORE = Path("/the/store")


class Disk:
    """A file system that answers one value a look; when all were seen it has room."""

    def __init__(self, free: list[int | Exception]) -> None:
        self._looks = iter(free)
        self.seen = asyncio.Event()

    def free_bytes(self) -> int:
        value = next(self._looks, None)
        if value is None:
            self.seen.set()
            return ROOM_BYTES
        if isinstance(value, Exception):
            raise value
        return value


async def watched(free: list[int | Exception], restarts: list[BaseException | None] | None) -> list[str]:
    """Let the watch see `free` and return what it said until it has seen it all."""
    said: list[str] = []
    disk = Disk(free)

    async def restart() -> None:
        assert restarts, "a restart nobody asked for"
        if (error := restarts.pop(0)) is not None:
            raise error

    room = Room(STORE, disk.free_bytes, said.append)
    watching = asyncio.create_task(room.watch(None if restarts is None else restart, look_s=0.001))
    await disk.seen.wait()
    await asyncio.sleep(0.01)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    return said


async def test_a_disk_with_room_is_not_talked_about():
    assert await watched([ROOM_BYTES, FULL_BYTES], []) == []


async def test_a_full_disk_is_said_once_and_the_server_starts_again_when_there_is_room():
    restarts: list[BaseException | None] = [None]
    said = await watched([ROOM_BYTES, 0, 0, 0, 0, FULL_BYTES, ROOM_BYTES], restarts)
    assert restarts == []
    full, over = said
    assert full.startswith("The disk of the store is full: 0 bytes free for /the/store. Make room there, 64 MiB at least. ")
    assert over == "There is room again: the server was started anew."


async def test_a_server_that_does_not_start_is_said_and_started_again():
    restarts: list[BaseException | None] = [LogFull("Only 3 MiB are free."), None]
    said = await watched([0, 0, ROOM_BYTES], restarts)
    assert restarts == []
    assert "Only 3 MiB are free." in said[1]
    assert said[2].startswith("There is room again")


async def test_where_no_server_is_to_be_started_room_is_enough():
    said = await watched([0, 0, FULL_BYTES - 1, FULL_BYTES], None)
    assert said[1:] == ["There is room again."]


async def test_a_store_that_cannot_be_looked_at_says_nothing_about_room():
    assert await watched([LogUnfit("/the/store is not usable.")], []) == []
    unfit = LogUnfit("/the/store is not usable.")
    assert Room(STORE, Disk([unfit]).free_bytes, print).trouble() is unfit


async def test_what_is_wrong_is_known_before_the_eye_has_looked_and_stays_so_until_the_server_is_mended():
    free = [0, 5 * 1024**2]
    room = Room(STORE, lambda: free[0], print)
    assert isinstance(room.trouble(), LogFull)
    mending, mend = asyncio.Event(), asyncio.Event()

    async def restart() -> None:
        mending.set()
        await mend.wait()

    watching = asyncio.create_task(room.watch(restart, look_s=0.001))
    await asyncio.sleep(0.01)
    free[0] = 5 * 1024**2
    assert "5 MiB free" in str(room.trouble()), "a little room mends no server"
    free[0] = ROOM_BYTES
    await mending.wait()
    assert isinstance(room.trouble(), LogFull)
    mend.set()
    await asyncio.sleep(0.01)
    assert room.trouble() is None
    watching.cancel()


async def test_a_want_of_room_between_two_looks_is_read_in_the_servers_own_log(tmp_path):
    log = tmp_path / "nats.log"
    log.write_text("[ERR] of long ago: no space left on device\n")
    restarted = asyncio.Event()

    async def restart() -> None:
        restarted.set()

    said: list[str] = []
    room = Room(STORE, lambda: ROOM_BYTES, said.append)
    watching = asyncio.create_task(room.watch(restart, log, look_s=0.001))
    await asyncio.sleep(0.02)
    assert said == [], "what was said before is no news"
    with log.open("a") as lines:
        lines.write("[ERR] JetStream failed to store a msg: write 1.blk: no space left on device\n")
    await asyncio.wait_for(restarted.wait(), 100)
    await asyncio.sleep(0.02)
    watching.cancel()
    assert [line[:19] for line in said] == ["The server found no", "There is room again"]


async def test_a_log_that_is_not_there_tells_nothing(tmp_path):
    room = Room(STORE, lambda: ROOM_BYTES, print)
    watching = asyncio.create_task(room.watch(None, tmp_path / "none", look_s=0.001))
    await asyncio.sleep(0.01)
    assert room.trouble() is None
    watching.cancel()


def test_starts_that_come_soon_after_each_other_come_ever_later():
    pauses = _Pauses(2.0)
    now_s, found = 1000.0, []
    for _ in range(7):
        found.append(pauses.next_s(now_s))
        now_s += found[-1] + 1
    assert found == [2, 4, 8, 16, 32, 60, 60]
    assert pauses.next_s(now_s + PAUSE_MAX_S + 1) == 2
