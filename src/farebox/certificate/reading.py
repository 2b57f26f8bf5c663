"""Reads a whole log and certifies its quotas: once through, facts judged as they pass. It changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing

from farebox.certificate.fold import Fold
from farebox.certificate.report import Certificate
from farebox.core import wire
from farebox.core.errors import BadFact, LogBeheaded, LogDamaged
from farebox.core.trail import BEGIN, step
from farebox.log.gaps import PUT_BACK
from farebox.log.port import Log, Position, Stored

SILENCE_S = 5.0
"""After so long without a fact that must be there, it is asked for by its sequence."""
BOUNDING = (
    "farebox.log.quota.", "farebox.log.engine.settings.", "farebox.log.adapter.quota_learned.", "farebox.log.router.routed.",
)  # fmt: skip
"""Subjects whose facts a certificate cannot do without."""


class Reading:
    """The fold over stored facts, with the digest that tells which log it was."""

    def __init__(self, *, whole: bool = True) -> None:
        self.fold = Fold(whole=whole)
        self.facts = self.first = self.last = 0
        self._digest = BEGIN

    def read(self, batch: Sequence[Stored]) -> None:
        """Take facts."""
        for stored in batch:
            self._digest = step(self._digest, stored.seq, stored.at_ms, stored.subject, stored.body)
            try:
                self.fold.take(wire.decode(stored.subject, stored.body, stored.seq, stored.at_ms))
            except BadFact as bad:
                if stored.subject.startswith(BOUNDING):
                    self.fold.unreadable(stored.seq, bad.message)
        if batch:
            self.facts += len(batch)
            self.first = self.first or batch[0].seq
            self.last = batch[-1].seq

    def certificate(self) -> Certificate:
        """Return what was found."""
        return self.fold.certificate(facts=self.facts, first=self.first, last=self.last, digest=self._digest.hex())


async def certify(log: Log, position: Position) -> Certificate:
    """Read the log to its end and certify it.

    Raises LogBeheaded where its beginning is gone and LogDamaged at a hole: nothing is certified there. BusError when it cannot
    be reached.
    """
    if position.first_seq > 1:
        raise LogBeheaded(
            f"Fact 1 and all up to {position.first_seq - 1} are gone: what was granted there cannot be certified.",
            hint=PUT_BACK,
        )
    reading = Reading()
    if position.last_seq:
        async with aclosing(log.follow(1)) as batches:
            while reading.last < position.last_seq:
                coming = asyncio.ensure_future(anext(batches))
                while not (await asyncio.wait({coming}, timeout=SILENCE_S))[0]:
                    if await log.at(reading.last + 1) is None:
                        coming.cancel()
                        await asyncio.gather(coming, return_exceptions=True)
                        raise LogDamaged(f"Fact {reading.last + 1} cannot be read.", hint=PUT_BACK)
                reading.read([stored for stored in coming.result() if stored.seq <= position.last_seq])
    return reading.certificate()
