"""Checking names against what the engine has: an unknown platform or model is said before anything is sent."""

from __future__ import annotations

from typing import Any

from farebox.core.errors import BadInput
from farebox.nearest import did_you_mean
from farebox.tasks import TaskSpec

Platform = dict[str, Any]
SHOWN_MAX = 12


def check_choice(spec: TaskSpec, document: dict[str, Any]) -> None:
    """Raise BadInput when `farebox.platforms/1` does not know the platform or the model of a task.

    A platform that lists no models may have any; one that is not there may still come back.
    """
    platforms: dict[str, Platform] = {str(row["platform"]): row for row in document["platforms"]}
    if spec.platform and spec.platform not in platforms:
        near = did_you_mean(spec.platform, platforms)
        known = ", ".join(sorted(platforms)[:SHOWN_MAX])
        raise BadInput(f'There is no platform "{spec.platform}".', hint=f"{near} Known: {known}.".strip(), code="FB306")
    if spec.model:
        _check_model(spec, [platforms[spec.platform]] if spec.platform else list(platforms.values()))


def _check_model(spec: TaskSpec, platforms: list[Platform]) -> None:
    usable = [row for row in platforms if row.get("available", True) or row["platform"] == spec.platform]
    models = {str(model) for row in usable for model in row.get("models") or ()}
    if not usable or any(not row.get("models") for row in usable) or spec.model in models:
        return
    # With fallback another platform may do the task with its own model, but the name was still meant for somebody.
    who = spec.platform or "No platform"
    said = f'{who} has no model "{spec.model}".' if spec.platform else f'{who} has the model "{spec.model}".'
    shown = ", ".join(sorted(models)[:SHOWN_MAX])
    hint = f"{did_you_mean(spec.model, models)} Known: {shown}. See: farebox platforms".strip()
    raise BadInput(said, hint=hint, code="FB304")
