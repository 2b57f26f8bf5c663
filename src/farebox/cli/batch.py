"""farebox batch: many tasks from a file, their results in the order of the input, the sums at the end."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any, Self, TextIO

import msgspec
from cyclopts import Parameter
from msgspec import Struct

from farebox.aggregate import Aggregate
from farebox.batch import Batch
from farebox.cli import batch_plan, session
from farebox.cli.allowed_options import ANYTHING, Allowed, option, with_batch
from farebox.cli.answer_shown import why
from farebox.cli.options import DEFAULT, Common, no_option
from farebox.cli.output import document, line, note, one_line
from farebox.cli.progress import progress
from farebox.cli.summary import lines_of, plain
from farebox.cli.trouble import troubles_said
from farebox.client import Client
from farebox.core.errors import BadInput, BusError, LogFilling
from farebox.core.results import Result
from farebox.inputs import Lines, batch_file, read_batch

CANCEL_WAIT_S = 15.0
"""How long a second Ctrl-C waits for the end of what it cancelled, and SIGTERM for the end of what runs."""
EXIT_SOME_FAILED = 6
FAILURES_SHOWN = 3


def command(
    file: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    /,
    *,
    output: Annotated[Path | None, Parameter(name=("--output", "-o"))] = None,
    parallel: Annotated[int, Parameter(name=("--parallel", "-c"))] = 10,
    fail_fast: Annotated[bool, Parameter(negative=())] = False,
    resume: str | None = None,
    max_cost: str | None = None,
    allowed: Allowed = ANYTHING,
    yes: Annotated[bool, Parameter(name=("--yes", "-y"), negative=())] = False,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    common: Common = DEFAULT,
) -> int:
    """Run many tasks from a file and collect their results.

    Example: farebox batch prompts.jsonl -o results.jsonl --parallel 10

    Ctrl-C sends no more and waits for the tasks that run: what they cost is spent, so their answers are kept. Ctrl-C again
    cancels them, for good; a third leaves at once. `--resume BATCH` runs what was not sent.

    Parameters
    ----------
    file
        JSON Lines or one JSON array of objects with `prompt` and any field of `submit`; `-` reads stdin.
    output
        Where results go, one JSON object a line, in the order of the input (default: stdout).
    parallel
        How many tasks are under way at once.
    fail_fast
        Cancel the rest when one task fails.
    resume
        Go on with an interrupted batch: collect what was sent, run what was not, nothing twice. A cancelled task stays
        cancelled. The file may be left out.
    max_cost
        The most US dollars that the whole batch may cost.
    yes
        Do not ask, whatever the plan says.
    dry_run
        Check the whole file, say every bad line and, from an engine that runs, the plan; send nothing.
    """
    file = None if file is None else no_option(file, "file")
    told = allowed.of_batch(max_cost)
    if dry_run:
        return _checked(common, file, told)
    if file is None and resume is None:
        raise BadInput("A batch needs a file.", hint="farebox batch prompts.jsonl — or go on: farebox batch --resume BATCH")
    if file is None and told:
        options = ", ".join(f"--{option(name)}" for name in sorted(told))
        raise BadInput(
            f"What batch {resume} may do was said when it began, and goes on to hold: {options} cannot change it.",
            hint=f"farebox batch --resume {resume}",
        )
    if output is not None and file is not None and _same(output, file):
        raise BadInput(f"{output} is the input; results would destroy it.", hint="Give another file with -o.")
    lines = _all_told(batch_file(file), told) if file is not None else None
    sure = yes or allowed.on_quota is not None
    with _Results(output) as results:
        return session.run(lambda: _run(common, lines, results, Way(parallel, fail_fast, resume, sure, told)))


class Way(Struct, frozen=True):
    """How a batch runs. `sure`: an option says what happens near a limit; `told` is what holds for each of its tasks."""

    parallel: int
    fail_fast: bool
    resume: str | None
    sure: bool
    told: dict[str, Any]


def _all_told(lines: Lines, told: dict[str, Any]) -> Lines:
    return msgspec.structs.replace(lines, tasks=tuple(with_batch(spec, told) for spec in lines.tasks)) if told else lines


class _Results:
    """Writes results in the order of the input as soon as the next one is there.

    A file that cannot be written is said before anything is sent; an older one is kept until the first result comes.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._file: TextIO | None = None
        self._next = 1
        self._begun = False
        self.kept: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        if self.path is not None:
            try:
                self._file = self.path.open("a", encoding="utf-8")
            except OSError as error:
                raise BadInput(f"{self.path}: cannot be written: {error.strerror}.", code="FB406") from error
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, batch: Batch, common: Common) -> None:
        """Write what can be written now."""
        while (result := batch.results.get(self._next)) is not None:
            self._put(result, common)
            self._next += 1

    def rest(self, batch: Batch, common: Common) -> None:
        """Write what an interrupted batch has behind a gap, too."""
        for number in sorted(batch.results):
            if number >= self._next:
                self._put(batch.results[number], common)

    def _put(self, result: Result, common: Common) -> None:
        content = {"schema": "farebox.result/1", **msgspec.to_builtins(result)}
        if self._file is not None:
            if not self._begun:
                self._file.truncate(0)
                self._begun = True
            self._file.write(msgspec.json.encode(content).decode() + "\n")
            self._file.flush()
        elif common.json:
            self.kept.append(content)
        else:
            document(content)


