"""Router: says who may do a task, cheapest first, and ends tasks that nobody can do. Pure.

It holds the baton from the submission to its TaskRouted, and again after a failed or interrupted attempt. What it knows is
in routes.py, who is out and why in filters.py, the order in ranking.py, what it learns in lessons.py, ends in endings.py.
"""

from __future__ import annotations

import msgspec

from actors import lessons, ranking
from actors.endings import MESSAGE_CHARS_MAX, ended, envelope, nobody, taken_for_the_answer, tried
from actors.routes import NO_CONSTRAINTS, Failure, Known, Router
from farebox.core.actor import Actor, Quarantined
from farebox.core.events import (
    AttemptFailed,
    AttemptInterrupted,
    PlatformReported,
    PriceListAdopted,
    QuotaRefused,
    SettingsAdopted,
    TaskCancelRequested,
    TaskCompleted,
    TaskDecision,
    TaskReady,
    TaskRouted,
    TaskSubmitted,
)
from farebox.core.pricing import adopted
from farebox.core.settings import PlatformSettings, restore, unread
from farebox.core.terms import ErrorClass, Fault, OnInterrupt
from farebox.core.tokens import of_task
from farebox.core.wire import submission_sha256

CANCELS_MAX = 10_000
"""Cancels of tasks not seen yet that are remembered; the oldest go first."""
BACKOFF_MS = 1_000
"""First wait before a platform that failed is tried again; doubles each time."""
LAST_WORDS: frozenset[ErrorClass] = frozenset({"cancelled", "quota_exhausted", "policy"})
"""Refusals of quota that end a task: no other route would help."""

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
    said = end or _route(state, _name(heard), known)
    if end is None and state.unread and isinstance(said, TaskCompleted):
        return []  # Somebody may do it under settings that this farebox does not know: it is left to one that does.
    return [msgspec.structs.replace(said, chain=chain, task=task)]


def _end_early(known: Known) -> TaskCompleted | None:
    """End a task that must not go on, whatever platforms there are."""
    if known.cancelled:
        return ended(known, Fault(error_class="cancelled", message="Cancelled."))
    if known.accepted is not None:
        return taken_for_the_answer(known, known.accepted)
    if known.ended is not None:
        return ended(known, known.ended)
    if known.unsupported:
        return ended(known, Fault(error_class="unsupported", message=known.unsupported))
    return None


def _route(state: Router, name: str, known: Known) -> TaskRouted | TaskCompleted:
    task = ranking.asked(state, name, known)
    ranked = ranking.rank(state, task)
    candidates = ranked.candidates
    if not candidates or known.attempt >= state.settings.attempts_max:
        return ended(known, nobody(state, known, task.rules, ranked))
    return TaskRouted(
        **envelope(known),
        attempt=known.attempt + 1,
        submission_sha256=known.submission_sha256,
        candidates=candidates,
        rejected=ranked.rejected,
        priority=known.priority,
        timeout_s=known.timeout_s,
        on_interrupt=_policy(known, state.settings.platforms[candidates[0].platform]),
        allowance=ranking.allowance(state, task, candidates),
    )


def evolve(
    state: Router, fact: Heard | SettingsAdopted | PriceListAdopted | PlatformReported | TaskRouted | TaskCompleted
) -> Router:
    """Fold one fact. What it teaches for other tasks is folded last, and not here: a fact that breaks touches its own task."""
    match fact:
        case SettingsAdopted():
            state.settings = restore(fact.settings)
            state.unread = bool(unread(fact.settings))
            state.forget()
        case PriceListAdopted():
            state.prices = adopted(fact.list_id, fact.prices)
        case PlatformReported():
            state.reports[fact.platform] = fact
            state.forget()
        case TaskSubmitted() | Quarantined():
            return _meet(state, fact)
        case TaskCancelRequested():
            _cancel(state, fact)
        case _:
            known = state.tasks.get(_name(fact))
            if known is not None:
                return _move(state, _name(fact), known, fact)
    return state


