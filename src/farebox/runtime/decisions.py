"""What waits for a person: interrupted attempts that may have been charged, whose task says `ask`. The router knows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from farebox.core.events import AttemptInterrupted
from farebox.runtime.mind import Mind
from farebox.runtime.projection import Projection

SHOWN_MAX = 100
Json = dict[str, Any]


def asked(minds: Sequence[Mind]) -> list[AttemptInterrupted]:
    """Return the attempts that somebody has to decide about, the oldest first."""
    found = [fact for mind in minds if mind.actor.asks is not None for fact in mind.actor.asks(mind.state)]
    return sorted(found, key=lambda fact: fact.seq)


async def shown(minds: Sequence[Mind], projection: Projection, task: str = "") -> list[Json]:
    """Return what a person needs to decide: what happened, what there is of an answer, what it may have cost at most."""
    waiting = [fact for fact in asked(minds) if not task or fact.task == task][:SHOWN_MAX]
    names = [f"{fact.chain}.{fact.task}.{fact.attempt}" for fact in waiting]
    booked: dict[str, Json] = await projection.ask(lambda: projection.views.attempts_of(names))
    return [_question(fact, booked.get(name, {})) for fact, name in zip(waiting, names, strict=True)]


def _question(fact: AttemptInterrupted, booked: Json) -> Json:
    cost_status = booked.get("cost_status", "none")
    return {
        "task_id": fact.task,
        "chain_id": fact.chain,
        "attempt": fact.attempt,
        "platform": fact.platform,
        "model": fact.model,
        "billing": fact.billing,
        "error_class": fact.fault.error_class,
        "message": fact.fault.message,
        "partial_output": bool(fact.partial_output) or fact.partial_ref is not None,
        "cost_status": "pending" if cost_status == "none" else cost_status,
        "possible_usd": booked.get("possible_usd"),
        "since_ms": fact.at_ms,
    }
