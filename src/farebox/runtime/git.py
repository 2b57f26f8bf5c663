"""Asking the user's `git` about a directory, without waking what lies there: no hooks, no file monitor, no questions.

A program may have written into the repository just before. What is asked here (rev-parse, ls-files, worktree) starts no filter
either, except where a worktree is made, and that happens before the program runs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Mapping

from farebox.core.errors import FareboxError

BYTES_MAX = 16 * 1024 * 1024
"""So much is read of what it says."""
LOOK_S = 5.0
_QUIET = ("-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}", "-c", "core.untrackedCache=false")
_KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "XDG_CONFIG_HOME")


class GitFailed(FareboxError):
    """It is not there, took too long, or said no; the message is its last line."""


def git(directory: str, *words: str, environ: Mapping[str, str], timeout_s: float = LOOK_S) -> bytes:
    """Return what `git WORDS` says in `directory`. Blocks: call it in a thread. Raises GitFailed."""
    program = shutil.which("git", path=environ.get("PATH", os.defpath))
    if program is None:
        raise GitFailed("There is no git on PATH.")
    kept = {name: environ[name] for name in _KEPT if name in environ}
    asked = subprocess.Popen(  # noqa: S603  the user's own program, no shell
        [program, *_QUIET, *words],
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**kept, "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0"},
    )
    return _heard(asked, words[0], timeout_s)


def _heard(asked: subprocess.Popen[bytes], word: str, timeout_s: float) -> bytes:
    late = threading.Timer(timeout_s, asked.kill)
    errors: list[bytes] = []
    assert asked.stdout is not None, "started with pipes"
    assert asked.stderr is not None, "started with pipes"
    stderr = asked.stderr
    draining = threading.Thread(target=lambda: errors.extend(stderr), daemon=True)
    with asked:
        late.start()
        draining.start()
        try:
            said = asked.stdout.read(BYTES_MAX + 1)
            if len(said) > BYTES_MAX:
                asked.kill()
            draining.join()
            code = asked.wait()
        finally:
            late.cancel()
    if len(said) > BYTES_MAX:
        raise GitFailed(f"git {word} said too much.")
    if code != 0:
        last = b"".join(errors).decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise GitFailed(f"git {word}: {last or f'ended with {code}, after at most {timeout_s:.0f} s'}")
    return said
