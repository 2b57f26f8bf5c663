"""What waits for a person's answer: tasks that run on a platform behind which there is nobody but a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from farebox.core import subjects, wire
from farebox.core.errors import BadFact, BusError
from farebox.core.events import TaskSubmitted
from farebox.core.settings import PlatformSettings
from farebox.log.port import Log
from farebox.runtime.projection import Projection

KIND = "interactive"
SHOWN_MAX = 100
PROMPT_CHARS = 4000
Json = dict[str, Any]


async def shown(log: Log, projection: Projection, platforms: Mapping[str, PlatformSettings]) -> list[Json]:
    """Return the tasks that wait for an answer, the newest first, with what is asked."""
    found: list[Json] = []
    for name, settings in platforms.items():
        if settings.kind == KIND and settings.enabled:
            found += await projection.ask(
                lambda name=name: projection.views.tasks(state="running", platform=name, limit=SHOWN_MAX)
            )
    return [await _question(log, task["result"]) for task in found[:SHOWN_MAX]]


async def of_task(log: Log, result: Json, platforms: Mapping[str, PlatformSettings]) -> Json | None:
    """Return what a task asks a person now, None if it does not."""
    settings = platforms.get(str(result["platform"]))
    asked = settings is not None and settings.kind == KIND and result["status"] == "running"
    return await _question(log, result) if asked else None


async def _question(log: Log, task: Json) -> Json:
    chain, name = str(task["chain_id"]), str(task["task_id"])
    return {
        "task_id": name,
        "chain_id": chain,
        "attempt": task["attempts"],
        "platform": task["platform"],
        "prompt": (await _prompt(log, chain, name))[:PROMPT_CHARS],
    }


async def _prompt(log: Log, chain: str, task: str) -> str:
    """Return what was asked; empty while the log cannot say it."""
    try:
        last = await log.last(subjects.exact("client", "submitted", chain, task))
        fact = None if last is None else wire.decode(last.subject, last.body, last.seq, last.at_ms)
        if not isinstance(fact, TaskSubmitted):
            return ""
        return (await log.get_blob(fact.prompt_ref)).decode("utf-8", "replace") if fact.prompt_ref else fact.prompt
    except (BusError, BadFact):
        return ""
