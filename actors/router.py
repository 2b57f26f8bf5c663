"""Router: says who may do a task, cheapest first, and ends tasks that nobody can do. Pure.

It holds the baton from the submission to its TaskRouted, and again after a failed or interrupted attempt.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from farebox.core import directories
from farebox.core.actor import Actor, Quarantined
from farebox.core.events import (
    AttemptFailed,
    AttemptInterrupted,
    PlatformReported,
    QuotaRefused,
    SettingsAdopted,
    TaskCancelRequested,
    TaskCompleted,
    TaskDecision,
    TaskReady,
    TaskRouted,
    TaskSubmitted,
)
from farebox.core.rejections import BY_NAME, explained
from farebox.core.settings import PlatformSettings, Settings, restore, unread
from farebox.core.terms import Candidate, ErrorClass, Fault, OnInterrupt, Rejected
from farebox.core.wire import submission_sha256

CANCELS_MAX = 10_000
"""Cancels of tasks not seen yet that are remembered; the oldest go first."""
TRIES_MAX = 3
"""Attempts on one platform whose failure never reached the model."""
BACKOFF_MS = 1_000
"""First wait before a platform that failed is tried again; doubles each time."""
PASSING: frozenset[ErrorClass] = frozenset({"rate_limited", "server_error", "network", "stalled", "crashed", "truncated"})
"""Failures that may be over at the next try; all others rule the platform out for this task."""


class Failure(Struct, frozen=True):
    """What one platform answered to this task so far."""

    platform: str
    error_class: ErrorClass
    message: str
    tries: int
    not_before_ms: int


class Known(Struct, frozen=True):
    """One task as the router needs it. `cause` is the fact that gave the router the baton; empty while it has not.

    `asking` is the interrupted attempt that a person has to decide about, `accepted` the one whose text he took for the answer.
    `said_seq` is the router's own last fact of the task: what it says next is fenced with it. So a task that ended long ago
    and is submitted once more (by a client that does not fence) is not begun again: to a router that forgot it, it would be
    the first word, and the log knows better.
    """

    cause: str
    submission_sha256: str
    at_ms: int
    said_seq: int = 0
    batch: str = ""
    traceparent: str = ""
    hint: str = ""
    fallback: bool = True
    model: str = ""
    priority: int = 0
    timeout_s: float = 300.0
    on_interrupt: OnInterrupt | None = None
    directory: str = ""
    unsupported: str = ""
    attempt: int = 0
    billed: int = 0
    lanes: dict[str, int] = {}
    failures: dict[str, Failure] = {}
    cancelled: bool = False
    ended: Fault | None = None
    asking: AttemptInterrupted | None = None
    accepted: AttemptInterrupted | None = None
    policy: OnInterrupt = "retry"


class Router(Struct):
    """What the log says about platforms and about tasks that have not ended."""

    settings: Settings = msgspec.field(default_factory=Settings)
    reports: dict[str, PlatformReported] = msgspec.field(default_factory=dict[str, PlatformReported])
    tasks: dict[str, Known] = msgspec.field(default_factory=dict[str, Known])
    cancels: dict[str, bool] = msgspec.field(default_factory=dict[str, bool])
    unread: bool = False


Heard = (
    TaskSubmitted
    | TaskReady
    | TaskCancelRequested
    | TaskDecision
    | QuotaRefused
    | AttemptFailed
    | AttemptInterrupted
    | Quarantined
)


def decide(state: Router, heard: Heard) -> list[TaskRouted | TaskCompleted]:
    """Answer for the task if the baton is here: route it, or end it."""
    known = state.tasks.get(_name(heard))
    if known is None or not known.cause:
        return []
    chain, task = heard.key
    end = _end_early(known)
    said = end or _route(state, known)
    if end is None and state.unread and isinstance(said, TaskCompleted):
        return []  # Somebody may do it under settings that this farebox does not know: it is left to one that does.
    return [msgspec.structs.replace(said, chain=chain, task=task)]


def _end_early(known: Known) -> TaskCompleted | None:
    """End a task that must not go on, whatever platforms there are."""
    if known.cancelled:
        return _ended(known, Fault(error_class="cancelled", message="Cancelled."))
    if known.accepted is not None:
        return _taken_for_the_answer(known, known.accepted)
    if known.ended is not None:
        return _ended(known, known.ended)
    if known.unsupported:
        return _ended(known, Fault(error_class="unsupported", message=known.unsupported))
    return None


def _ended(known: Known, fault: Fault) -> TaskCompleted:
    tried = tuple(Rejected(platform=f.platform, reason=f"{f.error_class}: {f.message}") for f in known.failures.values())
    return TaskCompleted(
        **_envelope(known),
        attempt=known.attempt,
        status="cancelled" if fault.error_class == "cancelled" else "failed",
        fault=fault,
        tried=tried,
    )


def _envelope(known: Known) -> dict[str, Any]:
    return {"cause": known.cause, "prev": known.said_seq, "batch": known.batch, "traceparent": known.traceparent}


def _taken_for_the_answer(known: Known, accepted: AttemptInterrupted) -> TaskCompleted:
    """End a task with what its interrupted attempt had said. What that may have cost was booked with the attempt."""
    return TaskCompleted(
        **_envelope(known),
        attempt=known.attempt,
        status="completed",
        output=accepted.partial_output,
        output_ref=accepted.partial_ref,
        duration_ms=accepted.duration_ms,
        finish_reason="accepted",
        worktree=accepted.worktree,
        base_commit=accepted.base_commit,
    )


def _route(state: Router, known: Known) -> TaskRouted | TaskCompleted:
    candidates: list[tuple[tuple[bool, bool, int, int], Candidate]] = []
    rejected: list[Rejected] = []
    for order, (name, platform) in enumerate(state.settings.platforms.items()):
        reason = _reason_against(state, known, name, platform)
        if reason:
            rejected.append(Rejected(platform=name, reason=reason))
            continue
        rank = (name in known.failures, name != known.hint, platform.cost_tier, order)
        candidates.append((rank, _candidate(state, known, name, platform)))
    if not candidates or known.attempt >= state.settings.attempts_max:
        return _ended(known, _nobody(state, known, rejected))
    ordered = tuple(candidate for _, candidate in sorted(candidates, key=lambda pair: pair[0]))
    return TaskRouted(
        **_envelope(known),
        attempt=known.attempt + 1,
        submission_sha256=known.submission_sha256,
        candidates=ordered,
        rejected=tuple(rejected),
        priority=known.priority,
        timeout_s=known.timeout_s,
        on_interrupt=_policy(known, state.settings.platforms[ordered[0].platform]),
    )


def _reason_against(state: Router, known: Known, name: str, platform: PlatformSettings) -> str:
    """Return why `name` may not do the task, empty if it may."""
    report = state.reports.get(name)
    failure = known.failures.get(name)
    if known.hint and not known.fallback and name != known.hint:
        return f"only {known.hint} was asked for"
    if not platform.enabled:
        return "disabled"
    if not platform.open and name != known.hint:
        return BY_NAME
    if forbidden := directories.why_not(platform, known.directory):
        return forbidden
    if report is None or not report.available:
        return f"not available: {report.detail if report else 'has not reported yet'}"
    if known.model and report.models and known.model not in report.models:
        return f"has no model {known.model}"
    if failure is not None and (failure.error_class not in PASSING or failure.tries >= TRIES_MAX):
        return f"failed: {failure.error_class}: {failure.message}"
    if failure is not None and failure.not_before_ms - known.at_ms > state.settings.retry_wait_max_s * 1000:
        return f"asks to wait until {failure.not_before_ms} ms, longer than retry_wait_max_s allows"
    return ""


def _candidate(state: Router, known: Known, name: str, platform: PlatformSettings) -> Candidate:
    models = platform.models or state.reports[name].models
    failure = known.failures.get(name)
    return Candidate(
        platform=name,
        model=known.model or platform.model or (models[0] if models else ""),
        billing=platform.billing,
        tier=platform.cost_tier,
        lane_seq=known.lanes.get(name, 0),
        not_before_ms=failure.not_before_ms if failure else 0,
        limit=platform.limit,
    )


def _nobody(state: Router, known: Known, rejected: list[Rejected]) -> Fault:
    """Say why the task cannot go on: each platform tried and why it failed, or why none may."""
    if known.hint and known.hint not in state.settings.platforms:
        return Fault(error_class="invalid", message=f"There is no platform {known.hint!r}.")
    if not known.failures:
        asked_for = "" if known.fallback else known.hint
        message = explained(rejected, asked_for=asked_for, hint=known.hint, directory=known.directory)
        return Fault(error_class="unavailable", message=message[:4000])
    failures = tuple(known.failures.values())
    error_class = failures[0].error_class if len(failures) == 1 else "exhausted"
    return Fault(error_class=error_class, message=_tried(known.failures)[:4000])


def _tried(failures: dict[str, Failure]) -> str:
    return "Tried " + "; ".join(f"{f.platform}: {f.error_class}: {f.message}" for f in failures.values())


def evolve(state: Router, fact: Heard | SettingsAdopted | PlatformReported | TaskRouted | TaskCompleted) -> Router:
    """Fold one fact."""
    match fact:
        case SettingsAdopted():
            state.settings = restore(fact.settings)
            state.unread = bool(unread(fact.settings))
        case PlatformReported():
            state.reports[fact.platform] = fact
        case TaskSubmitted() | Quarantined():
            _meet(state, fact)
        case TaskCompleted():
            state.tasks.pop(_name(fact), None)
        case TaskCancelRequested():
            _cancel(state, fact)
        case _:
            known = state.tasks.get(_name(fact))
            if known is not None:
                state.tasks[_name(fact)] = _moved(state, known, fact)
    return state


def _meet(state: Router, fact: TaskSubmitted | Quarantined) -> None:
    """Take a new task's baton. The first submission of a task counts; a cancel that came before it counts too."""
    name = _name(fact)
    if name in state.tasks:
        return
    cancelled = state.cancels.pop(name, False)
    if isinstance(fact, Quarantined):
        fault = Fault(error_class="quarantined", message=f"The submission cannot be believed: {fact.reason}"[:4000])
        state.tasks[name] = Known(cause=fact.id, submission_sha256="0" * 64, at_ms=fact.at_ms, ended=fault)
        return
    unsupported = "This farebox runs no tasks with `needs` or `memory` yet." if fact.needs or fact.memory else ""
    state.tasks[name] = Known(
        cause=fact.id,
        submission_sha256=submission_sha256(fact),
        at_ms=fact.at_ms,
        batch=fact.batch,
        traceparent=fact.traceparent,
        hint=fact.platform,
        fallback=fact.fallback,
        model=fact.model,
        priority=fact.priority,
        timeout_s=fact.timeout_s,
        on_interrupt=fact.on_interrupt,
        directory=fact.directory,
        unsupported=unsupported,
        cancelled=cancelled,
    )


