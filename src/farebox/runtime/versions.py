"""What programs say of themselves: asked anew each time, but for the version, which stays while the program's file does.

A program in JavaScript takes seconds of computing to say its version (gemini 0.61.0: 1.5 s of CPU, seen 2026-11-21), and the
engine looks every 30 s.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from farebox.core.platform import Probe, ProgramAnswer
from farebox.runtime import process_call

QUESTION = ("--version",)
BELIEVED_S = 600.0
"""Behind some names stands a starter that does not change when its program does: so long its version may be an old one."""
_known: dict[tuple[str, int, int], tuple[float, ProgramAnswer]] = {}


async def ask(program: str, probe: Probe, environ: Mapping[str, str]) -> tuple[ProgramAnswer, ...]:
    """Return what an installed program answers to the questions of a probe, in their order."""
    key = _file_of(program)
    known = _believed(key)
    wanted = tuple(words for words in probe.ask if known is None or words != QUESTION)
    asked = await process_call.ask(program, msgspec.structs.replace(probe, ask=wanted), environ) if wanted else ()
    answers = dict(zip(wanted, asked, strict=True))
    if known is not None:
        answers.setdefault(QUESTION, known)
    elif key is not None and QUESTION in answers and answers[QUESTION].exit_code == 0:
        _known[key] = (time.monotonic(), answers[QUESTION])
    return tuple(answers[words] for words in probe.ask)


def _believed(key: tuple[str, int, int] | None) -> ProgramAnswer | None:
    at_s, answer = _known.get(key, (0.0, None)) if key is not None else (0.0, None)
    return answer if answer is not None and time.monotonic() - at_s < BELIEVED_S else None


def _file_of(program: str) -> tuple[str, int, int] | None:
    """Return what changes when a program is installed anew; None where its file cannot be looked at."""
    try:
        path = Path(program).resolve()
        told = path.stat()
    except OSError:
        return None
    return str(path), told.st_mtime_ns, told.st_size
