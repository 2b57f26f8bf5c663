"""The page about platforms: what each one is, in its own file's words, and what each recorded case comes to."""  # noqa: INP001 - a folder of documents, no package

from __future__ import annotations

import inspect
import sys
import tomllib
from pathlib import Path
from typing import Any

from actors.platforms import PLATFORMS
from farebox.core.platform import PlatformKind

RECORDINGS = Path(__file__).parent.parent / "tests" / "golden" / "platforms"
BEGIN = """Each platform is one file under `actors/platforms/`: what to send, and how to read what comes. All of them are held
to the same cases by recorded answers (`uv run pytest tests/platforms/test_conformance.py`).

"""
TABLE_BEGIN = """
## What each case comes to

Read from the recordings beside `expected.toml` in `tests/golden/platforms/`. A class of error, or `ok`; then whether it may
have cost something: `none` surely not, `known` as its usage says, `possible`. A dash has its reason below the table.

"""


def page() -> str:
    """Return the page, without its first lines."""
    parts = [BEGIN, *(f"## {kind.name}\n\n{_about(kind)}\n\n" for kind in PLATFORMS), TABLE_BEGIN.lstrip(), _cases()]
    return "".join(parts).rstrip() + "\n"


def _about(kind: PlatformKind) -> str:
    """Return what the kind's own file says of it."""
    module = sys.modules[kind.ask.__module__]
    return (inspect.getdoc(module) or "").removesuffix("Pure.").strip().replace(" Pure.\n", "\n")


def _cases() -> str:
    told = {path.parent.name: tomllib.loads(path.read_text("utf-8")) for path in sorted(RECORDINGS.glob("*/expected.toml"))}
    cases = sorted({case for one in told.values() for case in one.get("not_applicable", {})} | _common(told))
    lines = ["| case | " + " | ".join(told) + " |", "| --- |" + " --- |" * len(told)]
    lines += [f"| {case} | " + " | ".join(_cell(one, case) for one in told.values()) + " |" for case in cases]
    reasons = [
        f"* `{name}` has no {', '.join(cases)}: {why}." for name, one in told.items() for why, cases in _reasons(one).items()
    ]
    return "\n".join([*lines, "", *reasons]) + "\n"


def _reasons(one: dict[str, Any]) -> dict[str, list[str]]:
    """Return the cases that a platform does not have, by the reason."""
    found: dict[str, list[str]] = {}
    for case, why in one.get("not_applicable", {}).items():
        found.setdefault(why, []).append(f"`{case}`")
    return found


def _common(told: dict[str, dict[str, Any]]) -> set[str]:
    """Return the cases that more than one platform has."""
    every = [case for one in told.values() for case in one if case not in {"settings", "not_applicable"}]
    return {case for case in every if every.count(case) > 1}


def _cell(one: dict[str, Any], case: str) -> str:
    if case not in one:
        return "–" if case in one.get("not_applicable", {}) else ""
    return f"{one[case]['class'] or 'ok'}, {one[case]['charged']}"
