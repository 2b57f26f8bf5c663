"""The patrol: while an engine runs, its log is looked at again and again, for what a reader of new facts cannot see.

A purge, an age set by hand, facts deleted in the middle, a lost end, another stream under the same name: the server says none
of it to who follows. What it counts shows them, at the price of one question. A bit that flipped inside a block shows in no
count: that is found by who reads everything (farebox audit verify).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from farebox.core.errors import AccessDenied, BusError, LogBeheaded, LogDamaged, LogMissing, LogShortened, LogUnfit
from farebox.log.port import Log, Position
from farebox.runtime.trust import OR_ACCEPT, gone, replaced

log_ = logging.getLogger("farebox.patrol")

LOOK_S = 30.0
AGAIN_S = (0.5, 1.0, 2.0, 4.0, 4.0)
"""What looks wrong is looked at again after these pauses: a cluster's new leader may not know everything yet."""


class Patrol:
    """Looks at one log until it is not the one that `begin` was. `read` tells how far it was read."""

    def __init__(self, log: Log, begin: Position, read: Callable[[], int]) -> None:
        self._log = log
        self._created = begin.created
        self._first_seq = begin.first_seq or 1
        self._read = read

    async def run(self) -> LogDamaged:
        """Return what is wrong with the log as soon as something is, for good."""
        while True:
            await asyncio.sleep(LOOK_S)
            found = await self._doubt()
            for pause_s in AGAIN_S if found is not None else ():
                log_.warning("the log looks wrong, it is looked at again: %s", found)
                await asyncio.sleep(pause_s)
                found = await self._doubt()
                if found is None:
                    break
            if found is not None:
                return found

    async def _doubt(self) -> LogDamaged | None:
        """Return what is wrong now. A server that does not answer, or may not be asked, says nothing about its log."""
        read = self._read()
        try:
            return self._wrong(await self._log.position(), read)
        except AccessDenied:
            return None
        except LogDamaged as damaged:
            return damaged
        except LogUnfit as missing:
            return LogMissing(missing.message, hint=missing.hint)
        except BusError as error:
            log_.warning("the log could not be looked at: %s", error)
            return None

    def _wrong(self, now: Position, read: int) -> LogDamaged | None:
        if now.created != self._created:
            return replaced(now.created, self._created)
        if now.last_seq < read:
            text = f"The log ends at fact {now.last_seq}, but fact {read} was read: its end is gone."
            return LogShortened(text, hint=OR_ACCEPT)
        if now.last_seq and now.first_seq != self._first_seq:
            text = f"The log begins at fact {now.first_seq}, but it began at {self._first_seq} when this engine started"
            return LogBeheaded(f"{text}: somebody removed its beginning.", hint=OR_ACCEPT)
        return gone(now) if now.gone else None
