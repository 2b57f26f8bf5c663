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
from farebox.log.port import Position
from farebox.runtime.spool import write_durably


class Head(Struct, frozen=True):
    """What a snapshot is of."""

    actor: str
    version: int
    created: str
    seq: int
    checksum: int


def save(folder: Path, actor: Actor[Any], state: Any, seq: int, created: str) -> None:
    """Keep `state`, folded to `seq`, of the log that was `created` then."""
    body = msgspec.json.encode(state)
    head = Head(actor.name, actor.version, created, seq, zlib.crc32(body))
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_durably(folder / f"{actor.name}.json", msgspec.json.encode(head) + b"\n" + body)


def load(folder: Path, actor: Actor[Any], position: Position) -> tuple[Any, int]:
    """Return the state and its sequence, or a new state and 0 where no snapshot fits."""
    path = folder / f"{actor.name}.json"
    fresh: Any = actor.new()
    if not path.exists():
        return fresh, 0
    first, _, body = path.read_bytes().partition(b"\n")
    try:
        head = msgspec.json.decode(first, type=Head)
        fits = (head.actor, head.version, head.created) == (actor.name, actor.version, position.created)
        if not fits or head.seq > position.last_seq or head.checksum != zlib.crc32(body):
            return fresh, 0
        return _decoded(body, fresh), head.seq
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return fresh, 0


def _decoded(body: bytes, like: Any) -> Any:
    return msgspec.json.decode(body, type=cast("Any", type(like)))
