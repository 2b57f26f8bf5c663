"""What comes in during one call: bytes through the platform's reader into text, quota facts and a verdict; capped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from farebox.core.events import QuotaLearned
from farebox.core.platform import Done, End, Head, Piece, Read, Reader, Say, Talker, Verdict
from farebox.core.redaction import Flow, Redactor
from farebox.core.terms import Fault

ANSWER_BYTES_MAX = 64 * 1024 * 1024
"""No answer is read further. Where each piece of text comes in a wrapping of its own, most of it is wrapping."""
TEXT_CHARS_MAX = 16 * 1024 * 1024
"""No answer's text is longer: far more than any model writes, and little enough to be worked off in a moment."""
REFUSAL_BYTES_MAX = 1024 * 1024
REFUSED = 400
"""From this HTTP status on an answer is a refusal: secrets are struck out of it before its reader shortens it."""
OnSaid = Callable[[Say | Done], None]
"""Gets what a talker wants said to its program."""
OnLearned = Callable[[QuotaLearned], None]
"""Gets what a platform tells about quota as soon as it is read."""
OnPiece = Callable[[str], "asyncio.Future[None] | None"]
"""Gets the text as it streams. It may return a future: then no more should come until that is done."""


class Intake:
    """Feeds one reader. A reader that fails on what it gets ends the call as a fault; it never brings the worker down."""

    def __init__(
        self, reader: Reader, on_piece: OnPiece, known: Redactor | None = None, on_learned: OnLearned | None = None
    ) -> None:
        self._on_learned = on_learned
        self.learned: list[QuotaLearned] = []
        self.status = 0
        self.on_said: OnSaid | None = None
        """Who talks with the program sets it; nobody else is talked with."""
        self.held: asyncio.Future[None] | None = None
        """Done as soon as the text so far is worked off; None while nobody need wait."""
        self._reader = reader
        self._on_piece = on_piece
        self._texts: list[str] = []
        self._bytes = self._chars = 0
        self._broken: Exception | None = None
        self._known = known
        self._refusal: Flow | None = None

    @property
    def text(self) -> str:
        """All text so far."""
        return "".join(self._texts)

    def head(self, head: Head) -> None:
        """Read status and headers."""
        self.status = head.status
        if self._known is not None and head.status >= REFUSED:
            self._refusal = Flow(self._known.of_bytes())
        self._read(lambda: self._reader.head(head))

    def feed(self, data: bytes) -> bool:
        """Read more bytes. False when no more are wanted: the answer is too large, or the reader failed."""
        self._bytes += len(data)
        if self._bytes <= ANSWER_BYTES_MAX:
            told = data if self._refusal is None else self._of_refusal(self._refusal, data)
            self._read(lambda: self._reader.feed(told))
        return self._bytes <= ANSWER_BYTES_MAX and self._chars <= TEXT_CHARS_MAX and self._broken is None

    def _of_refusal(self, refusal: Flow, data: bytes) -> bytes:
        """Return what may be read of a refusal now: its secrets are struck out, and what follows after so much says no more."""
        return _bytes(refusal.feed(data.decode("latin-1"))) if self._bytes <= REFUSAL_BYTES_MAX else b""

    def end(self, end: End) -> Verdict:
        """Return what it came to."""
        if self._refusal is not None:
            left = _bytes(self._refusal.end())
            self._read(lambda: self._reader.feed(left))
        try:
            if self._broken is None:
                return self._reader.end(end)
        except Exception as error:  # noqa: BLE001  a platform's reader may be anybody's code
            self._broken = error
        fault = Fault(error_class="invalid", message=f"The reader of this platform failed: {self._broken!r}"[:1000])
        return Verdict(ok=False, fault=fault, charged="none" if end.surely_unsent else "possible")

    def interrupt(self) -> bytes:
        """Return what asks a program that is talked with to stop; empty if nothing does."""
        try:
            return self._reader.interrupt() if isinstance(self._reader, Talker) and self._broken is None else b""
        except Exception as error:  # noqa: BLE001  a platform's reader may be anybody's code
            self._broken = error
            return b""

    def _read(self, read: Callable[[], Sequence[Read]]) -> None:
        if self._broken is not None:
            return
        try:
            said = read()
        except Exception as error:  # noqa: BLE001  a platform's reader may be anybody's code
            self._broken = error
            return
        for item in said:
            if isinstance(item, Piece):
                self._texts.append(item.text)
                self._chars += len(item.text)
                self.held = self._on_piece(item.text)
            elif isinstance(item, QuotaLearned):
                self._learn(item)
            elif self.on_said is not None:
                self.on_said(item)

    def _learn(self, fact: QuotaLearned) -> None:
        self.learned.append(fact)
        if self._on_learned is not None:
            self._on_learned(fact)


def _bytes(text: str) -> bytes:
    """Turn what was read byte for byte back into them, whatever they mean."""
    return text.encode("latin-1")
