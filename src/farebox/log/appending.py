"""Appending to the stream: one publish, or an atomic batch; three outcomes, never a guess.

Acks come to an inbox of our own: nats-py's publish_async never resolves on a refusal (nats.py#985, open in 2.16).
No Nats-Msg-Id is sent: fences recognise what is there already.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence

from farebox.core.errors import AppendBusy, AppendUnknown, NotReachable
from farebox.log.answers import stored
from farebox.log.connection import Connection, Unanswered
from farebox.log.names import check_batch
from farebox.log.port import Entry

_LAST = "Nats-Expected-Last-Subject-Sequence"
_FILTER = "Nats-Expected-Last-Subject-Sequence-Subject"
_BATCH = "Nats-Batch-Id"
_PLACE = "Nats-Batch-Sequence"
_COMMIT = "Nats-Batch-Commit"


class Appender:
    """Appends through one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._batches = (f"{os.urandom(6).hex()}-{number}" for number in itertools.count(1))

    async def append(self, entries: Sequence[Entry]) -> tuple[int, ...]:
        """Store all entries or none and return their sequences. Raises as the port says."""
        check_batch(entries)
        try:
            await self._connection.connected()
            return await (self._single(entries[0]) if len(entries) == 1 else self._batch(entries))
        except Unanswered as silence:
            raise AppendUnknown(f"No answer to the append: {silence}") from silence
        except NotReachable as away:
            raise AppendBusy(f"Nothing was stored: {away}") from away

    async def _single(self, entry: Entry) -> tuple[int, ...]:
        headers = _fence_of(entry) or None
        return (stored(await self._connection.ask(entry.subject, entry.body, headers)).seq,)

    async def _batch(self, entries: Sequence[Entry]) -> tuple[int, ...]:
        """Send all but the last without waiting; the last one commits, and its ack is the ack of all."""
        batch = next(self._batches)
        last = len(entries)
        for place, entry in enumerate(entries[:-1], 1):
            headers = {_BATCH: batch, _PLACE: str(place)} | _fence_of(entry)
            await self._connection.send(entry.subject, entry.body, "", headers)
        headers = {_BATCH: batch, _PLACE: str(last), _COMMIT: "1"} | _fence_of(entries[-1])
        beside = {entry.subject for entry in entries[:-1]}
        ack = stored(await self._connection.ask(entries[-1].subject, entries[-1].body, headers, beside=beside))
        assert ack.count == last, (ack, last)
        return tuple(range(ack.seq - last + 1, ack.seq + 1))


def _fence_of(entry: Entry) -> dict[str, str]:
    fence = entry.fence
    if fence is None:
        return {}
    if fence.filter == entry.subject:
        return {_LAST: str(fence.last)}
    return {_LAST: str(fence.last), _FILTER: fence.filter}
