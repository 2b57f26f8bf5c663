"""Judging what was found: each thing is fine, odd, wrong or simply not there, with the command that mends it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct

from farebox.core.errors import FareboxError

Mark = Literal["ok", "warning", "problem", "absent"]
PAYS = {"metered": "you, per token", "plan": "your plan", "free": "nobody", "rehearsal": "nobody"}
KEYS = {
    "claude-code": ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"),
    "codex": ("OPENAI_API_KEY", "CODEX_API_KEY"),
    "gemini-cli": ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
}
"""Variables that would make a program bill by the token where its plan is meant to pay."""
FREE_LEAST = 1 << 30
"""Less room (bytes) on the disk of the store is odd."""
BEHIND_MOST = 10_000
"""Views that are so many facts behind the log are odd."""
MIB = 1 << 20


class Finding(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that was looked at. `mend` is what to type, `pays` who would pay."""

    mark: Mark
    what: str
    detail: str
    pays: str = ""
    mend: str = ""


def of_engine(info: Mapping[str, Any], free_bytes: int | None) -> list[Finding]:
    """Return what an engine's own account of itself (`farebox.info/1`) comes to."""
    where, log = str(info.get("store") or info.get("bus") or ""), info.get("log")
    if log is None:
        return [Finding(mark="ok", what="log", detail=f"{where} (its engine does not say what it holds)")]
    behind = log["last_seq"] - log["views_seq"]
    holds = f"{log['last_seq']} facts, {log['bytes'] / MIB:,.1f} MiB"
    found = [Finding(mark="ok", what="log", detail=f"{holds} · {where}")]
    if behind > BEHIND_MOST:
        found.append(Finding(mark="warning", what="views", detail=f"{behind} facts behind the log", mend="farebox status"))
    if free_bytes is not None and free_bytes < FREE_LEAST:
        words = f"{free_bytes / MIB:,.0f} MiB free where the store is"
        found.append(Finding(mark="warning", what="disk", detail=words, mend="Make room there."))
    if info.get("trouble"):
        found.append(_told(info["trouble"], "problem"))
    if info.get("warning"):
        found.append(_told(info["warning"], "warning"))
    return found


def of_error(what: str, error: FareboxError) -> Finding:
    """Return what an error comes to that kept something from being looked at."""
    return Finding(mark="problem", what=what, detail=f"{error.code} {error.message}", mend=error.hint)


def of_platforms(rows: Sequence[Mapping[str, Any]], named: Iterable[str], variables: Iterable[str]) -> list[Finding]:
    """Return what the platforms come to: one that somebody wrote down (`named`) must be there, others may be missing.

    `variables` are the names that are set in the environment in which they would be called.
    """
    named, variables = frozenset(named), frozenset(variables)
    found: list[Finding] = []
    for row in sorted(rows, key=lambda row: (not row["available"], row["tier"], row["platform"])):
        if row["enabled"]:
            found.append(_platform(row, must=row["platform"] in named))
            found += _keys(row, variables)
    if not any(row["available"] and not row["only_by_name"] for row in rows):
        found.append(Finding(mark="problem", what="platforms", detail="none is there that could do a task", mend=START))
    return found


START = "See above how to get one, or try it without: farebox demo"


def _platform(row: Mapping[str, Any], *, must: bool) -> Finding:
    mark: Mark = "ok" if row["available"] else "problem" if must else "absent"
    only = ", only by name" if row["only_by_name"] else ""
    pays = PAYS.get(str(row["billing"]), str(row["billing"]))
    return Finding(mark=mark, what=row["platform"], detail=f"{row['detail']}{only}", pays=pays, mend=row["mend"])


def _keys(row: Mapping[str, Any], variables: frozenset[str]) -> list[Finding]:
    """Return a warning for a key that is kept from a program whose plan pays."""
    if row["billing"] != "plan" or not row["available"]:
        return []
    name = row["platform"]
    return [
        Finding(
            mark="warning",
            what=name,
            detail=f"{key} is set. farebox keeps it from this platform, so that the plan pays.",
            mend=f'To pay by key instead: platforms.{name}.billing = "metered"',
        )
        for key in KEYS.get(str(row["kind"]), ())
        if key in variables
    ]


def _told(one: Mapping[str, Any], mark: Mark) -> Finding:
    return Finding(mark=mark, what="engine", detail=f"{one['code']} {one['message']}", mend=one.get("hint") or "")
