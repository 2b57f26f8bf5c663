"""Room on the disk of the spool that is taken before it is needed: an answer that comes must find it, whoever writes meanwhile.

Where the system can (Linux), the room of each promise is allocated behind the end of the journal: neither another call nor
another program can take it then. Elsewhere what was promised is counted off from what is free.
Source: fallocate(2), FALLOC_FL_KEEP_SIZE (read 2026-11-21): the size of the file, and so its reading, stays as it is.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
import threading
from collections.abc import Callable

PROMISE_BYTES = 1024 * 1024
"""What one answer is promised: several times what models write at most (128,000 tokens)."""
SPARE_BYTES = 8 * 1024 * 1024
"""What must stay free beside all promises: for a larger answer, and for the journal when it is begun anew."""
STEP_BYTES = 16 * 1024 * 1024
"""So much is allocated at a time where there is plenty, so that it is rarely done."""
_KEEP_SIZE = 1  # <linux/falloc.h>
_NOT_HERE = frozenset({errno.EOPNOTSUPP, errno.ENOSYS})

Allocate = Callable[[int, int, int], bool]
"""Allocates `length` bytes from an offset on, of a file descriptor. False where the file system cannot. Raises OSError."""


class Promise:
    """Room for one answer. It is the holder's until he gives it back."""

    def __init__(self, reserve: Reserve) -> None:
        self._reserve = reserve
        self.bytes = PROMISE_BYTES

    def give_back(self) -> None:
        """Let others have what is left of it. Safe to call twice."""
        self._reserve.forget(self)


class Reserve:
    """What is promised of one disk, and what is allocated for it behind the end of one journal. For several threads."""

    def __init__(
        self, free_bytes: Callable[[], int | None], allocate: Allocate | None = None, on_given: Callable[[], None] | None = None
    ) -> None:
        """`free_bytes` returns None for a disk that cannot be asked: writing tells. `on_given` hears of room given back."""
        self._free_bytes = free_bytes
        self._on_given = on_given or (lambda: None)
        self._allocate: Allocate = allocate or allocated
        self._lock = threading.Lock()
        self._promises: set[Promise] = set()
        self._promised = 0
        self._file: int = -1
        self._end: int = 0
        self._allocated_to: int = 0
        self._can = True

    def begin(self, file: int, end: int) -> None:
        """Go on with this file, whose data ends at `end`, and allocate there what is promised. Raises OSError."""
        with self._lock:
            before = (self._file, self._end, self._allocated_to)
            self._file, self._end, self._allocated_to = file, end, end
            try:
                self._cover(self._promised)
            except OSError:
                self._file, self._end, self._allocated_to = before
                raise

    def promise(self) -> Promise | None:
        """Promise room for one more answer, None where there is none."""
        with self._lock:
            if not self._fits():
                return None
            try:
                self._cover(self._promised + PROMISE_BYTES)
            except OSError:
                return None  # somebody was faster
            promise = Promise(self)
            self._promises.add(promise)
            self._promised += promise.bytes
            return promise

    def fits(self) -> bool:
        """Say whether one more answer could be promised room now."""
        with self._lock:
            return self._fits()

    def forget(self, promise: Promise) -> None:
        """Take a promise back."""
        with self._lock:
            if promise in self._promises:
                self._promises.remove(promise)
                self._promised -= promise.bytes
        self._on_given()

    def take(self, count: int, promise: Promise | None = None) -> None:
        """Take room for `count` bytes that are to be written now, first from `promise`. Raises OSError: there is none.

        What others were promised is never touched.
        """
        with self._lock:
            own = min(count, promise.bytes) if promise is not None and promise in self._promises else 0
            self._cover(self._promised + count - own)
            if promise is not None:
                promise.bytes -= own
                self._promised -= own
            self._moved(self._end + count)

    def written_to(self, end: int) -> None:
        """Take note of where the data of the file ends after all: a write may have failed."""
        with self._lock:
            self._moved(end)

    def shrink(self) -> None:
        """Give the disk back what nobody is promised; only whoever writes the file may call it."""
        with self._lock:
            if self._file >= 0 and not self._promises and self._allocated_to - self._end >= STEP_BYTES:
                os.ftruncate(self._file, os.fstat(self._file).st_size)
                self._allocated_to = self._end

    def _moved(self, end: int) -> None:
        self._end = end
        self._allocated_to = max(end, self._allocated_to) if self._can else end

    def _lacking(self, wanted: int) -> int:
        """Return how many bytes behind the end are still to be allocated so that `wanted` are."""
        return max(0, wanted - (self._allocated_to - self._end))

    def _fits(self) -> bool:
        free = self._free_bytes()
        return free is None or free >= SPARE_BYTES + self._lacking(self._promised + PROMISE_BYTES)

    def _cover(self, wanted: int) -> None:
        """Have so many bytes allocated behind the end, more where there is plenty. Raises OSError."""
        lacking = self._lacking(wanted)
        if not lacking or self._file < 0:
            return
        free = self._free_bytes()
        if self._can:
            plenty = free is not None and free >= 4 * (SPARE_BYTES + STEP_BYTES + lacking)
            length = lacking + (STEP_BYTES if plenty else 0)
            self._can = self._allocate(self._file, self._allocated_to, length)
            self._allocated_to += length if self._can else 0
        if not self._can and free is not None and free < lacking:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def allocated(file: int, offset: int, length: int) -> bool:
    """Allocate on Linux; see `Allocate`."""
    if sys.platform != "linux":
        return False
    if _libc.fallocate64(file, _KEEP_SIZE, ctypes.c_int64(offset), ctypes.c_int64(length)) == 0:
        return True
    number = ctypes.get_errno()
    if number in _NOT_HERE:
        return False
    raise OSError(number, os.strerror(number))


_libc = ctypes.CDLL(None, use_errno=True)
