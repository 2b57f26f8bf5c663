"""Becomes another program that dies with its parent: `python -I -S launcher.py PARENT_PID PROGRAM ARG...`.

A process that survives its adapter would go on spending. Linux only; elsewhere the program just starts. Run as a file, so
it imports the least; the same few lines serve stand-ins that want to end with whoever started them.
Source: prctl(2), PR_SET_PDEATHSIG (read 2026-11-21); it is kept over execve and cleared for set-user-id programs.
"""

from __future__ import annotations

import os
import signal
import sys

PR_SET_PDEATHSIG = 1
NOT_STARTED = 126


def die_with(parent_pid: int, with_signal: int = signal.SIGKILL) -> None:
    """Let the kernel end this process when its parent ends; end it at once if that has happened already."""
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415  only where it is used

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(with_signal), 0, 0, 0)
        if os.getppid() != parent_pid:
            os.kill(os.getpid(), with_signal)


def main(arguments: list[str]) -> None:
    """Become the program."""
    die_with(int(arguments[0]))
    for ignored in ("SIGPIPE", "SIGXFSZ"):  # Python ignores them, and exec would hand that on.
        if hasattr(signal, ignored):
            signal.signal(getattr(signal, ignored), signal.SIG_DFL)
    try:
        os.execv(arguments[1], arguments[2:])  # noqa: S606  the whole point: no shell
    except OSError as error:
        sys.stderr.write(f"{arguments[1]}: {error.strerror}\n")
        sys.exit(NOT_STARTED)


if __name__ == "__main__":
    main(sys.argv[1:])
