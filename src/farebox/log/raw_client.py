"""The NATS client, with a short way for those who read bytes themselves. The only file that imports nats.

Messages go straight from nats-py's parser to the function that wants them, their headers unread: reading headers is the largest
cost of a replay (measured: 26,000 facts/s with all headers read, 75,000 and more with none). One method of nats-py's client is
overridden for that, and its buffer is emptied when a connection breaks; tests/contract/ pins both.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

from nats.aio.client import Client
from nats.aio.subscription import Subscription as NatsSubscription
from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError

__all__ = ["Ear", "MaxPayloadError", "NatsError", "NatsSubscription", "RawClient", "Reply", "status_of"]

Ear = Callable[[bytes, bytes, bytes, bytes], None]
"""Called with subject, reply subject, body and raw headers (empty: none). It must not wait."""

_STATUS = re.compile(rb"\ANATS/1\.0 +(\d{3})")


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


class RawClient(Client):
    """nats-py's client; `hear` subscribes without queue, task or header."""

    def __init__(self) -> None:
        super().__init__()
        self._ears: dict[int, Ear] = {}

    async def hear(self, subject: str, ear: Ear, queue: str = "") -> NatsSubscription:
        """Subscribe; `ear` gets each message at once."""
        self._ears[self._sid + 1] = ear  # the first message may come before subscribe returns
        return await self.subscribe(subject, queue=queue)  # pyright: ignore[reportUnknownMemberType] - a bare Future

    async def unhear(self, subscription: NatsSubscription) -> None:
        """End a subscription; nothing happens when the connection is gone."""
        self._ears.pop(subscription._id, None)  # noqa: SLF001 - nats-py gives no public way  # pyright: ignore[reportPrivateUsage]
        if not self.is_closed and not subscription._closed:  # noqa: SLF001 - likewise  # pyright: ignore[reportPrivateUsage]
            await subscription.unsubscribe()

    def forget_unsent(self) -> None:
        """Drop what was not written yet: its senders are told that nobody knows, so it must not be sent later."""
        self._pending.clear()
        self._pending_data_size = 0

    @property
    def has_jetstream(self) -> bool:
        """Whether the server says that JetStream is on."""
        return bool(self._server_info.get("jetstream"))

    @property
    def in_cluster(self) -> bool:
        """Whether the server says that it is one of a cluster."""
        return bool(self._server_info.get("cluster"))

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        ear = self._ears.get(sid)
        if ear is None:
            return
        try:
            ear(subject, reply, data, headers or b"")
        except Exception as error:  # noqa: BLE001 - one listener's fault must not end the reading of all
            context = {"message": f"Hearing {subject.decode()} failed", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)


def status_of(head: bytes) -> int:
    """Return the status in raw headers, 0 if there is none."""
    found = _STATUS.match(head)
    return int(found.group(1)) if found else 0
