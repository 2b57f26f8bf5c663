"""farebox submit: one task, its answer on stdout, its cost on stderr."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import Parameter

from farebox.cli.allowed_options import ANYTHING, Allowed
from farebox.cli.options import SUBMIT_DEFAULT, Common, SubmitCommon, no_option
from farebox.cli.output import is_terminal, note
from farebox.cli.task_options import NO_OPTIONS, TaskOptions
from farebox.inputs import STDIN, text_file


def command(
    prompt: Annotated[str, Parameter(allow_leading_hyphen=True)],
    /,
    *,
    task: TaskOptions = NO_OPTIONS,
    allowed: Allowed = ANYTHING,
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
    stream
        Show the text as it comes (default: on a terminal).
    detach
        Print the task's id and do not wait.
    """
    from farebox.cli import session, submitting  # noqa: PLC0415 - asyncio and the client: 40 ms that --help does not need

    spec = task.spec(_prompt(common, prompt), allowed)
    streams = is_terminal(sys.stdout) if stream is None else stream
    if detach:
        return session.run(lambda: submitting.detached(common, spec))
    return session.run(lambda: submitting.waited(common, spec, streams=streams and not common.json))


def _prompt(common: Common, given: str) -> str:
    if no_option(given, "prompt") != STDIN:
        return given
    if sys.stdin.isatty():
        words = "FB404 Waiting for a prompt on stdin, which is your terminal. Type it and press Ctrl-D, or: farebox submit"
        note(common, f'{words} "your prompt"')
    return text_file(STDIN)
