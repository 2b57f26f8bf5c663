"""Server-sent events: bytes in, events out, the same however the bytes are cut. Pure.

Source: WHATWG HTML, section 9.2 "Server-sent events" (read 2026-11-21). Two liberties, because servers take them: an event
that the end of the stream leaves open is given out, and `id` and `retry` are not kept.
"""

from __future__ import annotations

from msgspec import Struct

EVENT_BYTES_MAX = 16 * 1024 * 1024
"""No honest event is larger."""


class Event(Struct, frozen=True):
    """One event: its data lines joined by a newline; `name` is empty where the server gave none."""

    data: str
    name: str = ""


class ServerSent:
    """Decodes one stream. `overflow` is set for good when an event passes `bytes_max`; nothing is read from then on."""

    def __init__(self, bytes_max: int = EVENT_BYTES_MAX) -> None:
        self.overflow = False
        self._bytes_max = bytes_max
        self._parts: list[bytes] = []
        self._held = 0
        self._after_return = False
        self._data: list[str] = []
        self._name = ""
        self._first_line = True

    def feed(self, data: bytes) -> list[Event]:
        """Return the events that `data` completes."""
        if self._after_return and data:
            data = data.removeprefix(b"\n")
            self._after_return = False
        if self.overflow or not data:
            return []
        self._after_return = data.endswith(b"\r")
        lines = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        events: list[Event] = []
        for line in lines[:-1]:
            if self._hold(line):
                events += self._line(b"".join(self._parts))
                self._parts = []
        self._hold(lines[-1])
        return events

    def end(self) -> list[Event]:
        """Return what the end of the stream left open."""
        return [] if self.overflow else [*self._line(b"".join(self._parts)), *self._line(b"")]

    def _hold(self, part: bytes) -> bool:
        self._held += len(part)
        self.overflow = self.overflow or self._held > self._bytes_max
        if part and not self.overflow:
            self._parts.append(part)
        return not self.overflow

    def _line(self, raw: bytes) -> list[Event]:
        line = raw.decode("utf-8", "replace")
        if self._first_line:
            line = line.removeprefix("\ufeff")
            self._first_line = False
        if not line:
            return self._dispatch()
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
        elif field == "event":
            self._name = value
        return []

    def _dispatch(self) -> list[Event]:
        self._held = 0
        data, name = self._data, self._name
        self._data, self._name = [], ""
        return [Event("\n".join(data), name)] if data else []
