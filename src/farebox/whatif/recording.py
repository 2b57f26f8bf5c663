"""What a log tells that a counterfactual needs: what came from outside, and how each attempt really went."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from farebox.core.events import (
    AttemptFailed,
    AttemptInterrupted,
    Ending,
    Fact,
    PlatformReported,
    PriceListAdopted,
    QuotaLearned,
    QuotaReserved,
    SettingsAdopted,
    TaskCancelRequested,
    TaskCompleted,
    TaskDecision,
    TaskStarted,
    TaskSubmitted,
)
from farebox.core.ids import NONE
from farebox.core.settings import Settings, restore
from farebox.whatif.tally import Tally

Task = tuple[str, str]
Outside = (
    TaskSubmitted | TaskCancelRequested | TaskDecision | SettingsAdopted | PriceListAdopted | PlatformReported | QuotaLearned
)  # fmt: skip


class Outcome(Struct, frozen=True):
    """How one attempt went: how long its start took, how long it ran (both ms), and its end without text."""

    start_ms: int
    run_ms: int
    end: TaskCompleted | AttemptFailed | AttemptInterrupted

    @property
    def succeeded(self) -> bool:
        """Whether it brought an answer."""
        return isinstance(self.end, TaskCompleted) and self.end.status == "completed"


class Recording:
    """Reads facts in log order. `outside` is what nobody in farebox decided; `happened` what became of it."""

    def __init__(self) -> None:
        self.settings = Settings()
        self.began_ms = 0
        self.outside: list[tuple[str, Outside]] = []
        self.outcomes: dict[Task, list[Outcome]] = {}
        self.ended: set[Task] = set()
        self.cancelled: set[Task] = set()
        self.happened = Tally()
        self._submitted: set[Task] = set()
        self._reserved: dict[Task, int] = {}
        self._started: dict[Task, int] = {}

    def take(self, fact: Fact, writer: str) -> None:
        """Take the next fact."""
        self.began_ms = self.began_ms or fact.at_ms
        self.happened.take(fact)
        match fact:
            case TaskSubmitted() if fact.key in self._submitted or fact.key in self.ended:
                return  # A fence keeps a task from beginning twice; here is none.
            case TaskSubmitted() | TaskCancelRequested() | TaskDecision() | PriceListAdopted() | PlatformReported():
                self.outside.append((writer, fact))
                if isinstance(fact, TaskSubmitted):
                    self._submitted.add(fact.key)
                elif isinstance(fact, TaskCancelRequested):
                    self.cancelled.add(fact.key)
            case QuotaLearned():
                # What was used there is not used here; what the provider allows is the same.
                self.outside.append((writer, msgspec.structs.replace(fact, used=None)))
            case SettingsAdopted():
                self.settings = restore(fact.settings)
                self.outside.append((writer, fact))
            case QuotaReserved():
                self._reserved[fact.key] = fact.at_ms
            case TaskStarted():
                self._started[fact.key] = fact.at_ms
            case TaskCompleted() | AttemptFailed() | AttemptInterrupted():
                self._end(fact)
            case _:
                return

    def _end(self, fact: TaskCompleted | AttemptFailed | AttemptInterrupted) -> None:
        reserved_ms = self._reserved.pop(fact.key, fact.at_ms)
        started_ms = self._started.pop(fact.key, reserved_ms)
        if isinstance(fact, TaskCompleted):
            self.ended.add(fact.key)
        if fact.platform != NONE and fact.attempt:
            outcome = Outcome(max(started_ms - reserved_ms, 0), max(fact.at_ms - started_ms, 0), bare(fact))
            self.outcomes.setdefault(fact.key, []).append(outcome)

    def typical(self) -> Outcome | None:
        """Return the answered attempt that took neither long nor short; None where there is none."""
        answered = [one for outcomes in self.outcomes.values() for one in outcomes if one.succeeded]
        answered.sort(key=lambda one: (one.run_ms, one.end.seq))
        return answered[len(answered) // 2] if answered else None

    def reported(self) -> set[str]:
        """Return the platforms that ever said whether they are there."""
        return {fact.platform for _, fact in self.outside if isinstance(fact, PlatformReported)}


def bare[Kind: Ending](end: Kind) -> Kind:
    """Return the end of an attempt without what was said: only that it cost, how long it took and why it ended counts."""
    empty: dict[str, Any] = {"partial_output": "", "partial_ref": None}
    if isinstance(end, TaskCompleted):
        empty |= {"output": "", "output_ref": None, "files_created": (), "files_changed": ()}
    return msgspec.structs.replace(end, **empty)
