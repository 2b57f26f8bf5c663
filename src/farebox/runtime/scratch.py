"""The folder that one call of a program has for itself: its settings, its temporary files. Gone with the call.

An engine that is killed leaves them behind; the next one on this machine that needs such a folder removes what belongs to
no living process. The names say whose they are, so nobody else's are touched.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Generator
from functools import cache
from pathlib import Path

import msgspec

from farebox.core.platform import SCRATCH, ProcessCall

PREFIX = "farebox-call-"


@contextlib.contextmanager
def folder(call: ProcessCall) -> Generator[ProcessCall]:
    """Yield the call with its folder's path put in. Raises OSError when it cannot be made, ValueError for a file outside."""
    if call.scratch is None:
        yield call
        return
    _sweep(tempfile.gettempdir())
    place = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
    try:
        for name, content in call.scratch.items():
            _write(place, name, content)
        yield _placed(call, str(place))
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _write(place: Path, name: str, content: bytes) -> None:
    path = (place / name).resolve()
    if not path.is_relative_to(place.resolve()):
        raise ValueError(f"{name!r} lies outside the folder of its call")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.write_bytes(content)


def _placed(call: ProcessCall, place: str) -> ProcessCall:
    return msgspec.structs.replace(
        call,
        argv=tuple(part.replace(SCRATCH, place) for part in call.argv),
        environment={name: text.replace(SCRATCH, place) for name, text in call.environment.items()},
        directory=call.directory.replace(SCRATCH, place),
    )


@cache
def _sweep(temporary: str) -> None:
    """Remove the folders of engines that were killed, once in a process."""
    import psutil  # noqa: PLC0415 - 20 ms that only programs need

    for left in Path(temporary).glob(f"{PREFIX}*-*"):
        owner = left.name.removeprefix(PREFIX).partition("-")[0]
        if owner.isdecimal() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(left, ignore_errors=True)
