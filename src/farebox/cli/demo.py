"""farebox demo: see it work."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
from cyclopts import Parameter

from farebox.cli import session
from farebox.cli.options import DEFAULT, Common
from farebox.cli.output import document, line, note, printable

if TYPE_CHECKING:
    from farebox.demo import Options

TASKS, SEED = 24, 7
REPORT = Path("farebox-demo.md")


def command(
    path: Path | None = None,
    /,
    *,
    tasks: int = TASKS,
    seed: int = SEED,
    keep: Annotated[bool, Parameter(negative=())] = False,
    kill: bool = True,
    output: Annotated[Path, Parameter(name=("--output", "-o"))] = REPORT,
    common: Common = DEFAULT,
) -> int:
    """See it work: a real server inside, a real run on rehearsal platforms, a report. No key, no account.

    Parameters
    ----------
    path
        Files to work on (default: modules of the standard library).
    tasks
        How many tasks.
    seed
        Decides delays and faults.
    keep
        Keep the temporary store.
    kill
        Kill the engine in the middle, to see it recover.
    output
        Where the digest goes.
    """
    from farebox.demo import Options  # noqa: PLC0415 - the whole engine

    options = Options(path=str(path or ""), tasks=tasks, seed=seed, keep=keep, kill=kill, out=str(output))
    return session.run(lambda: _shown(common, options))


async def _shown(common: Common, options: Options) -> int:
    from farebox.demo import run  # noqa: PLC0415

    def say(text: str) -> None:
        note(common, printable(text)) if common.json else line(printable(text))

    report = await run(options, say)
    if common.json:
        document(msgspec.to_builtins(report))
    return 0 if report.good else 1
