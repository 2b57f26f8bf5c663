"""Large contents in an object-store bucket whose rollup is off: no single message can empty it.

nats-py's own put sends a rollup and fails there, so the object format is written directly: chunks, then a meta message that
expects to be the first of its name. The name is the sha256, so the same content is kept once. Each chunk has a subject of its
own below the object's, so who knows the name can read it by exact subjects, without the right to read the whole bucket; the
meta names them with a wildcard, which is where any other object-store client looks for chunks.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from msgspec import Struct, field

from farebox.core.errors import AppendBusy, AppendRefused, LogDamaged, NotReachable
from farebox.core.terms import Ref
from farebox.log import names
from farebox.log.answers import stored
from farebox.log.connection import Connection, Unanswered

CHUNK_BYTES = 128 * 1024
"""The chunk size of every object-store client (ADR-20 of nats-architecture-and-design, read 2026-11)."""
ON_THE_WAY = 8
"""Chunks asked for at a time: 1 MiB."""
_DIRECT = f"$JS.API.DIRECT.GET.{names.BUCKET_STREAM}"
_PAUSES_S = (0.0, 0.05, 0.25)
"""In a cluster a replica that lags behind may not know a chunk yet, and two who keep the same content collide."""


class Blobs:
    """The bucket, through one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._begun: dict[str, _Begun] = {}

    async def put(self, body: bytes) -> Ref:
        """Keep a content once; after a break it goes on where it was when it is tried again.

        Raises LogFull, AppendBusy, NotReachable, AccessDenied.
        """
        digest = hashlib.sha256(body)
        name = digest.hexdigest()
        ref = Ref(ref=name, sha256=name, bytes=len(body))
        if await self._last(_meta_subject(name)) is not None:
            return ref
        begun = self._begun.setdefault(name, _Begun(os.urandom(11).hex()))
        chunks = [body[start : start + CHUNK_BYTES] for start in range(0, len(body), CHUNK_BYTES)]
        await _some_at_a_time(len(chunks), lambda number: self._store_chunk(begun, number, chunks[number]))
        meta = {
            "name": name,
            "bucket": names.BUCKET,
            "nuid": f"{begun.place}.*",
            "size": len(body),
            "chunks": len(chunks),
            "digest": "SHA-256=" + urlsafe_b64encode(digest.digest()).decode(),
            "options": {"max_chunk_size": CHUNK_BYTES},
        }
        await self._store_meta(name, msgspec.json.encode(meta))
        self._begun.pop(name, None)
        return ref

    async def get(self, ref: Ref) -> bytes:
        """Return a content. Raises LogDamaged when it is missing or not what was stored, NotReachable, AccessDenied."""
        fault = ""
        for pause_s in _PAUSES_S:
            await asyncio.sleep(pause_s)
            meta = await self._last(_meta_subject(ref.ref))
            body = await self._body(msgspec.json.decode(meta)) if meta is not None else None
            if body is not None and hashlib.sha256(body).hexdigest() == ref.sha256:
                return body
            fault = "is missing" if body is None else "is not what was stored"
        raise LogDamaged(f"The content {ref.ref} {fault}.")

    async def _body(self, meta: dict[str, Any]) -> bytes | None:
        place = str(meta["nuid"]).removesuffix(".*")
        chunks = await _some_at_a_time(meta["chunks"], lambda number: self._last(_chunk_subject(place, number)))
        found = [chunk for chunk in chunks if chunk is not None]
        return b"".join(found) if len(found) == len(chunks) else None

    async def _store_chunk(self, begun: _Begun, number: int, chunk: bytes) -> None:
        if number not in begun.stored:
            await self._store(_chunk_subject(begun.place, number), chunk)
            begun.stored.add(number)

    async def _store_meta(self, name: str, meta: bytes) -> None:
        """Store the meta unless somebody else kept the same content meanwhile."""
        for pause_s in _PAUSES_S:
            await asyncio.sleep(pause_s)
            try:
                await self._store(_meta_subject(name), meta, {"Nats-Expected-Last-Subject-Sequence": "0"})
            except AppendRefused:
                return
            except AppendBusy:
                if pause_s == _PAUSES_S[-1]:
                    raise
            else:
                return

    async def _store(self, subject: str, body: bytes, headers: dict[str, str] | None = None) -> int:
        await self._connection.connected()
        try:
            return stored(await self._connection.ask(subject, body, headers)).seq
        except Unanswered as silence:
            raise NotReachable("The server does not say that it has stored a large content.") from silence

    async def _last(self, subject: str) -> bytes | None:
        await self._connection.connected()
        reply = await self._connection.ask(f"{_DIRECT}.{subject}")
        if reply.status == 404:
            return None
        if reply.status:
            raise NotReachable(f"Nobody answers for the bucket {names.BUCKET} (status {reply.status}).")
        return reply.body


class _Begun(Struct):
    """A content that is on its way into the bucket: where its chunks lie, and which of them are there."""

    place: str
    stored: set[int] = field(default_factory=set[int])


async def _some_at_a_time[Result](count: int, do: Callable[[int], Awaitable[Result]]) -> Sequence[Result]:
    results: list[Result] = []
    for start in range(0, count, ON_THE_WAY):
        results.extend(await asyncio.gather(*(do(number) for number in range(start, min(start + ON_THE_WAY, count)))))
    return results


def _chunk_subject(place: str, number: int) -> str:
    return f"{names.CHUNKS}.{place}.{number}"


def _meta_subject(name: str) -> str:
    return f"{names.METAS}.{urlsafe_b64encode(name.encode()).decode()}"
