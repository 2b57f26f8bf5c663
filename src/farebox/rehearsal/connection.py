"""One HTTP/1.1 connection of a stand-in: h11 keeps the rules, this moves the bytes and notices when the client is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import h11
from msgspec import Struct

BODY_BYTES_MAX = 32 * 1024 * 1024
READ_BYTES = 64 * 1024


class Request(Struct, frozen=True):
    """One request, read whole; header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class ClientGoneError(Exception):
    """Nobody listens any more."""


class Connection:
    """Reads requests and writes answers on one socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=256 * 1024)
        self._reader = reader
        self._writer = writer
        self._more: asyncio.Future[bytes] | None = None

    async def request(self) -> Request | None:
        """Return the next request, None when there will be none. Raises h11.RemoteProtocolError, ClientGoneError."""
        if self._h11.our_state is h11.DONE:
            self._h11.start_next_cycle()
        event = await self._event()
        if not isinstance(event, h11.Request):
            return None
        body = bytearray()
        while not isinstance(part := await self._event(), h11.EndOfMessage):
            if not isinstance(part, h11.Data):
                raise ClientGoneError
            body += part.data
            if len(body) > BODY_BYTES_MAX:
                raise h11.RemoteProtocolError("The body is too large.", error_status_hint=413)
        headers = {name.decode("latin-1").lower(): text.decode("latin-1") for name, text in event.headers}
        return Request(event.method.decode(), event.target.decode(), headers, bytes(body))

    async def begin(self, status: int, headers: Sequence[tuple[str, str]]) -> None:
        """Send status and headers."""
        await self._send(h11.Response(status_code=status, headers=list(headers)))

    async def data(self, body: bytes) -> None:
        """Send a part of the body. Raises ClientGoneError."""
        await self._send(h11.Data(data=body))

    async def end(self) -> None:
        """Send the end of the answer."""
        await self._send(h11.EndOfMessage())

    async def pause(self, wait_s: float) -> None:
        """Wait `wait_s`. Raises ClientGoneError at once when the client hangs up meanwhile."""
        if self._more is None:
            self._more = asyncio.ensure_future(self._reader.read(READ_BYTES))
        await asyncio.wait({self._more}, timeout=wait_s)
        if self._more.done() and (self._more.exception() is not None or not self._more.result()):
            raise ClientGoneError

    @property
    def can_go_on(self) -> bool:
        """Whether another request may come on this connection."""
        return self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE

    async def cut(self) -> None:
        """Break off: reset the connection without a proper end."""
        transport = self._writer.transport
        await self._writer.drain()
        transport.abort()

    async def close(self) -> None:
        """Let go of the socket."""
        if self._more is not None:
            self._more.cancel()
        self._writer.close()

    async def _event(self) -> object:
        while (event := self._h11.next_event()) is h11.NEED_DATA:
            more, self._more = self._more, None
            try:
                self._h11.receive_data(await (more or self._reader.read(READ_BYTES)))
            except ConnectionError as error:
                raise ClientGoneError from error
        return event

    async def _send(self, event: h11.Event) -> None:
        data = self._h11.send(event)
        try:
            if data:
                self._writer.write(data)
            await self._writer.drain()
        except ConnectionError as error:
            raise ClientGoneError from error
