"""What a provider tells about quota during a call becomes facts while the call goes on: in order, and it holds up nothing.

It may be lost, with a warning: the next answer tells it again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

import msgspec

from farebox.core import subjects, wire
from farebox.core.errors import BadFact, BusError
from farebox.core.events import QuotaLearned, TaskStarted
from farebox.log.port import Entry
from farebox.runtime.committer import Committer

log_ = logging.getLogger("farebox.worker")

WAITING_MAX = 1000
"""More than so many that the log has not taken yet are not kept: a call tells a handful."""
Stamp = Callable[[QuotaLearned, int], QuotaLearned]
"""Gives a fact its id; the number tells apart what one call told."""


class Learning:
    """Says what one call tells. `hear` is given to the call, `over` is awaited once it has ended."""

    def __init__(self, committer: Committer, started: TaskStarted, stamp: Stamp) -> None:
        self._committer = committer
        self._started = started
        self._stamp = stamp
        self._heard = 0
        self._waiting: deque[QuotaLearned] = deque()
        self._saying: asyncio.Task[None] | None = None

    def hear(self, learned: QuotaLearned) -> None:
        """Take what was told now; it is on its way to the log when this returns."""
        if len(self._waiting) >= WAITING_MAX:
            self._lost("too much was told at once")
            return
        named = msgspec.structs.replace(learned, platform=self._started.platform, cause=self._started.id)
        self._waiting.append(self._stamp(named, self._heard))
        self._heard += 1
        if self._saying is None or self._saying.done():
            self._saying = asyncio.ensure_future(self._say())

    async def over(self) -> None:
        """Return when all that was told is in the log, or lost."""
        if self._saying is not None:
            await self._saying

    def drop(self) -> None:
        """Say nothing more: whoever made the call has gone."""
        if self._saying is not None:
            self._saying.cancel()

    async def _say(self) -> None:
        # With a key of its own: the committer sends one thing of a key at a time, and the end of the attempt shall not wait.
        key = (self._started.chain, f"{self._started.task} learned")
        while self._waiting:
            fact = self._waiting.popleft()
            try:
                entry = Entry(subjects.subject_of("adapter", fact), wire.encode(fact), None)
                wire.decode(entry.subject, entry.body)
                await self._committer.append([entry], key)
            except (BusError, BadFact) as error:
                self._lost(error)

    def _lost(self, why: object) -> None:
        log_.warning("%s: what was learned about quota is lost: %s", self._started.platform, why)
