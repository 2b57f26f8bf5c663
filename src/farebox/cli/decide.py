"""farebox decide: a person's word on an attempt that was interrupted and may have been charged."""

from __future__ import annotations

from typing import Any

import msgspec

from farebox.cli import cells, session
from farebox.cli.options import DEFAULT, Common
from farebox.cli.output import document, line
from farebox.deciding import check, decide
from farebox.handle import ENDED, ResultTimeout

WAIT_S = 15.0


def command(task: str, decision: str, /, *, common: Common = DEFAULT) -> int:
    """Say what becomes of a task whose attempt was interrupted and may have been charged.

    farebox status shows what waits for a decision. The first word counts; it cannot be taken back.

    Parameters
    ----------
    task
        The id of the task.
    decision
        retry: try again, which may be charged again. fail: end it. accept: the text that had come is the answer.
    """
    check(decision)
    return session.run(lambda: _decided(common, task, decision))


async def _decided(common: Common, task: str, decision: str) -> int:
    async with session.opened(common, "running") as client:
        question = await decide(client, task, decision)
        handle = client.handle(question["chain_id"], question["task_id"])
        status = "pending"
        if decision != "retry":
            try:
                status = (await handle.result(timeout_s=WAIT_S)).status
            except ResultTimeout:
                status = await handle.status()
        await handle.close()
    told = {"schema": "farebox.decided/1", "decision": decision, "status": status}
    told |= {name: question[name] for name in ("task_id", "chain_id", "attempt", "billing", "possible_usd", "cost_status")}
    if common.json:
        document(msgspec.to_builtins(told))
    else:
        line(_said(told))
    return 0


def _said(told: dict[str, Any]) -> str:
    spent = f"attempt {told['attempt']} may have cost {cells.at_most(told)}"
    task = told["task_id"]
    if told["decision"] == "retry":
        return f"task {task} is tried again; {spent}. Watch it: farebox status {task}"
    end = told["status"] if told["status"] in ENDED else "ending"
    return f"task {task} {end}; {spent}"
