"""farebox why: one task from its submission to the dollar, each line a fact of the log."""

from __future__ import annotations

from farebox.cli import session
from farebox.cli.options import DEFAULT, Common
from farebox.cli.output import document, line, width
from farebox.cli.why_shown import lines_of


def command(task: str, /, *, common: Common = DEFAULT) -> int:
    """Say why a task went where it went, why it waits and until when, and how its cost came about.

    Parameters
    ----------
    task
        The id of a task, or its beginning.
    """
    return session.run(lambda: _told(common, task))


async def _told(common: Common, task: str) -> int:
    async with session.opened(common, "answers") as client:
        found = await client.why(task)
    if common.json:
        document(found)
        return 0
    for text in lines_of(found, width()):
        line(text)
    return 0
