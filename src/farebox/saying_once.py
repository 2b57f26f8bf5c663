"""A person's word about one attempt of a task: said once, fenced, so that of two words the first one counts."""

from __future__ import annotations

import asyncio
import time

from farebox.core import subjects, wire
from farebox.core.errors import AppendBusy, AppendRefused, AppendUnknown, BadFact, NotReachable
from farebox.core.events import TaskAnswered, TaskDecision
from farebox.log.port import Entry, Fence, Log
from farebox.posting import RETRY_FIRST_S, WRITER

PATIENCE_S = 30.0
"""How long the bus may stay away while a word waits to be stored."""


async def say[Word: (TaskDecision, TaskAnswered)](log: Log, fact: Word, *, patience_s: float = PATIENCE_S) -> Word:
    """Say it unless somebody spoke about this attempt before; return what stands. Raises BusError."""
    until = time.monotonic() + patience_s
    subject = subjects.subject_of(WRITER, fact)
    while True:
        try:
            stands, seq = await last(log, subject, type(fact))
            if stands is not None and stands.attempt >= fact.attempt:
                return stands
            await log.append([Entry(subject, wire.encode(fact), Fence(subject, seq))])
        except AppendRefused:
            continue
        except (AppendUnknown, AppendBusy, NotReachable):
            if time.monotonic() > until:
                raise
            await asyncio.sleep(RETRY_FIRST_S)
        else:
            return fact


async def last[Word: (TaskDecision, TaskAnswered)](log: Log, subject: str, kind: type[Word]) -> tuple[Word | None, int]:
    """Return the last word on a subject and what a new one must expect; what nobody can read says nothing."""
    stored = await log.last(subject)
    if stored is None:
        return None, 0
    try:
        found = wire.decode(stored.subject, stored.body, stored.seq, stored.at_ms)
    except BadFact:
        return None, stored.seq
    assert isinstance(found, kind), "verified by its subject"
    return found, stored.seq
