"""A standing pull request: facts come as they are stored, nothing polls, and at most two requests are open.

nats-py's fetch is not used: it costs 25 to 35 us a fact and can stall on orphaned requests (nats.py#986, open in 2.16).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from farebox.core.errors import NotReachable
from farebox.log.connection import Connection
from farebox.log.names import STREAM
from farebox.log.raw_client import Ear, NatsSubscription, Reply

EXPIRES_S = 30.0
BEAT_S = 2.0
"""The server shows life at least so often while a request is open."""
SILENCE_S = 2 * BEAT_S + 1
"""After so much silence the consumer is taken for lost: the server that had it may be gone."""
LATE_S = 1.0
"""A look that comes so late says nothing about the server: this process itself was busy or frozen."""
PULL_BYTES_MAX = 8 << 20
AGAIN_S = 0.25
"""The pause before asking again when the server has no answer at the moment."""

_NS = 1_000_000_000
_ENDED = frozenset({404, 408})
_SATED = (b"MaxBytes", b"Batch Completed")


class StandingPull:
    """Asks the consumer `consumer` for facts, again and again; `on_fact` gets each, `on_trouble` hears why none may come."""

    def __init__(
        self, connection: Connection, consumer: str, batch: int, on_fact: Ear, on_trouble: Callable[[str], None]
    ) -> None:
        self.room = True
        self._connection = connection
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{consumer}"
        self._batch = batch
        self._on_fact = on_fact
        self._on_trouble = on_trouble
        self._inbox = connection.new_inbox()
        self._subscription: NatsSubscription | None = None
        self._asked = 0
        self._loop = asyncio.get_running_loop()
        self._heard_s = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._asking: asyncio.Task[None] | None = None
        self._request = msgspec.json.encode({
            "batch": batch,
            "expires": round(EXPIRES_S * _NS),
            "idle_heartbeat": round(BEAT_S * _NS),
            "max_bytes": PULL_BYTES_MAX,
        })  # fmt: skip

    async def start(self) -> None:
        """Begin. Raises NotReachable, AccessDenied."""
        self._subscription = await self._connection.hear(self._inbox, self._ear)
        self._watch()
        self.ask()

    async def stop(self) -> None:
        """End; what is on the way is lost to us and comes again, or is read again."""
        subscription, self._subscription = self._subscription, None
        if self._timer is not None:
            self._timer.cancel()
        if self._asking is not None:
            self._asking.cancel()
        if subscription is not None:
            await self._connection.unhear(subscription)

    def anew(self) -> None:
        """Forget what is open (after a reconnect) and ask again."""
        self._asked = 0
        self.ask()

    def ask(self) -> None:
        """Ask for more if less than half a batch is open and there is room."""
        if self.room and self._asked <= self._batch // 2 and self._subscription is not None and self._asking is None:
            self._asking = self._loop.create_task(self._ask())

    async def _ask(self) -> None:
        try:
            while self.room and self._asked <= self._batch // 2:
                await self._connection.send(self._subject, self._request, self._inbox)
                self._asked += self._batch
        except NotReachable:
            self._asked = 0  # the reconnect begins anew
        finally:
            self._asking = None

    def _ear(self, subject: bytes, reply: bytes, data: bytes, head: bytes) -> None:
        self._heard_s = self._loop.time()
        if reply:
            self._asked -= 1
            self._on_fact(subject, reply, data, head)
            if self._asked <= self._batch // 2:
                self.ask()
            return
        self._on_status(Reply(data, head))

    def _on_status(self, reply: Reply) -> None:
        """A fact always has a reply subject; what has none is the server's word about a request."""
        status = reply.status
        if status == 100:
            return
        if status in _ENDED or any(word in reply.head for word in _SATED):
            self._asked = max(0, self._asked - int(reply.field("Nats-Pending-Messages") or 0))
            self.ask()
            return
        self._asked = 0
        self._later(AGAIN_S)
        self._on_trouble(reply.head.partition(b"\r\n")[0].decode(errors="replace").removeprefix("NATS/1.0 "))

    def _later(self, pause_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(pause_s, self._watch)

    def _watch(self) -> None:
        now_s = self._loop.time()
        if self._timer is not None and now_s > self._timer.when() + LATE_S:
            self._heard_s = now_s
        if self._asked and now_s - self._heard_s > SILENCE_S:
            self._asked = 0
            self._heard_s = now_s
            self._on_trouble("The server is silent.")
        self.ask()
        self._later(BEAT_S)
