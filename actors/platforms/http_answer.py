"""The body of an HTTP answer as it comes: an event stream or one JSON document, whichever the server sends. Pure.

What every reader of such answers needs beside its own words: where the stream begins, what a status that says no means, and why
an answer without a final word is none.
"""

from __future__ import annotations

from typing import Any

from actors.platforms.faults import error_in, fault, fault_of_answer, fault_of_cut
from actors.platforms.foreign_json import parse
from actors.platforms.server_sent import Event, ServerSent
from farebox.core.platform import End, Head, Verdict
from farebox.core.retry_after import retry_after_ms
from farebox.core.terms import Charged, ErrorClass, Fault

ERROR_BYTES_MAX = 64 * 1024
"""So much of an error answer is read."""
BODY_BYTES_MAX = 64 * 1024 * 1024
SHOWN_BYTES = 200
"""So much of an answer that is none is shown."""
UNBILLED: frozenset[ErrorClass] = frozenset(
    {"rate_limited", "quota_exhausted", "auth_missing", "context_too_long", "invalid", "unavailable", "unsupported"}
)
"""A server that says one of these before any text has not run the model."""
_REFUSED_AT_THE_DOOR = (503, 529)
_FIELDS = (b"event:", b"data:", b"id:", b"retry:", b":")
_MARK = b"\xef\xbb\xbf"


def sendable(text: str) -> str:
    """Return `text` with half surrogate pairs, which no wire can carry, as question marks."""
    return text.encode("utf-8", "replace").decode()


class AnswerBody:
    """Collects one answer. `heard`: an event came; `overflow`: it was too large, and nothing is read from then on."""

    def __init__(self) -> None:
        self.head = Head(status=0)
        self.heard = False
        self.overflow = False
        self._raw = bytearray()
        self._events: ServerSent | None = None

    @property
    def is_document(self) -> bool:
        """Whether an answer came that is no event stream."""
        return self._events is None and self.head.status != 0

    def feed(self, data: bytes) -> list[Event]:
        """Return the events that `data` completes; none as long as it may be a document, which is read at the end."""
        if self._events is not None:
            if len(self._raw) < SHOWN_BYTES:
                self._raw += data[:SHOWN_BYTES]
            return self._hear(self._events.feed(data))
        self.overflow = self.overflow or len(self._raw) + len(data) > BODY_BYTES_MAX
        if not self.overflow:
            self._raw += data
        start = bytes(self._raw[:64]).removeprefix(_MARK).lstrip()
        if self.head.status >= 300 or start[:1] in {b"", b"{", b"["} or _MARK.startswith(start[:3]):
            return []
        self._events = ServerSent()
        return self._hear(self._events.feed(bytes(self._raw)))

    def end(self) -> list[Event]:
        """Return what the end of the stream left open, if it is there to its last character."""
        if self._events is None:
            return []
        events = [event for event in self._events.end() if _is_whole(event.data)]
        self.overflow = self.overflow or self._events.overflow
        return self._hear(events)

    def document(self) -> Any:
        """Return what the document holds, None for anything that is no JSON."""
        return parse(bytes(self._raw).decode("utf-8", "replace").removeprefix("\ufeff"))

    def broken_document(self) -> Fault:
        """Return why an answer that came whole and is no JSON object is none."""
        broken_off = self._begins_a_stream or (bytes(self._raw).lstrip()[:1] in {b"{", b"["} and self.document() is None)
        return fault("network" if broken_off else "invalid", f"The answer is no whole JSON document: {self._shown()}")

    def rejection(self) -> Verdict | None:
        """Return what an answer means whose status says no; None for any other."""
        status, headers = self.head.status, self.head.headers
        if status < 300 or self._events is not None:
            return None
        raw = bytes(self._raw[:ERROR_BYTES_MAX]).decode("utf-8", "replace")
        words, message = error_in(parse(raw)) or ("", raw)
        why = fault_of_answer(status, words, message)
        charged: Charged = "possible" if status >= 500 and status not in _REFUSED_AT_THE_DOOR else "none"
        return Verdict(ok=False, fault=why, charged=charged, retry_after_ms=retry_after_ms(headers))

    def unfinished(self, end: End) -> Fault:
        """Return why an answer is none that has no final word."""
        if end.cut or self.overflow:
            return fault_of_cut(end if end.cut else End(cut="overflow"))
        if self._events is not None and not self.heard and not self._begins_a_stream:
            return fault("invalid", f"The answer is no event stream: {self._shown()}")
        return fault("network", "The answer ended without its final word.")

    @property
    def _begins_a_stream(self) -> bool:
        """Whether an event stream was promised and what came of it may be its beginning, if only nothing."""
        start = bytes(self._raw[:SHOWN_BYTES]).lstrip()
        may_be = any(field.startswith(start[: len(field)]) for field in _FIELDS)
        return may_be and self.head.headers.get("content-type", "").startswith("text/event-stream")

    def _hear(self, events: list[Event]) -> list[Event]:
        self.heard = self.heard or bool(events)
        return events

    def _shown(self) -> str:
        return repr(bytes(self._raw[:SHOWN_BYTES]).decode("utf-8", "replace"))


def _is_whole(data: str) -> bool:
    return data.strip() == "[DONE]" or parse(data) is not None
