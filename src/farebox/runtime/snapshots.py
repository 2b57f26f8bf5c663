"""Snapshots of what actors know, so that a start does not fold the whole log. A snapshot is a convenience: never believed when
its log, its code or its bytes differ, only folded anew.
"""  # noqa: D205

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any, cast

import msgspec
from msgspec import Struct

from farebox.core.actor import Actor
from farebox.core.trail import Mark
from farebox.log.port import Position
from farebox.runtime.spool import write_durably


class Head(Struct, frozen=True):
    """What a snapshot is of: an actor's code, a log and a place in it."""

    actor: str
    version: int
    mark: Mark
    checksum: int


def save(folder: Path, actor: Actor[Any], state: Any, mark: Mark) -> None:
    """Keep `state`, folded up to `mark`."""
    body = msgspec.json.encode(state)
    head = Head(actor.name, actor.version, mark, _checksum(mark, body))
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_durably(folder / f"{actor.name}.json", msgspec.json.encode(head) + b"\n" + body)


def load(folder: Path, actor: Actor[Any], position: Position) -> tuple[Any, Mark]:
    """Return the state and its place, or a new state at the beginning where no snapshot fits.

    Whether the fact at that place is still the same is for the caller to find out.
    """
    path = folder / f"{actor.name}.json"
    fresh: Any = actor.new()
    if not path.exists():
        return fresh, Mark()
    first, _, body = path.read_bytes().partition(b"\n")
    try:
        head = msgspec.json.decode(first, type=Head)
        fits = (head.actor, head.version, head.mark.created) == (actor.name, actor.version, position.created)
        if not fits or head.mark.seq > position.last_seq or head.checksum != _checksum(head.mark, body):
            return fresh, Mark()
        return _decoded(body, fresh), head.mark
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return fresh, Mark()


def _checksum(mark: Mark, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(msgspec.json.encode(mark)))


def _decoded(body: bytes, like: Any) -> Any:
    return msgspec.json.decode(body, type=cast("Any", type(like)))
