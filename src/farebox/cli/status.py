"""farebox status: what runs and what ran, or the card of one task."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from cyclopts import Parameter

from farebox.cli import attention, cells, session
from farebox.cli.options import DEFAULT, Common
from farebox.cli.output import document, line, one_line, printable, width
from farebox.cli.table import Column, render
from farebox.core.errors import BadInput
from farebox.nearest import did_you_mean

STATES = ("pending", "running", "completed", "failed", "cancelled")
COLUMNS = (
    Column("task"),  # never shortened: it is what one types next
    Column("status"),
    Column("platform", drop=2, flexible=True),
    Column("model", drop=5, flexible=True),
    Column("type", drop=7),
    Column("time", right=True, drop=4),
    Column("paid", right=True, drop=1),
    Column("plan value", right=True, drop=6),
    Column("batch", drop=8, flexible=True),
    Column("error", drop=3, flexible=True),
)
LIMIT = 20


def command(
    task: str | None = None,
    /,
    *,
    state: str | None = None,
    limit: Annotated[int, Parameter(name=("--limit", "-n"))] = LIMIT,
    output: Annotated[bool, Parameter(negative=())] = False,
    common: Common = DEFAULT,
) -> int:
    """Show what runs and what ran, newest first, or one task.

    Parameters
    ----------
    task
        The id of a task: shows its card.
    state
        Only tasks that are pending, running, completed, failed or cancelled.
    limit
        How many tasks.
    output
        With a task: its whole answer, too.
    """
    if state is not None and state not in STATES:
        near = did_you_mean(state, STATES)
        raise BadInput(f'There is no state "{state[:40]}".', hint=f"{near} Choose one of: {', '.join(STATES)}.".strip())
    return session.run(lambda: _asked(common, task, state, limit, output))


async def _asked(common: Common, task: str | None, state: str | None, limit: int, output: bool) -> int:
    async with session.opened(common, "answers") as client:
        if task is None:
            found = await client.status(state=state, limit=limit)
        else:
            handle = await client.find(task)
            found = await client.status(handle.task_id)
            if output:
                found = {**flat(found), "output": (await client.result_whole(handle)).output}
    if common.json:
        document(found)
    else:
        for text in card(found, output=output) if task is not None else overview(found):
            line(text)
    return 0


def overview(found: Mapping[str, Any]) -> list[str]:
    """Return the engine's line and the table of tasks."""
    rows = [_row(task) for task in found["tasks"]]
    table = render(COLUMNS, rows, width()) if rows else ['No task yet. Send one: farebox submit "your prompt"']
    return [*engine(found.get("engine") or {}), *table, *attention.lines(found)]


def engine(about: Mapping[str, Any]) -> list[str]:
    """Return who answers, from where, and what is wrong there now."""
    names = {"bus": "bus", "store": "store", "credentials": "credentials"}
    parts = [f"{shown} {about[name]}" for name, shown in names.items() if about.get(name)]
    wrong = [about[name] for name in ("trouble", "warning") if about.get(name)]
    told = [f"{one['code']} {one['message']} {one['hint']}".rstrip() for one in wrong]
    head = f"engine {about.get('version', '')} · pid {about.get('pid', cells.UNKNOWN)} · "
    return [head + " · ".join(parts), *told] if about else []


def flat(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return a task with the fields of its result beside the others."""
    result: Mapping[str, Any] = found.get("result") or {}
    return {**result, **{name: value for name, value in found.items() if name != "result"}}


def card(found: Mapping[str, Any], *, output: bool = False) -> list[str]:
    """Return one task, a line for each thing known."""
    result = flat(found)
    lines = [f"task {result['task_id']} · {result['status']}"]
    for name, value in result.items():
        if name not in {"schema", "task_id", "status", "output", "partial_output", "decision", "question"} and value not in (
            None,
            "",
            [],
            {},
            False,
        ):
            lines += _shown(name, value)
    if result.get("decision"):
        lines.append(attention.question(result["decision"]))
    if result.get("question"):
        lines += [attention.asked(result["question"]), "", *printable(result["question"]["prompt"]).splitlines()]
    text = str(result.get("output") or result.get("partial_output") or "")
    if text:
        lines += ["", *(printable(text).splitlines() if output else [one_line(text, max(20, width() - 1))])]
    return lines


def _shown(name: str, value: Any) -> list[str]:
    label = _label(name)
    if isinstance(value, dict):
        parts = _parts(value)  # pyright: ignore[reportUnknownArgumentType]
        return [f"  {label}: {parts}"] if parts else []
    if isinstance(value, list):
        items: list[Any] = value  # pyright: ignore[reportUnknownVariableType]
        return [f"  {label}:", *(f"    - {_item(one)}" for one in items)]
    return [f"  {label}: {_value(name, value)}"]


def _item(value: Any) -> str:
    return _parts(value) if isinstance(value, dict) else one_line(str(value))  # pyright: ignore[reportUnknownArgumentType]


def _parts(known: Mapping[str, Any]) -> str:
    return ", ".join(f"{_label(key)} {_value(key, one)}" for key, one in known.items() if one not in (None, "", [], {}))


def _label(name: str) -> str:
    return name.removesuffix("_usd").removesuffix("_ms").removesuffix("_s").replace("_", " ")


def _value(name: str, value: Any) -> str:
    if name.endswith("_usd"):
        return cells.usd(value)
    if name.endswith("ed_ms") or name == "due_ms":
        return datetime.fromtimestamp(value / 1000, UTC).astimezone().isoformat(" ", "seconds")
    if name.endswith(("_ms", "_s")):
        return cells.seconds(value / 1000 if name.endswith("_ms") else value)
    return one_line(", ".join(map(str, value)) if isinstance(value, list) else str(value))  # pyright: ignore[reportUnknownArgumentType]


def _row(task: Mapping[str, Any]) -> list[str]:
    result = flat(task)
    cost: Mapping[str, Any] = result["cost"]
    error: Any = result.get("error") or {}
    return [
        str(result["task_id"]),
        str(result["status"]),
        cells.text(result.get("platform")),
        cells.text(result.get("model")),
        cells.text(result.get("type")),
        cells.seconds(result.get("duration_s")),
        cells.usd(cost.get("paid_usd")) + ("*" if cost.get("status") == "unpriced" else ""),
        cells.usd(cost.get("plan_value_usd")),
        cells.text(result.get("batch_id")),
        str(error.get("class", "")),
    ]
