"""An answer that is nothing but text: bytes in, pieces out; what it came to is the judgement of its platform. Pure."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence

from farebox.core.events import QuotaLearned
from farebox.core.platform import Ask, End, Head, Piece, Verdict
from farebox.core.terms import Usage, UsageSource
from farebox.core.tokens import estimate

Judge = Callable[[Ask, str, End], Verdict]
"""Says what an answer came to, from its whole text and how it ended."""


class PlainTextReader:
    """Reads text as UTF-8; bytes that are none become U+FFFD."""

    def __init__(self, ask: Ask, judge: Judge) -> None:
        self._ask = ask
        self._judge = judge
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._text: list[str] = []

    def head(self, head: Head) -> Sequence[Piece | QuotaLearned]:
        """Plain text comes from a program or out of this process: without headers."""
        assert not head.headers, "plain text comes without headers"
        return []

    def feed(self, data: bytes) -> Sequence[Piece | QuotaLearned]:
        """Read more text."""
        text = self._decoder.decode(data)
        self._text.append(text)
        return [Piece(text)] if text else []

    def end(self, end: End) -> Verdict:
        """Say what it came to."""
        self._text.append(self._decoder.decode(b"", final=True))
        return self._judge(self._ask, "".join(self._text), end)


def estimated(ask: Ask, written: str, source: UsageSource = "estimated") -> Usage:
    """Return a guess of the tokens where nobody counted: of all that was sent and all that was written."""
    read = estimate(ask.system) + estimate(ask.prompt)
    return Usage(input_tokens=read, output_tokens=estimate(written), source=source)
