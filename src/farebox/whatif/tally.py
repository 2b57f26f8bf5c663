"""What became of tasks, by platform: work, money, waits, when each window emptied. For what happened as for what would."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from msgspec import Struct

from farebox.core import money
from farebox.core.events import CostRecorded, Fact, QuotaDeferred, QuotaReserved, TaskCompleted, TaskStarted, TaskSubmitted
from farebox.core.ids import NONE
from farebox.core.terms import Billing

EMPTIED_MAX = 100
"""Moments at which a window emptied that are remembered of each quota."""


class Share(Struct):
    """What one platform did. Waits are milliseconds from the submission to the first start."""

    platform: str
    billing: Billing = "metered"
    attempts: int = 0
    completed: int = 0
    failed: int = 0
    waits: int = 0
    wait_sum_ms: int = 0
    wait_max_ms: int = 0


class Tally:
    """Takes facts in log order. A later charge of an attempt takes the place of the one before."""

    def __init__(self) -> None:
        self.shares: dict[str, Share] = {}
        self.tasks = self.ended_without = 0
        self.emptied: dict[str, list[int]] = {}
        self.runs: dict[tuple[str, str], list[str]] = {}
        self._full: dict[str, bool] = {}
        self._used: dict[str, Decimal] = {}
        self._met: set[tuple[str, str]] = set()
        self._waiting: dict[tuple[str, str], int] = {}
        self._costs: dict[tuple[str, str, int], CostRecorded] = {}

    def take(self, fact: Fact) -> None:
        """Take the next fact."""
        match fact:
            case TaskSubmitted():
                if fact.key not in self._met:
                    self._met.add(fact.key)
                    self.tasks += 1
                    self._waiting[fact.key] = fact.at_ms
            case QuotaReserved():
                self._granted(fact)
            case QuotaDeferred():
                if fact.quota:
                    self._level(fact.quota, fact.at_ms, None, full=True)
            case TaskStarted():
                self._started(fact)
            case TaskCompleted():
                self._waiting.pop(fact.key, None)
                if fact.platform == NONE:
                    self.ended_without += fact.status != "completed"
                    return
                share = self._share(fact.platform, fact.billing)
                share.completed += fact.status == "completed"
                share.failed += fact.status == "failed"
            case CostRecorded():
                self._share(fact.platform, fact.billing)
                self._costs[fact.chain, fact.task, fact.attempt] = fact
            case _:
                return

    def _granted(self, fact: QuotaReserved) -> None:
        self._share(fact.platform, fact.billing).attempts += 1
        self.runs.setdefault(fact.key, []).append(fact.platform)
        for take in fact.takes:
            if take.used is not None and take.limit is not None:
                used = Decimal(take.used)
                self._level(take.quota, fact.at_ms, used, full=used >= Decimal(take.limit))

    def _level(self, quota: str, at_ms: int, used: Decimal | None, *, full: bool) -> None:
        """Note whether a quota is full. One that is as full as it was, though more was granted, has turned meanwhile."""
        emptied = self.emptied.setdefault(quota, [])
        turned = used is not None and used <= self._used.get(quota, used - 1)
        if full and (turned or not self._full.get(quota)) and len(emptied) < EMPTIED_MAX:
            emptied.append(at_ms)
        self._full[quota] = full
        if used is not None:
            self._used[quota] = used

    def _started(self, fact: TaskStarted) -> None:
        since_ms = self._waiting.pop(fact.key, None)
        if since_ms is not None:
            share = self._share(fact.platform, fact.billing)
            wait_ms = max(fact.at_ms - since_ms, 0)
            share.waits += 1
            share.wait_sum_ms += wait_ms
            share.wait_max_ms = max(share.wait_max_ms, wait_ms)

    def _share(self, platform: str, billing: Billing) -> Share:
        return self.shares.setdefault(platform, Share(platform, billing))

    def document(self) -> dict[str, Any]:
        """Return it as plain data: money is decimal text, unknown is null."""
        return {
            "tasks": self.tasks,
            "ended_without_a_platform": self.ended_without,
            "not_run": len(self._waiting),
            **self._money(None),
            "platforms": {name: self._platform(share) for name, share in sorted(self.shares.items())},
            "windows": dict(sorted(self.emptied.items())),
        }

    def _platform(self, share: Share) -> dict[str, Any]:
        return {
            "billing": share.billing, "attempts": share.attempts, "completed": share.completed, "failed": share.failed,
            "wait_mean_ms": share.wait_sum_ms // share.waits if share.waits else None,
            "wait_max_ms": share.wait_max_ms if share.waits else None,
            **self._money(share.platform),
        }  # fmt: skip

    def _money(self, platform: str | None) -> dict[str, Any]:
        """Return the sums of one platform, or of all that real money or a plan paid: play money is never added to it."""
        costs = [
            cost
            for cost in self._costs.values()
            if (cost.platform == platform if platform is not None else cost.billing != "rehearsal")
        ]
        sure = [cost for cost in costs if cost.status != "possible"]
        return {
            "paid_usd": _sum(cost.paid_usd for cost in sure),
            "plan_value_usd": _sum(cost.plan_value_usd for cost in sure),
            "possible_usd": _sum(cost.paid_usd for cost in costs if cost.status == "possible"),
            "unpriced": sum(cost.status == "unpriced" for cost in costs),
        }


def _sum(amounts: Any) -> str | None:
    known = [money.parse(amount) for amount in amounts if amount is not None]
    return money.text(money.total(known)) if known else None
