"""Adapter: carries one reserved attempt from intent to outcome. Pure; the runtime makes the call and keeps the spool.

Its state is one attempt, folded from what its lane and the client said about the task, read back by exact subject. Facts are
fenced over the lane, so a frozen adapter that wakes up loses, and its paid answer becomes a LateResult.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from farebox.core.actor import Actor
from farebox.core.events import (
    AttemptFailed,
    AttemptInterrupted,
    Ending,
    LateResult,
    QuotaReserved,
    TaskCancelRequested,
    TaskCompleted,
    TaskStarted,
    TaskSubmitted,
)
from farebox.core.framing import framed
from farebox.core.platform import Ask, CallEnded
from farebox.core.settings import PlatformSettings
from farebox.core.terms import Fault
from farebox.core.tokens import estimate
from farebox.core.wire import submission_sha256


class Attempt(Struct):
    """What the log says about one attempt. `started` is the lane's last TaskStarted, `ended` its last ending."""

    reserved: QuotaReserved | None = None
    submitted: TaskSubmitted | None = None
    started: TaskStarted | None = None
    ended: TaskCompleted | AttemptFailed | AttemptInterrupted | None = None
    cancelled: bool = False
    never_sent: bool = False

    @property
    def lane_seq(self) -> int:
        """The last sequence known in the lane."""
        return max((fact.seq for fact in (self.started, self.ended) if fact is not None), default=0)


Said = TaskStarted | TaskCompleted | AttemptFailed | AttemptInterrupted | LateResult


def decide(state: Attempt, heard: QuotaReserved | CallEnded) -> Sequence[Said]:
    """Begin a reserved attempt, or take over what another left behind, or record how a call ended."""
    match heard:
        case QuotaReserved():
            said = _begin(state, heard)
        case CallEnded():  # pragma: no branch - there is no other kind
            said = _finish(state, heard)
    return [] if said is None else [said]


def _begin(state: Attempt, reserved: QuotaReserved) -> Said | None:
    if state.ended is not None and state.ended.attempt >= reserved.attempt:
        return None
    if state.started is not None and state.started.attempt >= reserved.attempt:
        return _abandoned(state, state.started) if state.started.attempt == reserved.attempt else None
    if state.cancelled:
        return TaskCompleted(
            **_envelope(reserved), status="cancelled", fault=Fault(error_class="cancelled", message="Cancelled.")
        )
    if state.submitted is None or submission_sha256(state.submitted) != reserved.submission_sha256:
        message = "The submission is not the one that was routed." if state.submitted else "The submission is not in the log."
        return AttemptFailed(**_envelope(reserved), fault=Fault(error_class="damaged", message=message))
    return TaskStarted(
        **_envelope(reserved),
        timeout_s=reserved.timeout_s,
        on_interrupt=reserved.on_interrupt,
        worktree=f"{reserved.task}-{reserved.attempt}" if state.submitted.worktree else "",
        input_tokens_estimate=_input_tokens(state.submitted),
        output_tokens_max=reserved.output_tokens_max if state.submitted.max_tokens is None else None,
    )


def _abandoned(state: Attempt, started: TaskStarted) -> AttemptInterrupted:
    """Book an attempt whose adapter is gone. Without a mark that it was about to send, nothing was billed."""
    kept = f" What it did stands in its worktree {started.worktree}." if started.worktree and not state.never_sent else ""
    return AttemptInterrupted(
        **_after(started),
        worktree=started.worktree if kept else "",
        reason="crash",
        charged="none" if state.never_sent else "possible",
        fault=Fault(error_class="crashed", message=f"The adapter stopped before the outcome was recorded.{kept}"),
    )


def _finish(state: Attempt, call: CallEnded) -> Said | None:
    """Record an outcome, or a late one where the lane went on without us."""
    started = state.started
    if started is None or started.seq != call.epoch:
        return _late(state, call)
    # By sequence, not by epoch: who ends an attempt that never started has no epoch, and the lane went on all the same.
    if state.ended is not None and state.ended.seq > started.seq:
        return None if state.ended.cause == started.id and not _lost(state.ended) else _late(state, call)
    return _outcome(started, call)


def _lost(ended: Ending) -> bool:
    """Whether the ending was written by somebody who did not know the outcome."""
    return isinstance(ended, AttemptInterrupted) and ended.reason in {"crash", "fenced"}


