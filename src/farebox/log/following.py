"""Reading the log in order: an ordered ack-none consumer that is made anew wherever it breaks, and notices every hole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

from farebox.core.errors import AppendBusy, LogDamaged, LogFull, LogReplaced, LogUnfit, NotReachable
from farebox.core.filling import Filling
from farebox.core.subjects import ALL
from farebox.log.connection import Connection
from farebox.log.gaps import PUT_BACK, check_start, hole
from farebox.log.names import STREAM
from farebox.log.port import Position, Stored
from farebox.log.pull import AGAIN_S, StandingPull
from farebox.log.streams import Streams

BATCH = 1000
BUFFERED_MAX = 4 * BATCH
"""A reader that is slower than the server gets no more before it has taken these."""
LEADER_WAIT_S = 10.0
"""So long a cluster's new leader may take until it knows all that was acknowledged; then it counts as lost."""


def position_of(info: dict[str, Any]) -> Position:
    """Return the position in a stream's info."""
    state = info["state"]
    filling = Filling(state["bytes"], max(0, info["config"].get("max_bytes", 0)))
    if not state["messages"]:
        return Position(created=info["created"], first_seq=0, last_seq=0, filling=filling)
    first, last = state["first_seq"], state["last_seq"]
    gone = last - first + 1 - state["messages"]
    return Position(info["created"], first, last, gone, filling, min(state.get("deleted") or (0,)))


class Following:
    """One reading: facts from `start` on, through the consumer `consumer`, which nobody else may use at the same time.

    `another` names the next consumer: that of a server which died cannot be removed, so a reading that breaks takes a new one.
    """

    def __init__(self, connection: Connection, streams: Streams, another: Callable[[str], str], start: int, only: str) -> None:
        self._connection = connection
        self._streams = streams
        self._another = another
        self.consumer = another("")
        self._next = start
        self._only = only
        self._gapless = only == ALL
        self._delivered = 0
        self._facts: list[Stored] = []
        self._damage: LogDamaged | None = None
        self._broken = True
        self._tried = False
        self._ended = False
        self._news = asyncio.Event()
        self._created = ""
        self._replicas = 1
        self._ailing_s: float | None = None
        self._pull: StandingPull | None = None

    async def facts(self) -> AsyncGenerator[Sequence[Stored]]:
        """Yield facts as they come, until `end`. Raises LogDamaged, LogUnfit, AccessDenied."""
        self._connection.on_reconnect.add(self._break)
        try:
            while not self._ended:
                self._news.clear()
                if self._facts:
                    taken, self._facts = self._facts, []
                    yield taken
                elif self._damage is not None:
                    raise self._damage
                elif self._broken:
                    await self._mend()
                else:
                    self._ask_more()
                    await self._news.wait()
        finally:
            self._connection.on_reconnect.discard(self._break)
            await self._release()

    def end(self) -> None:
        """End the reading."""
        self._ended = True
        self._news.set()

    async def _mend(self) -> None:
        """Make the consumer anew where the reading stands."""
        await self._stop_pull()
        self._broken = False
        try:
            await self._find_place()
            await self._take_another()
            await self._streams.follower(self.consumer, self._next, self._only)
            self._delivered = 0
            self._pull = StandingPull(self._connection, self.consumer, BATCH, self._on_fact, self._on_trouble)
            await self._pull.start()
            self._ailing_s = None
        except (NotReachable, AppendBusy, LogFull):
            if self._connection.client.is_closed:
                raise
            await self._later()
        except (LogUnfit, LogDamaged):
            if not self._may_heal():
                raise
            await self._later()

    async def _take_another(self) -> None:
        """Leave the consumer that was tried before, without waiting: the server that had it may be gone."""
        if self._tried:
            await self._streams.forget(self.consumer)
            self.consumer = self._another(self.consumer)
        self._tried = True

    async def _later(self) -> None:
        self._broken = True
        await asyncio.sleep(AGAIN_S)

    def _may_heal(self) -> bool:
        """Say whether what looks missing may only not be known yet to a cluster's new leader."""
        now_s = asyncio.get_running_loop().time()
        self._ailing_s = now_s if self._ailing_s is None else self._ailing_s
        return self._replicas > 1 and now_s < self._ailing_s + LEADER_WAIT_S

    async def _find_place(self) -> None:
        """Look whether this is still the log that was read so far."""
        info = await self._streams.info(STREAM)
        position = position_of(info)
        self._replicas = info["config"]["num_replicas"]
        if self._created not in {"", position.created}:
            raise LogReplaced(f"The log was replaced: created {position.created}, not {self._created}.", hint=PUT_BACK)
        self._next = check_start(self._next, position)
        self._created = position.created

    def _on_fact(self, subject: bytes, reply: bytes, data: bytes, _head: bytes) -> None:
        fields = reply.split(b".")
        seq, delivered, at_ns = (int(field) for field in (fields[5:8] if len(fields) == 9 else fields[7:10]))
        if self._broken:
            return
        if delivered != self._delivered + 1:
            self._break()
            return
        self._delivered = delivered
        if self._gapless and seq != self._next:
            self._damage = hole(self._next, seq)
            self._break()
            return
        self._next = seq + 1
        self._facts.append(Stored(subject.decode(), data, seq, at_ns // 1_000_000))
        if len(self._facts) == 1:
            self._news.set()
        elif len(self._facts) > BUFFERED_MAX and self._pull is not None:
            self._pull.room = False

    def _on_trouble(self, text: str) -> None:
        self._connection.complain(f"Reading the log begins anew: {text}")
        self._break()

    def _break(self) -> None:
        self._broken = True
        self._news.set()

    def _ask_more(self) -> None:
        if self._pull is not None:
            self._pull.room = True
            self._pull.ask()

    async def _stop_pull(self) -> None:
        pull, self._pull = self._pull, None
        if pull is not None:
            await pull.stop()

    async def _release(self) -> None:
        """Leave nothing on the server; without a connection it forgets the consumer by itself after a minute."""
        try:
            await self._stop_pull()
            if not self._connection.client.is_closed:
                await self._streams.drop(self.consumer)
        except NotReachable:
            return
