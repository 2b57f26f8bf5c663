"""Quota: gives each routed task the first candidate with a free slot; the rest wait in line. Pure. The only writer of grants.

Nobody waits while a slot he may use is free; the line goes by priority, then by age. One fact a decision: it is asked again
until it has nothing to say. What it says follows from its state and the time alone, never from which fact is asked about:
several facts may be folded before the first of them is decided.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heappush

import msgspec
from msgspec import Struct

from farebox.core.actor import Actor, Parked, Wake
from farebox.core.events import (
    AttemptFailed,
    AttemptInterrupted,
    QuotaDeferred,
    QuotaRefused,
    QuotaReserved,
    QuotaSettled,
    SettingsAdopted,
    TaskCancelRequested,
    TaskCompleted,
    TaskRouted,
)
from farebox.core.settings import restore, unread
from farebox.core.terms import Candidate, Fault, OnInterrupt

CANCELS_MAX = 10_000
"""Cancels of tasks that have not ended (or are not known yet) that are remembered; the oldest go first."""

SLACK = 1_000
"""Entries of a line that may be out of date before it is tidied up."""


class Waiting(Struct, frozen=True, gc=False):
    """A routed task in line."""

    chain: str
    task: str
    cause: str
    seq: int
    attempt: int
    batch: str
    traceparent: str
    candidates: tuple[Candidate, ...]
    priority: int
    timeout_s: float
    on_interrupt: OnInterrupt
    submission_sha256: str
    cancelled: bool = False
    deferred: bool = False


class Hold(Struct, frozen=True, gc=False):
    """A slot in use."""

    platform: str
    attempt: int


class Ended(Struct, frozen=True, gc=False):
    """An attempt whose settlement is still to be written."""

    chain: str
    task: str
    cause: str
    platform: str
    attempt: int
    batch: str
    requests: int
    tokens: int | None


class Quota(Struct, dict=True):
    """Slots in use and tasks in line. The rest is found again from these, so it is no part of the value."""

    limits: dict[str, int] = msgspec.field(default_factory=dict[str, int])
    holds: dict[str, Hold] = msgspec.field(default_factory=dict[str, Hold])
    waiting: dict[str, Waiting] = msgspec.field(default_factory=dict[str, Waiting])
    ended: dict[str, Ended] = msgspec.field(default_factory=dict[str, Ended])
    cancels: dict[str, bool] = msgspec.field(default_factory=dict[str, bool])
    unread: bool = False

    def __post_init__(self) -> None:
        """Build the lines from the value; called for a new state and for one read from a snapshot."""
        self.now_ms = 0
        self.used: dict[str, int] = {}
        self.lines: dict[str, list[tuple[int, int, str]]] = {}
        self.later: list[tuple[int, int, str, str]] = []
        self.unwanted: dict[str, None] = {}
        for hold in self.holds.values():
            self.used[hold.platform] = self.used.get(hold.platform, 0) + 1
        for name, waiting in self.waiting.items():
            line_up(self, name, waiting)

    def __deepcopy__(self, _memo: object) -> Quota:
        """Return a state of its own. Entries never change, so only the tables that hold them are copied.

        With 100,000 in line a refused append costs 80 ms, copied to the bottom 2.7 s (benchmarks/quota.py, 2026-11-21).
        """
        twin = Quota(dict(self.limits), cancels=dict(self.cancels), ended=dict(self.ended), unread=self.unread)
        twin.holds, twin.waiting = dict(self.holds), dict(self.waiting)
        twin.now_ms, twin.used, twin.unwanted = self.now_ms, dict(self.used), dict(self.unwanted)
        twin.lines = {platform: line.copy() for platform, line in self.lines.items()}
        twin.later = self.later.copy()
        return twin


def line_up(state: Quota, name: str, waiting: Waiting) -> None:
    """Put a task into the line of each candidate, or aside until that candidate may be asked."""
    if _hopeless(state, waiting):
        state.unwanted[name] = None
    for candidate in waiting.candidates:
        if candidate.not_before_ms > state.now_ms:
            heappush(state.later, (candidate.not_before_ms, waiting.seq, name, candidate.platform))
            _tidy(state, state.later)
        else:
            line = state.lines.setdefault(candidate.platform, [])
            heappush(line, (-waiting.priority, waiting.seq, name))
            _tidy(state, line)


def _tidy[Entry: (tuple[int, int, str], tuple[int, int, str, str])](state: Quota, line: list[Entry]) -> None:
    """Forget who waits no more, once they are more than those who do: a state that only folds gives nobody his turn."""
    if len(line) > SLACK + 2 * len(state.waiting):
        line[:] = [entry for entry in line if (waiting := state.waiting.get(entry[2])) and waiting.seq == entry[1]]
        heapify(line)


def _hopeless(state: Quota, waiting: Waiting) -> bool:
    """Whether nobody wants the task any more, or nobody may do it any more, as far as the settings are understood."""
    if waiting.cancelled or state.unread:
        return waiting.cancelled
    return not any(candidate.platform in state.limits for candidate in waiting.candidates)


Heard = TaskRouted | TaskCompleted | AttemptFailed | AttemptInterrupted | TaskCancelRequested | SettingsAdopted | Wake


def decide(state: Quota, heard: Heard) -> Sequence[QuotaReserved | QuotaDeferred | QuotaRefused | QuotaSettled]:
    """Settle what ended, refuse what has no hope, then give away what is free: the first of these, one fact."""
    said = _settle(state) or _refuse(state)
    if said is None:
        _come_due(state, heard.at_ms)
        said = _next(state) or _defer(state, heard)
    return [] if said is None else [said]


def _settle(state: Quota) -> QuotaSettled | None:
    ended = next(iter(state.ended.values()), None)
    if ended is None:
        return None
    return QuotaSettled(
        chain=ended.chain, task=ended.task, cause=ended.cause, platform=ended.platform, attempt=ended.attempt,
        batch=ended.batch, requests=ended.requests, tokens=ended.tokens,
    )  # fmt: skip


def _refuse(state: Quota) -> QuotaRefused | None:
    waiting = next((state.waiting[name] for name in state.unwanted), None)
    if waiting is None:
        return None
    fault = Fault(error_class="unavailable", message="None of its platforms is in use any more.")
    if waiting.cancelled:
        fault = Fault(error_class="cancelled", message="Cancelled while waiting.")
    return QuotaRefused(
        chain=waiting.chain, task=waiting.task, cause=waiting.cause, attempt=waiting.attempt, batch=waiting.batch,
        traceparent=waiting.traceparent, fault=fault,
    )  # fmt: skip


def _come_due(state: Quota, now_ms: int) -> None:
    """Move those whose candidate may be asked again into its line."""
    state.now_ms = max(state.now_ms, now_ms)
    while state.later and state.later[0][0] <= state.now_ms:
        _, seq, name, platform = heappop(state.later)
        waiting = state.waiting.get(name)
        if waiting is not None and waiting.seq == seq:
            heappush(state.lines.setdefault(platform, []), (-waiting.priority, seq, name))


def _next(state: Quota) -> QuotaReserved | None:
    """Return the next grant: the first of all who could start, and the first of his candidates that is free."""
    best = min((first for platform in state.lines if (first := _first_in_line(state, platform))), default=None)
    if best is None:
        return None
    waiting = state.waiting[best[2]]
    candidate = next(c for c in waiting.candidates if c.not_before_ms <= state.now_ms and _free(state, c.platform))
    return _reserved(state, waiting, candidate)


def _free(state: Quota, platform: str) -> bool:
    return state.used.get(platform, 0) < state.limits.get(platform, 0)


def _first_in_line(state: Quota, platform: str) -> tuple[int, int, str] | None:
    """Return who is first where a slot is free, forgetting entries of tasks that wait no more or wait anew."""
    if not _free(state, platform):
        return None
    line = state.lines[platform]
    while line:
        waiting = state.waiting.get(line[0][2])
        if waiting is not None and waiting.seq == line[0][1]:
            return line[0]
        heappop(line)
    return None


def _reserved(state: Quota, waiting: Waiting, candidate: Candidate) -> QuotaReserved:
    return QuotaReserved(
        chain=waiting.chain, task=waiting.task, cause=waiting.cause, attempt=waiting.attempt, batch=waiting.batch,
        traceparent=waiting.traceparent, platform=candidate.platform, model=candidate.model, billing=candidate.billing,
        lane_seq=candidate.lane_seq, submission_sha256=waiting.submission_sha256, timeout_s=waiting.timeout_s,
        on_interrupt=waiting.on_interrupt, in_use=state.used.get(candidate.platform, 0) + 1,
        limit=state.limits[candidate.platform],
    )  # fmt: skip


def _defer(state: Quota, heard: Heard) -> QuotaDeferred | None:
    """Say until when a task waits for a provider's clock; a wait for a slot needs no word."""
    if not isinstance(heard, TaskRouted):
        return None
    waiting = state.waiting.get(_name(heard))
    if waiting is None or waiting.seq != heard.seq or waiting.deferred:
        return None
    due = [c for c in waiting.candidates if c.not_before_ms > state.now_ms]
    if not due:
        return None
    first = min(due, key=lambda c: c.not_before_ms)
    return QuotaDeferred(
        chain=waiting.chain, task=waiting.task, cause=waiting.cause, attempt=waiting.attempt, batch=waiting.batch,
        traceparent=waiting.traceparent, routed_seq=waiting.seq, due_ms=first.not_before_ms,
        reason=f"{first.platform} asked to wait",
    )  # fmt: skip


