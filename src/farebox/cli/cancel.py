"""farebox cancel: ask for the end of tasks and say what was spent."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from farebox.cli import cells, session
from farebox.cli.options import DEFAULT, Common
from farebox.cli.output import document, line, note
from farebox.client import Client
from farebox.core import money
from farebox.core.results import Result
from farebox.handle import ENDED, ResultTimeout

WAIT_S = 15.0


def command(*tasks: str, common: Common = DEFAULT) -> int:
    """Cancel tasks. It sticks: a task that has not started yet never will.

    Parameters
    ----------
    tasks
        The ids of the tasks.
    """
    from farebox.core.errors import BadInput  # noqa: PLC0415 - for the one mistake

    if not tasks:
        raise BadInput("Which task?", hint="farebox cancel TASK — see: farebox status --state running")
    return session.run(lambda: _cancelled(common, tasks))


async def _cancelled(common: Common, tasks: Sequence[str]) -> int:
    async with session.opened(common, "running") as client:
        handles = [await client.find(task) for task in tasks]
        before = {handle.task_id: await handle.status() for handle in handles}
        for handle in handles:
            await handle.cancel("farebox cancel")
        results = [await _ended(client, handle.chain_id, handle.task_id) for handle in handles]
    finished = sum(before[result.task_id] in ENDED for result in results)
    cancelled = sum(result.status == "cancelled" and before[result.task_id] not in ENDED for result in results)
    waiting = [result.task_id for result in results if result.status not in ENDED]
    paid = [amount for result in results if (amount := money.maybe(result.cost.paid_usd)) is not None]
    spent = money.total(paid) if paid else None
    if common.json:
        document(
            {
                "schema": "farebox.cancelled/1",
                "cancelled": cancelled,
                "already_ended": finished,
                "waiting": waiting,
                "paid_usd": None if spent is None else money.text(spent),
                "results": [msgspec.to_builtins(result) for result in results],
            }
        )
        return 0
    already = f" ({finished} had already ended)" if finished else ""
    line(f"cancelled {cancelled}{already}; spent so far {'unknown' if spent is None else cells.usd(spent)}")
    if waiting:
        note(common, f"still ending: {', '.join(waiting)}")
    return 0


async def _ended(client: Client, chain: str, task: str) -> Result:
    handle = client.handle(chain, task)
    try:
        return await handle.result(timeout_s=WAIT_S)
    except ResultTimeout:
        return (await client.result_now(chain, task)).result()