def _checked(common: Common, file: str | None, told: dict[str, Any]) -> int:
    if file is None:
        raise BadInput("--dry-run checks a file.", hint="farebox batch prompts.jsonl --dry-run")
    lines = _all_told(read_batch(file), told)
    return session.run(lambda: _say_checked(common, lines))


async def _say_checked(common: Common, lines: Lines) -> int:
    plan = await _planned(common, lines) if lines.tasks else None
    if common.json:
        bad = [msgspec.to_builtins(one) for one in lines.bad]
        found = {"schema": "farebox.checked/1", "file": lines.name, "tasks": len(lines.tasks), "bad": bad}
        document(found | ({"plan": plan} if plan else {}))
    for one in () if common.json else lines.bad:
        line(f"{lines.name} line {one.line}: {one.message} {one.hint}".rstrip())
    for text in batch_plan.lines_of(plan) if plan and not common.json else ():
        line(text)
    note(common, f"{lines.name}: {len(lines.tasks)} good, {len(lines.bad)} bad. Nothing was sent.")
    return 2 if lines.bad or not lines.tasks else 0


async def _planned(common: Common, lines: Lines) -> dict[str, Any] | None:
    """Check names and return the plan; None where no engine runs."""
    try:
        async with session.opened(common, "running") as client:
            await _check_names(client, lines)
            found = await batch_plan.looked_ahead(client, lines.tasks)
    except BusError:
        note(common, "No engine runs: platforms, models and limits were not looked at.")
        return None
    return dict(found) if found is not None else None


def _same(output: Path, file: str) -> bool:
    return output.exists() and Path(file).exists() and output.samefile(file)


async def _run(common: Common, lines: Lines | None, results: _Results, way: Way) -> int:
    resume = way.resume
    async with session.opened(common, "engine") as client:
        if lines is not None:
            await _check_names(client, lines)
        if lines is not None and resume is None:
            bound = way.told.get("batch_max_cost_usd")
            on_quota = await batch_plan.agreed(common, client, lines.tasks, max_cost=bound, told=way.sure)
            lines = _all_told(lines, {"on_quota": on_quota} if on_quota else {})
        batch = client.batch(
            lines.tasks if lines else None,
            parallel=way.parallel,
            fail_fast=way.fail_fast,
            resume=resume,
            source=lines.name if lines else "",
        )
        async with troubles_said(common, client.log, batch.id), batch:
            note(common, f"batch {batch.id} · {batch.total} tasks · {way.parallel} at once")
            try:
                interrupted = await _followed(common, batch, results)
            except LogFilling:
                _ended(common, batch, results, interrupted=True, resumed=resume is not None)
                raise
    return _ended(common, batch, results, interrupted=interrupted, resumed=resume is not None)