def due(state: Quota) -> int | None:
    """Return when (stream time, ms) the first waiting candidate may be asked again."""
    while state.later:
        not_before_ms, seq, name, _ = state.later[0]
        waiting = state.waiting.get(name)
        if waiting is not None and waiting.seq == seq:
            return not_before_ms
        heappop(state.later)
    return None


def evolve(
    state: Quota,
    fact: SettingsAdopted
    | TaskRouted
    | TaskCancelRequested
    | TaskCompleted
    | AttemptFailed
    | AttemptInterrupted
    | QuotaReserved
    | QuotaDeferred
    | QuotaRefused
    | QuotaSettled
    | Parked,
) -> Quota:
    """Fold one fact."""
    match fact:
        case SettingsAdopted():
            platforms = restore(fact.settings).platforms
            state.limits = {name: platform.limit for name, platform in platforms.items() if platform.enabled}
            state.unread = bool(unread(fact.settings))
            state.unwanted = {name: None for name, waiting in state.waiting.items() if _hopeless(state, waiting)}
        case TaskRouted():
            _wait(state, fact)
        case TaskCancelRequested():
            _cancel(state, fact)
        case TaskCompleted() | AttemptFailed() | AttemptInterrupted():
            _release(state, fact)
        case QuotaReserved():
            _forget(state, _name(fact))
            state.holds[_name(fact)] = Hold(fact.platform, fact.attempt)
            state.used[fact.platform] = state.used.get(fact.platform, 0) + 1
        case QuotaDeferred():
            waiting = state.waiting.get(_name(fact))
            if waiting is not None and waiting.seq == fact.routed_seq:
                state.waiting[_name(fact)] = msgspec.structs.replace(waiting, deferred=True)
        case QuotaRefused() | Parked():
            _forget(state, _name(fact))
        case QuotaSettled():  # pragma: no branch - there is no other kind
            state.ended.pop(fact.cause, None)
    return state


