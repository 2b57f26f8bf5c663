"""Quotas as a table: use and limit, a bar with the mark where warnings begin, whose word it is and how old, when it turns."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from farebox.cli import cells
from farebox.cli.table import Column, render

BAR = 20
FULL, EMPTY, MARK = "█", "·", "|"
COLUMNS = (
    Column("quota"),  # never shortened: it is what one types next
    Column("used", right=True),
    Column("limit", right=True),
    Column("", drop=5),
    Column("%", right=True, drop=1),
    Column("in flight", right=True, drop=4),
    Column("limit by", drop=3),
    Column("use known from", drop=6, flexible=True),
    Column("resets", drop=2),
)
NOTHING = "No quota and no budget is known. Set one: farebox quota set PLATFORM day 250"


def lines_of(found: Mapping[str, Any], width: int) -> list[str]:
    """Return the lines for a person: quotas and budgets, then how many calls each platform takes at once."""
    windows = [one for one in found["quotas"] if one.get("window") != "now"]
    slots = [one for one in found["quotas"] if one.get("window") == "now" and _busy(one)]
    warn, now_ms = int(found.get("warn_at_percent", 90)), int(found["now_ms"])
    lines = render(COLUMNS, [_row(one, warn, now_ms) for one in windows], width) if windows else [NOTHING]
    for one in slots:
        platform, pace, most = one["platforms"][0], one["limit"], one["most"]
        slower = f", slowed down from {most}" if pace != most else ""
        lines.append(f"{platform}: {one.get('used', '0')} calls run, {pace} at once{slower}")
    return lines


def _busy(one: Mapping[str, Any]) -> bool:
    return one.get("used", "0") != "0" or one.get("limit") != one.get("most")


def _row(one: Mapping[str, Any], warn: int, now_ms: int) -> list[str]:
    used, limit = Decimal(one.get("used", "0")), one.get("limit")
    share = None if limit is None else used / Decimal(limit) if Decimal(limit) else Decimal(1)
    unit = one.get("unit", "requests")
    return [
        str(one["quota"]),
        amount(used, unit),
        "unknown" if limit is None else amount(Decimal(limit), unit),
        "" if share is None else bar(share, warn),
        cells.UNKNOWN if share is None else str(int(share * 100)),
        amount(Decimal(one.get("open", "0")), unit),
        cells.text(one.get("source")),
        _known_from(one, now_ms),
        moment(one.get("resets_at_ms"), now_ms),
    ]


def bar(share: Decimal, warn: int) -> str:
    """Return a bar of what is used, with a mark where warnings begin."""
    filled = min(BAR, int(share * BAR))
    chars = [FULL if place < filled else EMPTY for place in range(BAR)]
    mark = min(BAR - 1, BAR * warn // 100)
    if filled <= mark:
        chars[mark] = MARK
    return "".join(chars)


def amount(number: Decimal, unit: str) -> str:
    """Return an amount in its unit."""
    if unit == "usd":
        return cells.usd(number)
    plain = format(number.normalize(), "f") if number != number.to_integral_value() else cells.count(int(number))
    return f"{plain} %" if unit == "percent" else plain


def _known_from(one: Mapping[str, Any], now_ms: int) -> str:
    told, at_ms = str(one.get("evidence") or ""), one.get("evidence_ms")
    return f"{told}, {cells.seconds(max(0, now_ms - at_ms) / 1000)} ago" if at_ms else told


def moment(at_ms: int | None, now_ms: int) -> str:
    """Return a moment in the zone of who looks: the time alone for today."""
    if at_ms is None:
        return cells.UNKNOWN
    then, now = (datetime.fromtimestamp(one / 1000, UTC).astimezone() for one in (at_ms, now_ms))
    return then.strftime("%H:%M" if then.date() == now.date() else "%Y-%m-%d %H:%M")
