"""Trust: before anything is written to a log, what this store knows of it is held against what stands there now.

A server says nothing when it lost facts or was given another disk, and after a lost end it uses the sequences again. So each
start looks at four things: is it the same log, does it begin where it did, does it hold what was acknowledged last, and is
the fact at which the views stopped still that fact. What does not fit stops the engine; views of another log are made anew.
"""

from __future__ import annotations

import asyncio

from farebox.core.errors import AccessDenied, LogBeheaded, LogChanged, LogDamaged, LogReplaced, LogShortened
from farebox.core.trail import BEGIN, Mark, id_of, step
from farebox.log.gaps import PUT_BACK
from farebox.log.port import Log, Position, Stored
from farebox.runtime.witness import Seen, print_of

AGAIN_S = (0.0, 0.1, 0.5, 1.0)
"""In a cluster a replica that lags behind may not know a fact yet."""
OR_ACCEPT = f"{PUT_BACK} — or go on with what is there: farebox log accept"


async def examine(log: Log, seen: Seen | None) -> Position:
    """Return the position of a log that is the one that was seen. Raises LogDamaged and kin: what is wrong, what to type."""
    position = await log.position()
    if position.gone:
        raise gone(position)
    if seen is None or not seen.created:
        return position
    if position.created != seen.created:
        raise replaced(position.created, seen.created)
    if position.last_seq < seen.seq:
        raise LogShortened(
            f"The log ends at fact {position.last_seq}, but fact {seen.seq} was acknowledged: its end is gone.", hint=OR_ACCEPT
        )
    if seen.seq and position.first_seq != seen.first_seq:
        raise LogBeheaded(
            f"The log begins at fact {position.first_seq}, but it began at {seen.first_seq}: somebody removed its beginning.",
            hint=OR_ACCEPT,
        )
    if seen.seq:
        found = await fact_at(log, seen.seq, position)
        if found is not None and print_of(found.subject, found.body) != seen.sha256:
            raise _changed(seen.seq, seen.id, found, "acknowledged")
    return position


async def believes(log: Log, position: Position, mark: Mark, *, forgiving: bool) -> bool:
    """Say whether a view that stopped at `mark` may go on with this log; False: it is another log's, make it anew.

    A log that ends before the view is damaged, unless `forgiving`: under 100ms a power cut may take the youngest facts.
    Raises LogShortened, LogChanged.
    """
    if mark.created != position.created or not mark.seq:
        return mark.created == position.created
    if mark.seq > position.last_seq:
        if forgiving:
            return False
        raise LogShortened(
            f"The log ends at fact {position.last_seq}, but its views hold {mark.seq}: its end is gone.", hint=OR_ACCEPT
        )
    found = await fact_at(log, mark.seq, position)
    if found is None or mark.fits(found.seq, found.at_ms, found.subject, found.body):
        return True
    if forgiving:
        return False
    raise _changed(mark.seq, mark.id, found, "read")


async def fact_at(log: Log, seq: int, position: Position) -> Stored | None:
    """Return the fact at a sequence that must be there, None for a user who may not ask. Raises LogDamaged."""
    for pause_s in AGAIN_S:
        await asyncio.sleep(pause_s)
        try:
            found = await log.at(seq)
        except AccessDenied:
            return None
        if found is not None:
            return found
    raise LogDamaged(f"Fact {seq} cannot be read, though the log ends at {position.last_seq}.", hint=PUT_BACK)


def mark_of(created: str, fact: Stored) -> Mark:
    """Return a mark that knows one fact again, and nothing of those before it."""
    digest = step(BEGIN, fact.seq, fact.at_ms, fact.subject, fact.body)
    return Mark(created, fact.seq, id_of(fact.body), digest=digest.hex())


def gone(position: Position) -> LogDamaged:
    """Return the error for a log with holes, as far as its server counts them."""
    where = f"of the facts {position.first_seq} to {position.last_seq}"
    return LogDamaged(f"{position.gone} {where} are gone; farebox audit verify names the first.", hint=PUT_BACK)


def replaced(found: str, expected: str) -> LogReplaced:
    """Return the error for a log that was made at `found`, not at `expected`."""
    return LogReplaced(
        f"This is another log: it was made {_day(found)}, this store worked with one made {_day(expected)}.", hint=OR_ACCEPT
    )


def _changed(seq: int, expected: str, found: Stored, how: str) -> LogChanged:
    return LogChanged(
        f"Fact {seq} is not the one that was {how} (expected id {expected or 'none'}, found {id_of(found.body) or 'none'}): "
        "the end was lost and its sequences were used again, or an old copy was put in its place.",
        hint=OR_ACCEPT,
    )


def _day(created: str) -> str:
    return created[:19].replace("T", " ") or "at an unknown time"