def _meet(state: Router, fact: TaskSubmitted | Quarantined) -> Router:
    """Take a new task's baton. The first submission of a task counts; a cancel that came before it counts too."""
    name = _name(fact)
    if name in state.tasks:
        return state
    cancelled = state.cancels.pop(name, False)
    if isinstance(fact, Quarantined):
        fault = Fault(
            error_class="quarantined", message=f"The submission cannot be believed: {fact.reason}"[:MESSAGE_CHARS_MAX]
        )
        state.tasks[name] = Known(cause=fact.id, submission_sha256="0" * 64, at_ms=fact.at_ms, ended=fault)
        return state
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
        type=fact.type,
        tags=fact.tags,
        max_tokens=fact.max_tokens,
        tokens=of_task(fact),
        constraints=NO_CONSTRAINTS if fact.constraints == NO_CONSTRAINTS else fact.constraints,
    )
    return lessons.took(state, name, fact.at_ms)


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


def _move(
    state: Router,
    name: str,
    known: Known,
    fact: TaskReady | TaskDecision | TaskRouted | QuotaRefused | AttemptFailed | AttemptInterrupted | TaskCompleted,
) -> Router:
    """Fold what was said about a task that has not ended: the baton went on, or came back."""
    match fact:
        case TaskRouted():
            state.tasks[name] = msgspec.structs.replace(
                known, cause="", attempt=fact.attempt, policy=fact.on_interrupt, said_seq=fact.seq
            )
            return lessons.gave(state, name, fact)
        case QuotaRefused():
            # What nobody may do any more, others may: it is routed anew, under the settings of now.
            last_word = fact.fault if fact.fault.error_class in LAST_WORDS else None
            state.tasks[name] = msgspec.structs.replace(known, cause=fact.id, ended=last_word, at_ms=fact.at_ms)
            return lessons.took(state, name, fact.at_ms)
        case AttemptFailed() | AttemptInterrupted():
            after = state.tasks[name] = _after_attempt(state, known, fact)
            return state if after is known else lessons.failed(state, name, known, fact)
        case TaskCompleted():
            del state.tasks[name]
            return lessons.completed(state, name, known, fact)
        case TaskDecision() if known.asking is not None and fact.attempt == known.asking.attempt:
            state.tasks[name] = _decided(known, known.asking, fact)
            return lessons.took(state, name, fact.at_ms)
        case _:
            return state


def _decided(known: Known, asking: AttemptInterrupted, decision: TaskDecision) -> Known:
    """Take the baton back with a person's word: the first one counts, nobody is asked any more."""
    end = accepted = None
    if decision.decision == "accept" and (asking.partial_output or asking.partial_ref is not None):
        accepted = asking
    elif decision.decision == "accept":
        end = Fault(error_class="policy", message="There was no partial output that could be accepted.")
    elif decision.decision == "fail":
        end = Fault(error_class="policy", message="Ended by decision.")
    return msgspec.structs.replace(known, cause=decision.id, asking=None, ended=end, accepted=accepted, at_ms=decision.at_ms)


def _after_attempt(state: Router, known: Known, fact: AttemptFailed | AttemptInterrupted) -> Known:
    """Take the baton back, remembering who failed, how, and when he may be asked again."""
    if known.cause or fact.attempt != known.attempt:
        return known
    before = known.failures.get(fact.platform)
    tries = (before.tries if before else 0) + (fact.fault.error_class != "rate_limited")
    asked = fact.retry_after_ms if isinstance(fact, AttemptFailed) else None
    wait_ms = BACKOFF_MS * 2 ** min(tries, 10) // 2 if asked is None else asked
    told = asked is not None
    failure = Failure(fact.platform, fact.fault.error_class, fact.fault.message, tries, fact.at_ms + wait_ms, told)
    failures = {**known.failures, fact.platform: failure}
    billed = known.billed + (fact.charged != "none")
    end = asking = None
    if isinstance(fact, AttemptInterrupted):
        end, asking = _interrupted(state, known, fact)
    if end is None and billed >= state.settings.billed_attempts_max:
        end = Fault(
            error_class="exhausted",
            message=f"{billed} attempts may have been charged, no more are allowed. {tried(failures)}"[:MESSAGE_CHARS_MAX],
        )
        asking = None
    return msgspec.structs.replace(
        known,
        cause="" if asking is not None and not known.cancelled else fact.id,
        at_ms=fact.at_ms,
        billed=billed,
        lanes={**known.lanes, fact.platform: fact.seq},
        failures=failures,
        ended=end,
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


ACTOR = Actor(name="router", new=Router, decide=decide, evolve=evolve, asks=asks, version=3)
