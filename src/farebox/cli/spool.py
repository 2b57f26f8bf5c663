"""farebox spool: paid answers that this store keeps although the log knows nothing of their attempts; how to get them out."""

from __future__ import annotations

import asyncio
import sys

from farebox.cli import cells
from farebox.cli.options import DEFAULT, Common
from farebox.cli.output import document, is_terminal, line, printable, width
from farebox.cli.table import Column, render
from farebox.core.errors import BadInput
from farebox.core.platform import CallEnded
from farebox.nearest import did_you_mean
from farebox.runtime.journal import PLACE, answers, told

ACTIONS = ("list", "show", "drop")
COLUMNS = (
    Column("answer"),  # never shortened: it is what one types next
    Column("task", drop=3),
    Column("platform", drop=2, flexible=True),
    Column("attempt", right=True, drop=5),
    Column("charged", drop=4),
    Column("bytes", right=True, drop=1),
)


def command(action: str = "list", answer: str | None = None, /, *, common: Common = DEFAULT) -> int:
    """Show answers that this store keeps for nobody: the log knows nothing of their attempts, as after an old log was put back.

    Examples: farebox spool    |    farebox spool show ANSWER > answer.txt    |    farebox spool drop ANSWER

    They are kept until the task is started again, which takes its answer then, or until somebody drops them.

    Parameters
    ----------
    action
        list, show (prints the text) or drop (for good; while no engine runs).
    answer
        Which one, as the list names it.
    """
    if action not in ACTIONS:
        near = did_you_mean(action, ACTIONS)
        raise BadInput(f'"{action[:40]}" cannot be done.', hint=f"{near} Choose one of: {', '.join(ACTIONS)}.".strip())
    if action == "list" and answer is not None:
        raise BadInput("The list takes no name.", hint=f"farebox spool show {answer}")
    if action != "list" and answer is None:
        raise BadInput("Which answer?", hint=f"farebox spool {action} ANSWER — see: farebox spool list")
    if answer is None:
        return _listed(common)
    return _shown(common, answer) if action == "show" else asyncio.run(_dropped(common, answer))


def _kept(common: Common) -> dict[str, CallEnded]:
    return answers(common.place(common.settings()) / PLACE)


def _one(found: dict[str, CallEnded], answer: str) -> CallEnded:
    if answer not in found:
        raise BadInput(f"There is no answer {answer[:200]!r} that nobody claims.", hint="See: farebox spool list", code="FB417")
    return found[answer]


def _listed(common: Common) -> int:
    found = _kept(common)
    kept = [told(key, outcome) for key, outcome in sorted(found.items())]
    if common.json:
        document({"schema": "farebox.spool/1", "answers": kept})
        return 0
    rows = [
        [one["answer"], one["task"], one["platform"], str(one["attempt"]), one["charged"], cells.count(one["bytes"])]
        for one in kept
    ]
    for text in render(COLUMNS, rows, width()) if rows else ["The log knows of all that is kept here."]:
        line(text)
    if kept:
        line(f"Get one out: farebox spool show {kept[0]['answer']}")
    return 0


def _shown(common: Common, answer: str) -> int:
    outcome = _one(_kept(common), answer)
    if common.json:
        document({"schema": "farebox.spool-answer/1", **told(answer, outcome), "text": outcome.text})
    else:
        line(printable(outcome.text) if is_terminal(sys.stdout) else outcome.text)
    return 0


async def _dropped(common: Common, answer: str) -> int:
    from farebox.runtime.spool import Spool  # noqa: PLC0415 - only where something is written
    from farebox.runtime.store import Store  # noqa: PLC0415

    place = Store(common.place(common.settings()))
    _one(_kept(common), answer)
    place.open()
    try:
        spool = Spool(place.path / PLACE)
        await spool.drop(answer)
        await spool.close()
    finally:
        place.close()
    if common.json:
        document({"schema": "farebox.spool-dropped/1", "answer": answer})
    else:
        line(f"{answer} is gone for good.")
    return 0
