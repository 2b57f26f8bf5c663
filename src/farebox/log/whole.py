"""A log read whole, once through: nothing is told of a log of which a part is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from farebox.core.errors import LogBeheaded, LogDamaged
from farebox.log.gaps import PUT_BACK
from farebox.log.port import Log, Position, Stored

SILENCE_S = 5.0
"""After so long without a fact that must be there, it is asked for by its sequence."""


async def whole(log: Log, position: Position) -> AsyncGenerator[Sequence[Stored]]:
    """Yield all facts up to `position`, in order.

    Raises LogBeheaded where the beginning is gone, LogDamaged at a hole, BusError when the log cannot be reached.
    """
    if position.first_seq > 1:
        raise LogBeheaded(
            f"Fact 1 and all up to {position.first_seq - 1} are gone: what they said counts for all that follows.",
            hint=PUT_BACK,
        )
    last = 0
    async with aclosing(log.follow(1)) as batches:
        while last < position.last_seq:
            batch = await _next(log, batches, last)
            last = batch[-1].seq
            yield [stored for stored in batch if stored.seq <= position.last_seq]


async def _next(log: Log, batches: AsyncGenerator[Sequence[Stored]], last: int) -> Sequence[Stored]:
    coming = asyncio.ensure_future(anext(batches))
    while not (await asyncio.wait({coming}, timeout=SILENCE_S))[0]:
        if await log.at(last + 1) is None:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)
            raise LogDamaged(f"Fact {last + 1} cannot be read.", hint=PUT_BACK)
    return coming.result()
