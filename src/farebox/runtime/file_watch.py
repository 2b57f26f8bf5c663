"""Which files a program created and changed: the directory is looked at before and after it ran. Names and times, no contents.

Where git keeps the directory it says what belongs there, so that what it ignores (builds, packages) is not looked at.
"""

from __future__ import annotations

import asyncio
import os
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from farebox.core.platform import Verdict
from farebox.runtime.git import GitFailed, git

ENTRIES_MAX = 50_000
LOOK_S = 5.0
"""More entries, or a longer look, and the lists are said not to be whole."""
NAMES_MAX = 1_000
NAMES_CHARS_MAX = 64 * 1024
"""So much of a list of names goes into a fact."""
TICK_NS = 20_000_000
"""The times of files are as coarse as the kernel's clock, a few milliseconds."""

Marks = tuple[int, int, int, int]
"""Mode, size, time of change (ns) and number of a file."""


class Touched(Struct, frozen=True):
    """What was created and changed (deleted too), named from the directory, sorted; `more`: not all of it."""

    created: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    more: bool = False

    def __bool__(self) -> bool:
        """Whether anything was touched, as far as anybody can say."""
        return bool(self.created or self.changed or self.more)

    def told(self, verdict: Verdict, directory: str) -> Verdict:
        """Return the verdict with these names, and those that only the program itself told."""
        known = {*self.created, *self.changed}
        own = (os.path.relpath(name, directory) if _is_below(name, directory) else name for name in verdict.files_created)
        created, cut = _bounded({*self.created, *(name for name in own if name not in known)})
        more = self.more or cut or verdict.files_more
        return msgspec.structs.replace(verdict, files_created=created, files_changed=self.changed, files_more=more)


class FileWatch:
    """One directory, from before a program runs until it has ended."""

    def __init__(self, directory: str, environ: Mapping[str, str]) -> None:
        self.directory = directory
        self._place = Path(directory)
        self._environ = environ
        self._before: dict[str, Marks] = {}
        self._whole = self._by_git = False
        self._since_ns = 0

    async def begin(self) -> None:
        """Look at the directory as it is. What cannot be looked at is as if it were empty."""
        self._since_ns = time.time_ns() - TICK_NS
        self._before, self._whole, self._by_git = await asyncio.to_thread(self._look)

    async def end(self) -> Touched:
        """Look again, and say what differs."""
        return await asyncio.to_thread(self._compared)

    def _look(self) -> tuple[dict[str, Marks], bool, bool]:
        """Return what is there, whether that is all, and whether git said what belongs there."""
        names, by_git = self._names()
        until_s = time.monotonic() + LOOK_S
        seen: dict[str, Marks] = {}
        for name in names:
            if len(seen) >= ENTRIES_MAX or time.monotonic() > until_s:
                return seen, False, by_git
            if (marks := self._marks(name)) is not None:
                seen[name] = marks
        return seen, True, by_git

    def _names(self) -> tuple[Iterator[str], bool]:
        try:
            listed = git(str(self._place), "ls-files", "-z", "-c", "-o", "--exclude-standard", environ=self._environ)
        except (GitFailed, OSError):
            return _walked(self._place), False
        return (os.fsdecode(name) for name in listed.split(b"\0") if name), True

    def _marks(self, name: str) -> Marks | None:
        try:
            found = (self._place / name).lstat()
        except (OSError, ValueError):
            return None
        kept = stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode)
        return (found.st_mode, found.st_size, found.st_mtime_ns, found.st_ino) if kept else None

    def _compared(self) -> Touched:
        after, whole, by_git = self._look()
        # Where git no longer says what belongs there, what it ignored is seen for the first time.
        known = self._whole and by_git >= self._by_git
        created, changed = set[str](), set[str]()
        for name, marks in after.items():
            if name in self._before:
                changed |= {name} if marks != self._before[name] else set()
            elif known:
                created.add(name)
            elif marks[2] >= self._since_ns:
                changed.add(name)  # Nobody looked at it before: it may be new.
        changed |= {name for name in self._before.keys() - after.keys() if self._marks(name) != self._before[name]}
        new, first_cut = _bounded(created)
        other, second_cut = _bounded(changed)
        return Touched(new, other, first_cut or second_cut or not (whole and known))


def _walked(place: Path) -> Iterator[str]:
    """Yield all files below a directory in the order of their names, without git's own. Links are not followed."""
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        try:
            entries = sorted(os.scandir(place / folder), key=lambda entry: entry.name)
        except OSError:
            continue  # It is gone, or nobody may look into it.
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                waiting += [] if entry.name == ".git" else [os.path.join(folder, entry.name)]  # noqa: PTH118  names, not paths
            else:
                yield os.path.join(folder, entry.name)  # noqa: PTH118


def _is_below(name: str, directory: str) -> bool:
    return os.path.isabs(name) and Path(name).is_relative_to(directory)  # noqa: PTH117


def _bounded(names: Iterable[str]) -> tuple[tuple[str, ...], bool]:
    """Return the first names in their order, as any log can carry them, and whether some were left out."""
    kept: list[str] = []
    chars = 0
    for name in sorted(one.encode("utf-8", "replace").decode() for one in names):
        chars += len(name.encode())
        if len(kept) >= NAMES_MAX or chars > NAMES_CHARS_MAX:
            return tuple(kept), True
        kept.append(name)
    return tuple(kept), False
