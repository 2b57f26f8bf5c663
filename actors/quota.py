"""Quota: gives each routed task the first candidate with a free slot; the rest wait in line. Pure. The only writer of grants.

Nobody waits while a slot he may use is free; the line goes by priority, then by age. One fact a decision: it is asked again
until it has nothing to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush

import msgspec
from msgspec import Struct

from farebox.core.actor import Actor, Wake
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
from farebox.core.settings import restore
from farebox.core.terms import Candidate, Fault, OnInterrupt

CANCELS_MAX = 10_000
"""Cancels of tasks not in line that are remembered; the oldest go first."""


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
    """Slots in use and tasks in line. `lines` and `later` are found again from `waiting`, so they are no part of the value."""

    limits: dict[str, int] = msgspec.field(default_factory=dict[str, int])
    holds: dict[str, Hold] = msgspec.field(default_factory=dict[str, Hold])
    waiting: dict[str, Waiting] = msgspec.field(default_factory=dict[str, Waiting])
    ended: dict[str, Ended] = msgspec.field(default_factory=dict[str, Ended])
    cancels: dict[str, bool] = msgspec.field(default_factory=dict[str, bool])

    def __post_init__(self) -> None:
        """Build the lines from the value; called for a new state and for one read from a snapshot."""
        self.used: dict[str, int] = {}
        self.lines: dict[str, list[tuple[int, int, str]]] = {}
        self.later: list[tuple[int, int, str, str]] = []
        for hold in self.holds.values():
            self.used[hold.platform] = self.used.get(hold.platform, 0) + 1
        for name, waiting in self.waiting.items():
            line_up(self, name, waiting)


def line_up(state: Quota, name: str, waiting: Waiting) -> None:
    """Put a task into the line of each candidate, or aside until that candidate may be asked."""
    for candidate in waiting.candidates:
        if candidate.not_before_ms:
            heappush(state.later, (candidate.not_before_ms, waiting.seq, name, candidate.platform))
        else:
            heappush(state.lines.setdefault(candidate.platform, []), (-waiting.priority, waiting.seq, name))


Heard = TaskRouted | TaskCompleted | AttemptFailed | AttemptInterrupted | TaskCancelRequested | SettingsAdopted | Wake


def decide(state: Quota, heard: Heard) -> Sequence[QuotaReserved | QuotaDeferred | QuotaRefused | QuotaSettled]:
    """Settle what ended, refuse what was cancelled, then give away what is free: the first of these, one fact."""
    settled = _settle(state, heard)
    if settled is not None:
        return [settled]
    refused = _refuse(state, heard)
    if refused is not None:
        return [refused]
    _come_due(state, heard.at_ms)
    reserved = _next(state, heard)
    if reserved is not None:
        return [reserved]
    return _defer(state, heard)


def _settle(state: Quota, heard: Heard) -> QuotaSettled | None:
    if isinstance(heard, Wake):
        ended = next(iter(state.ended.values()), None)
    elif isinstance(heard, TaskCompleted | AttemptFailed | AttemptInterrupted):
        ended = state.ended.get(heard.id)
    else:
        return None
    if ended is None:
        return None
    return QuotaSettled(
        chain=ended.chain, task=ended.task, cause=ended.cause, platform=ended.platform, attempt=ended.attempt,
        batch=ended.batch, requests=ended.requests, tokens=ended.tokens,
    )  # fmt: skip


def _refuse(state: Quota, heard: Heard) -> QuotaRefused | None:
    """Refuse a task in line that nobody wants any more. A Wake looks at the whole line: it comes after a start."""
    if isinstance(heard, Wake):
        waiting = next((one for one in state.waiting.values() if one.cancelled), None)
    elif isinstance(heard, TaskRouted | TaskCancelRequested):
        waiting = state.waiting.get(_name(heard))
    else:
        return None
    if waiting is None or not waiting.cancelled:
        return None
    return QuotaRefused(
        chain=waiting.chain, task=waiting.task, cause=waiting.cause, attempt=waiting.attempt, batch=waiting.batch,
        traceparent=waiting.traceparent, fault=Fault(error_class="cancelled", message="Cancelled while waiting."),
    )  # fmt: skip


def _come_due(state: Quota, now_ms: int) -> None:
    """Move those whose candidate may be asked again into its line."""
    while state.later and state.later[0][0] <= now_ms:
        _, seq, name, platform = heappop(state.later)
        waiting = state.waiting.get(name)
        if waiting is not None and waiting.seq == seq:
            heappush(state.lines.setdefault(platform, []), (-waiting.priority, seq, name))


def _next(state: Quota, heard: Heard) -> QuotaReserved | None:
    """Return the next grant. A routed task looks at its candidates in order; a freed slot looks at its line."""
    if isinstance(heard, TaskRouted):
        waiting = state.waiting.get(_name(heard))
        if waiting is None or waiting.seq != heard.seq:
            return None
        ready = [c for c in waiting.candidates if c.not_before_ms <= heard.at_ms and _free(state, c.platform)]
        return _reserved(state, waiting, ready[0]) if ready else None
    platforms = list(state.lines) if isinstance(heard, SettingsAdopted | Wake | TaskCancelRequested) else [heard.platform]
    for platform in platforms:
        waiting = _first_in_line(state, platform) if _free(state, platform) else None
        if waiting is not None:
            (candidate,) = [c for c in waiting.candidates if c.platform == platform]
            return _reserved(state, waiting, candidate)
    return None


def _free(state: Quota, platform: str) -> bool:
    return state.used.get(platform, 0) < state.limits.get(platform, 0)


def _first_in_line(state: Quota, platform: str) -> Waiting | None:
    """Return who is first, forgetting entries of tasks that wait no more or wait anew."""
    line = state.lines.get(platform, [])
    while line:
        _, seq, name = line[0]
        waiting = state.waiting.get(name)
        if waiting is not None and waiting.seq == seq and not waiting.cancelled:
            return waiting
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


def _defer(state: Quota, heard: Heard) -> list[QuotaDeferred]:
    """Say until when a task waits for a provider's clock; a wait for a slot needs no word."""
    if not isinstance(heard, TaskRouted):
        return []
    waiting = state.waiting.get(_name(heard))
    if waiting is None or waiting.seq != heard.seq or waiting.deferred:
        return []
    due = [c for c in waiting.candidates if c.not_before_ms > heard.at_ms]
    if not due:
        return []
    first = min(due, key=lambda c: c.not_before_ms)
    return [
        QuotaDeferred(
            chain=waiting.chain, task=waiting.task, cause=waiting.cause, attempt=waiting.attempt, batch=waiting.batch,
            traceparent=waiting.traceparent, routed_seq=waiting.seq, due_ms=first.not_before_ms,
            reason=f"{first.platform} asked to wait",
        )
    ]  # fmt: skip


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
    | QuotaSettled,
) -> Quota:
    """Fold one fact."""
    match fact:
        case SettingsAdopted():
            platforms = restore(fact.settings).platforms
            state.limits = {name: platform.limit for name, platform in platforms.items() if platform.enabled}
        case TaskRouted():
            _wait(state, fact)
        case TaskCancelRequested():
            _cancel(state, fact)
        case TaskCompleted() | AttemptFailed() | AttemptInterrupted():
            _release(state, fact)
        case QuotaReserved():
            state.waiting.pop(_name(fact), None)
            state.holds[_name(fact)] = Hold(fact.platform, fact.attempt)
            state.used[fact.platform] = state.used.get(fact.platform, 0) + 1
        case QuotaDeferred():
            waiting = state.waiting.get(_name(fact))
            if waiting is not None and waiting.seq == fact.routed_seq:
                state.waiting[_name(fact)] = msgspec.structs.replace(waiting, deferred=True)
        case QuotaRefused():
            state.waiting.pop(_name(fact), None)
        case QuotaSettled():
            state.ended.pop(fact.cause, None)
    return state