def _forget(state: Quota, name: str) -> None:
    state.waiting.pop(name, None)
    state.unwanted.pop(name, None)


def _wait(state: Quota, fact: TaskRouted) -> None:
    name = _name(fact)
    waiting = Waiting(
        chain=fact.chain, task=fact.task, cause=fact.id, seq=fact.seq, attempt=fact.attempt, batch=fact.batch,
        traceparent=fact.traceparent, candidates=fact.candidates, priority=fact.priority, timeout_s=fact.timeout_s,
        on_interrupt=fact.on_interrupt, submission_sha256=fact.submission_sha256,
        cancelled=name in state.cancels,
    )  # fmt: skip
    state.waiting[name] = waiting
    line_up(state, name, waiting)


def _cancel(state: Quota, fact: TaskCancelRequested) -> None:
    name = _name(fact)
    waiting = state.waiting.get(name)
    if waiting is not None:
        state.waiting[name] = msgspec.structs.replace(waiting, cancelled=True)
        state.unwanted[name] = None
    state.cancels[name] = True
    while len(state.cancels) > CANCELS_MAX:
        del state.cancels[next(iter(state.cancels))]


def _release(state: Quota, fact: TaskCompleted | AttemptFailed | AttemptInterrupted) -> None:
    """Free the slot of an attempt that ended; what it used is settled next."""
    name = _name(fact)
    if isinstance(fact, TaskCompleted):
        state.cancels.pop(name, None)
        _forget(state, name)
    hold = state.holds.get(name)
    if hold is None or hold.platform != fact.platform or hold.attempt != fact.attempt:
        return
    del state.holds[name]
    state.used[hold.platform] -= 1
    usage = fact.usage
    known = usage is not None and usage.input_tokens is not None and usage.output_tokens is not None
    tokens = (usage.input_tokens or 0) + (usage.output_tokens or 0) if usage is not None and known else None
    state.ended[fact.id] = Ended(
        chain=fact.chain, task=fact.task, cause=fact.id, platform=fact.platform, attempt=fact.attempt,
        batch=fact.batch, requests=len(fact.calls), tokens=tokens,
    )  # fmt: skip


def _name(fact: TaskRouted | TaskCancelRequested | TaskCompleted | AttemptFailed | AttemptInterrupted | QuotaReserved
          | QuotaDeferred | QuotaRefused | Parked) -> str:  # fmt: skip
    return f"{fact.chain}.{fact.task}"


def held(state: Quota) -> list[tuple[str, str, str]]:
    """Return whose slots are in use, and of which platform."""
    names = ((hold.platform, *name.split(".")) for name, hold in state.holds.items())
    return [(platform, chain, task) for platform, chain, task in names]


ACTOR = Actor(name="quota", new=Quota, decide=decide, evolve=evolve, due=due, held=held, pace="writer")
