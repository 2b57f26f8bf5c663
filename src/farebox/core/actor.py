"""The contract of an actor: a state and pure functions. Nothing here waits, reads a clock or touches the world.

`evolve(state, fact)` folds one fact of the log, heard or said; it is applied in log order, to every fact exactly once.
`decide(state, heard)` says what to record; the state already holds what was heard. It is asked again after a crash or a
refused fence, for facts long answered too, and must then say nothing: whatever it wants is visible in the state.
A state may be a mutable value: the runtime owns it, and throws it away and folds again whenever a guess did not hold.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_type_hints

from msgspec import Struct

from farebox.core.events import AttemptInterrupted, Fact
from farebox.core.standing import Standing


class Wake(Struct, frozen=True):
    """The moment that `due` asked for has come. `at_ms` is stream time (ms since 1970). Not a fact, never logged."""

    at_ms: int


class Quarantined(Struct, frozen=True):
    """A task's submission that could not be believed; the router ends the task. Made by the reader, never logged."""

    chain: str
    task: str
    seq: int
    at_ms: int
    reason: str

    @property
    def id(self) -> str:
        """What the ending of the task names as its cause."""
        return f"seq-{self.seq}"

    @property
    def key(self) -> tuple[str, str]:
        """The identity of the task: (chain, task)."""
        return (self.chain, self.task)


class Parked(Struct, frozen=True):
    """A fact of a later farebox about a task: nobody decides about the task any more until a farebox reads it that knows it.

    Made by the reader, never logged.
    """

    chain: str
    task: str
    seq: int
    at_ms: int
    reason: str

    @property
    def key(self) -> tuple[str, str]:
        """The identity of the task: (chain, task)."""
        return (self.chain, self.task)


class Stored(Struct, frozen=True):
    """An own fact that the state running ahead had guessed stands in the log now: `fact` has its sequence and time.

    Only a whole writer meets it, and only in the state that runs ahead; what the log says folds the fact itself. Never logged.
    """

    fact: Fact


Pace = Literal["task", "writer"]
"""What may be in flight at once: one decision per task, or one append of the whole writer (whose state runs ahead)."""


@dataclass(frozen=True)
class Actor[State]:
    """Type hints are subscription and vocabulary: `decide`'s second parameter says what is heard, its result what is said.

    `new` makes the empty state. `due` names the next moment (stream time, ms) at which `decide` wants a Wake, or None.
    `held` names what was given to adapters and has not ended: (platform, chain, task).
    `asks` names the interrupted attempts that wait for a person's decision; `shown` tells how quotas stand at a moment.
    `perform` says what the runtime shall do for a fact that is in the log; its outcome comes back into `decide`.
    `key` groups what is decided one after the other; by default the task.
    At pace "writer" `decide` is asked about the same heard thing until it has nothing more to say, one fact each time.
    """

    name: str
    new: Callable[[], State]
    decide: Callable[[State, Any], Sequence[Fact]]
    evolve: Callable[[State, Any], State]
    due: Callable[[State], int | None] | None = None
    perform: Callable[..., Any] | None = None
    pace: Pace = "task"
    key: Callable[[Fact], tuple[str, str]] | None = None
    held: Callable[[State], Sequence[tuple[str, str, str]]] | None = None
    asks: Callable[[State], Sequence[AttemptInterrupted]] | None = None
    shown: Callable[[State, int], Sequence[Standing]] | None = None
    version: int = 1

    def heard(self) -> frozenset[type]:
        """Return the kinds that `decide` hears (facts, outcomes, Wake)."""
        return frozenset(_union(list(get_type_hints(self.decide).values())[1]))

    def said(self) -> frozenset[type]:
        """Return the kinds of facts that `decide` may say."""
        hint = get_type_hints(self.decide)["return"]
        return frozenset(kind for argument in get_args(hint) if argument is not ... for kind in _union(argument))

    def folded(self) -> frozenset[type]:
        """Return the kinds of facts that `evolve` folds."""
        return frozenset(_union(list(get_type_hints(self.evolve).values())[1]))


def _union(hint: Any) -> tuple[type, ...]:
    if isinstance(hint, types.UnionType):
        return tuple(kind for part in get_args(hint) for kind in _union(part))
    return (hint,)
