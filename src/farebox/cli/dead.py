"""farebox dead: facts that nobody could read, decide about or carry, what they stop, and how they go on."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from cyclopts import Parameter

from farebox.cli import cells, session
from farebox.cli.options import DEFAULT, Common
from farebox.cli.output import document, line, one_line, printable, width
from farebox.cli.table import Column, render
from farebox.core.errors import BadInput
from farebox.nearest import did_you_mean

ACTIONS = ("list", "show", "retry")
COLUMNS = (
    Column("fact", right=True),
    Column("what"),
    Column("who", drop=3),
    Column("task"),
    Column("when", drop=2),
    Column("reason", drop=1, flexible=True),
)
WORDS = {
    "quarantined": "quarantined",
    "parked": "parked",
    "unchained": "out of chain",
    "undecided": "undecided",
    "unfolded": "not taken in",
    "halted": "actor stopped",
    "given_up": "given up",
}


def command(
    action: str = "list",
    fact: int | None = None,
    /,
    *,
    everything: Annotated[bool, Parameter(name=("--all", "-a"), negative=())] = False,
    common: Common = DEFAULT,
) -> int:
    """Show facts that stopped and what they stop, or put one back to work.

    Examples: farebox dead    |    farebox dead show 117    |    farebox dead retry 117

    Parameters
    ----------
    action
        list, show or retry.
    fact
        The sequence of a fact, as the list shows it.
    everything
        In the list: also what stops nothing any more.
    """
    if action not in ACTIONS:
        near = did_you_mean(action, ACTIONS)
        raise BadInput(f'"{action[:40]}" cannot be done.', hint=f"{near} Choose one of: {', '.join(ACTIONS)}.".strip())
    if action == "list":
        if fact is not None:
            raise BadInput("The list takes no number.", hint=f"farebox dead show {fact}")
        return session.run(lambda: _listed(common, everything))
    if fact is None:
        raise BadInput("Which fact?", hint=f"farebox dead {action} NUMBER — see: farebox dead list")
    return session.run(lambda: _shown(common, fact) if action == "show" else _retried(common, fact))


async def _listed(common: Common, everything: bool) -> int:
    async with session.opened(common, "answers") as client:
        found = await client.dead(ended=everything)
    if common.json:
        document(found)
        return 0
    letters = found["letters"]
    for text in render(COLUMNS, [_row(letter) for letter in letters], width()) if letters else ["Nothing is stopped."]:
        line(text)
    if letters:
        line(f"See one: farebox dead show {letters[0]['seq']}")
    return 0


async def _shown(common: Common, fact: int) -> int:
    async with session.opened(common, "answers") as client:
        letter = await client.dead_letter(fact)
    if common.json:
        document(letter)
        return 0
    line(f"fact {letter['seq']} · {WORDS[letter['kind']]} · {_when(letter)}")
    line(f"  subject: {one_line(letter['subject'], 400)}")
    line(f"  by: {letter['who']}")
    line(f"  reason: {one_line(letter['reason'], 1000)}")
    line(f"  stops: {letter['stops']}")
    if letter["tries"]:
        line(f"  tries: {letter['tries']}")
    line(f"  body, {cells.count(letter['body_bytes'])} bytes:")
    for text in printable(letter["body"]).splitlines():
        line(f"    {text}")
    if letter["open"]:
        line(f"When its cause is mended: farebox dead retry {letter['seq']}")
    return 0


async def _retried(common: Common, fact: int) -> int:
    async with session.opened(common, "running") as client:
        told = await client.retry_dead(fact)
    if common.json:
        document(told)
    else:
        line(f"fact {told['seq']}: {told['outcome']}")
    return 0


def _row(letter: Mapping[str, Any]) -> list[str]:
    task = letter["task"] if letter["task"] not in {"", "-"} else cells.UNKNOWN
    what = WORDS[letter["kind"]] + ("" if letter["open"] else ", over")
    return [str(letter["seq"]), what, letter["who"], task, _when(letter), letter["reason"]]


def _when(letter: Mapping[str, Any]) -> str:
    if letter["at_ms"] is None:
        return cells.UNKNOWN
    return datetime.fromtimestamp(letter["at_ms"] / 1000, UTC).astimezone().isoformat(" ", "seconds")
