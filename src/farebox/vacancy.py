"""Whether the log takes new tasks, as the engine says it: asked before each submission, believed for a moment.

The server alone would take them until nothing fits any more, the ends of running tasks included. A client may not look at the
stream, so the engine does. Without an engine nobody knows; then only the server's own limit holds.
"""

from __future__ import annotations

import asyncio
import time
from weakref import WeakKeyDictionary

from farebox import api
from farebox.core.errors import FareboxError
from farebox.core.events import BatchSubmitted, Fact, TaskSubmitted
from farebox.log.port import Log

FRESH_S = 1.0
"""How long an answer is believed while the log is not half full; later each one asks, and who asks meanwhile shares it."""
HALF_PERCENT = 50
ANSWER_S = 1.0
"""How long the engine may take; who waits longer asks an engine that does not work, and sends."""
OPENING = (TaskSubmitted, BatchSubmitted)
"""What begins something. Cancels and decisions end it and are always sent."""


class Vacancy:
    """What the engine said last about one log. Who asks at the same time shares the answer."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._asking: asyncio.Future[FareboxError | None] | None = None
        self._until_s = 0.0

    async def refusal(self, fact: Fact) -> FareboxError | None:
        """Return why this fact is not to be sent, None when it may be."""
        if not isinstance(fact, OPENING):
            return None
        if self._asking is None or (self._asking.done() and time.monotonic() >= self._until_s):
            self._asking = asyncio.ensure_future(self._ask())
        return await asyncio.shield(self._asking)

    async def _ask(self) -> FareboxError | None:
        try:
            told = await api.ask(self._log, "room", {}, timeout_s=ANSWER_S)
        except FareboxError:
            told = {}
        fresh_s = FRESH_S if told.get("percent", 0) < HALF_PERCENT else 0.0
        self._until_s = time.monotonic() + fresh_s
        return api.raised(told["refusal"]) if told.get("refusal") else None


_known: WeakKeyDictionary[Log, Vacancy] = WeakKeyDictionary()


def of(log: Log) -> Vacancy:
    """Return what is known about a log."""
    return _known.setdefault(log, Vacancy(log))
