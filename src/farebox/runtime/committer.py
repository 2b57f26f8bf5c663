"""Group commit: under load many decisions share one disk sync, idle ones go out at once.

Under `always` the server syncs each single message, and the only group commit is the atomic batch, which costs about 3.5 ms
whatever its size: from 16 waiting facts on it wins (measured on 2 cores). Under `100ms` there is no sync to share, but a
batch spares the client most of its work for each fact: from 32 on gave the most tasks a second (1,650; from 16 or 64 on
1,460 to 1,490, from 128 on 1,190). A refused batch does not say which fence refused, so its members go again as singles.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from msgspec import Struct

from farebox.core.errors import AppendBusy, AppendRefused, AppendUnknown, BadFact, BusError, FareboxError
from farebox.log.port import BATCH_MAX, Entry, Log

GROUP_FROM = {"always": 16, "100ms": 32}
"""Waiting facts from which one atomic batch is faster than singles."""
BATCHES_MAX = 2
SINGLES_MAX = 15
BUSY_WAIT_S = 0.02
"""Pause before an append that a cluster called too early is tried again."""
BUSY_TRIES = 200
CLOSE_S = 5.0
"""How long a stop waits for appends that are on their way."""


class Waiting(Struct, eq=False):
    """One decision on its way: its entries stand or fall together. `key` is the task, of which one decision goes at a time."""

    entries: Sequence[Entry]
    key: tuple[str, str]
    future: asyncio.Future[tuple[int, ...]]


class Committer:
    """Appends decisions of many actors over one log."""

    def __init__(self, log: Log, durability: str = "always") -> None:
        self._log = log
        self._group_from = GROUP_FROM[durability]
        self._waiting: list[Waiting] = []
        self._batches = 0
        self._singles = 0
        self._scheduled = False
        self._tasks: set[asyncio.Task[None]] = set()

    def append(self, entries: Sequence[Entry], key: tuple[str, str]) -> asyncio.Future[tuple[int, ...]]:
        """Append the entries of one decision; the future gives their sequences or raises as `Log.append` does."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[tuple[int, ...]] = loop.create_future()
        self._waiting.append(Waiting(entries, key, future))
        self._schedule()
        return future

    async def close(self, deadline_s: float = CLOSE_S) -> None:
        """Wait until all that was given is answered; after `deadline_s` (the server is away) give it up."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + deadline_s
        while (self._waiting or self._tasks) and loop.time() < until_s:
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=until_s - loop.time(), return_when=asyncio.FIRST_COMPLETED)
            await asyncio.sleep(0)
        given_up, self._waiting = self._waiting, []
        for waiting in given_up:
            _fail(waiting, _given_up())
        for task in self._tasks:
            task.cancel()

    def _schedule(self) -> None:
        """Look again once the present round of callbacks is over, so that what comes together goes together."""
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        while self._waiting:
            if len(self._waiting) >= self._group_from and self._batches < BATCHES_MAX:
                group = self._take_group()
                if len(group) >= self._group_from:
                    self._batches += 1
                    self._spawn(self._send_group(group), self._batch_done)
                    continue
                self._waiting = group + self._waiting
            if self._singles >= SINGLES_MAX or (self._batches and len(self._waiting) >= self._group_from):
                return
            self._singles += 1
            self._spawn(self._send(self._waiting.pop(0)), self._single_done)

    def _take_group(self) -> list[Waiting]:
        """Take what may share a batch: one decision of a task, decisions of one fact, at most 1000."""
        group: list[Waiting] = []
        rest: list[Waiting] = []
        keys: set[tuple[str, str]] = set()
        for waiting in self._waiting:
            if len(group) < BATCH_MAX and len(waiting.entries) == 1 and waiting.key not in keys:
                keys.add(waiting.key)
                group.append(waiting)
            else:
                rest.append(waiting)
        self._waiting = rest
        return group

    def _spawn(self, work: Coroutine[Any, Any, None], done: Callable[[], None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)

        def finished(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            done()
            if not task.cancelled():
                task.result()

        task.add_done_callback(finished)

    def _batch_done(self) -> None:
        self._batches -= 1
        self._schedule()

    def _single_done(self) -> None:
        self._singles -= 1
        self._schedule()

    async def _send_group(self, group: list[Waiting]) -> None:
        try:
            seqs = await self._log.append([waiting.entries[0] for waiting in group])
        except (AppendRefused, AppendBusy, BadFact):
            # Nothing was stored, and nobody says because of whom: each for himself.
            await asyncio.gather(*(self._send(waiting) for waiting in group))
        except BusError as error:
            for waiting in group:
                _fail(waiting, error)
        else:
            for waiting, seq in zip(group, seqs, strict=True):
                _give(waiting, (seq,))
        finally:
            for waiting in group:
                _fail(waiting, _given_up())

    async def _send(self, waiting: Waiting) -> None:
        try:
            _give(waiting, await self._appended(waiting.entries))
        except (BusError, BadFact) as error:
            _fail(waiting, error)
        finally:
            _fail(waiting, _given_up())

    async def _appended(self, entries: Sequence[Entry]) -> tuple[int, ...]:
        for _ in range(BUSY_TRIES - 1):
            try:
                return await self._log.append(entries)
            except AppendBusy:
                await asyncio.sleep(BUSY_WAIT_S)
        return await self._log.append(entries)


def _give(waiting: Waiting, seqs: tuple[int, ...]) -> None:
    if not waiting.future.done():
        waiting.future.set_result(seqs)


def _fail(waiting: Waiting, error: FareboxError) -> None:
    """Answer with an error, unless there is an answer already."""
    if not waiting.future.done():
        waiting.future.set_exception(error)


def _given_up() -> AppendUnknown:
    return AppendUnknown("The log did not answer until the end.")
