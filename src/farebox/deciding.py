"""A person's word on an interrupted attempt: said once, fenced, so that of two words the first one counts."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Literal, get_args

from farebox.api import Json
from farebox.core import subjects, wire
from farebox.core.errors import AppendBusy, AppendRefused, AppendUnknown, BadFact, BadInput, NotReachable
from farebox.core.events import TaskDecision
from farebox.log.port import Entry, Fence, Log
from farebox.nearest import did_you_mean
from farebox.posting import RETRY_FIRST_S, WRITER, new_id

if TYPE_CHECKING:
    from farebox.client import Client

Decision = Literal["retry", "fail", "accept"]
DECISIONS: tuple[Decision, ...] = get_args(Decision)
PATIENCE_S = 30.0
"""How long the bus may stay away while a decision waits to be stored."""


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


async def say(log: Log, fact: TaskDecision, *, patience_s: float = PATIENCE_S) -> TaskDecision:
    """Say it unless somebody decided about this attempt before; return what stands. Raises BusError."""
    until = time.monotonic() + patience_s
    while True:
        try:
            stands, seq = await _last(log, fact.chain, fact.task)
            if stands is not None and stands.attempt >= fact.attempt:
                return stands
            subject = subjects.subject_of(WRITER, fact)
            await log.append([Entry(subject, wire.encode(fact), Fence(subject, seq))])
        except AppendRefused:
            continue
        except (AppendUnknown, AppendBusy, NotReachable):
            if time.monotonic() > until:
                raise
            await asyncio.sleep(RETRY_FIRST_S)
        else:
            return fact


async def _last(log: Log, chain: str, task: str) -> tuple[TaskDecision | None, int]:
    """Return the last decision about a task and what a new one must expect; what nobody can read decides nothing."""
    last = await log.last(subjects.exact(WRITER, "decided", chain, task))
    if last is None:
        return None, 0
    try:
        found = wire.decode(last.subject, last.body, last.seq, last.at_ms)
    except BadFact:
        return None, last.seq
    assert isinstance(found, TaskDecision), "verified by its subject"
    return found, last.seq


async def _not_waiting(log: Log, chain: str, task: str, status: str) -> BadInput:
    stands, _ = await _last(log, chain, task)
    if stands is not None:
        return _decided(stands)
    return BadInput(f"Task {task} waits for no decision: it is {status}.", hint=f"See: farebox status {task}", code="FB411")


def _decided(stands: TaskDecision) -> BadInput:
    return BadInput(
        f"Attempt {stands.attempt} of task {stands.task} was decided already: {stands.decision}.",
        hint=f"See: farebox status {stands.task}",
        code="FB412",
    )