def _cancel(state: Router, fact: TaskCancelRequested) -> None:
    name = _name(fact)
    known = state.tasks.get(name)
    if known is None:
        state.cancels[name] = True
        while len(state.cancels) > CANCELS_MAX:
            del state.cancels[next(iter(state.cancels))]
        return
    # A task that waits for a person's decision is held here: a cancel is a decision.
    cause = known.cause if known.asking is None else fact.id
    state.tasks[name] = msgspec.structs.replace(known, cancelled=True, cause=cause)


def _moved(
    state: Router,
    known: Known,
    fact: TaskReady | TaskDecision | TaskRouted | QuotaRefused | AttemptFailed | AttemptInterrupted,
) -> Known:
    """Return the task after `fact`: the baton went on, or came back."""
    match fact:
        case TaskRouted():
            return msgspec.structs.replace(known, cause="", attempt=fact.attempt, policy=fact.on_interrupt, said_seq=fact.seq)
        case QuotaRefused():
            # What nobody may do any more, others may: it is routed anew, under the settings of now.
            ended = fact.fault if fact.fault.error_class == "cancelled" else None
            return msgspec.structs.replace(known, cause=fact.id, ended=ended)
        case AttemptFailed() | AttemptInterrupted():
            return _after_attempt(state, known, fact)
        case TaskDecision() if known.asking is not None and fact.attempt == known.asking.attempt:
            return _decided(known, known.asking, fact)
        case _:
            return known


