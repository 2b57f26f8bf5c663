"""A copy of the log elsewhere, and its way back: the server's own copy of the stream, the large contents as files, the key.

    manifest.json              which log, up to which fact, with which digest (core/trail.py); written last
    facts-<sequence>.snapshot  the stream as the server gives it out: sequences, times and headers included
    contents/<sha256>          each large content once
    key                        from which the ids of facts are made

Bringing a copy up to date reads only what is new, compares it, and fetches contents that are not there yet; the stream's copy
is written whole each time, since the server makes no part of one. A copy only becomes the copy when all of it is on the disk.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from farebox.core.errors import BackupUnfit, LogDamaged
from farebox.core.terms import Ref
from farebox.core.trail import Mark
from farebox.log.archive import CHUNK_BYTES
from farebox.log.jetstream import JetStreamLog
from farebox.log.names import STREAM
from farebox.log.port import Position
from farebox.runtime.audit import Fault, audit
from farebox.runtime.spool import write_durably
from farebox.runtime.store import speaking

MANIFEST, KEY, CONTENTS = "manifest.json", "key", "contents"
SCHEMA = "farebox.backup/1"
DAMAGE = frozenset({"FB801", "FB807", "FB808"})
"""Faults of the log itself; a fact that nobody believes is kept like any other."""
AGAIN = "Make a new copy in another folder: farebox log backup DIR"


class Manifest(Struct, frozen=True, kw_only=True):
    """What a copy holds."""

    mark: Mark
    first_seq: int
    file: str
    bytes: int
    sha256: str
    contents: tuple[str, ...]
    config: dict[str, Any]
    state: dict[str, Any]
    schema: str = SCHEMA


class Made(Struct, frozen=True):
    """What was done: the copy as it is now, how many facts and contents were new, and what is not believed in the log."""

    manifest: Manifest
    facts: int
    contents: int
    faults: tuple[Fault, ...]


async def make(log: JetStreamLog, position: Position, folder: Path, key: bytes, trail: Mapping[int, str]) -> Made:
    """Make the copy in `folder`, or bring it up to date. Raises LogDamaged, BackupUnfit, LogFull.

    The log is read and judged before the copy counts, so a damaged log never takes the place of a good copy.
    """
    _prepare(folder)
    before = read(folder)
    begin = await _continued(log, position, before)
    if before is not None and begin is not None and begin.seq == position.last_seq:
        return Made(before, 0, 0, ())
    with speaking(folder):
        draft = await _taken(log, folder)
    state = draft.about["state"]
    try:
        return await _judged(log, position, folder, key, trail, begin, before, draft, state)
    finally:
        draft.path.unlink(missing_ok=True)


async def _judged(
    log: JetStreamLog, position: Position, folder: Path, key: bytes, trail: Mapping[int, str], begin: Mark | None,
    before: Manifest | None, draft: _Draft, state: dict[str, Any],
) -> Made:  # fmt: skip
    """Read what the copy has beyond the one before, and let it count if all is well."""
    now = Position(position.created, state["first_seq"], state["last_seq"])
    held = set(before.contents if before else ())
    new: list[str] = []

    def keep(ref: Ref, body: bytes) -> None:
        with speaking(folder):
            write_durably(folder / CONTENTS / ref.sha256, body)
        new.append(ref.sha256)

    report = await audit(log, now, trail=trail, begin=begin, keep=keep)
    damage = next((fault for fault in report.faults if fault.code in DAMAGE), None)
    if damage is not None:
        raise LogDamaged(f"{damage.text} The copy in {folder} stays as it was.", hint="farebox audit verify", code=damage.code)
    name = f"facts-{now.last_seq}.snapshot"
    manifest = Manifest(
        mark=report.mark, first_seq=now.first_seq, file=name, bytes=draft.bytes, sha256=draft.sha256,
        contents=tuple(sorted(held | set(new))), config=draft.about["config"], state=state,
    )  # fmt: skip
    with speaking(folder):
        write_durably(folder / KEY, key)
        draft.path.replace(folder / name)
        write_durably(folder / MANIFEST, msgspec.json.encode(manifest))
        if before is not None and before.file != name:
            (folder / before.file).unlink(missing_ok=True)
    return Made(manifest, report.facts, len(new), report.faults)


def read(folder: Path) -> Manifest | None:
    """Return what the copy in a folder holds, None where there is none. Raises BackupUnfit for one that does not read."""
    try:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise BackupUnfit(f"{folder / MANIFEST} does not read: {error}.", hint=AGAIN) from error
    if manifest.schema != SCHEMA:
        raise BackupUnfit(f"{folder} is of another version: {manifest.schema[:40]}.", hint="Use the farebox that made it.")
    return manifest


def check(folder: Path) -> Manifest:
    """Return what the copy holds once all its files were read and found whole. Raises BackupUnfit."""
    manifest = read(folder)
    if manifest is None:
        raise BackupUnfit(f"There is no copy of a log in {folder}.", hint="Make one: farebox log backup DIR")
    wanted = {folder / manifest.file: manifest.sha256}
    wanted |= {folder / CONTENTS / name: name for name in manifest.contents}
    for path, expected in wanted.items():
        try:
            found = _sha256(path)
        except OSError as error:
            raise BackupUnfit(f"{path} cannot be read: {error.strerror}.", hint="This copy is not whole.") from error
        if found != expected:
            raise BackupUnfit(f"{path} is not what was written there.", hint="This copy is damaged; take another one.")
    if not (folder / KEY).is_file():
        raise BackupUnfit(f"{folder / KEY} is missing.", hint="Put it back from the store it was made from.")
    return manifest


async def restore(log: JetStreamLog, manifest: Manifest, folder: Path) -> None:
    """Make the stream from a copy that was checked. Raises LogUnfit when there is one already."""
    await log.archive.put(STREAM, manifest.config, manifest.state, _pieces(folder / manifest.file))


async def prove(log: JetStreamLog, manifest: Manifest, folder: Path) -> Position:
    """Put the large contents back, read all of the restored log, and return its position. Raises LogDamaged, BackupUnfit."""
    for name in manifest.contents:
        await log.put_blob(await asyncio.to_thread((folder / CONTENTS / name).read_bytes))
    position = await log.position()
    report = await audit(log, position, trail={manifest.mark.seq: manifest.mark.digest})
    damage = next((fault for fault in report.faults if fault.code in DAMAGE), None)
    if damage is not None:
        raise LogDamaged(f"What was put back is not whole: {damage.text}", code=damage.code)
    if report.mark.digest != manifest.mark.digest:
        raise BackupUnfit(f"What was put back has the digest {report.mark.digest}, the copy says {manifest.mark.digest}.")
    return position


class _Draft:
    """A copy on its way to the disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bytes = 0
        self.about: dict[str, Any] = {}
        self._hash = hashlib.sha256()
        self._file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb")

    def write(self, piece: bytes) -> None:
        self._file.write(piece)
        self._hash.update(piece)
        self.bytes += len(piece)

    def close(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()


async def _taken(log: JetStreamLog, folder: Path) -> _Draft:
    draft = _Draft(folder / f".facts.{os.getpid()}")
    try:
        draft.about = await log.archive.take(STREAM, draft.write)
        await asyncio.to_thread(draft.close)
    except BaseException:
        with suppress(OSError):
            draft.path.unlink()
        raise
    return draft


def _prepare(folder: Path) -> None:
    with speaking(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / CONTENTS).mkdir(mode=0o700, exist_ok=True)


async def _continued(log: JetStreamLog, position: Position, before: Manifest | None) -> Mark | None:
    """Return where the copy that is there ends. Raises BackupUnfit when it is not one of this log."""
    if before is None:
        return None
    mark = before.mark
    if mark.created != position.created and not mark.seq:
        return None
    found = await log.at(mark.seq) if mark.seq <= position.last_seq else None
    if found is None or not mark.fits(found.seq, found.at_ms, found.subject, found.body):
        raise BackupUnfit(
            f"The copy there is of another log, or of one that went on differently after it: fact {mark.seq} is not the same.",
            hint="Keep it, and name another folder.",
        )
    return msgspec.structs.replace(mark, created=position.created)


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(CHUNK_BYTES):
            yield piece


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
