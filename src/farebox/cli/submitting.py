"""Sending one task and seeing it through: its answer, Ctrl-C, what it cost."""

from __future__ import annotations

import asyncio

import msgspec

from farebox.cli import batch_plan, cells, session
from farebox.cli.answer_shown import AnswerOutput, footer, refusal_code
from farebox.cli.options import Common
from farebox.cli.output import document, line, note
from farebox.cli.trouble import troubles_said
from farebox.client import Client
from farebox.core.errors import BusError
from farebox.core.results import CostShown, Result
from farebox.core.tokens import estimate
from farebox.handle import Handle
from farebox.posting import new_id
from farebox.tasks import TaskSpec

CANCEL_WAIT_S = 15.0
"""How long Ctrl-C waits for the end of what it cancelled."""
LEAST_CHARS = 1_000
"""Shorter prompts are not even counted."""
EXIT_LATE = 7
EXIT_REFUSED = 5
EXIT_CODES = {"completed": 0, "failed": 1, "cancelled": EXIT_LATE}


async def detached(common: Common, spec: TaskSpec) -> int:
    """Send the task and print its id."""
    async with session.opened(common, "running") as client:
        await _say_estimate(common, client, spec)
        async with troubles_said(common, client.log):
            handle = await client.send(spec, live=False)
        await handle.close()
    if common.json:
        document({"schema": "farebox.submitted/1", "task_id": handle.task_id, "chain_id": handle.chain_id})
    else:
        line(handle.task_id)
    return 0


async def waited(common: Common, spec: TaskSpec, *, streams: bool) -> int:
    """Send the task, show its answer as it comes, and what it cost; Ctrl-C cancels it. Returns the exit code."""
    async with session.opened(common, "engine") as client:
        await _say_estimate(common, client, spec)
        task_id = new_id()
        output = AnswerOutput(common, task_id, streams=streams, payers=await _payers(client))
        sending = asyncio.ensure_future(client.send(spec, task_id=task_id))
        try:
            async with output.waiting(sending), troubles_said(common, client.log, task_id):
                result = await _shown(await asyncio.shield(sending), output)
        except asyncio.CancelledError:
            # What is on its way to the log gets there, and is cancelled like what runs: no task goes on unsaid.
            if not sending.done():
                note(common, f"\nTask {task_id} is cancelled as soon as the log has it (Ctrl-C again: leave at once)")
            result = await _cancelled(common, await sending)
            output.end(result)
            _say_end(common, result)
            return 130
        output.end(result)
    _say_end(common, result)
    return exit_code(result)


def exit_code(result: Result) -> int:
    """Return 0 for an answer, 5 when a quota or budget said no, 7 when time was over or others cancelled, 1 when it failed."""
    if refusal_code(result):
        return EXIT_REFUSED
    late = result.error is not None and result.error.error_class == "timeout"
    return EXIT_LATE if late else EXIT_CODES.get(result.status, 1)


async def _say_estimate(common: Common, client: Client, spec: TaskSpec) -> None:
    """Say what a long prompt will cost before it runs: how many tokens, who reads them, from how much to how much."""
    size = len(spec.prompt) + sum(len(file.content or "") for file in spec.files)
    if size < LEAST_CHARS:
        return
    tokens = estimate(spec.prompt) + sum(estimate(file.content or "") for file in spec.files)
    if tokens < common.settings().settings.estimate_from_tokens:
        return
    plan = await batch_plan.looked_ahead(client, [spec])
    for one in plan["platforms"] if plan else ():
        paid = f"{cells.usd(one['low_usd'])} to {cells.usd(one['bound_usd'])}" if not one["unpriced"] else "no price known"
        pays = {"metered": "you pay", "plan": "a plan covers it", "free": "nobody pays"}.get(
            one["billing"], "rehearsal dollars"
        )
        note(common, f"about {cells.tokens(tokens)} tokens · {one['platform']} · {paid} · {pays}")


async def _payers(client: Client) -> dict[str, str]:
    """Return who pays by platform, to be said before the first text."""
    platforms = await client.platforms(look=False)
    return {str(row["platform"]): str(row["billing"]) for row in platforms["platforms"]}


async def _shown(handle: Handle, output: AnswerOutput) -> Result:
    async for chunk in handle.chunks():
        output.chunk(chunk)
    return await handle.result()


async def _cancelled(common: Common, handle: Handle) -> Result:
    """Cancel the task and wait for its end, so that what was spent can be said. A second Ctrl-C ends the waiting."""
    note(common, f"\nCancelling task {handle.task_id} (Ctrl-C again: leave at once)")
    try:
        async with asyncio.timeout(CANCEL_WAIT_S):
            await handle.cancel("Ctrl-C")
            return await handle.result()
    except (TimeoutError, BusError):
        note(common, f"Its end is not known yet: it may go on. See: farebox status {handle.task_id}")
        unknown = CostShown(status="pending")
        return Result(task_id=handle.task_id, chain_id=handle.chain_id, partial_output=handle.partial, cost=unknown)


def _say_end(common: Common, result: Result) -> None:
    if common.json:
        document({"schema": "farebox.result/1", **msgspec.to_builtins(result)})
    note(common, footer(result))
