"""farebox demo: see it work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from farebox.cli import session
from farebox.cli.options import DEFAULT, Common


@dataclass(frozen=True)
class DemoOptions:
    """What the demo is asked for. `output` is the report's file, `tasks` None for the usual number."""

    path: Path | None
    tasks: int | None
    seed: int
    keep: bool
    output: Path | None
    common: Common


def command(
    path: Path | None = None,
    *,
    tasks: int | None = None,
    seed: int = 7,
    keep: Annotated[bool, Parameter(negative=())] = False,
    output: Annotated[Path | None, Parameter(name=("--output", "-o"))] = None,
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
    output
        Where the report goes.
    """
    from farebox.demo import run  # noqa: PLC0415 - the whole engine

    options = DemoOptions(path=path, tasks=tasks, seed=seed, keep=keep, output=output, common=common)
    return session.run(lambda: run(options))
