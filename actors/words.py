"""What quota tells people: which quota or budget, how much is used, of how much, until when, and what to type. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from actors.capacity import Claim, Quota, Why
from actors.rules import told
from farebox.core.rejections import BUDGET_USED, UNPRICED
from farebox.core.terms import ErrorClass, Fault

if TYPE_CHECKING:
    from actors.turns import Standing


def never(part: Claim) -> Why:
    """Return why a candidate is out for a task."""
    quota, amount = part.rule.quota, part.amount
    if amount is None:
        return (
            "policy",
            f"{quota} bounds what this may cost, and it has no price: name one in the price list, or type {UNPRICED}",
        )
    if part.rule.unit != "usd":
        return "quota_exhausted", f"{quota}: {told(amount)} needed, the limit is {told(part.limit or 0)}"
    return "policy", f"{_used(part)}; up to {_dollars(amount)} more is needed. {_raise(quota)}"


def fault_of(outs: dict[str, Why]) -> Fault:
    """Return why nobody may do a task for lack of quota."""
    error_class: ErrorClass = "policy" if any(kind == "policy" for kind, _ in outs.values()) else "quota_exhausted"
    return Fault(error_class=error_class, message="; ".join(f"{name}: {why}" for name, (_, why) in outs.items())[:4000])


def waits(part: Claim, due_ms: int) -> str:
    """Return what a task waits for."""
    more = f"{told(part.amount or 0)} more needed"
    return f"{_used(part)}, {more}; room {_at(due_ms)}"


def stopped(found: Sequence[Standing]) -> Fault:
    """Return why a task that shall not wait ends."""
    told_of = [f"{one.platform}: {waits(one.block.part, one.due_ms)}" for one in found if one.block is not None]
    message = "; ".join(told_of) + ". It was to stop where it would have to wait: --on-quota wait|spill lets it go on"
    return Fault(error_class="quota_exhausted", message=message[:4000])


def evidence(state: Quota, quota: str) -> str:
    """Return where the use of a quota is known from."""
    known = state.uses.learned.get(quota)
    if known is not None and known.used is not None and state.now_ms < known.until_ms:
        return f"{known.said or 'reported'} {max(state.now_ms - known.at_ms, 0) / 1000:.1f} s ago"
    grants = state.uses.calls(quota, state.now_ms) + sum(
        any(name == quota for name, _ in one.parts) for one in (*state.holds.values(), *state.booked.values())
    )
    return f"own count of {grants} grants"


def _used(part: Claim) -> str:
    if part.rule.unit == "usd":
        return f"{part.rule.quota}: {_dollars(part.used)} of {_dollars(part.limit or 0)} {BUDGET_USED}"
    return f"{part.rule.quota}: {told(part.used)} of {told(part.limit or 0)} used"


def _dollars(amount: int) -> str:
    return f"${told(amount)}"


def _raise(quota: str) -> str:
    """Return what to type where a budget is in the way."""
    name = quota.removeprefix("budget:").split("/")[0].split("=")[0]
    if name in {"task", "batch", "chain"} and "=" in quota:
        return "Submit it with a larger --max-cost, or bound its answer with --max-tokens."
    return f"Raise limit_usd of [budgets.{name}] in farebox.toml, or bound its answer with --max-tokens."


def _at(due_ms: int) -> str:
    if not due_ms:
        return "at a time that nobody knows"
    return "from " + datetime.fromtimestamp(min(due_ms, 253_000_000_000_000) / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
