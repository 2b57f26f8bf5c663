"""The board: results of tasks of this engine's life, folded in memory, so that a waiting caller costs no question to the views.

It says what the ledger says (a test holds the two together) and knows nothing of tasks submitted before it began to listen:
those are the ledger's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from contextlib import suppress
from decimal import Decimal
from typing import Any

import msgspec

from farebox.core import money
from farebox.core.events import (
    AttemptFailed,
    AttemptInterrupted,
    CostRecorded,
    Ending,
    Fact,
    LateResult,
    TaskCancelRequested,
    TaskCompleted,
    TaskStarted,
    TaskSubmitted,
)
from farebox.core.ids import NONE
from farebox.core.results import CostShown, ErrorShown, Result, UsageShown
from farebox.core.terms import Ref, Usage

log_ = logging.getLogger("farebox.board")

KEPT_MAX = 2_000
"""Ended tasks that stay on the board; the ledger has them all."""
SUBMITTED_S = 0.3
"""A caller may ask for a task a moment before its submission is read here."""
_FOLDED = frozenset(
    (TaskSubmitted, TaskCancelRequested, TaskStarted, TaskCompleted, AttemptFailed, AttemptInterrupted, LateResult)
) | {CostRecorded}
Json = dict[str, Any]
Key = tuple[str, str]


class Try:
    """One attempt: the first start, the first end and the last late result that were heard of it."""

    __slots__ = ("cost", "ended", "late", "started")

    def __init__(self) -> None:
        self.started: TaskStarted | None = None
        self.ended: Ending | None = None
        self.late: LateResult | None = None
        self.cost: CostRecorded | None = None

    @property
    def charge_due(self) -> bool:
        """Whether it may have cost something that is not booked yet."""
        ended = self.ended is not None and self.ended.chargeable
        return self.cost is None and (ended or self.late is not None)

    @property
    def usage(self) -> Usage | None:
        """What it used, as far as it is known."""
        told = (self.cost, self.late, self.ended)
        return next((one.usage for one in told if one is not None and one.usage is not None), None)

    @property
    def duration_ms(self) -> int | None:
        """How long it took, milliseconds; None where nobody measured it."""
        return (self.ended.duration_ms or None) if self.ended is not None else None

    def known(self, name: str) -> str:
        """Return platform, model or billing: the end's word, else the start's."""
        told = [getattr(one, name) for one in (self.ended, self.started, self.late) if one is not None]
        return next((text for text in told if text), "")


class Row:
    """One task."""

    __slots__ = ("cancelled", "end", "submitted", "tries")

    def __init__(self, submitted: TaskSubmitted) -> None:
        self.submitted = submitted
        self.cancelled = False
        self.end: TaskCompleted | None = None
        self.tries: dict[int, Try] = {}

    @property
    def settled(self) -> bool:
        """Whether it has ended and each of its charges is booked."""
        return self.end is not None and not any(one.charge_due for one in self.tries.values())


class Board:
    """Folds facts as the follower reads them, and wakes who waits for a task to be settled."""

    def __init__(self, kept_max: int = KEPT_MAX) -> None:
        self._rows: dict[Key, Row] = {}
        self._done: dict[Key, None] = {}
        self._kept_max = kept_max
        self._waiting: dict[Key, list[asyncio.Future[None]]] = {}

    def hear(self, fact: Fact) -> None:
        """Fold one fact, in log order."""
        kind = type(fact)
        if kind not in _FOLDED:
            return
        key = fact.key
        if isinstance(fact, TaskSubmitted):
            self._rows.setdefault(key, Row(fact))
            self._wake(key)
            return
        row = self._rows.get(key)
        if row is None:
            return
        try:
            self._fold(row, fact)
            settled = row.settled
        except Exception:
            log_.exception("fact %d cannot be shown from memory; its task is the ledger's from now on", fact.seq)
            del self._rows[key]
            self._wake(key)
            return
        if settled:
            self._settle(key)

    def known(self, chain: str, task: str) -> tuple[TaskSubmitted, bool] | None:
        """Return a task's submission and whether somebody wants its end, None for tasks from before the board began."""
        row = self._rows.get((chain, task))
        return None if row is None else (row.submitted, row.cancelled)

    def result(self, chain: str, task: str) -> Json | None:
        """Return the result document of a settled task, None where the ledger must be asked."""
        row = self._rows.get((chain, task))
        return _document(row, row.end) if row is not None and row.end is not None and row.settled else None

    async def settled(self, chain: str, task: str, timeout_s: float) -> bool:
        """Wait until a task is settled, at most `timeout_s`; who was not submitted by `SUBMITTED_S` is not waited for."""
        key = (chain, task)
        until_s = asyncio.get_running_loop().time() + timeout_s
        if key not in self._rows and timeout_s > 0:
            await self._heard(key, min(timeout_s, SUBMITTED_S))
        while (row := self._rows.get(key)) is not None and not row.settled:
            left_s = until_s - asyncio.get_running_loop().time()
            if left_s <= 0:
                return False
            await self._heard(key, left_s)
        return row is not None

    async def _heard(self, key: Key, timeout_s: float) -> None:
        """Wait for news of a task: its submission, or that it is settled."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, []).append(future)
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await future
        waiting = self._waiting.get(key, [])
        if future in waiting:
            waiting.remove(future)
        if not waiting:
            self._waiting.pop(key, None)

    def _wake(self, key: Key) -> None:
        for future in self._waiting.pop(key, ()):
            if not future.done():
                future.set_result(None)

    def _settle(self, key: Key) -> None:
        self._wake(key)
        self._done[key] = None
        while len(self._done) > self._kept_max:
            oldest = next(iter(self._done))
            del self._done[oldest]
            self._rows.pop(oldest, None)

    @staticmethod
    def _fold(row: Row, fact: Fact) -> None:
        if isinstance(fact, TaskCompleted) and row.end is None:
            row.end = fact
        if isinstance(fact, TaskCancelRequested):
            row.cancelled = True
            return
        if fact.attempt == 0 or getattr(fact, "platform", NONE) == NONE:
            return
        one = row.tries.setdefault(fact.attempt, Try())
        match fact:
            case TaskStarted():
                one.started = one.started or fact
            case LateResult():
                one.late = fact
            case CostRecorded():
                one.cost = fact
            case TaskCompleted() | AttemptFailed() | AttemptInterrupted():
                one.ended = one.ended or fact
            case _:  # pragma: no cover - nothing else is folded
                pass


def _document(row: Row, end: TaskCompleted) -> Json:
    last = row.tries[max(row.tries)] if row.tries else Try()
    ran = end.platform != NONE
    platform = end.platform if ran else last.known("platform")
    duration_ms = end.duration_ms if ran or end.duration_ms else last.duration_ms
    text, ref = (end.partial_output, end.partial_ref) if end.partial_output or end.partial_ref else _partial(row)
    result = Result(
        task_id=end.task,
        chain_id=end.chain,
        batch_id=row.submitted.batch,
        label=row.submitted.label,
        platform=platform,
        model=(end.model if ran else "") or _model(row),
        billing=end.billing if ran else last.known("billing"),
        status=end.status,
        output=end.output,
        partial_output=text,
        files_created=end.files_created,
        files_changed=end.files_changed,
        files_more=end.files_more,
        worktree=end.worktree,
        base_commit=end.base_commit,
        usage=_usage([one.usage for one in row.tries.values()]),
        cost=_cost([one.cost for one in row.tries.values() if one.cost is not None]),
        duration_s=duration_ms / 1000 if duration_ms is not None else None,
        attempts=len(row.tries),
        error=ErrorShown(error_class=end.fault.error_class, message=end.fault.message) if end.fault else None,
    )
    document: Json = msgspec.to_builtins(result)
    refs = {"output_ref": end.output_ref, "partial_ref": ref}
    return document | {name: msgspec.to_builtins(ref) for name, ref in refs.items() if ref is not None}


def _model(row: Row) -> str:
    """Return the model of the last attempt that names one."""
    return next((name for number in sorted(row.tries, reverse=True) if (name := row.tries[number].known("model"))), "")


def _partial(row: Row) -> tuple[str, Ref | None]:
    """Return what the last attempt that came to something had said, for a task that the router ended."""
    ended = [row.tries[number].ended for number in sorted(row.tries, reverse=True)]
    said = ((one.partial_output, one.partial_ref) for one in ended if one is not None)
    return next((one for one in said if one != ("", None)), ("", None))


def _usage(used: list[Usage | None]) -> UsageShown:
    known = [one for one in used if one is not None]
    return UsageShown(
        input_tokens=_added(one.input_tokens for one in known),
        output_tokens=_added(one.output_tokens for one in known),
        cached_tokens=_added(one.cached_tokens for one in known),
        reasoning_tokens=_added(one.reasoning_tokens for one in known),
        source=max((one.source for one in known), default=""),
    )


def _added(counts: Iterable[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _cost(costs: list[CostRecorded]) -> CostShown:
    """Play money is shown only where all of it is; else real money alone."""
    played = bool(costs) and all(cost.billing == "rehearsal" for cost in costs)
    booked = [cost for cost in costs if cost.status != "possible"]
    paid = [cost.paid_usd for cost in booked if played or cost.billing != "rehearsal"]
    possible = [cost.paid_usd for cost in costs if cost.status == "possible" and cost.billing != "rehearsal"]
    statuses = {cost.status for cost in costs}
    worst = next((status for status in ("unpriced", "possible", "estimated") if status in statuses), "priced")
    return CostShown(
        paid_usd=_sum(paid) if costs else "0",
        plan_value_usd=_sum([cost.plan_value_usd for cost in booked if cost.billing == "plan"]),
        possible_usd=None if None in possible else _sum(possible),
        status=worst if costs else "none",
    )


def _sum(amounts: list[str | None]) -> str | None:
    known: list[Decimal] = [money.parse(amount) for amount in amounts if amount is not None]
    return money.text(money.total(known)) if known else None
