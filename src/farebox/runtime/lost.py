"""Starts that a log lost: under `100ms` a power cut takes its youngest facts, but what a store's spool knows is on its disk.

The attempt is reserved again, or still, and is started again. What the call before came to is its answer; where nobody knows
what it came to, it is booked as possibly charged. Neither is asked of the platform once more without a word.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection

import msgspec

from farebox.core.errors import BadFact, BusError
from farebox.core.events import TaskStarted
from farebox.core.platform import CallEnded, Verdict
from farebox.core.terms import Fault
from farebox.runtime.lane import Lane, key_of
from farebox.runtime.spool import Spool

log_ = logging.getLogger("farebox.worker")


class LostStarts:
    """What the spool of a store says about starts of one platform that its log does not have."""

    def __init__(self, platform: str, lane: Lane, spool: Spool) -> None:
        self._platform = platform
        self._lane = lane
        self._spool = spool
        self._keys: dict[str, str] = {}

    async def look(self) -> Collection[str]:
        """Look for the start of all that an earlier life of this store left in the spool. Returns the keys of that."""
        keys = sorted(key for key in {*self._spool.sending, *self._spool.outcomes} if key.partition(".")[0] == self._platform)
        await asyncio.gather(*map(self._look, keys))
        return keys

    async def _look(self, key: str) -> None:
        _, chain, task, _ = key.split(".")
        try:
            reserved = await self._lane.reserved(chain, task)
            started = None if reserved is None else (await self._lane.load(reserved, whole=True)).started
        except (BusError, BadFact) as error:
            log_.info("%s cannot be looked up now: %s", key, error)
            return
        self.finds(key, started)

    def finds(self, key: str, started: TaskStarted | None) -> bool:
        """Whether the log lost the start of this attempt, nobody having started it again; `started` is its lane's last."""
        _, chain, task, epoch = key.split(".")
        name = f"{chain}.{task}"
        # A start that is there is the lane's last one, or an older one.
        if self._keys.get(name) != key and (started is None or started.seq < int(epoch)):
            log_.warning("the log lost the start of %s; what became of its call is kept", key)
            self._keys[name] = key
        return self._keys.get(name) == key

    async def keep_unclaimed(self, key: str) -> None:
        """Keep a paid answer of which the log knows nothing until somebody asks for its end, and say where it is."""
        try:
            noted = await self._spool.keep_unclaimed(key)
        except OSError as error:
            log_.error("%s: the spool does not take the note that the log does not know it (%s)", key, error)
            noted = True
        if noted:
            platform, _, task, _ = key.split(".")
            length = len(self._spool.outcomes[key].text.encode())
            log_.warning(
                "the log knows no attempt of task %s on %s; the answer to it (%d bytes) is kept here: farebox spool show %s",
                task, platform, length, key,
            )  # fmt: skip

    async def answer(self, started: TaskStarted) -> CallEnded | None:
        """Return how the call of this attempt ended that was made before its start was lost, None if there was none."""
        name = f"{started.chain}.{started.task}"
        key = self._keys.get(name, "")
        known = self._spool.outcomes.get(key)
        if not key or (known is not None and known.attempt != started.attempt):
            return None
        outcome = known or CallEnded(
            epoch=started.seq, cause=started.id, attempt=started.attempt,
            verdict=Verdict(ok=False, charged="possible", fault=Fault(error_class="crashed", message=UNKNOWN)),
        )  # fmt: skip
        outcome = msgspec.structs.replace(outcome, epoch=started.seq, cause=started.id)
        try:
            await self._spool.keep(key_of(self._platform, started), outcome)
        except OSError as error:
            log_.error("the spool did not take a paid answer again (%s); it goes to the log from memory", error)
        del self._keys[name]
        self._spool.forget(key)
        return outcome


UNKNOWN = "The log lost this attempt's start in a power cut; what became of its call is not known."
