"""Large contents in an object-store bucket whose rollup is off: no single message can empty it.

nats-py's own put sends a rollup and fails there, so the object format is written directly: chunks, then a meta message that
expects to be the first of its name. The name is the sha256, so the same content is kept once. Any object-store client reads it.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from base64 import urlsafe_b64encode
from typing import Any

import msgspec

from farebox.core.errors import AppendRefused, LogDamaged, NotReachable
from farebox.core.terms import Ref
from farebox.log import names
from farebox.log.answers import stored
from farebox.log.connection import Connection, Unanswered
from farebox.log.raw_client import Reply

CHUNK_BYTES = 128 * 1024
"""The chunk size of every object-store client (ADR-20 of nats-architecture-and-design, read 2026-11)."""
_ON_THE_WAY = 8
_DIRECT = f"$JS.API.DIRECT.GET.{names.BUCKET_STREAM}"
_PAUSES_S = (0.0, 0.05, 0.2, 1.0)
"""A replica that lags behind may not know a chunk yet."""
_FIRST = "farebox-first-seq"


class Blobs:
    """The bucket, through one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def put(self, body: bytes) -> Ref:
        """Keep a content once. Raises LogFull, AppendBusy, NotReachable, AccessDenied."""
        digest = hashlib.sha256(body)
        name = digest.hexdigest()
        ref = Ref(ref=name, sha256=name, bytes=len(body))
        if await self._meta(name) is not None:
            return ref
        nuid = os.urandom(11).hex()
        first = await self._put_chunks(nuid, body)
        meta = {
            "name": name,
            "bucket": names.BUCKET,
            "nuid": nuid,
            "size": len(body),
            "chunks": -(-len(body) // CHUNK_BYTES),
            "digest": "SHA-256=" + urlsafe_b64encode(digest.digest()).decode(),
            "options": {"max_chunk_size": CHUNK_BYTES},
            "metadata": {_FIRST: str(first)},
        }
        try:
            await self._store(_meta_subject(name), msgspec.json.encode(meta), first=True)
        except AppendRefused:
            return ref  # somebody else kept the same content meanwhile
        return ref

    async def get(self, ref: Ref) -> bytes:
        """Return a content. Raises LogDamaged when it is missing or not what was stored, NotReachable, AccessDenied."""
        fault = ""
        for pause_s in _PAUSES_S:
            await asyncio.sleep(pause_s)
            meta = await self._meta(ref.ref)
            if meta is None:
                fault = "is missing"
                continue
            body = await self._get_chunks(meta)
            if hashlib.sha256(body).hexdigest() == ref.sha256:
                return body
            fault = "is not what was stored"
        raise LogDamaged(f"The content {ref.ref} {fault}.")

    async def _put_chunks(self, nuid: str, body: bytes) -> int:
        """Store the chunks and return the sequence of the first."""
        subject = f"{names.CHUNKS}.{nuid}"
        first = 0
        for start in range(0, len(body), CHUNK_BYTES * _ON_THE_WAY):
            stop = min(start + CHUNK_BYTES * _ON_THE_WAY, len(body))
            chunks = [body[place : place + CHUNK_BYTES] for place in range(start, stop, CHUNK_BYTES)]
            seqs = await asyncio.gather(*(self._store(subject, chunk) for chunk in chunks))
            first = first or seqs[0]
        return first

    async def _store(self, subject: str, body: bytes, *, first: bool = False) -> int:
        await self._connection.connected()
        headers = {"Nats-Expected-Last-Subject-Sequence": "0"} if first else None
        return stored(await self._connection.ask(subject, body, headers)).seq

    async def _meta(self, name: str) -> dict[str, Any] | None:
        await self._connection.connected()
        reply = await self._connection.ask(f"{_DIRECT}.{_meta_subject(name)}")
        if reply.status == 404:
            return None
        if reply.status:
            raise NotReachable(f"Nobody answers for the bucket {names.BUCKET} (status {reply.status}).")
        return msgspec.json.decode(reply.body)

    async def _get_chunks(self, meta: dict[str, Any]) -> bytes:
        """Read the chunks in order; the direct get of many needs no consumer."""
        subject = f"{names.CHUNKS}.{meta['nuid']}"
        seq = int(meta.get("metadata", {}).get(_FIRST) or 1)
        parts: list[bytes] = []
        while len(parts) < meta["chunks"]:
            found = await self._chunks_from(subject, seq, meta["chunks"] - len(parts))
            if not found:
                break
            parts.extend(reply.body for reply in found)
            seq = int(found[-1].field("Nats-Sequence")) + 1
        return b"".join(parts)

    async def _chunks_from(self, subject: str, seq: int, count: int) -> list[Reply]:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        found: list[Reply] = []

        def on_reply(_subject: bytes, _reply: bytes, data: bytes, head: bytes) -> None:
            reply = Reply(data, head)
            if not reply.status:
                found.append(reply)
            elif not done.done():
                done.set_result(None)

        inbox, forget = self._connection.expect(done, on_reply, (_DIRECT,))
        request = {"seq": seq, "next_by_subj": subject, "batch": count}
        try:
            async with asyncio.timeout(30):
                await self._connection.send(_DIRECT, msgspec.json.encode(request), inbox)
                await done
        except TimeoutError as late:
            raise Unanswered("The bucket does not answer.") from late
        finally:
            forget()
        return found


def _meta_subject(name: str) -> str:
    return f"{names.METAS}.{urlsafe_b64encode(name.encode()).decode()}"
