"""Facts to bytes and back: one JSON object each, old versions lifted by upcasts, liars and garbage refused as BadFact.

A body may be larger or deeper than sane: sizes are capped before decoding. A version from the future raises `NewerFact`, so
that a reader parks it instead of skipping it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from typing import Any

import msgspec

from farebox.core import subjects
from farebox.core.errors import BadFact
from farebox.core.events import FACTS, AnyFact, Fact, TaskSubmitted

BODY_BYTES_MAX = 1_000_000
"""No body is larger: the server's max_payload is 1 MB."""
INLINE_BYTES_MAX = 256 * 1024
"""Prompts, contexts and answers above this go to the object store (architecture, section 2)."""

Upcast = Callable[[dict[str, Any]], dict[str, Any]]
UPCASTS: dict[tuple[str, int], Upcast] = {}
"""(fact, version) -> how its body becomes version + 1."""
VERSIONS: dict[str, int] = {kind.__name__: 1 for kind in FACTS}
"""The version of each fact that this code writes."""

_encoder = msgspec.json.Encoder()


class NewerFact(BadFact):
    """A fact of a version that this code does not know yet. `fact` is its name."""

    code = "FB803"
    fact = ""


@cache
def _decoder() -> msgspec.json.Decoder[AnyFact]:
    """Return the decoder of all facts. Making it takes 10 ms, which not every command line needs."""
    return msgspec.json.Decoder(AnyFact)


class _Head(msgspec.Struct, gc=False):
    fact: str = ""
    version: int = 1


_head = msgspec.json.Decoder(_Head)


def encode(fact: Fact) -> bytes:
    """Return the body of `fact`. `seq` and `at_ms` are never written: they belong to the stream."""
    if fact.seq or fact.at_ms:
        fact = msgspec.structs.replace(fact, seq=0, at_ms=0)
    return _encoder.encode(fact)


def decode(subject: str, body: bytes, seq: int = 0, at_ms: int = 0) -> AnyFact:
    """Return the fact that `body` holds, with the sequence and time (ms since 1970) of the stream in it.

    A fact written without an id (by a client in another language) is called after its sequence.

    Raises BadFact for garbage, oversize or a body that disagrees with its subject; NewerFact for a later version.
    """
    try:
        fact = _parse(body)
    except NewerFact as newer:
        _check_place(subject, newer)
        raise
    subjects.verify(subject, fact)
    force = msgspec.structs.force_setattr
    force(fact, "seq", seq)
    force(fact, "at_ms", at_ms)
    if not fact.id:
        force(fact, "id", f"seq-{seq}")
    return fact


def _parse(body: bytes) -> AnyFact:
    if len(body) > BODY_BYTES_MAX:
        raise BadFact(f"A body of {len(body)} bytes is larger than {BODY_BYTES_MAX}.")
    try:
        fact = _decoder().decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return _lift(body, error)
    if fact.version != VERSIONS[type(fact).__name__]:
        return _lift(body, None)
    return fact


def _lift(body: bytes, error: Exception | None) -> AnyFact:
    """Decode an older version through its upcasts; what cannot be lifted is refused."""
    try:
        head = _head.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as broken:
        raise BadFact(f"Not a fact: {broken}") from broken
    current = VERSIONS.get(head.fact)
    if not head.fact:
        raise BadFact("Not a fact: it has no name.") from error
    if current is None:
        raise _newer(head.fact, f"Unknown fact {head.fact[:64]!r}.") from error
    if head.version > current:
        raise _newer(head.fact, f"{head.fact} has version {head.version}, this farebox knows {current}.") from error
    if head.version == current:
        raise BadFact(f"{head.fact} does not read: {error}") from error
    return _upcast(body, head.fact, head.version, current)


def _newer(fact: str, message: str) -> NewerFact:
    newer = NewerFact(message)
    newer.fact = fact
    return newer


def _check_place(subject: str, newer: NewerFact) -> None:
    """Raise BadFact where this code knows better which fact stands on `subject`: a name nobody knows is no way in."""
    address = subjects.parse(subject)
    row = subjects.BY_TOKEN.get((address.writer, address.token))
    if row is not None and row.fact.__name__ != newer.fact:
        raise BadFact(f"{address.writer} may not say {newer.fact[:64]} on {subject}.") from newer


def _upcast(body: bytes, name: str, version: int, current: int) -> AnyFact:
    raw: dict[str, Any] = msgspec.json.decode(body)
    for step in range(version, current):
        lift = UPCASTS.get((name, step))
        if lift is None:
            raise BadFact(f"{name} of version {step} has no upcast.")
        raw = lift(raw) | {"version": step + 1}
    try:
        return msgspec.convert(raw, AnyFact)
    except msgspec.ValidationError as error:
        raise BadFact(f"{name} of version {version} does not read: {error}") from error


def submission_sha256(submitted: TaskSubmitted) -> str:
    """Return the sha256 of a submission, by which an adapter knows that it reads what was routed."""
    bare = msgspec.structs.replace(submitted, seq=0, at_ms=0, id="")
    return hashlib.sha256(msgspec.json.encode(bare, order="sorted")).hexdigest()


@cache
def schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of every fact."""
    (top,), parts = msgspec.json.schema_components([AnyFact], ref_template="#/$defs/{name}")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "farebox facts", **top, "$defs": parts}
