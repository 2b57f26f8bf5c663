"""The folding of one actor's state: what the log says, and, for a whole writer, what runs ahead of it with what is on its way.

What breaks `evolve` stops what it concerns, and nobody else (runtime/stopped.py says what stopped):

* At pace "task" a fact touches what belongs to its key alone, also when it is folded by half. So its key stops.
* A whole writer has one state for all. Its guess is folded first: where that breaks, what the log says is as it was, the task
  of the fact is put aside, and the guess is made anew. Its slot stays counted until a fact of its end is folded.
* Without a word of its own, or without settings, a writer's count is not to be trusted: it decides about nothing any more.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from farebox.core.actor import Actor, Parked, Quarantined, Stored
from farebox.core.events import Fact, SettingsAdopted
from farebox.core.ids import NONE
from farebox.runtime.stopped import Key, Stopped, told

Foldable = Fact | Quarantined | Parked


class Folding:
    """`state` is what the log says; `ahead` has what was `guessed` besides, by id. At pace "task" they are the same."""

    def __init__(self, actor: Actor[Any], state: Any, stopped: Stopped) -> None:
        self._actor = actor
        self._stopped = stopped
        self._kinds = actor.folded()
        self._solo = actor.pace == "writer"
        self.state = actor.new() if state is None else state
        self.ahead = copy.deepcopy(self.state) if self._solo else self.state
        self.guessed: dict[str, Fact] = {}

    def takes(self, kind: type) -> bool:
        """Whether such a fact is folded at all."""
        return kind in self._kinds

    def take(self, fact: Foldable, key: Key, *, mine: bool) -> None:
        """Fold the next fact of the log; `key` is what it concerns, `mine` whether the actor said it."""
        if type(fact) not in self._kinds:
            return
        sound = self._solo
        try:
            if self._solo:
                self._run_ahead(fact, guessed=mine and getattr(fact, "id", "") in self.guessed)
            sound = False
            self.state = self._with(self.state, fact)
        except Exception as error:  # noqa: BLE001 - it stops its task or the actor, not the engine
            self._refuse(fact, key, told(error), mine=mine, sound=sound)
        else:
            self.ahead = self.ahead if self._solo else self.state
            self._stopped.lift(fact)
            if self.guessed and isinstance(fact, SettingsAdopted):
                self.guess_anew()  # What is on its way comes after them, and counts by them.

    def _run_ahead(self, fact: Foldable, *, guessed: bool) -> None:
        """Fold a fact into the guess; of one that is in it already only its place and time are news."""
        if not guessed:
            self.ahead = self._with(self.ahead, fact)
        elif Stored in self._kinds and isinstance(fact, Fact):
            self.ahead = self._actor.evolve(self.ahead, Stored(fact))

    def guess(self, facts: Sequence[Fact]) -> None:
        """Let the state run ahead with facts that are about to be said. Raises what the actor raises."""
        for fact in facts:
            self.ahead = self._actor.evolve(self.ahead, fact)

    def guess_anew(self, more: Sequence[Fact] = ()) -> None:
        """Make the state that runs ahead again: what the log says, with what is on its way and `more`."""
        if not self._solo:
            return
        self.ahead = copy.deepcopy(self.state)
        for fact in (*self.guessed.values(), *more):
            try:
                self.ahead = self._with(self.ahead, fact)
            except Exception as error:  # noqa: BLE001 - it was folded before: who cannot do it again is not to be trusted
                self._stopped.halt(fact, told(error), lasting=True)

    def tried(self, fact: Fact) -> str:
        """Try a fact on a copy of what is known now; return why it cannot be folded, empty if it can."""
        try:
            self._actor.evolve(copy.deepcopy(self.state), fact)
        except Exception as error:  # noqa: BLE001 - that is the question
            return told(error)
        return ""

    def _with(self, state: Any, fact: Foldable) -> Any:
        """Return the state with a fact; a whole writer puts a parked task aside again, whatever was said about it since."""
        state = self._actor.evolve(state, fact)
        if self._solo and isinstance(fact, Fact) and fact.key in self._stopped.parked and Parked in self._kinds:
            state = self._actor.evolve(state, _aside(fact))
        return state

    def _refuse(self, fact: Foldable, key: Key, reason: str, *, mine: bool, sound: bool) -> None:
        """Stop what a fact concerns that broke `evolve`."""
        about_all = fact.key == (NONE, NONE) and (self._solo or self._actor.key is None)
        if not self._solo and not about_all:
            self._stopped.unfold(fact, key, reason)
            return
        if not sound or about_all or mine or Parked not in self._kinds or isinstance(fact, Parked):
            self._stopped.halt(fact, reason, lasting=not about_all or (self._solo and not sound))
            self.guess_anew()
            return
        self._stopped.unfold(fact, fact.key, reason)
        self._stopped.parked.setdefault(fact.key, fact.seq)
        self.guess_anew()
        self.take(_aside(fact), fact.key, mine=False)


def _aside(fact: Fact | Quarantined) -> Parked:
    return Parked(*fact.key, fact.seq, fact.at_ms, "")
