"""Reads a whole log into a recording, runs it under other settings, and lays what would have been beside what happened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Any

from msgspec import Struct

from farebox.core import wire
from farebox.core.actor import Actor
from farebox.core.errors import BadFact
from farebox.core.settings import PlatformSettings
from farebox.log.port import Log, Position, Stored
from farebox.log.whole import whole
from farebox.whatif.recording import Recording
from farebox.whatif.world import Change, World


class Counterfactual(Struct, frozen=True):
    """What would have been. `borrowed` attempts ran where no such attempt was recorded; `left_out` tasks have no end yet."""

    facts: int
    attempts: int
    borrowed: int
    left_out: int
    changed: int
    assumed: tuple[str, ...]
    digest: str
    happened: dict[str, Any]
    hypothetical: dict[str, Any]

    def document(self) -> dict[str, Any]:
        """Return it as plain data, schema `farebox.what-if/1`."""
        share = round(self.borrowed / self.attempts, 4) if self.attempts else 0
        return {
            "schema": "farebox.what-if/1", "hypothetical": True, "facts": self.facts, "attempts": self.attempts,
            "extrapolated": self.borrowed, "extrapolated_share": share,
            "left_out": self.left_out, "routed_otherwise": self.changed, "assumed_available": list(self.assumed),
            "digest": self.digest, "happened": self.happened, "would_have": self.hypothetical,
        }  # fmt: skip


class Reading:
    """A recording made of stored facts. What cannot be read is passed over."""

    def __init__(self) -> None:
        self.recording = Recording()
        self.facts = self.last = 0

    def read(self, batch: Sequence[Stored]) -> None:
        """Take facts."""
        for stored in batch:
            self.last, self.facts = stored.seq, self.facts + 1
            try:
                fact = wire.decode(stored.subject, stored.body, stored.seq, stored.at_ms)
            except BadFact:
                continue
            self.recording.take(fact, stored.subject.split(".", 3)[2])


async def recorded(log: Log, position: Position) -> Reading:
    """Read the log to its end. Raises LogBeheaded where its beginning is gone, LogDamaged at a hole, BusError."""
    reading = Reading()
    async with aclosing(whole(log, position)) as batches:
        async for batch in batches:
            reading.read(batch)
    return reading


def what_if(
    reading: Reading, actors: Sequence[Actor[Any]], change: Change, assume: Mapping[str, PlatformSettings]
) -> Counterfactual:
    """Run what was recorded with `change` of the settings that were in force.

    Platforms to `assume` are taken for available where the log never heard of them. Raises BadInput (FB309) when nobody may do
    anything.
    """
    recording = reading.recording
    heard = recording.reported()
    unheard = {name: section.models for name, section in sorted(assume.items()) if name not in heard}
    world = World(actors, recording, change, unheard)
    world.run()
    was, would = recording.happened.runs, world.tally.runs
    # Whether a cancel came before the start is a matter of milliseconds, and those are not repeated.
    sure = recording.ended - recording.cancelled
    changed = sum(was.get(key) != would.get(key) for key in sure)
    return Counterfactual(
        facts=reading.facts, attempts=world.attempts, borrowed=world.borrowed, left_out=world.left_out, changed=changed,
        assumed=tuple(unheard), digest=world.digest.hex(), happened=recording.happened.document(),
        hypothetical=world.tally.document(),
    )  # fmt: skip
