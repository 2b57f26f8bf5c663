"""What a batch came to: counts, success rate, money, tokens and time, whole and by platform. Unknown is never zero."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from msgspec import Struct

from farebox.core import money
from farebox.core.results import Result

REHEARSAL = "rehearsal"
MONEY = ("paid_usd", "plan_value_usd", "possible_usd", "possible_unknown", "unpriced")
NOWHERE = "-"
"""The platform of tasks that never reached one."""


class Sum(Struct, frozen=True, kw_only=True):
    """Sums over tasks. Money in US dollars: None when no task had any; `unpriced` counts tasks of unknown cost.

    `possible_unknown` counts tasks that may have cost more, and nobody knows how much.
    """

    count: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    paid_usd: Decimal | None = None
    plan_value_usd: Decimal | None = None
    possible_usd: Decimal | None = None
    possible_unknown: int = 0
    unpriced: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    tokens_unknown: int = 0
    duration_s: float = 0.0

    @property
    def success_rate(self) -> float | None:
        """The share of tasks that completed (0 to 1), None without any."""
        return self.completed / self.count if self.count else None


class Aggregate(Sum, frozen=True, kw_only=True):
    """Sums over a whole batch, and by platform.

    Rehearsal dollars never join real ones: they are summed apart, unless the whole batch was `rehearsed`.
    """

    batch_id: str = ""
    platforms: dict[str, Sum] = {}
    rehearsed: bool = False
    rehearsal_usd: Decimal | None = None


def aggregate(results: Iterable[Result], batch_id: str = "") -> Aggregate:
    """Return the sums over `results`."""
    known = list(results)
    by_platform: dict[str, list[Result]] = {}
    for result in known:
        by_platform.setdefault(result.platform or NOWHERE, []).append(result)
    played = [result for result in known if result.billing == REHEARSAL]
    real = [result for result in known if result.billing not in {REHEARSAL, ""}]
    fields = {name: getattr(_sum(known), name) for name in Sum.__struct_fields__}
    fields |= {name: getattr(_sum(real or played or known), name) for name in MONEY}
    return Aggregate(
        batch_id=batch_id,
        platforms={name: _sum(by_platform[name]) for name in sorted(by_platform)},
        rehearsed=bool(played) and not real,
        rehearsal_usd=_total(result.cost.paid_usd for result in played),
        **fields,
    )


def _sum(results: list[Result]) -> Sum:
    return Sum(
        count=len(results),
        completed=_count(results, "completed"),
        failed=_count(results, "failed"),
        cancelled=_count(results, "cancelled"),
        paid_usd=_total(result.cost.paid_usd for result in results),
        plan_value_usd=_total(result.cost.plan_value_usd for result in results),
        possible_usd=_total(result.cost.possible_usd for result in results),
        possible_unknown=sum(_unbounded(result) for result in results),
        unpriced=sum(result.cost.status == "unpriced" for result in results),
        input_tokens=sum(result.usage.input_tokens or 0 for result in results),
        output_tokens=sum(result.usage.output_tokens or 0 for result in results),
        tokens_unknown=sum(result.attempts > 0 and result.usage.output_tokens is None for result in results),
        duration_s=sum(result.duration_s or 0.0 for result in results),
    )


def _unbounded(result: Result) -> bool:
    return result.cost.status == "possible" and result.cost.possible_usd is None and result.billing != REHEARSAL


def _count(results: list[Result], status: str) -> int:
    return sum(result.status == status for result in results)


def _total(amounts: Iterable[str | None]) -> Decimal | None:
    known = [amount for amount in map(money.maybe, amounts) if amount is not None]
    return money.total(known) if known else None