async def _check_names(client: Client, lines: Lines) -> None:
    """Say an unknown platform or model with its line, before anything is sent."""
    seen: set[tuple[str, str]] = set()
    for number, spec in zip(lines.numbers, lines.tasks, strict=True):
        if (spec.platform, spec.model) in seen:
            continue
        seen.add((spec.platform, spec.model))
        try:
            await client.check(spec)
        except BadInput as error:
            raise BadInput(
                f"{lines.name} line {number}: {error.message}", hint=f"{error.hint} Nothing was sent.", code=error.code
            ) from error


async def _followed(common: Common, batch: Batch, results: _Results) -> bool:
    """Run the batch to its end; return True if it was interrupted."""
    running = asyncio.ensure_future(_drained(common, batch, results))
    try:
        async with progress(common, batch):
            await asyncio.shield(running)
    except asyncio.CancelledError as interrupt:
        batch.stop()
        try:
            await _finished(common, batch, running, hurry="SIGTERM" in interrupt.args)
        except (TimeoutError, BusError):
            note(common, "The end of some tasks is not known yet: they may go on. See: farebox status")
        return True
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    return False


async def _finished(common: Common, batch: Batch, running: asyncio.Future[None], *, hurry: bool) -> None:
    """Wait for what was sent; cancel it when interrupted again. Raises TimeoutError, BusError."""
    how = f"at most {CANCEL_WAIT_S:g} s; none is cancelled" if hurry else "their answers are kept (Ctrl-C again: cancel them)"
    note(common, f"\nNo more tasks are sent. Waiting for the {batch.running} that run: {how}")
    try:
        async with asyncio.timeout(CANCEL_WAIT_S if hurry else None), progress(common, batch):
            await asyncio.shield(running)
    except asyncio.CancelledError:
        note(common, f"\nCancelling {batch.running} running tasks, for good (Ctrl-C again: leave at once)")
        async with asyncio.timeout(CANCEL_WAIT_S):
            await batch.cancel("Ctrl-C")
            await asyncio.shield(running)


async def _drained(common: Common, batch: Batch, results: _Results) -> None:
    async for _ in batch:
        results.write(batch, common)


def _ended(common: Common, batch: Batch, results: _Results, *, interrupted: bool, resumed: bool) -> int:
    results.rest(batch, common)
    total = batch.aggregate()
    if common.json:
        kept = {"results": results.kept} if results.path is None else {"output": str(results.path)}
        document({"schema": "farebox.batch/1", "interrupted": interrupted, **plain(total), **kept})
    for text in (*lines_of(total), *_failures(batch)):
        note(common, text)
    if batch.cancelled and (interrupted or resumed):
        note(common, f"{batch.cancelled} cancelled tasks stay cancelled: a resumed batch never starts them again.")
    if interrupted and (batch.unsent or batch.done < batch.total):
        note(common, f"{batch.unsent} tasks were not sent. Go on with: farebox batch --resume {batch.id}")
    if interrupted:
        return 130
    return _exit_code(total)


def _failures(batch: Batch) -> list[str]:
    """Return why the first tasks failed, one line each."""
    failed = [result for _, result in sorted(batch.results.items()) if result.status == "failed"]
    lines = [f"{one_line(result.label or result.task_id, 60)} {why(result)}" for result in failed[:FAILURES_SHOWN]]
    return lines + ([f"and {len(failed) - FAILURES_SHOWN} more that failed"] if len(failed) > FAILURES_SHOWN else [])


def _exit_code(total: Aggregate) -> int:
    return 0 if total.completed == total.count else EXIT_SOME_FAILED
