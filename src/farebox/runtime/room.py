"""An eye on the disk below a store: it says when the disk is full, and has the server started anew when there is room again.

JetStream that once ran out of room stores nothing more in that stream and answers nothing, until it is started again (server
2.15, read 2026-11). The file system tells how much is free; the server's own log tells of a want of room that came and went
between two looks, and of a quota that the file system does not show.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from farebox.core.errors import BusError, FareboxError, LogFull

FULL_BYTES = 2 * 1024**2
"""With less room than this a write may have failed already."""
ROOM_BYTES = 64 * 1024**2
"""With this much the server is started again."""
LOOK_S = 2.0
"""Nobody tells when a file system has room again, so it is looked at so often (statvfs: a few microseconds)."""
PAUSE_MAX_S = 60.0
"""The longest pause between two starts of a server that still finds no room where the file system shows some (a quota)."""
NO_ROOM = (b"no space left on device", b"disk quota exceeded")
"""How Go says ENOSPC and EDQUOT (syscall/zerrors_linux_amd64.go and zerrors_darwin_arm64.go of Go 1.25, read 2026-11)."""
_WAITS = "What waits goes on by itself then; nothing is lost."


class Room:
    """What is known about the room below one store. `report` hears once that it is full and once that it is over."""

    def __init__(self, path: Path, free_bytes: Callable[[], int], report: Callable[[str], None]) -> None:
        self._path = path
        self._free_bytes = free_bytes
        self._report = report
        self._full = False

    def trouble(self) -> FareboxError | None:
        """Return what keeps facts from being stored now, None if nothing does."""
        try:
            free = self._free_bytes()
        except FareboxError as error:
            return error
        if not self._full and free >= FULL_BYTES:
            return None
        if free >= ROOM_BYTES:
            seen = f"though {_shown(free)} are free now"
            return LogFull(f"The server found no room below {self._path}, {seen}: it is started anew.", hint=_WAITS)
        return LogFull(
            f"The disk of the store is full: {_shown(free)} free for {self._path}.",
            hint=f"Make room there, {ROOM_BYTES >> 20} MiB at least. {_WAITS}",
        )

    async def watch(
        self, mend: Callable[[], Awaitable[None]] | None = None, server_log: Path | None = None, look_s: float = LOOK_S
    ) -> None:
        """Say what is seen and `mend` when there is room again; runs until it is cancelled.

        Without `mend` there is nothing to start anew: it is over as soon as there is room. `server_log` is read from its
        present end on.
        """
        tail = _Tail(server_log)
        enough = FULL_BYTES if mend is None else ROOM_BYTES
        pauses = _Pauses(look_s)
        while True:
            await _until(lambda: self._free() < FULL_BYTES or tail.tells(NO_ROOM), look_s)
            self._full = True
            self._report(str(self.trouble()))
            while self._full:
                if self._free() >= enough:
                    await asyncio.sleep(pauses.next_s(asyncio.get_running_loop().time()))
                await _until(lambda: self._free() >= enough, look_s)
                await self._mend(mend)
                tail.skip()

    async def _mend(self, mend: Callable[[], Awaitable[None]] | None) -> None:
        try:
            if mend is not None:
                await mend()
        except BusError as error:
            self._report(f"There was room again, but the server does not start: {error}")
        else:
            self._full = False
            self._report("There is room again" + (": the server was started anew." if mend is not None else "."))

    def _free(self) -> int:
        """Return what is free; a store that cannot be looked at says nothing about room."""
        try:
            return self._free_bytes()
        except FareboxError:
            return FULL_BYTES


class _Pauses:
    """Pauses before starts that come soon after each other, twice as long each time."""

    def __init__(self, first_s: float) -> None:
        self._first_s = self._pause_s = first_s
        self._until_s = 0.0

    def next_s(self, now_s: float) -> float:
        """Return the next pause; after a quiet time it is the first one again."""
        soon = now_s - self._until_s < PAUSE_MAX_S
        self._pause_s = min(self._pause_s * 2, PAUSE_MAX_S) if soon else self._first_s
        self._until_s = now_s + self._pause_s
        return self._pause_s


class _Tail:
    """What a server's log has said since the last look."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._at = 0
        self.skip()

    def skip(self) -> None:
        """Pass over all that stands there."""
        self._at = self._path.stat().st_size if self._path is not None and self._path.exists() else 0

    def tells(self, words: tuple[bytes, ...]) -> bool:
        """Say whether a new line holds one of `words`. A line that a full disk cut short may be missed; the next one tells."""
        if self._path is None or not self._path.exists():
            return False
        with self._path.open("rb") as log:
            log.seek(self._at)
            said = log.read()
        self._at += len(said)
        return any(word in said for word in words)


def _shown(free: int) -> str:
    return f"{free >> 20} MiB" if free >= 1024**2 else f"{free} bytes"


async def _until(seen: Callable[[], bool], look_s: float) -> None:
    while not seen():  # noqa: ASYNC110 - a file system sets no event
        await asyncio.sleep(look_s)
