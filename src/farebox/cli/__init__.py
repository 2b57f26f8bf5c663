"""The command line. Nothing heavy is loaded before a command needs it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from farebox import __version__

EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code. Messages go to stderr, results to stdout."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given in (["--version"], ["-V"]):
        sys.stdout.write(f"farebox {__version__}\n")
        return 0
    try:
        from farebox.cli.app import run  # noqa: PLC0415 - 200 ms that --version need not pay

        return run(given)
    except KeyboardInterrupt:  # while it still loads
        return EXIT_INTERRUPTED
