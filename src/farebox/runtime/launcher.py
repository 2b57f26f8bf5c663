"""Starts a program that dies with its parent, and all that it begot: `python -I -S launcher.py PARENT_PID PROGRAM ARG...`.

A process that survives its adapter would go on spending. On Linux three processes stand in a row:

    relay      leads the session and the group; dies with the parent by SIGKILL; passes the end of the program on
    guardian   a group of its own, so that what is sent to the group passes it by; whoever loses his parents below it becomes
               its child, whatever session and environment he has taken: when the relay dies it ends them all
    program    in the relay's group; dies with the guardian

A program that ends by itself lets the others end, too, and what it left running outside its group lives on; after SIGINT or
SIGTERM to the group nothing of it does. Elsewhere the program just starts. Run as a file, so it imports the least; `die_with`
serves stand-ins that want to end with whoever started them.
Source: prctl(2), PR_SET_PDEATHSIG and PR_SET_CHILD_SUBREAPER (read 2026-11-21); the first is kept over execve and cleared for
set-user-id programs and at a fork, the second is not inherited.
"""

from __future__ import annotations

import os
import signal
import sys

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
NOT_STARTED = 126
LOOK_S = 0.05
"""So often the guardian looks for descendants that were begotten while it ended the others."""
_HELD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)
"""What the relay and the guardian must not die of: it is meant for the program."""


def die_with(parent_pid: int, with_signal: int = signal.SIGKILL) -> None:
    """Let the kernel end this process when its parent ends; end it at once if that has happened already."""
    if sys.platform == "linux":
        _prctl(PR_SET_PDEATHSIG, int(with_signal))
        if os.getppid() != parent_pid:
            os.kill(os.getpid(), with_signal)


def main(arguments: list[str]) -> None:
    """Start the program; returns never."""
    parent, program, argv = int(arguments[0]), arguments[1], arguments[2:]
    die_with(parent)
    if sys.platform != "linux":
        _become(program, argv)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)
    relay = os.getpid()
    guardian = os.fork()
    if guardian == 0:
        _guard(relay, program, argv, before)
    _let_go_of_pipes()
    _end_like(os.waitpid(guardian, 0)[1])


def _guard(relay: int, program: str, argv: list[str], before: set[int | signal.Signals]) -> None:
    """Start the program and wait for its end, or for that of the relay: then end all below."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    guardian = os.getpid()
    child = os.fork()
    if child == 0:
        die_with(guardian)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        _become(program, argv)
    os.setpgid(0, 0)
    _let_go_of_pipes()
    die_with(relay, signal.SIGTERM)
    while os.getppid() == relay:
        if signal.sigwait(_HELD) == signal.SIGCHLD and (status := _reaped(child)) is not None:
            if _was_asked_to_stop(relay):
                _end_all()
            _end_like(status)
    _end_all()
    os._exit(0)


def _reaped(child: int) -> int | None:
    """Reap whoever has ended; return how the child did, None while it lives."""
    found = None
    try:
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            found = ended[1] if ended[0] == child else found
    except ChildProcessError:
        pass  # nobody is left
    return found


def _was_asked_to_stop(relay: int) -> bool:
    """Whether somebody has asked the group to stop: the relay is part of it and holds the signal back."""
    with open(f"/proc/{relay}/status", "rb") as status:  # noqa: PTH123  see below
        pending = next((line for line in status if line.startswith(b"ShdPnd:")), b": 0")
    return bool(int(pending.split()[1], 16) & (1 << signal.SIGINT - 1 | 1 << signal.SIGTERM - 1))


def _end_all() -> None:
    """Kill all descendants until there is none: those whose parents died have become children of this process."""
    while True:
        for pid in _descendants():
            try:
                os.kill(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                continue  # gone, or another user's: that one is only waited for
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        signal.sigtimedwait([signal.SIGCHLD], LOOK_S)


def _descendants() -> set[int]:
    """Return all that came from this process, by what /proc says about parents."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208  pathlib would cost each call 10 ms
        if name.isdecimal():
            try:
                with open(f"/proc/{name}/stat", "rb") as stat:  # noqa: PTH123
                    # The name of a program may hold anything, also brackets: what follows the last one is numbers.
                    parents[int(name)] = int(stat.read().rpartition(b")")[2].split()[1])
            except (OSError, IndexError):
                continue  # it has just ended
    found, fresh = set[int](), {os.getpid()}
    while fresh := {pid for pid, parent in parents.items() if parent in fresh} - found:
        found |= fresh
    return found


def _become(program: str, argv: list[str]) -> None:
    for ignored in ("SIGPIPE", "SIGXFSZ"):  # Python ignores them, and exec would hand that on.
        if hasattr(signal, ignored):
            signal.signal(getattr(signal, ignored), signal.SIG_DFL)
    try:
        os.execv(program, argv)  # noqa: S606  the whole point: no shell
    except OSError as error:
        sys.stderr.write(f"{program}: {error.strerror}\n")
        sys.stderr.flush()
        os._exit(NOT_STARTED)


def _let_go_of_pipes() -> None:
    """Only the program holds its pipes: their end must be seen when it closes them."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nothing, number)
    os.close(nothing)


def _end_like(status: int) -> None:
    """End as another process did."""
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        import resource  # noqa: PLC0415  only where it is used

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # its core, not ours
        if -code not in {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(-code, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [-code])
        os.kill(os.getpid(), -code)
    os._exit(code)


def _prctl(option: int, value: int) -> None:
    import ctypes  # noqa: PLC0415  only where it is used

    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    main(sys.argv[1:])
