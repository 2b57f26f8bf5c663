"""Holes: the server skips damaged facts without a word, and after a lost tail it uses sequences again. A reader must notice."""

from __future__ import annotations

from collections.abc import Sequence

from farebox.core.errors import LogBeheaded, LogDamaged, LogShortened
from farebox.log.port import Position, Stored

PUT_BACK = "Put back a whole copy: farebox log restore DIR --store NEW"
"""What to type when the log itself is damaged."""


def check_start(start: int, position: Position) -> int:
    """Return the sequence a reading from `start` begins with; from 0 or 1 it is the log's first, wherever that is.

    Raises LogDamaged when the log ends before what was read already, or begins behind what was not read yet.
    """
    if start <= 1:
        return max(position.first_seq, 1)
    if start > position.last_seq + 1:
        raise LogShortened(
            f"The log ends at {position.last_seq}, but {start - 1} was read already: its tail is lost.", hint=PUT_BACK
        )
    if start < position.first_seq:
        raise LogBeheaded(f"The log begins at {position.first_seq}, but {start} was not read yet.", hint=PUT_BACK)
    return start


def check_gapless(facts: Sequence[Stored], next_seq: int) -> None:
    """Raise LogDamaged unless `facts` are exactly those from `next_seq` on."""
    if facts[0].seq == next_seq and facts[-1].seq - next_seq + 1 == len(facts):
        return
    for expected, fact in enumerate(facts, next_seq):
        if fact.seq != expected:
            raise hole(expected, fact.seq)


def hole(expected: int, found: int) -> LogDamaged:
    """Return the error that says which facts are gone."""
    text = f"After sequence {expected - 1} comes {found}: the facts between are gone."
    return LogDamaged(text, hint=PUT_BACK)
