"""Asking the engine: JSON questions on farebox.api.<name>, JSON documents back, its errors raised as ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from farebox.core.errors import BadInput, BusError, CallerFault, FareboxError, NotReachable
from farebox.core.subjects import API
from farebox.log.port import Log

Json = dict[str, Any]
"""A JSON document with a "schema"."""
ANSWER_S = 10.0
"""How long an answer may take beyond what was asked to wait for."""

TROUBLE_S = 3.0
"""How long the engine may take to say what is wrong."""


async def ask(log: Log, name: str, question: Mapping[str, object], *, timeout_s: float = ANSWER_S) -> Json:
    """Return the engine's document. Raises what the engine says, NotReachable when nobody answers."""
    try:
        body = await log.request(f"{API}.{name}", msgspec.json.encode(question), timeout_s)
    except NotReachable as error:
        raise NotReachable(
            "No farebox engine answers on this bus.", hint="Start one: farebox up --detach", code="FB101"
        ) from error
    answer = msgspec.json.decode(body, type=Json)
    if "error" in answer and "schema" not in answer:
        raise raised(answer["error"])
    return answer


async def trouble(log: Log, *, timeout_s: float = TROUBLE_S) -> FareboxError | None:
    """Return what keeps facts from being stored, as the engine sees it; None if nothing does. Raises as `ask`."""
    told = (await ask(log, "info", {}, timeout_s=timeout_s)).get("trouble")
    return raised(told) if told else None


async def waiting(log: Log, *, timeout_s: float = TROUBLE_S) -> list[str]:
    """Return the ids of the tasks that wait for a person's decision; none if nobody answers."""
    try:
        return list((await ask(log, "info", {}, timeout_s=timeout_s)).get("decisions") or ())
    except FareboxError:
        return []


def raised(error: Json) -> FareboxError:
    """Return the error that an engine's answer holds, of our class for its code."""
    code, message, hint = (str(error.get(key, "")) for key in ("code", "message", "hint"))
    kind = _kinds().get(code) or _family(code)
    return kind(message or "The engine refused the question.", hint=hint, code=code)


def _family(code: str) -> type[FareboxError]:
    families: dict[str, type[FareboxError]] = {"FB1": BusError, "FB3": CallerFault, "FB4": BadInput}
    return families.get(code[:3], FareboxError)


def _kinds() -> dict[str, type[FareboxError]]:
    found: dict[str, type[FareboxError]] = {}
    waiting: list[type[FareboxError]] = [FareboxError]
    while waiting:
        kind = waiting.pop()
        found.setdefault(kind.code, kind)
        waiting += kind.__subclasses__()
    return found
