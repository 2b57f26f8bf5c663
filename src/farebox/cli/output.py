"""Where words go: results on stdout, everything else on stderr; what others wrote cannot steer a terminal."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping
from typing import Any, TextIO

import msgspec

from farebox.cli.options import Common

WIDTH_MIN, WIDTH_WITHOUT_TERMINAL = 40, 120
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def document(content: Mapping[str, Any]) -> None:
    """Print one JSON document on stdout."""
    sys.stdout.write(msgspec.json.encode(content).decode() + "\n")
    sys.stdout.flush()


def line(text: str = "") -> None:
    """Print a line on stdout."""
    sys.stdout.write(text + "\n")


def note(common: Common, text: str) -> None:
    """Say something on stderr, unless --quiet."""
    if not common.quiet:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


def printable(text: str) -> str:
    """Return `text` without characters that steer a terminal; newlines and tabs stay."""
    return _CONTROL.sub("\ufffd", text)


def one_line(text: str, length_max: int = 200) -> str:
    """Return `text` as part of a line."""
    flat = " ".join(printable(text).split())
    return flat if len(flat) <= length_max else flat[: length_max - 1] + "…"


def is_terminal(stream: TextIO) -> bool:
    """Say whether a person watches `stream`."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def colourful(common: Common, stream: TextIO) -> bool:
    """Say whether colours may be used. Meaning never depends on them."""
    if common.color != "auto":
        return common.color == "always"
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or is_terminal(stream)


def width() -> int:
    """Return how many columns a table may have."""
    return max(WIDTH_MIN, shutil.get_terminal_size((WIDTH_WITHOUT_TERMINAL, 24)).columns)