def _decided(known: Known, asking: AttemptInterrupted, decision: TaskDecision) -> Known:
    """Take the baton back with a person's word: the first one counts, nobody is asked any more."""
    ended = accepted = None
    if decision.decision == "accept" and (asking.partial_output or asking.partial_ref is not None):
        accepted = asking
    elif decision.decision == "accept":
        ended = Fault(error_class="policy", message="There was no partial output that could be accepted.")
    elif decision.decision == "fail":
        ended = Fault(error_class="policy", message="Ended by decision.")
    return msgspec.structs.replace(known, cause=decision.id, asking=None, ended=ended, accepted=accepted, at_ms=decision.at_ms)


def _after_attempt(state: Router, known: Known, fact: AttemptFailed | AttemptInterrupted) -> Known:
    """Take the baton back, remembering who failed, how, and when he may be asked again."""
    if known.cause or fact.attempt != known.attempt:
        return known
    before = known.failures.get(fact.platform)
    tries = (before.tries if before else 0) + (fact.fault.error_class != "rate_limited")
    asked = fact.retry_after_ms if isinstance(fact, AttemptFailed) else None
    wait_ms = BACKOFF_MS * 2 ** min(tries, 10) // 2 if asked is None else asked
    failure = Failure(fact.platform, fact.fault.error_class, fact.fault.message, tries, fact.at_ms + wait_ms)
    failures = {**known.failures, fact.platform: failure}
    billed = known.billed + (fact.charged != "none")
    ended = asking = None
    if isinstance(fact, AttemptInterrupted):
        ended, asking = _interrupted(state, known, fact)
    if ended is None and billed >= state.settings.billed_attempts_max:
        ended = Fault(
            error_class="exhausted",
            message=f"{billed} attempts may have been charged, no more are allowed. {_tried(failures)}"[:4000],
        )
        asking = None
    return msgspec.structs.replace(
        known,
        cause="" if asking is not None and not known.cancelled else fact.id,
        at_ms=fact.at_ms,
        billed=billed,
        lanes={**known.lanes, fact.platform: fact.seq},
        failures=failures,
        ended=ended,
        asking=asking,
    )


def _interrupted(state: Router, known: Known, fact: AttemptInterrupted) -> tuple[Fault | None, AttemptInterrupted | None]:
    """Return the end, or the attempt to ask about; neither where it may simply be repeated.

    The task's own policy counts, else that of the platform that was interrupted: it need not be the one asked for first.
    """
    platform = state.settings.platforms.get(fact.platform)
    policy = known.policy if platform is None else _policy(known, platform)
    if fact.charged == "none" or policy == "retry":
        return None, None
    if policy == "ask":
        return None, fact
    return fact.fault, None


def _policy(known: Known, platform: PlatformSettings) -> OnInterrupt:
    return known.on_interrupt or platform.policy_for(known.timeout_s, known.directory)


def asks(state: Router) -> list[AttemptInterrupted]:
    """Return the interrupted attempts that wait for a person's decision, the oldest first."""
    return [known.asking for known in state.tasks.values() if known.asking is not None]


def _name(fact: Heard | TaskRouted | TaskCompleted) -> str:
    return ".".join(fact.key)


ACTOR = Actor(name="router", new=Router, decide=decide, evolve=evolve, asks=asks, version=2)
