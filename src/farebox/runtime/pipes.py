"""The three pipes of a started program, read and written by the event loop itself: nothing blocks, nothing fills up.

A program may write faster than anybody can work: such pipes get a share of the loop's time, and none while what was
read is not worked off. Meanwhile the pipe fills, and the program waits, so a flood starves nobody and costs no memory.

asyncio's own subprocess waits for all pipes to close before it reports an exit, so a grandchild that holds one would hang it
(github.com/python/cpython/issues/119710, read 2026-11-21). These can be let go of at any moment.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import IO, ClassVar
from weakref import WeakSet

READ_BYTES = 64 * 1024
"""What a pipe holds, and the most that is worked off in one turn of the loop."""
SHARE = 0.25
"""The share of the loop's time that all pipes which flood may take together."""
DEBT_S = 0.001
"""A pipe that is so far beyond its share floods, and has to pause: who writes now and then never does."""
PAUSE_S_MAX = 0.05
"""No pause is longer: a turn may have been slow for other reasons."""
REST_BYTES_MAX = 1024 * 1024
"""What is read at the very end: more than a pipe can hold (pipe(7), /proc/sys/fs/pipe-max-size, read 2026-11-21)."""
OnData = Callable[[bytes], "asyncio.Future[None] | None"]
"""Takes what was read. It may return a future: nothing more is read until that is done."""


class Drain:
    """Reads one pipe to its end. `closed` is done when the other side has let go, or we have."""

    _floods: ClassVar[WeakSet[Drain]] = WeakSet()

    def __init__(self, file: IO[bytes], on_data: OnData) -> None:
        self._loop = asyncio.get_running_loop()
        self._file = file
        self._on_data = on_data
        self._free_s = 0.0
        self._pause: asyncio.TimerHandle | None = None
        self.closed: asyncio.Future[None] = self._loop.create_future()
        os.set_blocking(file.fileno(), False)
        self._listen()

    def finish(self) -> None:
        """Read what still lies in the pipe, however much it was paused, and let go of it. Safe to call twice."""
        left = REST_BYTES_MAX
        while left > 0 and not self.closed.done() and (read := self._read()):
            left -= len(read[0])
        self.close()

    def close(self) -> None:
        """Let go of the pipe. Safe to call twice."""
        if not self.closed.done():
            self.closed.set_result(None)
            self._stop_listening()
            self._floods.discard(self)
            self._file.close()

    def _ready(self) -> None:
        begun_s = time.monotonic()
        read = self._read()
        if read is None or self.closed.done():
            return
        pause_s = self._paid_off_in_s(begun_s)
        _, held = read
        if held is not None and not held.done():
            self._stop_listening()
            held.add_done_callback(self._listen)
        elif pause_s > DEBT_S:
            self._stop_listening()
            self._pause = self._loop.call_later(pause_s, self._listen)

    def _paid_off_in_s(self, begun_s: float) -> float:
        """Return how long to pause after a turn that began at `begun_s`, so that the floods together keep to their share."""
        now_s = time.monotonic()
        self._free_s = max(self._free_s, begun_s) + (now_s - begun_s) * max(len(self._floods), 1) / SHARE
        debt_s = min(self._free_s - now_s, PAUSE_S_MAX)
        (self._floods.add if debt_s > DEBT_S else self._floods.discard)(self)
        return debt_s

    def _read(self) -> tuple[bytes, asyncio.Future[None] | None] | None:
        """Read once. None when nothing is there, or the other side has let go."""
        try:
            data = os.read(self._file.fileno(), READ_BYTES)
        except BlockingIOError:
            return None
        if data:
            return data, self._on_data(data)
        self.close()
        return None

    def _listen(self, _held: asyncio.Future[None] | None = None) -> None:
        self._pause = None
        if not self.closed.done():
            self._loop.add_reader(self._file.fileno(), self._ready)

    def _stop_listening(self) -> None:
        self._loop.remove_reader(self._file.fileno())
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None


class Fill:
    """Writes into a pipe and closes it; the other side need not read it. `stays_open`: only `finish` closes it."""

    def __init__(self, file: IO[bytes], data: bytes, *, stays_open: bool = False) -> None:
        self._loop = asyncio.get_running_loop()
        self._file = file
        self._left = memoryview(data)
        self._open = self._writing = True
        self._stays_open = stays_open
        os.set_blocking(file.fileno(), False)
        self._loop.add_writer(file.fileno(), self._ready)

    def say(self, data: bytes) -> None:
        """Write more; nothing happens once the pipe is closed."""
        if self._open:
            self._left = memoryview(bytes(self._left) + data)
            self._listen()

    def finish(self) -> None:
        """Close the pipe when all is written."""
        self._stays_open = False
        if self._open:
            self._listen()

    def _listen(self) -> None:
        if not self._writing:
            self._writing = True
            self._loop.add_writer(self._file.fileno(), self._ready)

    def _ready(self) -> None:
        try:
            if self._left:
                self._left = self._left[os.write(self._file.fileno(), self._left) :]
        except BlockingIOError:
            return
        except OSError:
            self._left, self._stays_open = memoryview(b""), False
        if self._left:
            return
        if not self._stays_open:
            self.close()
        else:
            self._stop_listening()

    def _stop_listening(self) -> None:
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self._file.fileno())

    def close(self) -> None:
        """Let go of the pipe. Safe to call twice."""
        if self._open:
            self._open = False
            self._stop_listening()
            self._file.close()
