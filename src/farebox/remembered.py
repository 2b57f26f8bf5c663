"""What a batch remembers: its tasks as they were allowed when it began, against the same file given once more to go on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import msgspec

from farebox.tasks import TaskSpec

FOR_ALL = (
    "batch_max_cost_usd", "chain_max_cost_usd", "on_quota", "tier", "allow", "deny", "capabilities", "local",
    "allow_unpriced", "tags",
)  # fmt: skip
"""What may be said for all tasks of a batch at once, and so stands in none of the file's lines."""
LINES_SHOWN = 3


def differences(kept: Sequence[TaskSpec], given: Sequence[TaskSpec]) -> str:
    """Return how tasks differ from those that a batch began with, in words; "" where they are the same, but for options.

    A line of the file may say less than the task that is kept: the options of then said the rest, and they go on to hold.
    """
    if len(kept) != len(given):
        return f"It has {len(kept)} tasks, and {len(given)} were given."
    found = {number: names for number, pair in enumerate(zip(kept, given, strict=True), 1) if (names := _differing(*pair))}
    if not found:
        return ""
    told = [f"line {number} in {', '.join(names)}" for number, names in list(found.items())[:LINES_SHOWN]]
    more = f" and {len(found) - LINES_SHOWN} more lines" if len(found) > LINES_SHOWN else ""
    return f"They differ: {'; '.join(told)}{more}."


def _differing(kept: TaskSpec, given: TaskSpec) -> list[str]:
    if kept == given:
        return []
    pairs = {name: (getattr(kept, name), getattr(given, name)) for name in msgspec.structs.asdict(kept)}
    return [name for name, (one, other) in pairs.items() if one != other and not (name in FOR_ALL and _holds(name, one, other))]


def _holds(name: str, kept: Any, given: Any) -> bool:
    """Say whether a value that is kept may be that of the file's line with options: those add to lists, but not to `allow`."""
    if name == "allow":
        return not given
    match given:
        case tuple():
            return all(one in kept for one in cast("tuple[str, ...]", given))
        case dict():
            return cast("dict[str, str]", given).items() <= kept.items()
        case _:
            return not given
