"""Aggregator: says when a batch is done: every task has ended, every attempt that may have cost something is priced. Pure."""

from __future__ import annotations

from decimal import Decimal

import msgspec
from msgspec import Struct

from farebox.core import money
from farebox.core.actor import Actor
from farebox.core.events import (
    AttemptFailed,
    AttemptInterrupted,
    BatchCompleted,
    BatchSubmitted,
    CostRecorded,
    Ending,
    Fact,
    LateResult,
    PlatformSum,
    TaskCompleted,
)
from farebox.core.terms import EndStatus


class Ended(Struct, frozen=True, gc=False):
    """One task's end, as the sums need it."""

    status: EndStatus
    platform: str


class Worked(Struct, frozen=True, gc=False):
    """What one attempt used, booked or not."""

    platform: str
    input_tokens: int
    output_tokens: int
    duration_ms: int
    charge_due: bool


class Batch(Struct):
    """A batch that is not done. Costs are kept by attempt, because a later one supersedes."""

    submitted: BatchSubmitted | None = None
    tasks: dict[str, Ended] = msgspec.field(default_factory=dict[str, Ended])
    attempts: dict[str, Worked] = msgspec.field(default_factory=dict[str, Worked])
    costs: dict[str, CostRecorded] = msgspec.field(default_factory=dict[str, CostRecorded])
    uncharged: int = 0
    as_of_seq: int = 0


class Aggregator(Struct):
    """Batches that are not done."""

    batches: dict[str, Batch] = msgspec.field(default_factory=dict[str, Batch])


def decide(state: Aggregator, heard: BatchSubmitted | TaskCompleted | CostRecorded) -> list[BatchCompleted]:
    """Say BatchCompleted at the moment the last end and the last charge are there."""
    batch = state.batches.get(heard.batch)
    if batch is None or batch.submitted is None or batch.uncharged or len(batch.tasks) < batch.submitted.count:
        return []
    return [_completed(batch, batch.submitted)]


def _completed(batch: Batch, submitted: BatchSubmitted) -> BatchCompleted:
    statuses = [ended.status for ended in batch.tasks.values()]
    possible = [cost for cost in batch.costs.values() if cost.status == "possible"]
    booked = [cost for cost in batch.costs.values() if cost.status != "possible"]
    return BatchCompleted(
        batch=submitted.batch,
        cause=submitted.id,
        count=len(batch.tasks),
        completed=statuses.count("completed"),
        failed=statuses.count("failed"),
        cancelled=statuses.count("cancelled"),
        paid_usd=_sum([cost.paid_usd for cost in booked]),
        plan_value_usd=_sum([cost.plan_value_usd for cost in booked]),
        possible_usd=_sum([cost.paid_usd for cost in possible]),
        unpriced=sum(cost.status == "unpriced" for cost in batch.costs.values()),
        input_tokens=sum(worked.input_tokens for worked in batch.attempts.values()),
        output_tokens=sum(worked.output_tokens for worked in batch.attempts.values()),
        duration_ms=sum(worked.duration_ms for worked in batch.attempts.values()),
        platforms={name: _platform_sum(batch, name) for name in _platforms(batch)},
        as_of_seq=batch.as_of_seq,
    )


def _platforms(batch: Batch) -> list[str]:
    return sorted({worked.platform for worked in batch.attempts.values()})


def _platform_sum(batch: Batch, platform: str) -> PlatformSum:
    ended = [end for end in batch.tasks.values() if end.platform == platform]
    worked = [work for work in batch.attempts.values() if work.platform == platform]
    costs = [cost for cost in batch.costs.values() if cost.platform == platform and cost.status != "possible"]
    return PlatformSum(
        tasks=len(ended),
        completed=sum(end.status == "completed" for end in ended),
        paid_usd=_sum([cost.paid_usd for cost in costs]),
        plan_value_usd=_sum([cost.plan_value_usd for cost in costs]),
        input_tokens=sum(work.input_tokens for work in worked),
        output_tokens=sum(work.output_tokens for work in worked),
        duration_ms=sum(work.duration_ms for work in worked),
    )


def _sum(amounts: list[str | None]) -> str | None:
    """Return the sum of what is known, None where nothing is."""
    known: list[Decimal] = [money.parse(amount) for amount in amounts if amount is not None]
    return money.text(money.total(known)) if known else None


def evolve(
    state: Aggregator,
    fact: BatchSubmitted | TaskCompleted | AttemptFailed | AttemptInterrupted | LateResult | CostRecorded | BatchCompleted,
) -> Aggregator:
    """Fold one fact; what belongs to no batch, or to one that is done, is nobody's here."""
    if not fact.batch:
        return state
    if isinstance(fact, BatchSubmitted):
        state.batches.setdefault(fact.batch, Batch()).submitted = fact
    batch = state.batches.get(fact.batch)
    if batch is None:
        return state
    batch.as_of_seq = fact.seq
    match fact:
        case BatchSubmitted():
            pass
        case BatchCompleted():
            del state.batches[fact.batch]
        case CostRecorded():
            _book(batch, fact)
        case _:
            _end(batch, fact)
    return state


def _end(batch: Batch, fact: Ending) -> None:
    if isinstance(fact, TaskCompleted):
        batch.tasks.setdefault(fact.task, Ended(fact.status, fact.platform))
    if fact.platform == "-":
        return
    name = f"{fact.task}.{fact.attempt}"
    before = batch.attempts.get(name)
    if before is not None and before.charge_due and name not in batch.costs:
        batch.uncharged -= 1
    due = fact.chargeable and name not in batch.costs
    usage = fact.usage
    batch.attempts[name] = Worked(
        platform=fact.platform,
        input_tokens=(usage.input_tokens or 0) if usage else 0,
        output_tokens=(usage.output_tokens or 0) if usage else 0,
        duration_ms=fact.duration_ms,
        charge_due=fact.chargeable,
    )
    batch.uncharged += due


def _book(batch: Batch, fact: CostRecorded) -> None:
    name = f"{fact.task}.{fact.attempt}"
    worked = batch.attempts.get(name)
    if worked is not None and worked.charge_due and name not in batch.costs:
        batch.uncharged -= 1
    batch.costs[name] = fact


def by_batch(fact: Fact) -> tuple[str, str]:
    """Decide one batch after the other, not one task."""
    return ("", fact.batch)


ACTOR = Actor(name="aggregator", new=Aggregator, decide=decide, evolve=evolve, key=by_batch)
