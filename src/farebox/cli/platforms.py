"""farebox platforms: what is there, what it bills, what is missing and how to get it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from cyclopts import Parameter

from farebox.cli import cells, session
from farebox.cli.options import DEFAULT, Common
from farebox.cli.output import document, line, one_line, width
from farebox.cli.table import Column, render

COLUMNS = (
    Column(" "),
    Column("platform", flexible=True),
    Column("kind", drop=5),
    Column("pays", drop=0),
    Column("tier", right=True, drop=4),
    Column("at once", right=True, drop=6),
    Column("models", drop=2, flexible=True),
    Column("detail", drop=3, flexible=True),
)
PAYS = {"metered": "you, per token", "plan": "your plan", "free": "nobody", "rehearsal": "nobody (no model)"}


def command(*, models: Annotated[bool, Parameter(negative=())] = False, common: Common = DEFAULT) -> int:
    """Show which platforms are there, what they bill, what is missing and how to get it.

    Parameters
    ----------
    models
        List the models of each platform.
    """
    return session.run(lambda: _asked(common, models))


async def _asked(common: Common, models: bool) -> int:
    async with session.opened(common, "engine") as client:
        found = await client.platforms()
    if common.json:
        document(found)
        return 0
    for text in report(found, models=models):
        line(text)
    return 0


def report(found: Mapping[str, Any], *, models: bool = False) -> list[str]:
    """Return the table, then what is missing and how to get it, then the models."""
    rows = sorted(found["platforms"], key=lambda row: (not row["available"], row["tier"], row["platform"]))
    lines = render(COLUMNS, [_row(row) for row in rows], width())
    lines += [_missing(row) for row in rows if not row["available"]]
    if models:
        lines += [f"{row['platform']}: {', '.join(row['models'])}" for row in rows if row["models"]]
    return lines


def _missing(row: Mapping[str, Any]) -> str:
    """Return what keeps a platform from being used, and what mends it."""
    if not row.get("enabled", True):
        return f"{row['platform']}: disabled; in farebox.toml: platforms.{row['platform']}.enabled = true"
    why, mend = one_line(str(row.get("detail") or "not available"), 200), one_line(str(row.get("mend") or ""), 500)
    return f"{row['platform']}: {why}" + (f" — {mend}" if mend else "")


def _row(row: Mapping[str, Any]) -> list[str]:
    names: list[str] = row.get("models") or []
    only = " (only by name)" if row.get("only_by_name") else ""
    return [
        "✓" if row["available"] else "✗",
        str(row["platform"]) + only,
        str(row["kind"]),
        PAYS.get(str(row["billing"]), str(row["billing"])),
        cells.text(row.get("tier")),
        cells.text(row.get("limit")),
        f"{len(names)} models" if len(names) > 3 else ", ".join(names) or cells.UNKNOWN,
        str(row.get("detail") or "") if row["available"] else "see below",
    ]
