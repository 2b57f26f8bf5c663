"""Everything that one started program has begotten, and how to end it: its group, its descendants, those that hid.

A process that left the group by setsid is found as a descendant, or, if its parents are gone too, by a variable that the
whole family carries in its environment. On Linux a guardian (launcher.py) keeps all of it below itself and ends what is left
when its relay dies: it must not be killed before. A process id alone is never believed: psutil compares its start time.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
from collections.abc import Iterator

import psutil

from farebox.runtime import launcher

MARK = "FAREBOX_CALL"
"""The environment variable that names the call; its value begins with the owner's process id and start time."""


def new_mark() -> str:
    """Return a mark for one call of this process."""
    return f"{os.getpid()}.{psutil.Process().create_time():.2f}.{secrets.token_hex(8)}"


def end_group(group: int, with_signal: int = signal.SIGKILL) -> None:
    """Send a signal to all of a group; it may be gone already."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, with_signal)


class Family:
    """All that came from one started program, for the moment when it has to go."""

    def __init__(self, pid: int, mark: str) -> None:
        self._pid = pid
        self._mark = mark
        self._known: set[psutil.Process] = set()

    def remember(self) -> None:
        """Note the descendants while their parents still live: afterwards nothing leads to them."""
        with contextlib.suppress(psutil.Error):
            self._known.update(psutil.Process(self._pid).children(recursive=True))

    def end(self) -> int:
        """Kill all who are known or carry the mark, wherever they went. Return how many there were."""
        self.remember()
        marked = (process for process in _all() if _mark_of(process) == self._mark)
        self._known.update(process for process in marked if process.pid != self._pid)
        return sum(_killed(process) for process in self._known)


def end_orphans() -> int:
    """Kill what calls of dead engines left behind: marked processes whose owner does not live. Return how many."""
    return sum(_killed(process) for process in _all() if _is_orphan(process))


def _all() -> Iterator[psutil.Process]:
    """Yield all processes, looked up anew: psutil would keep who had a process id before, and then signal nobody (7.2)."""
    psutil.process_iter.cache_clear()
    return psutil.process_iter()


def _is_orphan(process: psutil.Process) -> bool:
    mark = _mark_of(process)
    if not mark:
        return False
    pid, _, rest = mark.partition(".")
    started, _, _token = rest.rpartition(".")
    try:
        owner = psutil.Process(int(pid))
        # Where nobody reaps it (a container without an init) a killed engine stays as a zombie for ever.
        return owner.status() == psutil.STATUS_ZOMBIE or f"{owner.create_time():.2f}" != started
    except (psutil.Error, ValueError, OverflowError):
        return pid.isdecimal()


def _mark_of(process: psutil.Process) -> str:
    """Return the mark a process carries, empty where it has none or is not ours to read."""
    try:
        return process.environ().get(MARK, "")
    except (psutil.Error, OSError):
        return ""


def _killed(process: psutil.Process) -> bool:
    try:
        if _is_guardian(process):
            process.resume()  # it has work to do, should somebody have stopped it
            return False
        process.kill()
    except psutil.Error:
        return False
    return True


def _is_guardian(process: psutil.Process) -> bool:
    """Whether it is one of our launcher's own processes, which end by themselves when the relay dies."""
    return launcher.__file__ in process.cmdline()[:4]
