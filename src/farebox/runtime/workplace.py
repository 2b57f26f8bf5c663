"""Where an attempt works on files: the task's directory, if its platform allows it, or a git worktree made from there.

A worktree stands apart from the user's tree, detached at the commit that his HEAD named. What a program left in it stays for a
look, also after a crash; one in which nothing was left goes.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from farebox.core.directories import FORBIDDEN, placed, roots
from farebox.core.errors import BadInput
from farebox.core.events import TaskStarted
from farebox.core.platform import Ask, Verdict
from farebox.core.settings import AGENTS, PlatformSettings
from farebox.runtime import secrecy, store
from farebox.runtime.file_watch import FileWatch
from farebox.runtime.git import GitFailed, git

MAKE_S = 120.0
"""So long git may take to fill a worktree."""


def planned(name: str, fact_id: str, settings: PlatformSettings) -> str:
    """Return the folder for the worktree of an attempt; no two attempts of any log share one."""
    base = settings.options.get("worktrees") or store.resolve(environment={}).with_name("farebox-worktrees")
    return str(Path(base, f"{name}-{fact_id[-8:]}"))


def works_on_files(ask: Ask) -> bool:
    """Whether a call is made for what it does to files: the task names a directory, or the section of an agent does."""
    return bool(ask.task.directory) or (ask.settings.kind in AGENTS and bool(ask.settings.options.get("directory")))


class Workplace:
    """The place of one attempt, from before its call until after it."""

    def __init__(self, ask: Ask, started: TaskStarted, environ: Mapping[str, str]) -> None:
        self._ask = ask
        self._worktree = started.worktree
        self._environ = environ
        self._source = ""
        self._commit = ""
        self._watch: FileWatch | None = None

    async def prepare(self) -> Ask:
        """Return what to ask, with the directory in which the program will work. Raises BadInput: then nothing was done."""
        where = await asyncio.to_thread(self._where)
        self._watch = FileWatch(where, self._environ)
        await self._watch.begin()
        return msgspec.structs.replace(self._ask, settings=placed(self._ask.settings, where))

    async def leave(self, verdict: Verdict) -> Verdict:
        """Return the verdict with what happened to files, and the worktree that is left; one in which nothing was left goes."""
        assert self._watch is not None, "prepared"
        touched = await self._watch.end()
        told = touched.told(verdict, self._watch.directory)
        if not self._commit or (not touched and await asyncio.to_thread(self._removed)):
            return told
        return msgspec.structs.replace(told, worktree=self._worktree, base_commit=self._commit)

    def _where(self) -> str:
        if not self._ask.task.directory:
            return self._ask.settings.options["directory"]
        self._source = self._allowed()
        if not self._worktree:
            return self._source
        try:
            return self._made()
        except (GitFailed, OSError) as error:
            raise BadInput(f"No worktree of {self._source}: {error}") from error

    def _allowed(self) -> str:
        """Return where the task's directory really is. It must lie in one that the platform's section names, links or not."""
        wanted = self._ask.task.directory
        place = Path(wanted).resolve()
        if not any(place.is_relative_to(Path(root).resolve()) for root in roots(self._ask.settings)):
            raise BadInput(f"{self._ask.platform} {FORBIDDEN}{place}.")
        if not place.is_dir():
            raise BadInput(f"There is no directory {wanted} on the machine of the engine.")
        if secrecy.holds_a_store(str(place)):
            raise BadInput(f"Nothing works in {place}: the store of the engine lies there, with the log and all keys.")
        return str(place)

    def _made(self) -> str:
        """Make the worktree and return the place in it that the directory has in its repository."""
        commit = self._asked("rev-parse", "--verify", "HEAD^{commit}")
        inside = self._asked("rev-parse", "--show-prefix")
        tree = Path(self._worktree)
        tree.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if secrecy.holds_a_store(str(tree.parent)):
            raise BadInput(f"No worktree in {tree.parent}: the store of the engine lies there.", hint="See options.worktrees.")
        git(self._source, "worktree", "add", "--detach", str(tree), commit, environ=self._environ, timeout_s=MAKE_S)
        self._commit = commit
        place = tree / inside
        place.mkdir(parents=True, exist_ok=True)  # A folder without a committed file is in no commit.
        return str(place.resolve())

    def _removed(self) -> bool:
        """Remove the worktree if nothing at all was left in it, not even what git ignores or a commit; say whether."""
        try:
            left = git(self._worktree, "ls-files", "-z", "-o", environ=self._environ)
            if left or git(self._worktree, "rev-parse", "HEAD", environ=self._environ).decode().strip() != self._commit:
                return False
            git(self._source, "worktree", "remove", "--force", self._worktree, environ=self._environ, timeout_s=MAKE_S)
        except (GitFailed, OSError):
            return False  # It stays, and is told.
        return True

    def _asked(self, *words: str) -> str:
        return os.fsdecode(git(self._source, *words, environ=self._environ)).rstrip("\n")
