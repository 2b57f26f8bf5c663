"""The spool: a journal on local disk that knows, whatever crashes, which calls were about to be sent and how they ended.

A paid answer is on disk before anything else happens to it. Many attempts share one fsync. A damaged last line (torn by a
crash) is what was never confirmed to anybody; it is left out. Where more is damaged, or the journal is gone, its owner gets a
new name: then no attempt of before counts as "surely not sent".
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from farebox.core.errors import LogFull
from farebox.core.platform import CallEnded
from farebox.runtime.journal import Journal, Line, framed
from farebox.runtime.reserve import PROMISE_BYTES, SPARE_BYTES, Promise, Reserve

log_ = logging.getLogger("farebox.spool")

LOOK_S = 1.0
"""A file system does not tell when it has room again."""
LINGER_S = {"always": 0.0, "100ms": 1.0}
COMPACT_BYTES = 64 * 1024 * 1024
"""A journal that grew by so much is begun anew with what is open."""


@dataclass
class _Waiting:
    """A line that is to be written, and who waits for that."""

    data: bytes
    promise: Promise | None
    written: asyncio.Future[None]


class Spool:
    """The journal of one store. `owner` names it in TaskStarted, so that only its own marks are trusted."""

    def __init__(self, path: Path, compact_bytes: int = COMPACT_BYTES, linger_s: float = 0.0) -> None:
        """`linger_s`: for so long what the log acknowledged is kept nevertheless, because a power cut may take it back."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path = path
        self._compact_bytes = compact_bytes
        self._linger_s = linger_s
        self._written = self._open_bytes = 0
        self._torn = False
        self._given = asyncio.Event()
        self._full = False
        self._reserve = Reserve(self._free_bytes, on_given=self._given.set)
        self._journal = Journal()
        self.sending, self.outcomes = self._journal.sending, self._journal.outcomes
        whole = self._journal.read(path)
        self.owner = _owner(path.parent / "owner", renew=not whole)
        self._file = -1
        self._rewrite(self._journal.lines())
        self._pending: list[_Waiting] = []
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spool")
        self._flushing: asyncio.Task[None] | None = None

    @property
    def unclaimed(self) -> dict[str, CallEnded]:
        """The outcomes of attempts of which the log knows nothing, by key."""
        return self._journal.answers()

    async def mark_sending(self, key: str, promise: Promise | None = None) -> None:
        """Note, on disk, that the call is about to leave. Raises OSError when the disk does not take it: then do not call."""
        self.sending.add(key)
        try:
            await self._write(Line(key, "sending"), promise)
        except OSError:
            self.sending.discard(key)
            raise

    async def keep(self, key: str, outcome: CallEnded, promise: Promise | None = None) -> None:
        """Keep how the call ended, on disk. Raises OSError when the disk does not take it; it stays in memory then."""
        self.outcomes[key] = outcome
        await self._write(Line(key, "ended", outcome), promise)

    async def keep_unclaimed(self, key: str) -> bool:
        """Note that the log knows nothing of this attempt; False if that was noted before, or nothing is kept of it."""
        if key not in self.outcomes or key in self._journal.unclaimed:
            return False
        self._journal.unclaimed.add(key)
        await self._write(Line(key, "unclaimed"))
        return True

    def promise(self) -> Promise | None:
        """Promise the answer of a call its room on the disk; None where there is none: then no call may be made."""
        promise = self._reserve.promise()
        self._full = self._full and promise is None
        return promise

    def has_room(self) -> bool:
        """Whether another answer could be promised its room. A disk that cannot be asked has."""
        return self._reserve.fits()

    async def wait_for_room(self, *unless: asyncio.Event) -> None:
        """Wait until there may be room, or one of these happens."""
        if not self._full and (trouble := self.trouble()) is not None:
            self._full = True
            log_.warning("%s", trouble)
        while not self.has_room() and not any(event.is_set() for event in unless):
            self._given.clear()
            waits = [asyncio.ensure_future(event.wait()) for event in (*unless, self._given)]
            await asyncio.wait(waits, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
            for one in waits:
                one.cancel()

    def trouble(self) -> LogFull | None:
        """Return what keeps calls from being made now, None if nothing does."""
        if self.has_room():
            return None
        return LogFull(
            f"The disk of the spool is full: less than {SPARE_BYTES >> 20} MiB would be free for {self._path.parent} beside "
            f"{PROMISE_BYTES >> 20} MiB for each answer under way. No further call is made.",
            hint="Make room there: what waits goes on by itself then.",
        )

    def _free_bytes(self) -> int | None:
        try:
            disk = os.statvfs(self._path.parent)
        except OSError:
            return None  # then writing tells
        return disk.f_bavail * disk.f_frsize

    def forget(self, key: str) -> None:
        """The outcome is in the log: the journal need not keep it. Not awaited; a lost line only means a second look."""
        if self._linger_s:
            asyncio.get_running_loop().call_later(self._linger_s, self._forget, key)
        else:
            self._forget(key)

    async def drop(self, key: str) -> None:
        """Forget an outcome that nobody claims, because a person wants that. Raises OSError."""
        self._journal.forget(key)
        await self._write(Line(key, "done"))

    def _forget(self, key: str) -> None:
        if self._file < 0:
            return  # closed meanwhile: the next start has its second look
        self._journal.forget(key)
        self._queue(Line(key, "done"))

    async def close(self) -> None:
        """Write what is pending and let go of the file. Safe to call twice."""
        if self._flushing is not None:
            await asyncio.wait({self._flushing})
        self._writer.shutdown(wait=True)
        if self._file >= 0:
            os.ftruncate(self._file, os.fstat(self._file).st_size)  # gives back what was allocated behind the end
            os.close(self._file)
            self._file = -1

    async def _write(self, line: Line, promise: Promise | None = None) -> None:
        await self._queue(line, promise)

    def _queue(self, line: Line, promise: Promise | None = None) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Nobody waits for a "done" line, so its failure must not be reported as never retrieved.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._pending.append(_Waiting(framed(line), promise, future))
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.ensure_future(self._flush())
        return future

    async def _flush(self) -> None:
        """Write all that waits with one fsync, until nothing waits."""
        loop = asyncio.get_running_loop()
        while self._pending:
            pending, self._pending = self._pending, []
            # What is open can be large itself: to write all of it anew with each line would stop everything else.
            compact = self._written > self._compact_bytes + 2 * self._open_bytes
            still_open = self._journal.lines() if compact else None
            errors = await loop.run_in_executor(self._writer, self._put, pending, still_open)
            for one, error in zip(pending, errors, strict=True):
                if one.written.done():  # whoever waited was cancelled
                    continue
                if error is None:
                    one.written.set_result(None)
                else:
                    one.written.set_exception(error)

    def _put(self, pending: list[_Waiting], still_open: bytes | None) -> list[OSError | None]:
        """Write lines, into a new journal with what is `still_open` if that is given. Return what each came to."""
        data = b"".join(one.data for one in pending)
        if still_open is not None and self._began_anew(still_open + data):
            return [None] * len(pending)
        errors = [self._refused(one) for one in pending]
        granted = b"".join(one.data for one, error in zip(pending, errors, strict=True) if error is None)
        try:
            self._append(granted)
        except OSError as failed:
            self._reserve.written_to(os.fstat(self._file).st_size)
            return [error or failed for error in errors]
        self._reserve.shrink()
        return errors

    def _refused(self, one: _Waiting) -> OSError | None:
        """Take the room for a line; return why there is none."""
        try:
            self._reserve.take(len(one.data), one.promise)
        except OSError as error:
            return error
        return None

    def _append(self, data: bytes) -> None:
        if not data:
            return
        # What a full disk tore off must not swallow the next line.
        view = memoryview(b"\n" + data if self._torn else data)
        self._torn = True
        while view:
            view = view[os.write(self._file, view) :]
        os.fdatasync(self._file)
        self._torn = False
        self._written += len(data)

    def _began_anew(self, data: bytes) -> bool:
        """Replace the journal by `data`: what is open, and what is just being written. A full disk keeps it as it is."""
        try:
            self._rewrite(data)
        except OSError as error:
            log_.warning("%s cannot be begun anew (%s); it grows on", self._path, error)
            self._written = 0  # not before it has grown by so much again
            return False
        return True

    def _rewrite(self, data: bytes) -> None:
        """Begin the journal anew, by rename, so that it never grows without end; what is promised has its room there too."""
        temporary = self._path.with_name(self._path.name + ".new")
        file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(file, view) :]
            os.fsync(file)
            self._reserve.begin(file, len(data))
            temporary.replace(self._path)
        except OSError:
            if self._file >= 0:
                self._reserve.begin(self._file, os.fstat(self._file).st_size)
            os.close(file)
            temporary.unlink()
            raise
        sync_folder(self._path.parent)
        old, self._file = self._file, file
        if old >= 0:
            os.close(old)
        self._written, self._torn, self._open_bytes = 0, False, len(data)


def write_durably(path: Path, data: bytes) -> None:
    """Put `data` at `path` so that a crash leaves the old or the new content: temporary file, fsync, rename, fsync."""
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Put the names in a folder on disk."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _owner(path: Path, *, renew: bool) -> str:
    if renew or not path.exists():
        write_durably(path, secrets.token_hex(8).encode())
    return path.read_text()
