"""The end of a batch: counts, success rate, sums of paid, plan value, tokens and duration, by platform."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from farebox.aggregate import Aggregate, Sum
from farebox.cli import cells
from farebox.cli.output import width
from farebox.cli.table import Column, render
from farebox.core import money

COLUMNS = (
    Column("platform", flexible=True),
    Column("tasks", right=True),
    Column("ok %", right=True, drop=2),
    Column("tokens in/out", right=True, drop=3),
    Column("paid", right=True),
    Column("plan value", right=True, drop=5),
    Column("time", right=True, drop=4),
)
REHEARSED = "Rehearsal dollars. You were charged nothing."


def plain(total: Aggregate) -> dict[str, Any]:
    """Return the sums as a JSON document: money as text, unknown as null."""
    found: dict[str, Any] = msgspec.to_builtins(total, builtin_types=(Decimal,))
    found["success_rate"] = total.success_rate
    for name, part in total.platforms.items():
        found["platforms"][name]["success_rate"] = part.success_rate
    return _money(found)


def lines_of(total: Aggregate) -> list[str]:
    """Return the report for people."""
    counts = f"{total.completed} completed, {total.failed} failed, {total.cancelled} cancelled of {total.count}"
    head = f"batch {total.batch_id} · {counts} · success {cells.percent(total.success_rate)} %"
    rows = [_row(name, part) for name, part in total.platforms.items()]
    table = render(COLUMNS, [*rows, _row("total", total)], width()) if total.count else []
    return [head, *table, *_remarks(total)]


def _row(name: str, part: Sum) -> list[str]:
    return [
        name,
        cells.count(part.count),
        cells.percent(part.success_rate),
        f"{cells.tokens(part.input_tokens)} / {cells.tokens(part.output_tokens)}",
        cells.usd(part.paid_usd) + ("*" if part.unpriced else ""),
        cells.usd(part.plan_value_usd),
        cells.seconds(part.duration_s),
    ]


def _remarks(total: Aggregate) -> list[str]:
    remarks: list[str] = []
    if total.rehearsed:
        remarks.append(REHEARSED)
    elif total.rehearsal_usd is not None:
        remarks.append(f"rehearsal apart: {cells.usd(total.rehearsal_usd)}. {REHEARSED}")
    if total.unpriced:
        remarks.append(f"* without {total.unpriced} tasks that have no price")
    if total.possible_usd is not None:
        remarks.append(f"+ at most {cells.usd(total.possible_usd)} possibly charged")
    if total.possible_unknown:
        remarks.append(f"+ {total.possible_unknown} tasks possibly charged, nobody knows how much")
    if total.tokens_unknown:
        remarks.append(f"tokens without {total.tokens_unknown} tasks whose platform did not say")
    return remarks


def _money(value: Any) -> Any:
    match value:
        case dict():
            return {key: _money(one) for key, one in value.items()}  # pyright: ignore[reportUnknownVariableType]
        case Decimal():
            return money.text(value)
        case _:
            return value
