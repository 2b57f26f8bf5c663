"""A table that fits: money is never cut, columns are dropped instead, free text is shortened first."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from farebox.cli.output import one_line

GAP = "  "
SHORTEST = 12


@dataclass(frozen=True)
class Column:
    """One column. `drop`: dropped first where it is highest, 0 never; `flexible`: its text may be shortened."""

    title: str
    right: bool = False
    drop: int = 0
    flexible: bool = False


def render(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Return title and rows as lines of at most `width` columns, as long as dropping and shortening can reach that."""
    cells = [[one_line(cell) for cell in row] for row in rows]
    kept = list(range(len(columns)))
    widths = [max(_width(text) for text in (columns[at].title, *(row[at] for row in cells))) for at in kept]
    while True:
        fitted = _fitted(columns, kept, widths, width)
        droppable = [at for at in kept if columns[at].drop]
        if fitted is not None or not droppable:
            break
        kept.remove(max(droppable, key=lambda at: columns[at].drop))
    chosen = fitted or _shortest(columns, kept, widths)
    table = [[column.title for column in columns], *cells]
    return [GAP.join(_cell(row[at], chosen[at], columns[at].right) for at in kept).rstrip() for row in table]


def _fitted(columns: Sequence[Column], kept: list[int], widths: list[int], width: int) -> list[int] | None:
    """Return the widths if shortening the flexible columns is enough, None otherwise."""
    over = sum(widths[at] for at in kept) + len(GAP) * (len(kept) - 1) - width
    chosen = list(widths)
    while over > 0:
        able = [at for at in kept if columns[at].flexible and chosen[at] > SHORTEST]
        if not able:
            return None
        widest = max(able, key=lambda at: chosen[at])
        less = min(over, chosen[widest] - SHORTEST)
        chosen[widest] -= less
        over -= less
    return chosen


def _shortest(columns: Sequence[Column], kept: list[int], widths: list[int]) -> list[int]:
    return [min(widths[at], SHORTEST) if at in kept and columns[at].flexible else widths[at] for at in range(len(columns))]


def _cell(text: str, width: int, right: bool) -> str:
    if _width(text) > width:
        while _width(text) > width - 1:
            text = text[:-1]
        text += "…"
    space = " " * (width - _width(text))
    return space + text if right else text + space


def _width(text: str) -> int:
    return sum(0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)
