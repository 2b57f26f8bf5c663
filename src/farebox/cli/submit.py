"""farebox submit: one task, its answer on stdout, its cost on stderr."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter

from farebox.cli import session
from farebox.cli.answer import AnswerOutput, footer
from farebox.cli.options import SUBMIT_DEFAULT, Common, SubmitCommon, no_option
from farebox.cli.output import document, is_terminal, line, note
from farebox.client import Client
from farebox.core.results import Result
from farebox.handle import Handle, ResultTimeout
from farebox.inputs import STDIN, file_input, json_option, pairs_option, text_file
from farebox.tasks import TIMEOUT_S, TaskSpec, spec_of

CANCEL_WAIT_S = 15.0
"""How long Ctrl-C waits for the end of what it cancelled."""
EXIT_CODES = {"completed": 0, "failed": 1, "cancelled": 7}


def command(
    prompt: Annotated[str, Parameter(allow_leading_hyphen=True)],
    /,
    *,
    file: Annotated[tuple[str, ...], Parameter(name=("--file", "-f"))] = (),
    system: Annotated[str, Parameter(name=("--system", "-s"))] = "",
    type_: Annotated[str, Parameter(name=("--type", "-t"))] = "general",
    platform: Annotated[str, Parameter(name=("--platform", "-p"))] = "",
    fallback: bool = True,
    model: Annotated[str, Parameter(name=("--model", "-m"))] = "",
    chain: str = "",
    priority: int = 0,
    context_json: Annotated[str, Parameter(name="--context")] = "",
    metadata: tuple[str, ...] = (),
    tag: tuple[str, ...] = (),
    timeout: float = TIMEOUT_S,
    max_tokens: int | None = None,
    temperature: float | None = None,
    stream: bool | None = None,
    detach: Annotated[bool, Parameter(negative=())] = False,
    common: SubmitCommon = SUBMIT_DEFAULT,
) -> int:
    """Send one task, watch the answer, see what it cost.

    Examples: farebox submit "Summarise this" -f README.md    |    cat notes.txt | farebox submit -

    Parameters
    ----------
    prompt
        What to do; `-` reads it from stdin.
    file
        A text file to send along (repeatable).
    system
        A system prompt.
    type_
        code_generation, research, data_analysis, review or general.
    platform
        A hint: this platform if it can, another one otherwise.
    fallback
        With --no-fallback only the platform that was asked for.
    model
        The model to use.
    chain
        The chain that the task belongs to.
    priority
        Higher goes first, -1000 to 1000.
    context_json
        Context as a JSON object, or @FILE.
    metadata
        NAME=VALUE kept with the task (repeatable).
    tag
        NAME=VALUE to group costs by (repeatable).
    timeout
        Seconds that an attempt may take.
    max_tokens
        The longest answer, in tokens.
    temperature
        As the model takes it.
    stream
        Show the text as it comes (default: on a terminal).
    detach
        Print the task's id and do not wait.
    """
    fields: dict[str, Any] = {
        "prompt": _prompt(common, prompt),
        "system": system,
        "files": [file_input(path) for path in file],
        "type": type_,
        "platform": platform,
        "fallback": fallback,
        "model": model,
        "chain": chain,
        "priority": priority,
        "context": json_option(context_json, "--context") if context_json else {},
        "metadata": pairs_option(metadata, "--metadata"),
        "tags": pairs_option(tag, "--tag"),
        "timeout_s": timeout,
        "max_tokens": max_tokens,
        "temperature": temperature,
    }
    spec = spec_of(fields)
    streams = is_terminal(sys.stdout) if stream is None else stream
    if detach:
        return session.run(lambda: _detached(common, spec))
    return session.run(lambda: _waited(common, spec, streams=streams and not common.json))


def _prompt(common: Common, given: str) -> str:
    if no_option(given, "prompt") != STDIN:
        return given
    if sys.stdin.isatty():
        words = "FB404 Waiting for a prompt on stdin, which is your terminal. Type it and press Ctrl-D, or: farebox submit"
        note(common, f'{words} "your prompt"')
    return text_file(STDIN)


async def _detached(common: Common, spec: TaskSpec) -> int:
    async with session.opened(common, "running") as client:
        handle = await client.send(spec, live=False)
        await handle.close()
    if common.json:
        document({"schema": "farebox.submitted/1", "task_id": handle.task_id, "chain_id": handle.chain_id})
    else:
        line(handle.task_id)
    return 0


async def _waited(common: Common, spec: TaskSpec, *, streams: bool) -> int:
    async with session.opened(common, "engine") as client:
        handle = await client.send(spec, live=True)
        output = AnswerOutput(common, handle.task_id, streams=streams, payers=await _payers(client))
        try:
            result = await _shown(handle, output)
        except asyncio.CancelledError:
            result = await _cancelled(common, handle)
            output.end(result)
            _say_end(common, result)
            return 130
        output.end(result)
    _say_end(common, result)
    return EXIT_CODES.get(result.status, 1)


async def _payers(client: Client) -> dict[str, str]:
    """Return who pays by platform, to be said before the first text."""
    platforms = await client.platforms()
    return {str(row["platform"]): str(row["billing"]) for row in platforms["platforms"]}


async def _shown(handle: Handle, output: AnswerOutput) -> Result:
    async with output.waiting():
        async for chunk in handle.chunks():
            output.chunk(chunk)
    return await handle.result()


async def _cancelled(common: Common, handle: Handle) -> Result:
    """Cancel the task and wait for its end, so that what was spent can be said. A second Ctrl-C ends the waiting."""
    note(common, f"\nCancelling task {handle.task_id} (Ctrl-C again: leave at once)")
    await handle.cancel("Ctrl-C")
    try:
        return await handle.result(timeout_s=CANCEL_WAIT_S)
    except ResultTimeout:
        return Result(task_id=handle.task_id, chain_id=handle.chain_id, partial_output=handle.partial)


def _say_end(common: Common, result: Result) -> None:
    if common.json:
        document({"schema": "farebox.result/1", **msgspec.to_builtins(result)})
    note(common, footer(result))
