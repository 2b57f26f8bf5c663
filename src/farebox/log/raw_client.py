"""The NATS client, with a short way in and out for those who handle bytes themselves. The only file that imports nats.

Messages go straight from the bytes that were read to the function that wants them, their headers unread (reading headers is
the largest cost of a replay: measured 26,000 facts/s with all headers read, 75,000 and more with none), and a publish is one
line of bytes without a regular expression for each header: together 90 of 555 us a whole task. What is no message nats-py's own
parser reads. Two methods are overridden for that, a third closes connections that came to nothing, and the buffer is emptied
when a connection breaks; tests/contract/ pins it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping

from nats.aio.client import Client, Srv
from nats.aio.subscription import Subscription as NatsSubscription
from nats.errors import BadSubjectError, ConnectionClosedError, MaxPayloadError, OutboundBufferLimitError, ProtocolError
from nats.errors import Error as NatsError
from nats.protocol.parser import Parser

__all__ = ["Ear", "MaxPayloadError", "NatsError", "NatsSubscription", "RawClient", "Reply", "status_of"]

Ear = Callable[[bytes, bytes, bytes, bytes], None]
"""Called with subject, reply subject, body and raw headers (empty: none). It must not wait."""

_STATUS = re.compile(rb"\ANATS/1\.0 +(\d{3})")
_UNSENDABLE = re.compile(r"\s|\A\Z")
_END = b"\r\n"
_HEADS = {b"MSG": True, b"HMSG": False}
"""How a message begins, and whether it is without headers."""


class Reply:
    """What came back: a body, and headers that are read only when asked for."""

    __slots__ = ("body", "head")

    def __init__(self, body: bytes, head: bytes) -> None:
        self.body = body
        self.head = head

    @property
    def status(self) -> int:
        """The status of a message without content (404, 503 ...), 0 for a message."""
        return status_of(self.head)

    def field(self, name: str) -> str:
        """Return one header, empty if it is not there."""
        found = re.search(rb"(?m)^" + name.encode() + rb": *([^\r\n]*)", self.head)
        return found.group(1).decode() if found else ""


class RawParser(Parser):
    """nats-py's parser; messages are taken from the bytes as they were read, without a copy of what follows them."""

    def __init__(self, client: RawClient) -> None:
        super().__init__(client)  # pyright: ignore[reportUnknownMemberType] - untyped in nats-py
        self._client = client

    async def parse(self, data: bytes = b"") -> None:
        """Hand out the messages in `data`; what is not whole yet waits in `buf`. Raises ProtocolError."""
        if self.buf:
            data = bytes(self.buf) + data
            self.buf.clear()
        at = 0
        while at < len(data):
            if data[at] in b"MH":
                after = self._message(data, at)
            else:
                after = data.find(_END, at) + len(_END)
                if after >= len(_END):
                    await super().parse(data[at:after])
                    if self._client.is_reconnecting or self._client.is_closed:
                        return  # what follows was said on a connection that is given up
            if after < len(_END):
                self.buf.extend(data[at:])
                return
            at = after

    def _message(self, data: bytes, at: int) -> int:
        """Hand out the message that begins at `at`; return where it ends, 0 while it is not whole."""
        line = data.find(_END, at)
        if line < 0:
            return 0
        words = data[at:line].split()
        try:
            bare = _HEADS[words[0]]
            number, size, head = int(words[2]), int(words[-1]), 0 if bare else int(words[-2])
        except (ValueError, LookupError) as error:
            raise ProtocolError("nats: malformed MSG") from error
        body = line + len(_END)
        end = body + size
        if end + len(_END) > len(data):
            return 0
        reply = words[3] if len(words) == (5 if bare else 6) else b""
        self._client.hand_out(number, words[1], reply, data[body + head : end], data[body : body + head])
        return end + len(_END)


class RawClient(Client):
    """nats-py's client; `hear` subscribes without queue, task or header."""

    def __init__(self) -> None:
        super().__init__()
        self._ps = RawParser(self)
        self._ears: dict[int, Ear] = {}

    async def _connect_to_server(self, s: Srv) -> None:
        """Connect; a connection that was made and came to nothing is closed first: nats-py 2.16 leaves it to the collector."""
        self.hang_up()
        await super()._connect_to_server(s)

    def hang_up(self) -> None:
        """Close the socket, if there is one; what was not written is lost."""
        if self._transport is not None:
            self._transport.close()

    async def hear(self, subject: str, ear: Ear, queue: str = "") -> NatsSubscription:
        """Subscribe; `ear` gets each message at once."""
        self._ears[self._sid + 1] = ear  # the first message may come before subscribe returns
        return await self.subscribe(subject, queue=queue)  # pyright: ignore[reportUnknownMemberType] - a bare Future

    async def unhear(self, subscription: NatsSubscription) -> None:
        """End a subscription; nothing happens when the connection is gone."""
        self._ears.pop(subscription._id, None)  # noqa: SLF001 - nats-py gives no public way  # pyright: ignore[reportPrivateUsage]
        if not self.is_closed and not subscription._closed:  # noqa: SLF001 - likewise  # pyright: ignore[reportPrivateUsage]
            await subscription.unsubscribe()

    async def publish(
        self, subject: str, payload: bytes = b"", reply: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        """Send; headers go as they are, so they must hold no line end. Raises what nats-py raises for what cannot be sent."""
        if _UNSENDABLE.search(subject):
            raise BadSubjectError
        if not self.is_connected:
            raise ConnectionClosedError if self.is_closed else OutboundBufferLimitError
        size = len(payload)
        if size > self._max_payload:
            raise MaxPayloadError
        if headers:
            head = f"NATS/1.0\r\n{''.join([f'{name}: {value}\r\n' for name, value in headers.items()])}\r\n".encode()
            line = f"HPUB {subject} {reply} {len(head)} {len(head) + size}\r\n".encode()
            await self._send_command(b"%b%b%b\r\n" % (line, head, payload))
        else:
            await self._send_command(b"%b%b\r\n" % (f"PUB {subject} {reply} {size}\r\n".encode(), payload))
        if self._flush_queue is not None and self._flush_queue.empty():
            await self._flush_pending()

    def forget_unsent(self) -> None:
        """Drop what was not written yet: its senders are told that nobody knows, so it must not be sent later."""
        self._pending.clear()
        self._pending_data_size = 0

    @property
    def is_cut(self) -> bool:
        """Whether nothing can be written any more: the server is gone, even where nobody was told yet."""
        writer = getattr(self._transport, "_io_writer", None)
        return writer is not None and writer.is_closing()

    @property
    def has_jetstream(self) -> bool:
        """Whether the server says that JetStream is on."""
        return bool(self._server_info.get("jetstream"))

    @property
    def in_cluster(self) -> bool:
        """Whether the server says that it is one of a cluster."""
        return bool(self._server_info.get("cluster"))

    def hand_out(self, sid: int, subject: bytes, reply: bytes, data: bytes, head: bytes) -> None:
        """Give a message to its ear; nobody may listen any more."""
        ear = self._ears.get(sid)
        if ear is None:
            return
        try:
            ear(subject, reply, data, head)
        except Exception as error:  # noqa: BLE001 - one listener's fault must not end the reading of all
            context = {"message": f"Hearing {subject.decode()} failed", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)


def status_of(head: bytes) -> int:
    """Return the status in raw headers, 0 if there is none."""
    found = _STATUS.match(head)
    return int(found.group(1)) if found else 0
