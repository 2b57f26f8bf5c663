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
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from farebox.core.errors import LogFull
from farebox.core.platform import CallEnded


class Line(Struct, omit_defaults=True):
    """One line of the journal about one attempt; `key` is `<platform>.<chain>.<task>.<epoch>`."""

    key: str
    what: Literal["sending", "ended", "done"]
    outcome: CallEnded | None = None


log_ = logging.getLogger("farebox.spool")

ROOM_BYTES = 8 * 1024 * 1024
"""With less room than this no call is made whose answer might find none."""
LOOK_S = 1.0
"""A file system does not tell when it has room again."""
LINGER_S = {"always": 0.0, "100ms": 1.0}
COMPACT_BYTES = 64 * 1024 * 1024
"""A journal that grew by so much is begun anew with what is open."""

_decoder = msgspec.json.Decoder(Line)


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
        self.sending: set[str] = set()
        self.outcomes: dict[str, CallEnded] = {}
        whole = self._read()
        self.owner = _owner(path.parent / "owner", renew=not whole)
        self._file = self._rewritten(self._open_lines())
        self._pending: list[tuple[bytes, asyncio.Future[None]]] = []
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spool")
        self._flushing: asyncio.Task[None] | None = None

    async def mark_sending(self, key: str) -> None:
        """Note, on disk, that the call is about to leave. Raises OSError when the disk does not take it: then do not call."""
        self.sending.add(key)
        try:
            await self._write(Line(key, "sending"))
        except OSError:
            self.sending.discard(key)
            raise

    async def keep(self, key: str, outcome: CallEnded) -> None:
        """Keep how the call ended, on disk. Raises OSError when the disk does not take it; it stays in memory then."""
        self.outcomes[key] = outcome
        await self._write(Line(key, "ended", outcome))

    def has_room(self) -> bool:
        """Whether the disk has room for another answer: without it no call may be made. A disk that cannot be asked has."""
        try:
            disk = os.statvfs(self._path.parent)
        except OSError:
            return True  # then writing tells
        return disk.f_bavail * disk.f_frsize >= ROOM_BYTES

    async def waited_for_room(self, *unless: asyncio.Event) -> bool:
        """Wait until there is room, or one of these happens; False if there was room at once."""
        if (trouble := self.trouble()) is None:
            return False
        log_.warning("%s", trouble)
        while not self.has_room() and not any(event.is_set() for event in unless):
            waits = [asyncio.ensure_future(event.wait()) for event in unless]
            await asyncio.wait([*waits, asyncio.ensure_future(asyncio.sleep(LOOK_S))], return_when=asyncio.FIRST_COMPLETED)
            for one in waits:
                one.cancel()
        return True

    def trouble(self) -> LogFull | None:
        """Return what keeps calls from being made now, None if nothing does."""
        if self.has_room():
            return None
        return LogFull(
            f"The disk of the spool is full: less than {ROOM_BYTES >> 20} MiB free for {self._path.parent}. No call is made.",
            hint="Make room there: what waits goes on by itself then.",
        )

    def forget(self, key: str) -> None:
        """The outcome is in the log: the journal need not keep it. Not awaited; a lost line only means a second look."""
        if self._linger_s:
            asyncio.get_running_loop().call_later(self._linger_s, self._forget, key)
        else:
            self._forget(key)

    def _forget(self, key: str) -> None:
        if self._file < 0:
            return  # closed meanwhile: the next start has its second look
        self.sending.discard(key)
        self.outcomes.pop(key, None)
        self._queue(Line(key, "done"))

    async def close(self) -> None:
        """Write what is pending and let go of the file. Safe to call twice."""
        if self._flushing is not None:
            await asyncio.wait({self._flushing})
        self._writer.shutdown(wait=True)
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    async def _write(self, line: Line) -> None:
        await self._queue(line)

    def _queue(self, line: Line) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Nobody waits for a "done" line, so its failure must not be reported as never retrieved.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._pending.append((_framed(line), future))
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.ensure_future(self._flush())
        return future

    async def _flush(self) -> None:
        """Write all that waits with one fsync, until nothing waits."""
        loop = asyncio.get_running_loop()
        while self._pending:
            pending, self._pending = self._pending, []
            data = b"".join(data for data, _ in pending)
            # What is open can be large itself: to write all of it anew with each line would stop everything else.
            compact = self._written > self._compact_bytes + 2 * self._open_bytes
            work, given = (self._begin_anew, self._open_lines() + data) if compact else (self._append, data)
            error: OSError | None = None
            try:
                await loop.run_in_executor(self._writer, work, given)
            except OSError as failed:
                error = failed
            for _, future in pending:
                if future.done():  # whoever waited was cancelled
                    continue
                if error is None:
                    future.set_result(None)
                else:
                    future.set_exception(error)

    def _append(self, data: bytes) -> None:
        # What a full disk tore off must not swallow the next line.
        view = memoryview(b"\n" + data if self._torn else data)
        self._torn = True
        while view:
            view = view[os.write(self._file, view) :]
        os.fdatasync(self._file)
        self._torn = False
        self._written += len(data)

    def _begin_anew(self, data: bytes) -> None:
        """Replace the journal by `data`: what is open, and what is just being written."""
        old, self._file = self._file, self._rewritten(data)
        os.close(old)

    def _rewritten(self, data: bytes) -> int:
        """Begin the journal anew, by rename, so that it never grows without end. Returns the file, ready to append to."""
        write_durably(self._path, data)
        self._written, self._torn, self._open_bytes = 0, False, len(data)
        return os.open(self._path, os.O_WRONLY | os.O_APPEND)

    def _open_lines(self) -> bytes:
        lines = [Line(key, "sending") for key in self.sending]
        lines += [Line(key, "ended", outcome) for key, outcome in self.outcomes.items()]
        return b"".join(map(_framed, lines))

    def _read(self) -> bool:
        """Take in the journal. False if it is not there, or damaged elsewhere than at its torn end."""
        if not self._path.exists():
            return False
        whole, damaged = True, False
        for raw in filter(None, self._path.read_bytes().split(b"\n")):
            line = _parsed(raw)
            if line is None:
                damaged = True
                continue
            whole = whole and not damaged
            self._take(line)
        if not whole:
            log_.warning("%s is damaged: what it held of earlier attempts counts as perhaps charged", self._path)
        return whole

    def _take(self, line: Line) -> None:
        match line.what:
            case "sending":
                self.sending.add(line.key)
            case "ended" if line.outcome is not None:
                self.outcomes[line.key] = line.outcome
            case _:
                self.sending.discard(line.key)
                self.outcomes.pop(line.key, None)


def write_durably(path: Path, data: bytes) -> None:
    """Put `data` at `path` so that a crash leaves the old or the new content: temporary file, fsync, rename, fsync."""
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _owner(path: Path, *, renew: bool) -> str:
    if renew or not path.exists():
        write_durably(path, secrets.token_hex(8).encode())
    return path.read_text()


def _framed(line: Line) -> bytes:
    data = msgspec.json.encode(line)
    return b"%08x %s\n" % (zlib.crc32(data), data)


def _parsed(raw: bytes) -> Line | None:
    """Return a line, None for one that is torn, damaged, or of a farebox that wrote another form."""
    checksum, _, data = raw.partition(b" ")
    if not data or checksum != b"%08x" % zlib.crc32(data):
        return None
    try:
        return _decoder.decode(data)
    except msgspec.ValidationError as error:
        log_.warning("a line of the spool does not read: %s", error)
        return None
