"""The world in virtual time: the real router, quota and cost over a log that is never stored; platforms repeat themselves.

What happened on a platform happens there again. Where a task did not run before, it succeeds with the usage and in the time
that it took elsewhere. No model is called, no clock is read: the same recording and settings give the same facts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from heapq import heappop, heappush
from typing import Any

import msgspec

from farebox.core import subjects, wire
from farebox.core.actor import Actor
from farebox.core.errors import BadInput
from farebox.core.events import (
    AttemptFailed,
    AttemptInterrupted,
    Fact,
    PlatformReported,
    QuotaReserved,
    SettingsAdopted,
    TaskCancelRequested,
    TaskCompleted,
    TaskStarted,
    TaskSubmitted,
)
from farebox.core.settings import Settings, canonical, restore
from farebox.core.terms import Fault
from farebox.core.trail import BEGIN, step
from farebox.runtime.mind import Mind
from farebox.whatif.recording import Outcome, Recording, Task
from farebox.whatif.tally import Tally

SECRET = b"what would have been"
ACTORS = ("router", "quota", "cost")
"""Who decides here as in a running engine."""
Change = Callable[[Settings], Settings]
"""What settings are in force in the place of recorded ones."""
NOBODY: Mapping[str, tuple[str, ...]] = {}
PAUSE_MS = 1000
HINT = "Loosen the rule that is named."
YEAR_MS = 366 * 86_400_000
"""Nobody is waited for any longer after the last thing that came from outside."""


class World:
    """Runs a recording under other settings. `run` does all of it; then `tally`, `digest` and what was `borrowed` are known."""

    def __init__(
        self,
        actors: Sequence[Actor[Any]],
        recording: Recording,
        change: Change,
        assumed: Mapping[str, tuple[str, ...]] = NOBODY,
    ) -> None:
        found: Mapping[str, Actor[Any]] = {actor.name: actor for actor in actors}
        self.tally = Tally()
        self.digest = BEGIN
        self.borrowed = self.attempts = self.left_out = 0
        self.refusals: list[str] = []
        self._minds = [Mind(found[name], SECRET) for name in ACTORS]
        self._recording = recording
        self._change = change
        self._adopted = ""
        self._assumed = assumed
        self._typical = recording.typical()
        self._seq = 0
        self._now_ms = recording.began_ms
        self._coming: list[tuple[int, int, QuotaReserved, Outcome, int]] = []
        self._order = 0
        self._used: dict[Task, set[int]] = {}
        self._cancelled: set[Task] = set()
        self._open: dict[Task, TaskStarted] = {}

    def run(self, *, strict: bool = True) -> None:
        """Let all of it happen. When nobody may do anything that raises BadInput (FB309), where `strict`."""
        for name, models in self._assumed.items():
            self._store([("adapter", PlatformReported(platform=name, available=True, models=models, detail="assumed"))])
        for mind in self._minds:
            mind.go_live(self._now_ms)
        for writer, fact in self._recording.outside:
            if isinstance(fact, TaskSubmitted) and fact.key not in self._recording.ended:
                self.left_out += 1
                continue
            self._until(fact.at_ms)
            self._now_ms = max(self._now_ms, fact.at_ms)
            self._store([(writer, fact)] if not isinstance(fact, SettingsAdopted) else self._otherwise(fact))
            if isinstance(fact, TaskCancelRequested):
                self._cancelled.add(fact.key)
            self._settle()
        self._until(self._now_ms + YEAR_MS)
        if strict and self.refusals and not self.attempts:
            raise BadInput(f"Under this policy no task may run. {self.refusals[0]}", hint=HINT, code="FB309")

    def _otherwise(self, fact: SettingsAdopted) -> list[tuple[str, Fact]]:
        """Return what is adopted in the place of recorded settings: nothing where that is in force already."""
        plain, sha256 = canonical(self._change(restore(fact.settings)))
        news = sha256 != self._adopted
        self._adopted = sha256
        return [("engine", SettingsAdopted(settings=plain, sha256=sha256))] if news else []

    def _until(self, moment_ms: int) -> None:
        """Let happen what happens before a moment: starts, ends, and what actors wanted to be woken for."""
        while True:
            wakes = [(due, at) for at, mind in enumerate(self._minds) if (due := mind.due()) is not None]
            due_ms = min(wakes)[0] if wakes else None
            next_ms = self._coming[0][0] if self._coming else None
            first_ms = min((one for one in (due_ms, next_ms) if one is not None), default=None)
            if first_ms is None or first_ms > moment_ms:
                return
            self._now_ms = max(self._now_ms, first_ms)
            if next_ms is not None and next_ms <= first_ms:
                self._happen()
                self._settle()
            else:
                self._wake([at for due, at in wakes if due <= self._now_ms])

    def _wake(self, whom: Sequence[int]) -> None:
        """Wake who wanted it. Who then wants to be woken at once again is given a second, as time would pass."""
        for at in whom:
            self._minds[at].wake(self._now_ms)
        self._settle()
        if any((due := self._minds[at].due()) is not None and due <= self._now_ms for at in whom):
            self._now_ms += PAUSE_MS

    def _settle(self) -> None:
        """Let everybody decide until nobody has anything to say."""
        said = True
        while said:
            said = False
            for mind in self._minds:
                for decision in mind.decisions():
                    said = True
                    first = self._seq + 1
                    mind.stored(decision, range(first, first + len(decision.facts)))
                    self._store([(mind.actor.name, fact) for fact in decision.facts])

    def _store(self, facts: Sequence[tuple[str, Fact]]) -> None:
        """Put facts into the log that is none, and let everybody hear them."""
        for writer, fact in facts:
            self._seq += 1
            fact_id = fact.id or f"would-{self._seq}"
            stored = msgspec.structs.replace(fact, id=fact_id, seq=self._seq, at_ms=self._now_ms)
            self.digest = step(self.digest, self._seq, self._now_ms, subjects.subject_of(writer, stored), wire.encode(stored))
            self.tally.take(stored)
            for mind in self._minds:
                if mind.concerns(type(stored), writer):
                    mind.hear(stored, writer)
                else:
                    mind.skip(stored.seq)
            if isinstance(stored, QuotaReserved):
                self._granted(stored)
            elif (
                isinstance(stored, TaskCompleted)
                and writer == "router"
                and stored.fault is not None
                and stored.status == "failed"
            ):
                self.refusals.append(stored.fault.message)

    def _granted(self, grant: QuotaReserved) -> None:
        self.attempts += 1
        outcome = self._outcome(grant)
        self._push(self._now_ms + outcome.start_ms, grant, outcome, 0)

    def _push(self, at_ms: int, grant: QuotaReserved, outcome: Outcome, epoch: int) -> None:
        self._order += 1
        heappush(self._coming, (at_ms, self._order, grant, outcome, epoch))

    def _happen(self) -> None:
        """Start the next attempt, or end it."""
        at_ms, _, grant, outcome, epoch = heappop(self._coming)
        envelope: dict[str, Any] = {"chain": grant.chain, "task": grant.task, "attempt": grant.attempt, "batch": grant.batch}
        envelope["cause"] = grant.id
        if not epoch:
            started = TaskStarted(
                **envelope, platform=grant.platform, model=grant.model, billing=grant.billing, timeout_s=grant.timeout_s,
                on_interrupt=grant.on_interrupt,
            )  # fmt: skip
            self._store([("adapter", started)])
            self._push(at_ms + outcome.run_ms, grant, outcome, self._seq)
            return
        own: dict[str, Any] = {"platform": grant.platform, "billing": grant.billing, "model": grant.model}
        end: TaskCompleted | AttemptFailed | AttemptInterrupted
        if grant.key in self._cancelled and outcome.end.platform != grant.platform:
            fault = Fault(error_class="cancelled", message="Cancelled.")
            end = TaskCompleted(**envelope, **own, epoch=epoch, status="cancelled", fault=fault)
        else:
            end = msgspec.structs.replace(outcome.end, **envelope, **own, epoch=epoch, id="", prev=0)
        self._store([("adapter", end)])

    def _outcome(self, grant: QuotaReserved) -> Outcome:
        """Return how the attempt goes: as it went there, else as it went elsewhere, else as such a task goes."""
        recorded = self._recording.outcomes.get(grant.key, [])
        used = self._used.setdefault(grant.key, set())
        for at, outcome in enumerate(recorded):
            if at not in used and outcome.end.platform == grant.platform:
                used.add(at)
                self.borrowed += bool(outcome.end.model) and outcome.end.model != grant.model
                return outcome
        self.borrowed += 1
        answered = next((one for one in recorded if one.succeeded), None)
        told = answered or next((one for one in recorded if one.end.usage is not None), None) or self._typical
        usage = told.end.usage if told is not None else None
        calls = told.end.calls[:1] if told is not None else ()
        end = TaskCompleted(
            status="completed", usage=usage, charged="known", calls=calls, duration_ms=told.run_ms if told is not None else 0
        )
        return Outcome(0, told.run_ms if told is not None else 0, end)
