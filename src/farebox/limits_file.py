"""limits.toml: the limits that were set by command. Machine-written, whole or not at all, and read like any other file."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tempfile
import tomllib
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

from farebox.core.errors import BadSettings

HEAD = "# Written by `farebox quota set` and `farebox quota unset`: what stands here wins over farebox.toml.\n"
Sections = dict[str, dict[str, dict[str, Any]]]
"""Section, name, keys: {"quotas": {"gemini-day": {"limit": 250}}}."""


def read(path: Path) -> Sections:
    """Return what the file says; nothing where there is none. Raises BadSettings."""
    try:
        found = tomllib.loads(path.read_text("utf-8")) if path.is_file() else {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadSettings(f"{path}: {error}.", hint="Repair it, or remove it: then farebox.toml alone counts.") from error
    return {section: found[section] for section in ("quotas", "budgets") if section in found}


@contextlib.contextmanager
def changed(path: Path) -> Generator[Sections]:
    """Give what the file says, to be changed, and write it when the block ends well. Only one process does so at a time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with (path.parent / f".{path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            sections = read(path)
            yield sections
            _write(path, HEAD + text(sections))
    except OSError as error:
        raise BadSettings(f"{path}: it cannot be written: {error.strerror}.") from error


def text(sections: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Return sections as TOML."""
    lines: list[str] = []
    for section, each in sorted(sections.items()):
        for name, values in sorted(each.items()):
            lines += ["", f"[{section}.{name}]", *(f"{key} = {_value(value)}" for key, value in values.items())]
    return "\n".join(lines) + "\n" if lines else ""


def _value(value: Any) -> str:
    """Return a value in TOML: what JSON writes is the same there, but for one character."""
    return json.dumps(value).replace("\x7f", "\\u007f")


def _write(path: Path, content: str) -> None:
    """Put `content` in the place of the file: after a power cut it is the old one or the new one, never half."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
