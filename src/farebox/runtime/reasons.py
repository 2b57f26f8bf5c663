"""Why a task went where it went and cost what it cost: its own facts, read back from the log, without its texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from farebox.core import wire
from farebox.core.errors import BadFact, BadInput
from farebox.core.standing import Standing
from farebox.log.port import Log
from farebox.runtime.projection import Projection

Json = dict[str, Any]
FACTS_MAX = 200
"""Facts of one task that are told, the first and the last ones."""
TEXTS = frozenset(
    {
        "prompt",
        "prompt_ref",
        "system",
        "context",
        "context_ref",
        "files",
        "output",
        "output_ref",
        "partial_output",
        "partial_ref",
    }
)
"""What a task is about is no reason, and may be private."""
FRESH_S = 0.5


class Reasons:
    """Answers `why` for one engine."""

    def __init__(self, log: Log, projection: Projection, standings: Callable[[], Sequence[Standing]]) -> None:
        self._log = log
        self._projection = projection
        self._standings = standings

    async def why(self, question: Json) -> Json:
        """Answer with all facts of a task but for its texts, and the limits in force (`farebox.why/1`). Raises BadInput."""
        task = str(question["task"])
        await self._projection.wait_for(self._projection.heard, FRESH_S)
        views = self._projection.views
        card = await self._projection.ask(lambda: views.task_card(task))
        seqs: list[int] = await self._projection.ask(lambda: views.facts_of(task))
        if card is None or not seqs:
            raise BadInput(f"There is no task {task!r}.", hint="See: farebox status", code="FB409")
        kept = seqs if len(seqs) <= FACTS_MAX else seqs[: FACTS_MAX // 2] + seqs[-FACTS_MAX // 2 :]
        facts = [fact for seq in kept if (fact := await self._fact(seq)) is not None]
        result = card["result"]
        return {
            "schema": "farebox.why/1",
            "task_id": result["task_id"],
            "chain_id": result["chain_id"],
            "status": result["status"],
            "waiting": card["waiting"],
            "due_ms": card["due_ms"],
            "facts": facts,
            "left_out": len(seqs) - len(kept),
            "limits": [msgspec.to_builtins(one) for one in self._standings() if _concerns(one, facts)],
        }

    async def _fact(self, seq: int) -> Json | None:
        stored = await self._log.at(seq)
        if stored is None:
            return None
        try:
            fact = wire.decode(stored.subject, stored.body, stored.seq, stored.at_ms)
        except BadFact as error:
            return {"seq": seq, "fact": "unread", "reason": error.message}
        plain: Json = msgspec.to_builtins(fact)
        return {name: value for name, value in plain.items() if name not in TEXTS} | {"seq": stored.seq, "at_ms": stored.at_ms}


def _concerns(one: Standing, facts: Sequence[Json]) -> bool:
    """Whether a quota bounds a platform that the task was routed to, or is a budget that it took from."""
    taken = {take["quota"] for fact in facts for take in fact.get("takes") or ()}
    platforms = {candidate["platform"] for fact in facts for candidate in fact.get("candidates") or ()}
    return one.quota in taken or bool(platforms & set(one.platforms))
