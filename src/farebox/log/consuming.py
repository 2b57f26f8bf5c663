"""Taking facts from a durable, beside others who do the same. Acks are sent and forgotten: they never decide anything."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from farebox.core.errors import NotReachable
from farebox.log.connection import Connection
from farebox.log.port import Delivery, Stored
from farebox.log.pull import StandingPull

BATCH = 256


class Handed:
    """One fact in our hands."""

    __slots__ = ("_connection", "_reply", "_stored", "_tries")

    def __init__(self, connection: Connection, subject: bytes, reply: bytes, data: bytes) -> None:
        fields = reply.split(b".")
        tries, seq, _, at_ns = (int(field) for field in (fields[4:8] if len(fields) == 9 else fields[6:10]))
        self._connection = connection
        self._reply = reply.decode()
        self._stored = Stored(subject=subject.decode(), body=data, seq=seq, at_ms=at_ns // 1_000_000)
        self._tries = tries

    @property
    def stored(self) -> Stored:
        """The fact."""
        return self._stored

    @property
    def tries(self) -> int:
        """How often it was handed out."""
        return self._tries

    async def ack(self) -> None:
        """Done."""
        await self._say(b"+ACK")

    async def nak(self, delay_s: float) -> None:
        """Hand it out again after `delay_s`."""
        await self._say(b"-NAK " + msgspec.json.encode({"delay": round(delay_s * 1_000_000_000)}))

    async def progress(self) -> None:
        """Still working."""
        await self._say(b"+WPI")

    async def term(self, reason: str) -> None:
        """Never again; the reason stands in the dead stream."""
        await self._say(b"+TERM " + " ".join(reason.split()).encode(errors="replace")[:1024])

    async def _say(self, word: bytes) -> None:
        try:
            await self._connection.send(self._reply, word)
        except NotReachable:
            return  # it is handed out again, and the log says that it was done


class Consuming:
    """One of the competing consumers of a durable."""

    def __init__(self, connection: Connection, durable: str, on: Callable[[Delivery], None]) -> None:
        self._connection = connection
        self._durable = durable
        self._on = on
        self._pull = StandingPull(connection, durable, BATCH, self._on_fact, self._on_trouble)

    async def start(self) -> None:
        """Begin. Raises NotReachable, AccessDenied."""
        self._connection.on_reconnect.add(self._pull.anew)
        await self._pull.start()

    async def close(self) -> None:
        """Stop; what was handed out and not acked goes to others."""
        self._connection.on_reconnect.discard(self._pull.anew)
        await self._pull.stop()

    def _on_fact(self, subject: bytes, reply: bytes, data: bytes, _head: bytes) -> None:
        self._on(Handed(self._connection, subject, reply, data))

    def _on_trouble(self, text: str) -> None:
        self._connection.complain(f"The durable {self._durable} hands out nothing: {text}")
