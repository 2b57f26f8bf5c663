"""A person's answer to a task that waits for one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from farebox.api import Json
from farebox.core import wire
from farebox.core.errors import BadInput
from farebox.core.events import TaskAnswered
from farebox.posting import keep, new_id
from farebox.saying_once import say

if TYPE_CHECKING:
    from farebox.client import Client


async def answer(client: Client, task_id: str, text: str) -> Json:
    """Answer a task that waits for a person and return what it is: `task_id`, `chain_id`, `attempt`.

    Raises BadInput when the answer is empty or holds a key of this environment, there is no such task, it does not wait for
    a person (FB420), or somebody answered before (FB421); BusError.
    """
    if not text.strip():
        raise BadInput("The answer is empty.", hint=f'farebox answer {task_id} "your answer" — or: - for stdin')
    card = await client.status(task_id)
    asked = card.get("question")
    if asked is None:
        raise _not_asked(card.get("result") or card)
    body = text.encode()
    large = len(body) > wire.INLINE_BYTES_MAX
    fact = TaskAnswered(
        id=new_id(), chain=str(asked["chain_id"]), task=str(asked["task_id"]), attempt=int(asked["attempt"]),
        answer="" if large else text, answer_ref=await keep(client.log, body) if large else None,
    )  # fmt: skip
    stands = await say(client.log, fact)
    if stands.id != fact.id:
        raise BadInput(f"Task {task_id} was answered before.", hint=f"See: farebox status {task_id}", code="FB421")
    return {"task_id": fact.task, "chain_id": fact.chain, "attempt": fact.attempt}


def _not_asked(task: Json) -> BadInput:
    name, status = task["task_id"], task["status"]
    return BadInput(f"Task {name} waits for no person: it is {status}.", hint=f"See: farebox status {name}", code="FB420")
