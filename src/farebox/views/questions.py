"""Questions to the ledger. The SQL stands in questions.sql; here its rows become answers."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal

import msgspec

from farebox.core import money
from farebox.core.results import CostShown, ErrorShown, Result, TaskStatus, UsageShown
from farebox.core.terms import Ref
from farebox.views.answers import AttemptRow, BatchCard, CostRow, Costs, TaskCard, TaskRow
from farebox.views.ledger import Ledger, Snapshot

By = Literal["platform", "model", "chain", "task", "day", "batch"]
BY: tuple[By, ...] = ("platform", "model", "chain", "task", "day", "batch")
FOREVER_MS = 2**53
Row = dict[str, Any]


def find(ledger: Ledger, task_id: str) -> tuple[str, str] | None:
    """Return (chain, task) of a task id or of the beginning of one; None when there is none or several begin so."""
    with ledger.snapshot() as now:
        found = [(row["chain"], row["task"]) for row in now.rows("find", task=task_id)]
    if not found or (len(found) > 1 and found[0][1] != task_id):
        return None
    return found[0]


def result(ledger: Ledger, chain: str, task: str) -> Result | None:
    """Return the result document of a task, as far as it has come; None when the log does not know it."""
    with ledger.snapshot() as now:
        rows = now.rows("result", chain=chain, task=task)
    return _result(rows[0]) if rows else None


def blobs(ledger: Ledger, chain: str, task: str) -> dict[str, Ref]:
    """Return where texts of a result are that were too large for the log: `output`, `partial_output`."""
    with ledger.snapshot() as now:
        rows = now.rows("result", chain=chain, task=task)
    return _refs(rows[0]) if rows else {}


def _refs(row: Row) -> dict[str, Ref]:
    refs = {"output": "output_ref", "partial_output": "partial_ref"}
    return {
        name: msgspec.json.decode(row[column], type=Ref) for name, column in refs.items() if row[column] not in {None, "null"}
    }


def tasks(
    ledger: Ledger,
    *,
    limit: int = 50,
    state: TaskStatus | Literal[""] = "",
    platform: str = "",
    batch: str = "",
    chain: str = "",
    since_ms: int = 0,
) -> list[TaskRow]:
    """Return the newest tasks that match, newest first."""
    asked = {"state": state, "platform": platform, "batch": batch, "chain": chain, "since_ms": since_ms}
    with ledger.snapshot() as now:
        rows = now.rows("tasks", limit=limit, **asked)
    return [
        TaskRow(result=_result(row), type=row["type"], submitted_ms=row["submitted_ms"], ended_ms=row["ended_ms"])
        for row in rows
    ]


def unfinished(ledger: Ledger) -> int:
    """Return how many tasks have not ended."""
    with ledger.snapshot() as now:
        return int(now.rows("unfinished")[0]["tasks"])


def task_card(ledger: Ledger, chain: str, task: str) -> TaskCard | None:
    """Return all about one task; None when the log does not know it."""
    place = {"chain": chain, "task": task}
    with ledger.snapshot() as now:
        rows, tried = now.rows("result", **place), now.rows("attempts", **place)
        route, word, cancel = (_first(now, f"last_{what}", **place) for what in ("route", "quota_word", "cancel"))
    if not rows:
        return None
    waits = rows[0]["status"] == "pending"
    deferred = word if waits and word and word["fact"] == "QuotaDeferred" else None
    return TaskCard(
        result=_result(rows[0]),
        type=rows[0]["type"],
        submitted_ms=rows[0]["submitted_ms"],
        ended_ms=rows[0]["ended_ms"],
        candidates=[{"billing": "metered"} | one for one in msgspec.json.decode(route["candidates"])] if route else [],
        rejected=msgspec.json.decode(route["rejected"]) if route else [],
        attempts=[_attempt(row) for row in tried],
        waiting=_waiting(route, word) if waits else "",
        due_ms=deferred["due_ms"] if deferred else None,
        cancel_requested=cancel is not None,
    )


def facts_of(ledger: Ledger, chain: str, task: str) -> list[int]:
    """Return the sequences of all facts of a task, in the order of the log."""
    with ledger.snapshot() as now:
        return [int(row["seq"]) for row in now.rows("facts_of", chain=chain, task=task)]


def costs(ledger: Ledger, by: By = "platform", *, since_ms: int = 0, until_ms: int = FOREVER_MS, batch: str = "") -> Costs:
    """Return what was spent from `since_ms` until before `until_ms` (stream time), by one key, with its total."""
    with ledger.snapshot() as now:
        return _costs(now, by, since_ms=since_ms, until_ms=until_ms, in_batch=batch)


def batch(ledger: Ledger, batch_id: str) -> BatchCard | None:
    """Return one batch; None when the log knows neither it nor a task of it."""
    with ledger.snapshot() as now:
        known = _first(now, "batch", batch=batch_id)
        statuses = now.rows("batch_statuses", batch=batch_id)
        ended = [row["task"] for row in now.rows("batch_ended", batch=batch_id)]
        spent = _costs(now, "platform", since_ms=0, until_ms=FOREVER_MS, in_batch=batch_id)
    if known is None and not statuses:
        return None
    known = known or {}
    return BatchCard(
        batch_id=batch_id,
        count=known.get("count"),
        parallel=known.get("parallel") or 10,
        fail_fast=bool(known.get("fail_fast")),
        source=known.get("source") or "",
        submitted_ms=known.get("submitted_ms"),
        closed_ms=known.get("ended_ms"),
        statuses={row["status"]: row["tasks"] for row in statuses},
        charges_due=sum(row["charge_due"] for row in statuses),
        ended=ended,
        platforms=spent.rows,
        total=spent.total,
    )


def results(ledger: Ledger, batch_id: str, after: int = 0, limit: int = 1000) -> list[tuple[int, Result, dict[str, Ref]]]:
    """Return the results of a batch in the order they came, with the sequence of each end; `after` is the last one seen.

    As in `blobs`, each comes with where its large texts are.
    """
    with ledger.snapshot() as now:
        rows = now.rows("batch_results", batch=batch_id, after=after, limit=limit)
    return [(row["end_seq"], _result(row), _refs(row)) for row in rows]


def quarantined(ledger: Ledger, limit: int = 1000) -> list[Row]:
    """Return what no view could read, the latest first."""
    with ledger.snapshot() as now:
        return now.rows("quarantined", limit=limit)


def reservations(ledger: Ledger, seqs: list[int]) -> list[Row]:
    """Return of which task each of these reservations was, and whether its attempt has ended."""
    with ledger.snapshot() as now:
        return now.rows("reservations", seqs=seqs)


def attempts_of(ledger: Ledger, names: list[str]) -> dict[str, AttemptRow]:
    """Return attempts by their names (`<chain>.<task>.<attempt>`)."""
    with ledger.snapshot() as now:
        rows = now.rows("attempts_of", names=names)
    return {f"{row['chain']}.{row['task']}.{row['attempt']}": _attempt(row) for row in rows}


def counts(ledger: Ledger) -> dict[str, dict[str, int]]:
    """Return how many facts of each kind the tables hold, and how many rows the views have."""
    with ledger.snapshot() as now:
        return {
            "facts": {row["fact"]: row["facts"] for row in now.rows("counts")},
            "views": now.rows("views")[0],
        }


def _first(now: Snapshot, question: str, **parameters: Any) -> Row | None:
    return next(iter(now.rows(question, **parameters)), None)


def _costs(now: Snapshot, by: By, **window: Any) -> Costs:
    *rows, total = now.rows("costs", by=by, **window)
    return Costs(
        by=by,
        rows=[_cost(row) for row in rows],
        total=_cost(total | {"key": "total"}),
        unpriced_models=[row["model"] for row in now.rows("unpriced_models", **window)],
    )


def _result(row: Row) -> Result:
    failed = row["error_class"]
    duration_ms = row["duration_ms"] if row["platform"] else None
    return Result(
        task_id=row["task"],
        chain_id=row["chain"],
        batch_id=row["batch"],
        label=row["label"],
        platform=row["platform"],
        model=row["model"],
        billing=row["billing"],
        status=row["status"],
        output=row.get("output") or "",
        partial_output=row.get("partial_output") or "",
        files_created=tuple(msgspec.json.decode(row.get("files_created") or "[]")),
        files_changed=tuple(msgspec.json.decode(row.get("files_changed") or "[]")),
        files_more=row.get("files_more") or False,
        worktree=row.get("worktree") or "",
        base_commit=row.get("base_commit") or "",
        usage=_usage(row),
        cost=_cost_shown(row),
        duration_s=None if duration_ms is None else duration_ms / 1000,
        attempts=row["attempts"],
        error=ErrorShown(error_class=failed, message=row["message"] or "") if failed else None,
    )


def _usage(row: Row) -> UsageShown:
    names = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")
    return UsageShown(**{name: _count(row[name]) for name in names}, source=row["usage_source"] or "")


def _cost_shown(row: Row) -> CostShown:
    """Show play money only where all of it is; else real money alone."""
    status = _worst(row)
    paid = row["rehearsal_usd"] if row["rehearsal"] else row["paid_usd"]
    if status == "none" and row["ended_ms"] is not None:
        paid = money.ZERO
    return CostShown(
        paid_usd=_text(paid),
        plan_value_usd=_text(row["plan_value_usd"]),
        possible_usd=_text(row["possible_usd"]),
        status=status,
    )


def _worst(row: Row) -> str:
    if row["charge_due"]:
        return "pending"
    found = (status for status in ("unpriced", "possible", "estimated") if row[status])
    return next(found, "priced" if row["charges"] else "none")


def _attempt(row: Row) -> AttemptRow:
    return AttemptRow(
        attempt=row["attempt"],
        platform=row["platform"],
        model=row["model"] or "",
        billing=row["billing"] or "",
        outcome=row["outcome"],
        late=row["late"],
        started_ms=row["started_ms"],
        ended_ms=row["ended_ms"],
        duration_ms=row["duration_ms"],
        error_class=row["error_class"] or "",
        message=row["message"] or "",
        worktree=row["worktree"] or "",
        cost_status=row["cost_status"] or ("pending" if row["charge_due"] else "none"),
        paid_usd=_text(row["real_usd"]),
        plan_value_usd=_text(row["value_usd"]),
        possible_usd=_text(row["possible_usd"]),
        rehearsal_usd=_text(row["rehearsal_usd"]),
    )


def _waiting(route: Row | None, word: Row | None) -> str:
    if route is None:
        return "for the router"
    if word is None or word["seq"] < route["seq"]:
        return "for capacity"
    if word["fact"] == "QuotaReserved":
        return f"for {word['platform']} to start it"
    return word["reason"] or "for capacity"


def _cost(row: Row) -> CostRow:
    """Nothing paid is 0 only where no charge is unknown."""
    tasks_ended, completed = row.get("tasks") or 0, row.get("completed") or 0
    paid = row.get("paid_usd")
    return CostRow(
        key=row["key"],
        billing=row.get("billing") or "",
        tasks=tasks_ended,
        completed=completed,
        ok_percent=round(100 * completed / tasks_ended, 1) if tasks_ended else None,
        charges=row.get("charges") or 0,
        input_tokens=_count(row.get("input_tokens")),
        output_tokens=_count(row.get("output_tokens")),
        paid_usd=_text(money.ZERO if paid is None and not row.get("unknown") else paid),
        plan_value_usd=_text(row.get("plan_value_usd")),
        possible_usd=_text(row.get("possible_usd")),
        rehearsal_usd=_text(row.get("rehearsal_usd")),
        rehearsal_possible_usd=_text(row.get("rehearsal_possible_usd")),
        unpriced=row.get("unpriced") or 0,
        possible=row.get("possible") or 0,
        possible_unknown=row.get("possible_unknown") or 0,
        estimated=row.get("estimated") or 0,
        duration_ms=int(row.get("duration_ms") or 0),
        p50_ms=row.get("p50_ms"),
        p95_ms=row.get("p95_ms"),
    )


def _count(number: int | None) -> int | None:
    return None if number is None else int(number)


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else money.text(amount)
