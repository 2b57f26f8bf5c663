"""Asking a person: the answer is a fact on the log. It may stand there already, said while no engine was running."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Literal

from farebox.core import subjects, wire
from farebox.core.errors import BadFact, BusError
from farebox.core.events import TaskAnswered, TaskStarted
from farebox.core.platform import End, PersonCall
from farebox.log.port import Log, Subscription
from farebox.runtime.intake import Intake

log_ = logging.getLogger("farebox.worker")

LOOK_AGAIN_S = 10.0
"""A lost connection may have kept an answer from us: so often we look for it."""
FIRST_LOOK_S = 0.02
"""So soon after an answer was heard it is looked for, then in longer and longer pauses."""


class Person:
    """Somebody who may answer one started attempt of a task."""

    def __init__(self, log: Log, started: TaskStarted) -> None:
        self._log = log
        self._subject = subjects.exact("client", "answered", started.chain, started.task)
        self._heard = asyncio.Event()

    async def run(self, call: PersonCall, intake: Intake, cancelled: asyncio.Event) -> End:
        """Wait for the answer and read it in; return how the waiting ended."""
        hearing = await self._listen()
        stop = asyncio.ensure_future(cancelled.wait())
        try:
            return await self._until(time.monotonic() + call.wait_s, intake, stop)
        finally:
            stop.cancel()
            if hearing is not None:
                await hearing.close()

    async def _until(self, until_s: float, intake: Intake, stop: asyncio.Future[Literal[True]]) -> End:
        pause_s = LOOK_AGAIN_S
        while not stop.done():
            self._heard.clear()
            text = await self._answer()
            if text is not None:
                intake.feed(text)
                return End(exit_code=0)
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                return End(cut="timeout")
            said = await self._word(min(left_s, pause_s), stop)
            pause_s = FIRST_LOOK_S if said else min(2 * pause_s, LOOK_AGAIN_S)
        return End(cut="cancelled")

    async def _word(self, wait_s: float, stop: asyncio.Future[Literal[True]]) -> bool:
        """Wait until an answer is said; say whether one was. It is heard before it is stored, and a refused one is, too."""
        heard = asyncio.ensure_future(self._heard.wait())
        await asyncio.wait({heard, stop}, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        return not heard.cancel()

    async def _listen(self) -> Subscription | None:
        try:
            return await self._log.listen(self._subject, lambda _subject, _body: self._heard.set())
        except BusError as error:
            log_.warning("an answer will be found by looking for it: %s", error)
            return None

    async def _answer(self) -> bytes | None:
        """Return what somebody answered; None while nobody has, or while the log cannot be read."""
        try:
            last = await self._log.last(self._subject)
            if last is None:
                return None
            fact = wire.decode(last.subject, last.body, last.seq, last.at_ms)
            assert isinstance(fact, TaskAnswered), "verified by its subject"
            return await self._log.get_blob(fact.answer_ref) if fact.answer_ref is not None else fact.answer.encode()
        except (BusError, BadFact) as error:
            log_.warning("an answer cannot be read: %s", error)
            return None
