"""farebox answer: a person's answer to a task that waits for one."""

from __future__ import annotations

from typing import Annotated

import msgspec
from cyclopts import Parameter

from farebox.answering import answer
from farebox.cli import session
from farebox.cli.options import DEFAULT, Common, no_option
from farebox.cli.output import document, line
from farebox.handle import ResultTimeout
from farebox.inputs import STDIN, text_file

WAIT_S = 15.0


def command(task: str, text: Annotated[str, Parameter(allow_leading_hyphen=True)], /, *, common: Common = DEFAULT) -> int:
    """Answer a task that waits for a person, as those do that were sent with `-p interactive`.

    farebox status shows what waits for an answer. The first answer counts.

    Parameters
    ----------
    task
        The id of the task.
    text
        The answer; - reads it from stdin.
    """
    words = text_file(STDIN) if no_option(text, "answer") == STDIN else text
    return session.run(lambda: _answered(common, task, words))


async def _answered(common: Common, task: str, text: str) -> int:
    async with session.opened(common, "running") as client:
        asked = await answer(client, task, text)
        handle = client.handle(asked["chain_id"], asked["task_id"])
        try:
            status = (await handle.result(timeout_s=WAIT_S)).status
        except ResultTimeout:
            status = await handle.status()
        await handle.close()
    told = {"schema": "farebox.answered/1", **asked, "status": status}
    if common.json:
        document(msgspec.to_builtins(told))
    else:
        line(f"task {told['task_id']} {status}" if status != "running" else f"task {told['task_id']} is answered and goes on")
    return 0
