"""The answers of the ledger, as values that turn into JSON: money is text, unknown is null, times are ms since 1970."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from farebox.core.results import Result


class TaskRow(Struct, frozen=True, kw_only=True):
    """One task in a list: its result without texts, and when it came and ended."""

    result: Result
    type: str
    submitted_ms: int | None
    ended_ms: int | None


class AttemptRow(Struct, frozen=True, kw_only=True):
    """One attempt of a task. `outcome`: running, completed, failed, cancelled, interrupted; `late`: answered afterwards."""

    attempt: int
    platform: str
    model: str
    billing: str
    outcome: str
    late: bool
    started_ms: int | None
    ended_ms: int | None
    duration_ms: int | None
    error_class: str
    message: str
    worktree: str
    cost_status: str
    paid_usd: str | None
    plan_value_usd: str | None
    possible_usd: str | None
    rehearsal_usd: str | None


class TaskCard(Struct, frozen=True, kw_only=True):
    """All about one task: the route decision, its attempts, what it waits for."""

    result: Result
    type: str
    submitted_ms: int | None
    ended_ms: int | None
    candidates: list[dict[str, Any]]
    rejected: list[dict[str, Any]]
    attempts: list[AttemptRow]
    waiting: str
    due_ms: int | None
    cancel_requested: bool


class CostRow(Struct, frozen=True, kw_only=True):
    """What one platform, model, chain, task, batch or day came to.

    `paid_usd` is money spent; `plan_value_usd` the list price of work that a plan covered; `possible_usd` what lost calls
    may have cost at most, as far as that is known; `rehearsal_usd` and `rehearsal_possible_usd` the same in play money.
    They are never added to each other.
    `unpriced`, `possible` and `estimated` count charges; `possible_unknown` those that `possible_usd` leaves out.
    """

    key: str
    billing: str
    tasks: int
    completed: int
    ok_percent: float | None
    charges: int
    input_tokens: int | None
    output_tokens: int | None
    paid_usd: str | None
    plan_value_usd: str | None
    possible_usd: str | None
    rehearsal_usd: str | None
    rehearsal_possible_usd: str | None
    unpriced: int
    possible: int
    possible_unknown: int
    estimated: int
    duration_ms: int
    p50_ms: int | None
    p95_ms: int | None


class Costs(Struct, frozen=True, kw_only=True):
    """The table of `farebox costs`, its total, and what has no price (`platform/model`, the most frequent ten)."""

    by: str
    rows: list[CostRow]
    total: CostRow
    unpriced_models: list[str]


class BatchCard(Struct, frozen=True, kw_only=True):
    """One batch. `count` is what was announced (None: nobody did); `statuses` what is known; `ended` the ids, in order."""

    batch_id: str
    count: int | None
    parallel: int
    fail_fast: bool
    source: str
    submitted_ms: int | None
    closed_ms: int | None
    statuses: dict[str, int]
    charges_due: int
    ended: list[str]
    platforms: list[CostRow]
    total: CostRow
