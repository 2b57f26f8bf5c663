"""How a counterfactual is asked for and reads: the settings of other files, and what would have been beside what happened."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from farebox import layers, limits
from farebox.cli import cells
from farebox.cli.table import Column, render
from farebox.config import BUILT_IN, Config, load, platform_kinds
from farebox.core.errors import BadSettings
from farebox.core.settings import PlatformSettings, Settings

SECTIONS = ("quotas", "budgets")
MOMENTS_MAX = 3
COLUMNS = (
    Column("platform", flexible=True),
    Column(""),
    Column("attempts", right=True, drop=4),
    Column("completed", right=True),
    Column("paid", right=True),
    Column("plan value", right=True, drop=3),
    Column("possible", right=True, drop=5),
    Column("mean wait", right=True),
    Column("longest", right=True, drop=2),
)
Plain = Mapping[str, Any]


def policy_of(path: Path) -> Config:
    """Return what a farebox.toml says; no flag and no variable counts beside it. Raises BadSettings."""
    if not path.is_file():
        raise BadSettings(f"{path}: there is no such file.", hint="farebox replay --policy FILE takes a farebox.toml.")
    home = {name: os.environ[name] for name in ("FAREBOX_HOME",) if name in os.environ}
    return load(file=path, kinds=platform_kinds(), environment=home)


def changed(other: Config | None, path: Path | None, own: Settings) -> Callable[[Settings], Settings]:
    """Return what takes the place of each settings of the log: those of `other`, with the limits of the file at `path`.

    `own` are the last settings of the log. Raises BadSettings.
    """
    if path is None:
        return lambda recorded: recorded if other is None else other.settings
    entries, known = _entries(path)

    def change(recorded: Settings) -> Settings:
        base = recorded if other is None else other.settings
        return msgspec.structs.replace(base, quotas=base.quotas | entries["quotas"], budgets=base.budgets | entries["budgets"])

    limits.check(change(own), {key: value.origin for key, value in known.items()})
    return change


def _entries(path: Path) -> tuple[dict[str, dict[str, Any]], layers.Layer]:
    if not path.is_file():
        raise BadSettings(
            f"{path}: there is no such file.", hint="farebox replay --limits FILE takes [quotas.*] and [budgets.*]."
        )
    known = layers.of_file(path, SECTIONS)
    read: dict[str, dict[str, Any]] = {}
    for section in SECTIONS:
        by_name: dict[str, dict[str, Any]] = {}
        for key, value in known.items():
            place, name, field = key.split(".", 2)
            if place == section:
                by_name.setdefault(name, {})[field] = value.value
        read[section] = {name: limits.READERS[section](name, fields, known) for name, fields in by_name.items()}
    return read, known


def written_down(config: Config | None) -> dict[str, PlatformSettings]:
    """Return the platforms that somebody wrote down: they are taken for available where the log never heard of them."""
    if config is None:
        return {}
    named = {key.split(".")[1] for key, origin in config.origins.items() if key.startswith("platforms.") and origin != BUILT_IN}
    return {name: section for name, section in config.settings.platforms.items() if name in named}


def lines_of(found: Plain, columns_max: int) -> list[str]:
    """Return the counterfactual for people. Its first word says that none of it happened."""
    was, would = found["happened"], found["would_have"]
    head = f"HYPOTHETICAL: {cells.count(would['tasks'])} tasks of {cells.count(found['facts'])} facts under another policy."
    rows = [row for name in sorted({*was["platforms"], *would["platforms"]}) for row in _platform(name, was, would)]
    total = [_cells("all but rehearsals", label, part) for label, part in (("was", was), ("would be", would))]
    lines = [f"{head} No model was called, nothing was changed.", *render(COLUMNS, [*rows, *total], columns_max)]
    lines += _windows(was["windows"], would["windows"])
    share = cells.percent(found["extrapolated_share"])
    lines.append(f"{cells.count(found['routed_otherwise'])} tasks would have gone elsewhere.")
    lines.append(
        f"{share} % of {cells.count(found['attempts'])} attempts are extrapolated: no such attempt was recorded, "
        "so they take the usage and time that their task took elsewhere."
    )
    lines += _remarks(found, would)
    lines.append(f"digest {found['digest']}")
    return lines


def _remarks(found: Plain, would: Plain) -> list[str]:
    lines: list[str] = []
    if would["ended_without_a_platform"]:
        lines.append(f"{cells.count(would['ended_without_a_platform'])} tasks would have ended without any platform.")
    if would["not_run"]:
        lines.append(f"{cells.count(would['not_run'])} tasks would still wait after a year.")
    if found["left_out"]:
        lines.append(f"{cells.count(found['left_out'])} tasks that have not ended are left out.")
    if found["assumed_available"]:
        lines.append(f"Taken for available, though the log never heard of them: {', '.join(found['assumed_available'])}.")
    return lines


def _platform(name: str, was: Plain, would: Plain) -> list[list[str]]:
    sides = (("was", was["platforms"].get(name)), ("would be", would["platforms"].get(name)))
    return [_cells(name, label, part) for label, part in sides if part is not None]


def _cells(name: str, label: str, part: Plain) -> list[str]:
    return [
        name,
        label,
        cells.count(part.get("attempts")),
        cells.count(part.get("completed")),
        cells.usd(part["paid_usd"]) + ("*" if part["unpriced"] else ""),
        cells.usd(part["plan_value_usd"]),
        cells.usd(part["possible_usd"]),
        _wait(part.get("wait_mean_ms")),
        _wait(part.get("wait_max_ms")),
    ]


def _wait(wait_ms: int | None) -> str:
    return cells.seconds(None if wait_ms is None else wait_ms / 1000)


def _windows(was: Mapping[str, list[int]], would: Mapping[str, list[int]]) -> list[str]:
    """Say of each window when it emptied and when it would have."""
    return [
        f"{quota}: emptied {_moments(was.get(quota, []))}; would have {_moments(would.get(quota, []))}"
        for quota in sorted({*was, *would})
        if was.get(quota) or would.get(quota)
    ]


def _moments(moments: list[int]) -> str:
    if not moments:
        return "never"
    shown = [datetime.fromtimestamp(moment / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S") for moment in moments[:MOMENTS_MAX]]
    more = f" and {len(moments) - MOMENTS_MAX} times more" if len(moments) > MOMENTS_MAX else ""
    return f"{', '.join(shown)}{more} UTC"
