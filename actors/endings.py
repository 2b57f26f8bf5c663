"""How the router ends a task that nobody does: each platform that was tried and why it failed, or why none may. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from actors.filters import Against, Rules, falls_back
from actors.ranking import Ranked
from actors.routes import Failure, Known, Router
from farebox.core.events import AttemptInterrupted, TaskCompleted
from farebox.core.rejections import explained
from farebox.core.terms import Fault, Rejected

MESSAGE_CHARS_MAX = 4000


def envelope(known: Known) -> dict[str, Any]:
    """Return what each of the router's facts about a task says."""
    return {"cause": known.cause, "prev": known.said_seq, "batch": known.batch, "traceparent": known.traceparent}


def ended(known: Known, fault: Fault) -> TaskCompleted:
    """End a task that was cancelled or failed, and name who was tried."""
    tried = tuple(Rejected(platform=f.platform, reason=f"{f.error_class}: {f.message}") for f in known.failures.values())
    return TaskCompleted(
        **envelope(known),
        attempt=known.attempt,
        status="cancelled" if fault.error_class == "cancelled" else "failed",
        fault=fault,
        tried=tried,
    )


def taken_for_the_answer(known: Known, accepted: AttemptInterrupted) -> TaskCompleted:
    """End a task with what its interrupted attempt had said. What that may have cost was booked with the attempt."""
    return TaskCompleted(
        **envelope(known),
        attempt=known.attempt,
        status="completed",
        output=accepted.partial_output,
        output_ref=accepted.partial_ref,
        duration_ms=accepted.duration_ms,
        finish_reason="accepted",
        worktree=accepted.worktree,
        base_commit=accepted.base_commit,
    )


def nobody(state: Router, known: Known, rules: Rules, ranked: Ranked) -> Fault:
    """Say why a task cannot go on."""
    if known.hint and known.hint not in state.settings.platforms:
        return Fault(error_class="invalid", message=f"There is no platform {known.hint!r}.")
    if known.failures:
        failures = tuple(known.failures.values())
        error_class = failures[0].error_class if len(failures) == 1 else "exhausted"
        unpaid = next((f" Not paid for: {one.reason}." for one in ranked.against if one.kind == "quota"), "")
        return Fault(error_class=error_class, message=f"{tried(known.failures)}{unpaid}"[:MESSAGE_CHARS_MAX])
    kinds = {one.kind for one in ranked.against}
    if kinds == {"window"}:
        return Fault(error_class="context_too_long", message=_too_long(ranked.against, ranked.rejected))
    asked_for = "" if falls_back(known, rules) else known.hint
    message = explained(ranked.rejected, asked_for=asked_for, hint=known.hint, directory=known.directory)
    error_class = "policy" if kinds else "unavailable"
    return Fault(error_class=error_class, message=message[:MESSAGE_CHARS_MAX])


def _too_long(against: Sequence[Against], rejected: Sequence[Rejected]) -> str:
    widest = max(against, key=lambda one: one.window)
    who = next(one.platform for one in rejected if one.reason == widest.reason)
    return f"The task is too long for all that may do it. The widest window is that of {who}: {widest.reason}."


def tried(failures: Mapping[str, Failure]) -> str:
    """Return in one sentence who was tried, and how each failed."""
    return "Tried " + "; ".join(f"{f.platform}: {f.error_class}: {f.message}" for f in failures.values())
