"""Whole copies of a stream, made and put back by the server itself: with all sequences, times and headers (JetStream's
snapshot and restore). For init only.
"""  # noqa: D205

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from farebox.core.errors import NotReachable
from farebox.log.answers import document
from farebox.log.connection import Connection

CHUNK_BYTES = 512 * 1024
SILENCE_S = 30.0
"""So long the server may take for the next piece of a copy."""


class Archive:
    """Copies of streams, through one connection."""

    def __init__(self, connection: Connection, control: str) -> None:
        self._connection = connection
        self._control = control

    async def take(self, stream: str, write: Callable[[bytes], None]) -> dict[str, Any]:
        """Give a copy of `stream` to `write`, piece by piece; the stream goes on meanwhile. Returns its config and state then.

        Raises LogUnfit when it is missing, NotReachable when the server stops half way.
        """
        inbox = self._connection.new_inbox()
        pieces: asyncio.Queue[tuple[bytes, bytes]] = asyncio.Queue()

        def ear(_subject: bytes, reply: bytes, data: bytes, _head: bytes) -> None:
            pieces.put_nowait((data, reply))

        listening = await self._connection.hear(inbox, ear)
        try:
            body = {"deliver_subject": inbox, "no_consumers": True, "chunk_size": CHUNK_BYTES}
            about = document(await self._connection.ask(f"{self._control}.STREAM.SNAPSHOT.{stream}", msgspec.json.encode(body)))
            while (piece := await self._next(pieces))[0]:
                await asyncio.to_thread(write, piece[0])
                if piece[1]:
                    await self._connection.send(piece[1].decode(), b"")
        finally:
            await self._connection.unhear(listening)
        return about

    async def put(self, stream: str, config: dict[str, Any], state: dict[str, Any], pieces: Iterable[bytes]) -> None:
        """Make `stream` from a copy. Raises LogUnfit when it is there already or the copy is not whole."""
        body = {"config": config, "state": state}
        verb = f"{self._control}.STREAM.RESTORE.{stream}"
        to = document(await self._connection.ask(verb, msgspec.json.encode(body)))["deliver_subject"]
        for piece in pieces:
            answer = await self._connection.ask(to, piece, wait_s=SILENCE_S)
            if answer.body:
                document(answer)
        document(await self._connection.ask(to, b"", wait_s=SILENCE_S))

    async def _next(self, pieces: asyncio.Queue[tuple[bytes, bytes]]) -> tuple[bytes, bytes]:
        try:
            async with asyncio.timeout(SILENCE_S):
                return await pieces.get()
        except TimeoutError as late:
            raise NotReachable("The server stopped in the middle of the copy.") from late
