"""farebox demo: see it work."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter

from farebox.cli import session
from farebox.cli.options import DEFAULT, Common
from farebox.cli.output import document


def command(
    path: Path | None = None,
    /,
    *,
    tasks: int = 24,
    seed: int = 7,
    keep: Annotated[bool, Parameter(negative=())] = False,
    kill: bool = True,
    output: Annotated[Path, Parameter(name=("--output", "-o"))] = Path("farebox-demo.md"),
    common: Common = DEFAULT,
) -> int:
    """See it work: a real server inside, a real run on rehearsal platforms, a report. No key, no account.

    Parameters
    ----------
    path
        A folder of files to work on (default: modules of the standard library).
    tasks
        How many files.
    seed
        Decides delays and faults.
    keep
        Keep the temporary store.
    kill
        Kill the engine with SIGKILL in the middle, and see it go on.
    output
        Where the digests go.
    """
    from farebox.demo import Options, run  # noqa: PLC0415 - the whole engine

    options = Options(path=str(path or ""), tasks=tasks, seed=seed, keep=keep, kill=kill, out=str(output))

    def say(line: str) -> None:
        (sys.stderr if common.json else sys.stdout).write(line + "\n")
        (sys.stderr if common.json else sys.stdout).flush()

    async def told() -> int:
        report = await run(options, say)
        if common.json:
            document(msgspec.to_builtins(report))
        return 0 if report.good else 1

    return session.run(told)
