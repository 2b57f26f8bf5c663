"""farebox costs: what was paid and what plans covered, two columns that are never added; rehearsals apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from farebox.cli import cells, session
from farebox.cli.options import DEFAULT, Common
from farebox.cli.output import document, line, width
from farebox.cli.summary import REHEARSED
from farebox.cli.table import Column, render
from farebox.core.errors import BadInput
from farebox.nearest import did_you_mean

GROUPS = ("platform", "model", "chain", "task", "day")
REHEARSAL = "rehearsal"
COUNTS = ("tasks", "completed", "input_tokens", "output_tokens", "unpriced", "possible", "possible_unknown", "estimated")
COLUMNS = (
    Column("billing", drop=4),
    Column("tasks", right=True),
    Column("ok %", right=True, drop=3),
    Column("tokens in/out", right=True, drop=5),
    Column("paid", right=True),
    Column("plan value", right=True, drop=8),
    Column("p50", right=True, drop=7),
    Column("p95", right=True, drop=6),
)
Row = Mapping[str, Any]


def command(*, by: str = "platform", since: str | None = None, until: str | None = None, common: Common = DEFAULT) -> int:
    """Show what was spent, and what plans covered.

    Parameters
    ----------
    by
        platform, model, chain, task or day.
    since
        From when: 7d, 12h, or a date like 2026-11-01.
    until
        Until when, written the same way.
    """
    if by not in GROUPS:
        hint = f"{did_you_mean(by, GROUPS)} Choose one of: {', '.join(GROUPS)}.".strip()
        raise BadInput(f'Costs cannot be grouped by "{by[:40]}".', hint=hint)
    return session.run(lambda: _asked(common, by, since, until))


async def _asked(common: Common, by: str, since: str | None, until: str | None) -> int:
    async with session.opened(common, "answers") as client:
        found = await client.costs([by], since=since, until=until)
    if common.json:
        document(found)
    else:
        for text in report(found, by, width()):
            line(text)
    return 0


def report(found: Mapping[str, Any], by: str, columns_max: int) -> list[str]:
    """Return the table for people: real spending with its total, then rehearsals, then what is not known."""
    rows: Sequence[Row] = found["rows"]
    real = [row for row in rows if row["billing"] != REHEARSAL]
    played = [row for row in rows if row["billing"] == REHEARSAL]
    if not rows:
        return ["Nothing was spent yet."]
    lines: list[str] = []
    if real:
        # Counts and times of the whole hold the rehearsals, too; its money does not.
        times = {"p50_ms": None, "p95_ms": None} if played else {}
        total: Row = {**found["total"], "key": "total", "billing": "", **_counted(real), **times}
        lines += _table(by, [*real, total], columns_max) + _remarks(total, found.get("unpriced_models") or [])
    if played:
        lines += [*([""] if lines else []), *_table(by, played, columns_max)]
        lines += [*_remarks(_counted(played), [] if real else found.get("unpriced_models") or []), REHEARSED]
    return lines


def _counted(rows: Sequence[Row]) -> dict[str, Any]:
    return {name: sum(row[name] or 0 for row in rows) for name in COUNTS}


def _table(by: str, rows: Sequence[Row], columns_max: int) -> list[str]:
    return render((Column(by, flexible=True), *COLUMNS), [_cells(row) for row in rows], columns_max)


def _cells(row: Row) -> list[str]:
    tasks = row["tasks"]
    paid = row["rehearsal_usd"] if row["billing"] == REHEARSAL else row["paid_usd"]
    return [
        cells.text(row["key"]),
        str(row["billing"] or ""),
        cells.count(tasks),
        cells.percent(row["completed"] / tasks if tasks else None),
        f"{cells.tokens(row['input_tokens'])} / {cells.tokens(row['output_tokens'])}",
        cells.usd(paid) + ("*" if row["unpriced"] else ""),
        cells.usd(row["plan_value_usd"]),
        _millis(row.get("p50_ms")),
        _millis(row.get("p95_ms")),
    ]


def _millis(duration_ms: float | None) -> str:
    return cells.UNKNOWN if duration_ms is None else cells.seconds(duration_ms / 1000)


def _remarks(total: Row, unpriced_models: Sequence[str]) -> list[str]:
    remarks: list[str] = []
    if total["unpriced"]:
        names = f": {', '.join(unpriced_models)}" if unpriced_models else ""
        remarks.append(f"* without {total['unpriced']} attempts that have no price{names}")
    unknown = total["possible"] if total.get("possible_usd") is None else total["possible_unknown"]
    if bounded := total["possible"] - unknown:
        remarks.append(f"+ {bounded} attempts possibly charged, at most {cells.usd(total['possible_usd'])}")
    if unknown:
        remarks.append(f"+ {unknown} attempts possibly charged, nobody knows how much")
    if total["estimated"]:
        remarks.append(f"{total['estimated']} attempts are estimates")
    return remarks
