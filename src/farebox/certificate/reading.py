"""Reads a whole log and certifies its quotas: once through, facts judged as they pass. It changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing

from farebox.certificate.fold import Fold
from farebox.certificate.report import Certificate
from farebox.core import wire
from farebox.core.errors import BadFact
from farebox.core.trail import BEGIN, step
from farebox.log.port import Log, Position, Stored
from farebox.log.whole import whole

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
    reading = Reading()
    async with aclosing(whole(log, position)) as batches:
        async for batch in batches:
            reading.read(batch)
    return reading.certificate()
