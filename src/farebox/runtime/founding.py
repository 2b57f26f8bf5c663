"""The founding of a store: its streams are made once and never again by themselves, and why an engine had to stop is kept.

What was made is noted outside the server's own files. A stream that is missing later may still be on the disk, where only its
head cannot be read: an empty one in its place would bury it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from farebox.core import errors
from farebox.core.errors import FareboxError, LogDamaged, LogMissing
from farebox.log import names
from farebox.log.gaps import PUT_BACK
from farebox.runtime import witness
from farebox.runtime.store import Store

log_ = logging.getLogger("farebox.engine")

INITIALISED = "initialised"
"""Marks a store whose streams were made. On its second line: where, if elsewhere."""
ELSEWHERE = "Its log is on "
STOPPED = "stopped.json"
STREAMS = Path("nats", "jetstream", "LOG", "streams")
"""Where the embedded server keeps the streams of the log's account."""


class Foundable(Protocol):
    """What is asked of a log here; log/jetstream.py is it."""

    async def missing(self) -> tuple[str, ...]:
        """Return those streams that hold what cannot be made again and are not there."""
        ...

    async def unknown(self, durables: Sequence[str]) -> tuple[str, ...]:
        """Return those durables that the server does not have."""
        ...


class Stopped(Struct, frozen=True):
    """stopped.json: why the last engine had to stop."""

    kind: str
    code: str
    message: str
    hint: str


def founded(place: Store) -> bool:
    """Say whether the streams of this store were made once."""
    return any((place.path / name).exists() for name in (INITIALISED, witness.FILE))


def note_founded(place: Store, elsewhere: str = "") -> None:
    """Note, on disk, that they were."""
    where = f"{ELSEWHERE}{elsewhere}\n" if elsewhere else ""
    place.write(INITIALISED, f"The streams of this store were made. Do not remove.\n{where}".encode())


def settle(place: Store) -> None:
    """Put the heads of the streams on disk: under `100ms` their server leaves that to the system, for half a minute.

    Without it a power cut soon after the founding takes the whole log (seen with nats-server 2.15.0 on ext4, 2026-11).
    """
    for folder, _, files in os.walk(place.path / "nats"):
        for path in (*(Path(folder, name) for name in files if name.startswith("meta.")), Path(folder)):
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def elsewhere(place: Store) -> str:
    """Return the address of the server on which this store's log is, empty for its own."""
    marker = place.path / INITIALISED
    return marker.read_text("utf-8").partition(ELSEWHERE)[2].strip() if marker.exists() else ""


async def check_there(place: Store, log: Foundable) -> None:
    """Raise LogMissing when a founded store has no log any more."""
    gone = await log.missing()
    if not gone:
        await _drop_unreadable(place, log)
        return
    name, folder = gone[0], place.path / STREAMS / gone[0]
    if folder.is_dir() and any(folder.iterdir()):
        raise LogMissing(
            f"The server cannot read the stream {name}; its data is still in {folder}, so it is not made anew.",
            hint=f"Copy that folder away first; {place.path / 'nats.log'} says what is wrong. {PUT_BACK}",
        )
    raise LogMissing(
        f"The stream {name} of {place.path} is gone. It was made once and is never made anew by itself.", hint=PUT_BACK
    )


async def _drop_unreadable(place: Store, log: Foundable) -> None:
    """Remove what the server kept of durables and cannot read: it would refuse for ever to make them anew (error 10012).

    They hold positions only. What was done is answered from the log, so each reservation is handed out once more and acked.
    """
    folder = place.path / STREAMS / names.STREAM / "obs"
    kept = sorted(path.name for path in folder.glob(names.durable_of("*"))) if folder.is_dir() else []
    for durable in await log.unknown(kept):
        log_.warning("%s: what the server kept of it cannot be read; it is made anew, and nothing is done twice", durable)
        await asyncio.to_thread(shutil.rmtree, folder / durable)


def note_stop(folder: Path, error: BaseException) -> None:
    """Keep why an engine stopped, if its log was the reason: whoever asks later is told the same."""
    if isinstance(error, LogDamaged):
        Store(folder).write(STOPPED, Stopped(type(error).__name__, error.code, error.message, error.hint))


def check_stopped(place: Store) -> None:
    """Raise what stopped the last engine, if its log did and none has started since."""
    stopped = place.read(STOPPED, Stopped)
    if stopped is not None:
        kind: type[FareboxError] = getattr(errors, stopped.kind, LogDamaged)
        raise kind(stopped.message, hint=stopped.hint, code=stopped.code)
