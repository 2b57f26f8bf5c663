"""What a run of a stream-json program used: its own final count, or what streamed where that does not come. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from actors.platforms.foreign_json import at, count_at, text_at
from farebox.core.terms import Usage
from farebox.core.tokens import estimate


def usage_of(counted: Any) -> Usage | None:
    """Return what the program counted; all zeros mean that it did not (an interrupted run says so)."""
    read, written = count_at(counted, "input_tokens"), count_at(counted, "output_tokens")
    cached, kept = count_at(counted, "cache_read_input_tokens"), count_at(counted, "cache_creation_input_tokens")
    if read is None or written is None or not (read or written or cached or kept):
        return None
    return Usage(
        input_tokens=read + (cached or 0) + (kept or 0),
        output_tokens=written,
        cached_tokens=cached,
        cache_write_tokens=kept,
        cache_write_1h_tokens=count_at(counted, "cache_creation", "ephemeral_1h_input_tokens"),
        reasoning_tokens=count_at(counted, "output_tokens_details", "thinking_tokens"),
    )


class Tally:
    """Counts along with the messages that stream: each says at its start what it read, at its end what it wrote."""

    def __init__(self) -> None:
        self._read: list[Usage] = []
        self._open = 0
        self._uncounted = False
        self.has_begun = False
        """Whether a model has begun to answer."""

    def take(self, event: Any) -> None:
        """Note what one raw event of the model's stream says of its usage."""
        kind = text_at(event, "type")
        if kind == "message_start":
            self._open += 1
            self.has_begun = True
            read = usage_of(at(event, "message", "usage"))
            self._read += [] if read is None else [read]
        elif kind == "message_delta":
            self._open -= 1
            self._uncounted = self._uncounted or not count_at(event, "usage", "output_tokens")

    def is_whole(self, *, ended_well: bool) -> bool:
        """Whether every message that began has also said what it wrote; of a run that ended well, none is open."""
        return not self._uncounted and (ended_well or self._open <= 0)

    def so_far(self, text: str, told: Usage | None) -> Usage | None:
        """Return what the messages had read, and a guess of what was written; None if nothing says what was read."""
        if not self._read:
            return None
        written = estimate(text) if told is None else max(estimate(text), told.output_tokens or 0)
        return msgspec.structs.replace(_sum(self._read), output_tokens=written, source="estimated")


def _sum(parts: list[Usage]) -> Usage:
    """Return all that was read; what no part tells stays unknown."""
    return Usage(
        input_tokens=_total([one.input_tokens for one in parts]),
        cached_tokens=_total([one.cached_tokens for one in parts]),
        cache_write_tokens=_total([one.cache_write_tokens for one in parts]),
        cache_write_1h_tokens=_total([one.cache_write_1h_tokens for one in parts]),
    )


def _total(counts: list[int | None]) -> int | None:
    told = [count for count in counts if count is not None]
    return sum(told) if told else None