def _outcome(started: TaskStarted, call: CallEnded) -> TaskCompleted | AttemptFailed | AttemptInterrupted:
    verdict = call.verdict
    told: dict[str, Any] = {**_after(started), **_told(call), "charged": verdict.charged}
    if verdict.ok:
        return TaskCompleted(
            **told,
            status="completed",
            output=call.text,
            output_ref=call.text_ref,
            finish_reason=verdict.finish_reason,
            **_files(call),
        )
    told["partial_output"], told["partial_ref"] = call.text, call.text_ref
    fault = verdict.fault or Fault(error_class="invalid", message="The platform gave no reason.")
    if fault.error_class == "cancelled":
        return TaskCompleted(**told, **_files(call), status="cancelled", fault=fault)
    if fault.error_class == "timeout":
        return TaskCompleted(**told, **_files(call), status="failed", fault=fault)
    if verdict.charged == "possible":
        return AttemptInterrupted(**told, reason="stall", fault=fault)
    return AttemptFailed(**told, fault=fault, retry_after_ms=verdict.retry_after_ms)


def _late(state: Attempt, call: CallEnded) -> LateResult | None:
    """Book a paid answer that came after the lane had gone on; an unpaid one changes nothing.

    Who finds it on his disk after a restart may have no reservation any more: then the lane's last start tells the rest.
    """
    known = _envelope(state.reserved) if state.reserved else _after(state.started) if state.started else None
    if call.verdict.charged == "none" or known is None:
        return None
    told: dict[str, Any] = {**known, **_told(call), "charged": call.verdict.charged}
    told |= {"cause": call.cause, "epoch": call.epoch, "attempt": call.attempt}
    return LateResult(**told, output=call.text, output_ref=call.text_ref, fault=call.verdict.fault)


def _envelope(reserved: QuotaReserved) -> dict[str, Any]:
    return {
        "chain": reserved.chain,
        "task": reserved.task,
        "cause": reserved.id,
        "attempt": reserved.attempt,
        "batch": reserved.batch,
        "traceparent": reserved.traceparent,
        "platform": reserved.platform,
        "model": reserved.model,
        "billing": reserved.billing,
    }


def _after(started: TaskStarted) -> dict[str, Any]:
    return {
        "chain": started.chain,
        "task": started.task,
        "cause": started.id,
        "epoch": started.seq,
        "attempt": started.attempt,
        "batch": started.batch,
        "traceparent": started.traceparent,
        "platform": started.platform,
        "model": started.model,
        "billing": started.billing,
    }


def _told(call: CallEnded) -> dict[str, Any]:
    told: dict[str, Any] = {
        "usage": call.verdict.usage,
        "provider_usd": call.verdict.provider_usd,
        "duration_ms": call.duration_ms,
        "calls": call.calls,
        "worktree": call.verdict.worktree,
        "base_commit": call.verdict.base_commit,
    }
    return told | ({"model": call.verdict.model} if call.verdict.model else {})


def _files(call: CallEnded) -> dict[str, Any]:
    verdict = call.verdict
    return {
        "files_created": verdict.files_created,
        "files_changed": verdict.files_changed,
        "files_more": verdict.files_more,
    }


def evolve(
    state: Attempt,
    fact: QuotaReserved
    | TaskSubmitted
    | TaskCancelRequested
    | TaskStarted
    | TaskCompleted
    | AttemptFailed
    | AttemptInterrupted
    | LateResult,
) -> Attempt:
    """Fold one fact of the lane, or of the client about the task."""
    match fact:
        case QuotaReserved():
            state.reserved = fact
        case TaskSubmitted():
            state.submitted = fact
        case TaskCancelRequested():
            state.cancelled = True
        case TaskStarted():
            state.started = fact
        case TaskCompleted() | AttemptFailed() | AttemptInterrupted():
            state.ended = fact
        case LateResult():  # pragma: no branch - there is no other kind
            pass
    return state


def perform(state: Attempt, started: TaskStarted, settings: PlatformSettings) -> Ask:
    """Return what to ask the platform, now that the intent is in the log. Files and context are framed into the prompt.

    Where money is bounded, so is the answer: what was reserved for it would not hold otherwise.
    """
    assert state.submitted is not None, "an attempt starts only with its submission"
    task = state.submitted
    if started.output_tokens_max:
        task = msgspec.structs.replace(task, max_tokens=started.output_tokens_max)
    return Ask(
        platform=started.platform,
        settings=settings,
        model=started.model,
        prompt=framed(task.prompt, task.context, task.files),
        system=task.system,
        task=task,
    )


def _input_tokens(task: TaskSubmitted) -> int:
    """Return about how many tokens will be read; contents in the object store count by their bytes."""
    refs = [task.prompt_ref, task.context_ref, *(file.ref for file in task.files)]
    stored = sum(ref.bytes for ref in refs if ref is not None)
    return estimate(task.system + framed(task.prompt, task.context, task.files)) + stored * 2 // 7


ACTOR = Actor(name="adapter", new=Attempt, decide=decide, evolve=evolve, perform=perform)
