"""The log of the port on JetStream: one object per process, over one connection. Each part has its own file beside this one.

Rights a user needs beside its own subjects and its inbox prefix (to publish on; `$JS.API.` in front where none stands):

    position, check    STREAM.INFO.FAREBOX; check also looks at FAREBOX_LIVE, FAREBOX_DEAD and OBJ_farebox-blobs where it may
    last               DIRECT.GET.FAREBOX.<subject>
    given_up           STREAM.INFO.FAREBOX_DEAD, DIRECT.GET.FAREBOX_DEAD
    at                 DIRECT.GET.FAREBOX
    follow             CONSUMER.CREATE.FAREBOX.<consumer>.farebox.log.>, CONSUMER.DELETE.FAREBOX.<consumer>,
                       CONSUMER.MSG.NEXT.FAREBOX.<consumer>
    consume            CONSUMER.INFO.FAREBOX.<durable>, CONSUMER.MSG.NEXT.FAREBOX.<durable>, and $JS.ACK.FAREBOX.<durable>.>
    blobs              DIRECT.GET.OBJ_farebox-blobs.$O.farebox-blobs.> (by exact subject), and to write $O.farebox-blobs.>

STREAM and CONSUMER calls but MSG.NEXT begin with `control` instead of `$JS.API` where a user has an account of its own.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Any

import msgspec

from farebox.core.errors import AccessDenied, NotReachable
from farebox.core.subjects import ALL
from farebox.core.terms import Ref
from farebox.log import names
from farebox.log.appending import Appender
from farebox.log.archive import Archive
from farebox.log.blobs import Blobs
from farebox.log.connection import Connection, Health, Unanswered
from farebox.log.consuming import Consuming
from farebox.log.dead import given_up
from farebox.log.following import Following, position_of
from farebox.log.login import Tls, login_options
from farebox.log.port import Delivery, Entry, GivenUp, Handler, OnStored, Position, Stored, Subscription
from farebox.log.raw_client import NatsSubscription, Reply
from farebox.log.streams import Sizes, Streams, stream_configs

READ_WAIT_S = 5.0
REPLICAS_OF_A_CLUSTER = 3
"""So long a read is tried again over breaks before the server counts as away."""
_GIVE_BACK = "Give the right back (docs/guides/security.md) and reload the server: what waits goes on by itself."


class JetStreamLog:
    """The log on a NATS server. `connect` makes one."""

    def __init__(self, connection: Connection, consumer: str, control: str) -> None:
        self._connection = connection
        self._consumer = consumer
        self._streams = Streams(connection, control)
        self.archive = Archive(connection, control)
        self._appender = Appender(connection)
        self._blobs = Blobs(connection)
        self._followings: set[Following] = set()
        self._answering: set[asyncio.Task[None]] = set()
        self.on_stored: OnStored | None = None

    @classmethod
    async def connect(
        cls,
        url: str,
        *,
        user: str = "",
        password: str = "",
        credentials: str = "",
        inbox_prefix: str = "",
        name: str = "",
        consumer: str = "",
        control: str = "$JS.API",
        tls: Tls | None = None,
        on_health: Health | None = None,
    ) -> JetStreamLog:
        """Connect to `url` (several with commas), as `user` or with a credentials file. A password may be a seed, which signs.

        `consumer` is the name this user may follow with, one reading at a time; an end in -1 stands for -1 to -4; without
        it each reading makes a name of its own. `on_health` hears what is wrong, and an empty text when all is well again.
        Raises NotReachable, AccessDenied or BadSettings at once; a connection that breaks later is mended without end.
        """
        options: dict[str, Any] = {"name": name or "farebox"}
        options |= login_options(user, password, credentials, tls)
        connection = Connection(on_health)
        await connection.open(url, options, inbox_prefix)
        return cls(connection, consumer, control)

    async def prepare(
        self,
        durability: str,
        adapters: Sequence[str],
        replicas: int = 0,
        *,
        sizes: Sizes | None = None,
        log_bytes: int = 0,
        ack_wait_s: float = names.ACK_WAIT_S,
    ) -> None:
        """Make the streams, the bucket and a durable for each platform in `adapters`, where missing. For init only.

        `replicas` 0 stands for 3 in a cluster and 1 on a single server. A log that is there is made larger where `log_bytes`
        is more than it may hold, and is never made smaller.
        """
        copies = replicas or (REPLICAS_OF_A_CLUSTER if self._connection.client.in_cluster else 1)
        sizes = sizes or Sizes()
        if log_bytes:
            sizes = msgspec.structs.replace(sizes, log_bytes=log_bytes)
        await self._streams.prepare(adapters, stream_configs(durability, copies, sizes), ack_wait_s)
        await self._streams.grow(names.STREAM, log_bytes)

    async def missing(self) -> tuple[str, ...]:
        """Return those streams that hold what cannot be made again and are not there."""
        return await self._streams.missing((names.STREAM, names.BUCKET_STREAM))

    async def unknown(self, durables: Sequence[str]) -> tuple[str, ...]:
        """Return those durables that the server does not have; what this user may not ask about counts as there."""
        return await self._streams.unknown(durables)

    async def check(self) -> None:
        """Raise LogUnfit with one clear sentence unless server and streams can carry the log."""
        await self._streams.check()

    async def append(self, entries: Sequence[Entry]) -> tuple[int, ...]:
        """Store all entries or none and return their sequences. Raises as the port says."""
        seqs = await self._appender.append(entries)
        if self.on_stored is not None:
            self.on_stored(entries, seqs)
        return seqs

    async def last(self, subject: str) -> Stored | None:
        """Return the last fact on one exact subject, None if there is none.

        In a cluster a replica that lags may answer: only a fenced append proves that nothing newer is there.
        """
        names.check_entry(subject, b"", None)
        reply = await self._reading(f"$JS.API.DIRECT.GET.{names.STREAM}.{subject}")
        return _fact_of(reply)

    async def at(self, seq: int) -> Stored | None:
        """Return the fact at one sequence, None if there is none; in a cluster a replica that lags may answer."""
        return _fact_of(await self._reading(f"$JS.API.DIRECT.GET.{names.STREAM}", b'{"seq":%d}' % seq))

    async def given_up(self) -> Sequence[GivenUp]:
        """Return the facts that durables gave up last, the oldest first. Raises NotReachable, AccessDenied, LogUnfit."""
        return await given_up(self._reading, (await self._streams.info(names.DEAD_STREAM))["state"])

    async def position(self) -> Position:
        """Return which log this is and what it holds. Raises LogUnfit when the stream is missing."""
        found = position_of(await self._streams.info(names.STREAM))
        return position_of(await self._streams.info(names.STREAM, names_gone=True)) if found.gone else found

    async def follow(self, start: int, only: str = ALL) -> AsyncGenerator[Sequence[Stored]]:
        """Yield all facts from `start` on as they come; ends when the log is closed. Raises LogDamaged at a hole.

        With a fixed consumer name all facts are read and `only` is applied here: such a user may not choose another filter.
        """
        served = ALL if self._consumer else only
        following = Following(self._connection, self._streams, self._free_reader, start, served)
        self._followings.add(following)
        try:
            async with aclosing(following.facts()) as batches:
                async for facts in batches:
                    wanted = facts if served == only else [fact for fact in facts if names.matches(only, fact.subject)]
                    if wanted:
                        yield wanted
        finally:
            self._followings.discard(following)

    async def consume(self, name: str, on: Callable[[Delivery], None]) -> Subscription:
        """Be one of the competing consumers of the durable `name`. Raises LogUnfit when it is missing."""
        names.durable_filter(name)
        await self._streams.consumer(name)
        consuming = Consuming(self._connection, name, on)
        await consuming.start()
        return consuming

    async def listen(self, subject: str, on: Callable[[str, bytes], None]) -> Subscription:
        """Hear what is published on `subject` from now on; facts too, also those the log then refuses."""

        def ear(found: bytes, _reply: bytes, data: bytes, _head: bytes) -> None:
            on(found.decode(), data)

        return _Listening(self._connection, await self._connection.hear(subject, ear))

    async def publish(self, subject: str, body: bytes) -> None:
        """Publish live text: nobody waits for it, without a connection it is lost."""
        names.check_entry(subject, body, None)
        try:
            await self._connection.send(subject, body)
        except NotReachable:
            return

    async def put_blob(self, body: bytes) -> Ref:
        """Keep a large content once. Raises LogFull, AppendBusy, NotReachable, AccessDenied."""
        return await self._blobs.put(body)

    async def get_blob(self, ref: Ref) -> bytes:
        """Return a large content. Raises LogDamaged when it is missing or its hash is wrong."""
        return await self._blobs.get(ref)

    async def request(self, subject: str, body: bytes, timeout_s: float) -> bytes:
        """Ask who serves `subject`. Raises NotReachable when nobody answers in time, AccessDenied."""
        await self._connection.connected(timeout_s)
        reply = await self._connection.ask(subject, body, wait_s=timeout_s)
        if reply.status:
            raise NotReachable(f"Nobody answers on {subject}.")
        return reply.body

    async def serve(self, subject: str, handler: Handler) -> Subscription:
        """Answer questions on `subject`, in turn with others who do."""

        def ear(_subject: bytes, reply: bytes, data: bytes, _head: bytes) -> None:
            if reply:
                task = asyncio.ensure_future(self._answer(handler, reply.decode(), data))
                self._answering.add(task)
                task.add_done_callback(self._answered)

        return _Listening(self._connection, await self._connection.hear(subject, ear, names.SERVERS))

    def denial(self) -> AccessDenied | None:
        """Return which fact the server does not let this user say, until it takes one of the kind again."""
        text = self._connection.denial
        return AccessDenied(text, hint=_GIVE_BACK) if text else None

    async def close(self) -> None:
        """Let go of everything, at once; readings end."""
        for following in self._followings:
            following.end()
        for task in self._answering:
            task.cancel()
        await self._connection.close()

    def _free_reader(self, left: str) -> str:
        """Return a consumer to read through that no reading has; the one just `left` comes last."""
        if not self._consumer:
            return f"follow-{os.urandom(8).hex()}"
        taken = {following.consumer for following in self._followings} - {left}
        for name in sorted(names.reader_names(self._consumer), key=lambda name: name == left):
            if name not in taken:
                return name
        raise AccessDenied(f"This user may read the log no more than {len(self._followings)} times at once.")

    async def _reading(self, subject: str, body: bytes = b"") -> Reply:
        """Ask for something that may be asked twice."""
        deadline_s = asyncio.get_running_loop().time() + READ_WAIT_S
        while True:
            await self._connection.connected()
            try:
                return await self._connection.ask(subject, body)
            except Unanswered:
                if asyncio.get_running_loop().time() > deadline_s:
                    raise

    async def _answer(self, handler: Handler, reply: str, body: bytes) -> None:
        await self._connection.send(reply, await handler(body))

    def _answered(self, task: asyncio.Task[None]) -> None:
        self._answering.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            asyncio.get_running_loop().call_exception_handler({"message": "Answering failed", "exception": error})


def _fact_of(reply: Reply) -> Stored | None:
    """Return what a direct get brought."""
    if reply.status == 404:
        return None
    if reply.status:
        raise NotReachable(f"Nobody answers for the log (status {reply.status}).")
    at = datetime.fromisoformat(reply.field("Nats-Time-Stamp"))
    at_ms = int(at.timestamp()) * 1000 + at.microsecond // 1000
    return Stored(subject=reply.field("Nats-Subject"), body=reply.body, seq=int(reply.field("Nats-Sequence")), at_ms=at_ms)


class _Listening:
    """A subscription that ends with `close`."""

    def __init__(self, connection: Connection, subscription: NatsSubscription) -> None:
        self._connection = connection
        self._subscription: NatsSubscription | None = subscription

    async def close(self) -> None:
        """Stop it."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            await self._connection.unhear(subscription)
