"""A person's word on an interrupted attempt: said once, fenced, so that of two words the first one counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from farebox.api import Json
from farebox.core import subjects
from farebox.core.errors import BadInput
from farebox.core.events import TaskDecision
from farebox.log.port import Log
from farebox.nearest import did_you_mean
from farebox.posting import WRITER, new_id
from farebox.saying_once import last, say

if TYPE_CHECKING:
    from farebox.client import Client

Decision = Literal["retry", "fail", "accept"]
DECISIONS: tuple[Decision, ...] = get_args(Decision)


def check(decision: str) -> Decision:
    """Return the decision. Raises BadInput for a word that is none."""
    for known in DECISIONS:
        if known == decision:
            return known
    near = did_you_mean(decision, DECISIONS)
    raise BadInput(f'"{decision[:40]}" is no decision.', hint=f"{near} Choose one of: {', '.join(DECISIONS)}.".strip())


async def decide(client: Client, task_id: str, decision: str) -> Json:
    """Decide about a task's interrupted attempt and return the question that was answered so.

    Raises BadInput when there is no such task, it waits for no decision, there is nothing to accept, or somebody decided
    otherwise before; BusError.
    """
    word = check(decision)
    card = await client.status(task_id)
    result = card.get("result") or card
    chain, task = str(result["chain_id"]), str(result["task_id"])
    question = card.get("decision")
    if question is None:
        raise await _not_waiting(client.log, chain, task, str(result["status"]))
    if word == "accept" and not question["partial_output"]:
        raise BadInput(
            f"Attempt {question['attempt']} of task {task} left no text that could be accepted.",
            hint=f"farebox decide {task} retry — or: fail",
            code="FB414",
        )
    stands = await say(
        client.log, TaskDecision(id=new_id(), chain=chain, task=task, attempt=question["attempt"], decision=word)
    )
    if stands.decision != word:
        raise _decided(stands)
    return question


async def _not_waiting(log: Log, chain: str, task: str, status: str) -> BadInput:
    stands, _ = await last(log, subjects.exact(WRITER, "decided", chain, task), TaskDecision)
    if stands is not None:
        return _decided(stands)
    return BadInput(f"Task {task} waits for no decision: it is {status}.", hint=f"See: farebox status {task}", code="FB411")


def _decided(stands: TaskDecision) -> BadInput:
    return BadInput(
        f"Attempt {stands.attempt} of task {stands.task} was decided already: {stands.decision}.",
        hint=f"See: farebox status {stands.task}",
        code="FB412",
    )
