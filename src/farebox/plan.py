"""Asking what tasks would do before they are sent: tasks alike become one line of the question, without their texts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from farebox import api
from farebox.core.terms import OnQuota
from farebox.log.port import Log
from farebox.tasks import TaskSpec

ASKED = ("type", "platform", "fallback", "model", "tags", "max_tokens", "directory", "worktree", "timeout_s")
GROUPS_MAX = 2_000
"""Beyond so many runs of tasks alike they are counted without their order."""
PLAN_S = 60.0


async def plan_of(log: Log, specs: Sequence[TaskSpec], on_quota: OnQuota | None = None) -> api.Json:
    """Return what these tasks would do (`farebox.plan/1`), under another `on_quota` if one is given. Nothing is sent.

    Raises NotReachable, and BadInput from an engine that cannot say.
    """
    return await api.ask(log, "plan", {"groups": groups_of(specs), "on_quota": on_quota}, timeout_s=PLAN_S)


def groups_of(specs: Iterable[TaskSpec]) -> list[api.Json]:
    """Return tasks as the question holds them: runs of tasks alike, their sizes within a factor of two."""
    runs: list[tuple[str, api.Json, int, int]] = []
    for spec in specs:
        task, size = _asked(spec), _bytes(spec)
        key = f"{json.dumps(task, sort_keys=True)} {size.bit_length()}"
        if runs and runs[-1][0] == key:
            _, task, count, total = runs.pop()
            runs.append((key, task, count + 1, total + size))
        else:
            runs.append((key, task, 1, size))
    if len(runs) > GROUPS_MAX:
        runs = _without_order(runs)
    return [{"count": count, "bytes": total // count, "task": task} for _, task, count, total in runs]


def _without_order(runs: Iterable[tuple[str, api.Json, int, int]]) -> list[tuple[str, api.Json, int, int]]:
    found: dict[str, tuple[str, api.Json, int, int]] = {}
    for key, task, count, total in runs:
        _, _, before, size = found.get(key, (key, task, 0, 0))
        found[key] = (key, task, before + count, size + total)
    return list(found.values())


def _asked(spec: TaskSpec) -> api.Json:
    task: dict[str, Any] = {name: getattr(spec, name) for name in ASKED if getattr(spec, name) not in ("", {}, None)}
    task |= {"chain": spec.chain} if spec.chain else {}
    return task | {"constraints": msgspec.to_builtins(spec.constraints)}


def _bytes(spec: TaskSpec) -> int:
    texts = (spec.prompt, spec.system, *(file.content or "" for file in spec.files))
    return sum(len(text.encode("utf-8", "replace")) for text in texts) + (len(json.dumps(spec.context)) if spec.context else 0)