def _wait(state: Quota, fact: TaskRouted) -> None:
    name = _name(fact)
    waiting = Waiting(
        chain=fact.chain, task=fact.task, cause=fact.id, seq=fact.seq, attempt=fact.attempt, batch=fact.batch,
        traceparent=fact.traceparent, candidates=fact.candidates, priority=fact.priority, timeout_s=fact.timeout_s,
        on_interrupt=fact.on_interrupt, submission_sha256=fact.submission_sha256,
        cancelled=state.cancels.pop(name, False),
    )  # fmt: skip
    state.waiting[name] = waiting
    line_up(state, name, waiting)


def _cancel(state: Quota, fact: TaskCancelRequested) -> None:
    name = _name(fact)
    waiting = state.waiting.get(name)
    if waiting is not None:
        state.waiting[name] = msgspec.structs.replace(waiting, cancelled=True)
        return
    state.cancels[name] = True
    while len(state.cancels) > CANCELS_MAX:
        del state.cancels[next(iter(state.cancels))]


def _release(state: Quota, fact: TaskCompleted | AttemptFailed | AttemptInterrupted) -> None:
    """Free the slot of an attempt that ended; what it used is settled next."""
    name = _name(fact)
    if isinstance(fact, TaskCompleted):
        state.cancels.pop(name, None)
        state.waiting.pop(name, None)
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
          | QuotaDeferred | QuotaRefused) -> str:  # fmt: skip
    return f"{fact.chain}.{fact.task}"


ACTOR = Actor(name="quota", new=Quota, decide=decide, evolve=evolve, due=due, pace="writer")
