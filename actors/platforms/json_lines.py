"""Programs that print one JSON object a line: bytes in, objects out, cut anywhere. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from actors.platforms.foreign_json import parse

LINE_BYTES_MAX = 16 * 1024 * 1024
"""Programs repeat the prompt in one line, and the whole answer in another."""
SHOWN_CHARS = 200


class Lines:
    """Puts bytes together to lines of JSON. A line too large ends it: `overflow`. What is no JSON is kept as evidence."""

    def __init__(self) -> None:
        self.overflow = False
        self.garbage = ""
        self._line = bytearray()

    def feed(self, data: bytes) -> Iterable[Any]:
        """Yield the object of each line that `data` completes."""
        *ended, rest = data.split(b"\n")
        for part in ended:
            self._hold(part)
            yield from self.end()
        self._hold(rest)

    def end(self) -> Iterable[Any]:
        """Yield what the line so far holds, if that is an object."""
        text = self._line.decode("utf-8", "replace").strip()
        self._line.clear()
        if not text or self.overflow:
            return
        value = parse(text)
        if isinstance(value, dict):
            yield value
        else:
            self.garbage = self.garbage or text[:SHOWN_CHARS]

    def _hold(self, part: bytes) -> None:
        self.overflow = self.overflow or len(self._line) + len(part) > LINE_BYTES_MAX
        if not self.overflow:
            self._line += part
