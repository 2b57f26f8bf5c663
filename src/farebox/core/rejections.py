"""Why nobody may do a task, in the words that a person gets: what he can do something about, and what to write. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from farebox.core.directories import FORBIDDEN, NO_PROGRAM
from farebox.core.terms import ErrorClass, Rejected

BY_NAME = "used only when asked for by name"
BUDGET_USED = "is used or reserved"
TOO_DEAR = "costs at least"
UNPRICED = "--allow-unpriced"
"""What every refusal for money holds: the code of the refusal is known by these words, in whatever sentence they stand."""
BOUNDED: frozenset[ErrorClass] = frozenset({"policy", "quota_exhausted"})


def code_of(error_class: str, message: str) -> str:
    """Return the code of a refusal by quota, budget or missing price, before anything was spent; "" for other ends."""
    bounded = error_class in BOUNDED
    if bounded and (BUDGET_USED in message or TOO_DEAR in message):
        return "FB302"
    if bounded and UNPRICED in message:
        return "FB303"
    return "FB301" if error_class == "quota_exhausted" else ""


def explained(rejected: Sequence[Rejected], *, asked_for: str = "", hint: str = "", directory: str = "") -> str:
    """Return why no platform may do a task.

    `asked_for` names the only one that was wanted, `hint` the one that was wanted first, `directory` is the task's.
    """
    telling = sorted(_telling(rejected, asked_for), key=lambda one: one.platform != hint)
    reasons = "; ".join(f"{one.platform}: {one.reason}" for one in telling) or "none is set up"
    message = f"No platform may do this task ({reasons})."
    forbidden = next((one.platform for one in telling if one.reason.startswith(FORBIDDEN)), "")
    if not forbidden:
        return message
    written = msgspec.json.encode(directory[:500]).decode()
    return f"{message} To allow it, write in farebox.toml: [platforms.{forbidden}] options = {{directories = {written}}}"


def _telling(rejected: Sequence[Rejected], asked_for: str) -> Sequence[Rejected]:
    """Return the rejections that a person can do something about: not those of platforms that nobody meant."""
    if asked_for:
        return [one for one in rejected if one.platform == asked_for]
    return [one for one in rejected if one.reason not in {BY_NAME, NO_PROGRAM}] or rejected
