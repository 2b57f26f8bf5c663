"""The witness: what this engine knows of its log without asking the server, in two small files outside the server's own.

`witness` says which log this is, where it began, and the last fact that was acknowledged: it is written, and synced, at most
every 100 ms while facts are stored, in two slots by turns, so that a crash leaves one of them whole. `trail.jsonl` gets a line
every thousand facts with the digest up to there (core/trail.py).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import time
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from farebox.core.errors import LogUnfit
from farebox.core.trail import Mark, id_of
from farebox.log.port import Entry, Position, Stored
from farebox.runtime.spool import write_durably

log_ = logging.getLogger("farebox.witness")

FILE, TRAIL = "witness", "trail.jsonl"
PAUSE_S = 0.1
"""The shortest time between two writes."""
SLOT_BYTES = 1024
STRIDE_FACTS = 1000
"""A line of the trail is written once so many facts were read."""
LAG_S = {"always": 0.0, "100ms": 1.0}
"""So old is an acknowledgement before it counts: under `100ms` a power cut may take the youngest facts without any damage."""


class Seen(Struct, frozen=True):
    """The log that was `created` then and began with `first_seq`; the last acknowledged fact. `turn` counts the writes."""

    created: str = ""
    first_seq: int = 0
    seq: int = 0
    id: str = ""
    sha256: str = ""
    turn: int = 0


class Witness:
    """The witness of the store at `folder`. `known` tells how far the views have read."""

    def __init__(self, folder: Path, durability: str = "always", known: Callable[[], Mark] = Mark) -> None:
        self._folder = folder
        self._lag_s = LAG_S[durability]
        self._known = known
        self.seen = read(folder)
        self._marked = _last_mark(folder)
        self._handle = -1
        self._young: deque[tuple[float, Entry, int]] = deque()
        self._ripe: tuple[Entry, int] | None = None
        self._writer: ThreadPoolExecutor | None = None
        self._task: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    async def begin(self, position: Position) -> None:
        """Go on with the log that was just looked at, and was found to be ours. Raises OSError."""
        if self.seen is None or self.seen.created != position.created or not self.seen.first_seq:
            kept = self.seen if self.seen is not None and self.seen.created == position.created else Seen()
            self.seen = msgspec.structs.replace(kept, created=position.created, first_seq=position.first_seq)
        self._handle = os.open(self._folder / FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="witness")
        await self._write()
        self._task = asyncio.ensure_future(self._run())

    def saw(self, entries: Sequence[Entry], seqs: Sequence[int]) -> None:
        """Note what the log acknowledged; costs nothing here."""
        self._young.append((time.monotonic(), entries[-1], seqs[-1]))
        if not self._lag_s:
            self._ripen()
        self._news.set()

    async def close(self) -> None:
        """Write what is known and let go of the file. Safe to call twice."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await self._attempt()
        assert self._writer is not None
        self._writer.shutdown()
        os.close(self._handle)

    async def _run(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            await self._attempt()
            await asyncio.sleep(PAUSE_S)
            if self._young:
                self._news.set()

    async def _attempt(self) -> None:
        self._ripen()
        try:
            await self._write()
        except OSError as error:
            log_.warning("the witness is not written: %s", error)

    def _ripen(self) -> None:
        limit_s = time.monotonic() - self._lag_s
        while self._young and self._young[0][0] <= limit_s:
            _, entry, seq = self._young.popleft()
            if self._ripe is None or seq > self._ripe[1]:
                self._ripe = (entry, seq)

    async def _write(self) -> None:
        assert self.seen is not None
        assert self._writer is not None
        ripe, self._ripe = self._ripe, None
        if ripe is not None and ripe[1] > self.seen.seq:
            entry, seq = ripe
            # The first fact of an empty log fixes where it begins.
            self.seen = msgspec.structs.replace(
                self.seen, first_seq=self.seen.first_seq or 1, seq=seq, id=id_of(entry.body),
                sha256=print_of(entry.subject, entry.body),
            )  # fmt: skip
        self.seen = msgspec.structs.replace(self.seen, turn=self.seen.turn + 1)
        mark = self._known()
        due = mark.created == self.seen.created and mark.seq >= self._marked + STRIDE_FACTS
        await asyncio.get_running_loop().run_in_executor(self._writer, self._put, self.seen, mark if due else None)

    def _put(self, seen: Seen, mark: Mark | None) -> None:
        os.pwrite(self._handle, _framed(seen), (seen.turn % 2) * SLOT_BYTES)
        os.fsync(self._handle)
        if mark is not None:
            with (self._folder / TRAIL).open("ab") as file:
                file.write(msgspec.json.encode(mark) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            self._marked = mark.seq


def print_of(subject: str, body: bytes) -> str:
    """Return the hash by which an acknowledged fact is known again; its time is not known to who published it."""
    return hashlib.sha256(subject.encode() + b"\n" + body).hexdigest()


def read(folder: Path) -> Seen | None:
    """Return what the witness of a store says, None where there is none. Raises LogUnfit when it cannot be read."""
    try:
        body = (folder / FILE).read_bytes()
    except FileNotFoundError:
        return None
    found = [seen for start in (0, SLOT_BYTES) if (seen := _unframed(body[start : start + SLOT_BYTES])) is not None]
    if not found:
        raise LogUnfit(f"{folder / FILE} does not read.", hint="If the log is whole (farebox audit verify): farebox log accept")
    return max(found, key=lambda seen: seen.turn)


def marks(folder: Path) -> list[Mark]:
    """Return the lines of the trail that can be read: a torn last one was never finished."""
    found: list[Mark] = []
    with suppress(FileNotFoundError):
        for line in (folder / TRAIL).read_bytes().split(b"\n"):
            with suppress(msgspec.MsgspecError, UnicodeDecodeError):
                found.append(msgspec.json.decode(line, type=Mark))
    return found


def settle(folder: Path, position: Position, last: Stored | None) -> None:
    """Begin anew with a log as it stands, `last` being its last fact: what was known before does not count any more."""
    (folder / TRAIL).unlink(missing_ok=True)
    seen = Seen(position.created, position.first_seq)
    if last is not None:
        seen = Seen(position.created, position.first_seq, last.seq, id_of(last.body), print_of(last.subject, last.body))
    write_durably(folder / FILE, _framed(seen))


def _last_mark(folder: Path) -> int:
    return max((mark.seq for mark in marks(folder)), default=0)


def _framed(seen: Seen) -> bytes:
    """Return one slot: a line a person can read, its checksum in front, filled up with spaces."""
    body = msgspec.json.encode(seen)
    line = b"%08x %b" % (zlib.crc32(body), body)
    assert len(line) < SLOT_BYTES, "names and hashes are short"
    return line.ljust(SLOT_BYTES - 1) + b"\n"


def _unframed(slot: bytes) -> Seen | None:
    checksum, _, body = slot.strip().partition(b" ")
    try:
        return msgspec.json.decode(body, type=Seen) if int(checksum, 16) == zlib.crc32(body) else None
    except (ValueError, msgspec.MsgspecError):
        return None
