"""The three pipes of a started program, read and written by the event loop itself: nothing blocks, nothing fills up.

asyncio's own subprocess waits for all pipes to close before it reports an exit, so a grandchild that holds one would hang it
(github.com/python/cpython/issues/119710, read 2026-11-21). These can be let go of at any moment.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import IO

READ_BYTES = 256 * 1024


class Drain:
    """Reads one pipe to its end. `closed` is done when the other side has let go, or we have."""

    def __init__(self, file: IO[bytes], on_data: Callable[[bytes], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._file = file
        self._on_data = on_data
        self.closed: asyncio.Future[None] = self._loop.create_future()
        os.set_blocking(file.fileno(), False)
        self._loop.add_reader(file.fileno(), self._ready)

    def _ready(self) -> None:
        try:
            data = os.read(self._file.fileno(), READ_BYTES)
        except BlockingIOError:
            return
        if data:
            self._on_data(data)
        else:
            self.close()

    def close(self) -> None:
        """Let go of the pipe. Safe to call twice."""
        if not self.closed.done():
            self.closed.set_result(None)
            self._loop.remove_reader(self._file.fileno())
            self._file.close()


class Fill:
    """Writes one text into a pipe and closes it; the other side need not read it."""

    def __init__(self, file: IO[bytes], data: bytes) -> None:
        self._loop = asyncio.get_running_loop()
        self._file = file
        self._left = memoryview(data)
        self._open = True
        os.set_blocking(file.fileno(), False)
        self._loop.add_writer(file.fileno(), self._ready)

    def _ready(self) -> None:
        try:
            if self._left:
                self._left = self._left[os.write(self._file.fileno(), self._left) :]
        except BlockingIOError:
            return
        except OSError:
            self._left = memoryview(b"")
        if not self._left:
            self.close()

    def close(self) -> None:
        """Let go of the pipe. Safe to call twice."""
        if self._open:
            self._open = False
            self._loop.remove_writer(self._file.fileno())
            self._file.close()
