"""Anthropic Messages on the wire: the request, and a reader of streamed and unstreamed answers. Pure.

Success needs `message_stop` after a stop reason. `input_tokens` of the wire leaves out what came from a cache or went into one;
ours counts all. Source: docs.anthropic.com/en/api/messages, /messages-streaming and /errors (read 2026-11-21).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from actors.platforms.faults import error_in, fault, fault_of_answer
from actors.platforms.foreign_json import at, count_at, items_at, parse, text_at
from actors.platforms.http_answer import UNBILLED, AnswerBody, sendable
from actors.platforms.messages_quota import learned_from, regained_in_ms
from actors.platforms.plain_text import estimated
from actors.platforms.server_sent import Event
from farebox.core.events import QuotaLearned
from farebox.core.platform import Ask, End, Head, Piece, Verdict
from farebox.core.retry_after import retry_after_ms
from farebox.core.terms import Charged, Fault, Usage
from farebox.core.tokens import estimate

_STATUS = {
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""The status that an error inside a stream would have had."""
_COUNTS: dict[str, tuple[str, ...]] = {
    "input": ("input_tokens",),
    "output": ("output_tokens",),
    "cached": ("cache_read_input_tokens",),
    "written": ("cache_creation_input_tokens",),
    "written_5m": ("cache_creation", "ephemeral_5m_input_tokens"),
    "written_1h": ("cache_creation", "ephemeral_1h_input_tokens"),
    "thinking": ("output_tokens_details", "thinking_tokens"),
}


def request_body(ask: Ask, model: str, *, stream: bool, max_tokens: int) -> bytes:
    """Return the JSON body that asks for one answer of at most `max_tokens`, which this API wants to be told."""
    body: dict[str, Any] = {"model": model, "max_tokens": max_tokens, "stream": stream}
    if ask.system:
        body["system"] = sendable(ask.system)
    body["messages"] = [{"role": "user", "content": sendable(ask.prompt)}]
    if ask.task.temperature is not None:
        body["temperature"] = ask.task.temperature
    return msgspec.json.encode(body)


class MessagesReader:
    """Reads one answer. What is cut off before the final count of tokens has the input that the beginning told."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._body = AnswerBody()
        self._text: list[str] = []
        self._thinking: list[str] = []
        self._model = ""
        self._stop = ""
        self._why_refused = ""
        self._stopped = False
        self._counted = False
        self._counts: dict[str, int] = {}
        self._fault: Fault | None = None
        self._said_no = False

    def head(self, head: Head) -> Sequence[Piece | QuotaLearned]:
        """Read status and headers."""
        self._body.head = head
        return learned_from(self._ask.platform, head.headers)

    def feed(self, data: bytes) -> Sequence[Piece | QuotaLearned]:
        """Read more bytes."""
        return self._take(self._body.feed(data))

    def end(self, end: End) -> Verdict:
        """Say what it came to."""
        self._take(self._body.end())
        rejected = self._body.rejection()
        if rejected is not None:
            return self._rejected(rejected)
        if self._body.is_document:
            self._document(end)
        return self._verdict(end)

    def _rejected(self, rejected: Verdict) -> Verdict:
        """Add the wait that stands only in the message: until when the account's own limit holds."""
        assert rejected.fault is not None, "a rejection has a reason"
        wait_ms = regained_in_ms(rejected.fault.message, self._body.head.headers)
        return rejected if wait_ms is None else msgspec.structs.replace(rejected, retry_after_ms=wait_ms)

    def _take(self, events: Sequence[Event]) -> list[Piece]:
        pieces: list[Piece] = []
        for event in events:
            if not self._stopped and self._fault is None:
                pieces += self._event(parse(event.data))
        return pieces

    def _event(self, event: Any) -> list[Piece]:
        if not isinstance(event, dict):
            self._fault = fault("invalid", "The stream holds an event that is no JSON object.")
            return []
        match text_at(event, "type"):
            case "message_start":
                self._model = text_at(event, "message", "model")
                self._count(at(event, "message", "usage"))
            case "content_block_start":
                return self._said(at(event, "content_block"))
            case "content_block_delta":
                return self._said(at(event, "delta"))
            case "message_delta":
                self._count(at(event, "usage"))
                self._counted = self._counted or count_at(event, "usage", "output_tokens") is not None
                self._end_of(at(event, "delta"))
            case "message_stop":
                self._stopped = True
            case _:
                self._refuse(event)
        return []

    def _said(self, part: Any) -> list[Piece]:
        """Take text; what the model thought is none, but it was written and is paid for."""
        self._thinking.append(text_at(part, "thinking"))
        text = text_at(part, "text") if text_at(part, "type") in {"text", "text_delta"} else ""
        if text:
            self._text.append(text)
        return [Piece(text)] if text else []

    def _end_of(self, message: Any) -> None:
        self._stop = text_at(message, "stop_reason") or self._stop
        self._why_refused = text_at(message, "stop_details", "explanation")

    def _count(self, usage: Any) -> None:
        """Keep the largest counts: later ones go on from earlier ones, and some servers say 0 where they do not know yet."""
        for name, path in _COUNTS.items():
            count = count_at(usage, *path)
            if count is not None:
                self._counts[name] = max(count, self._counts.get(name, 0))

    def _refuse(self, event: Any) -> None:
        """Note an error; an event of another kind is passed over."""
        error = error_in(event) if text_at(event, "type") in {"error", ""} else None
        if error is not None:
            kind = text_at(event, "error", "type")
            self._fault, self._said_no = fault_of_answer(_STATUS.get(kind, 0), *error), True

    def _document(self, end: End) -> None:
        """Read an unstreamed answer; one that broke off is left to the cut."""
        body = self._body.document()
        if isinstance(body, dict):
            self._refuse(body)
            self._model = text_at(body, "model")
            self._count(at(body, "usage"))
            self._counted = "output" in self._counts
            for part in items_at(body, "content"):
                self._said(part)
            self._end_of(body)
            self._stopped = bool(self._stop)
        elif not end.cut and not self._body.overflow:
            self._fault = self._body.broken_document()

    def _verdict(self, end: End) -> Verdict:
        text = "".join(self._text)
        why = self._why_not(end, text)
        usage = self._usage() if self._counted else self._usage_so_far(text, ok=why is None)
        charged: Charged = "known" if self._counted or why is None else "possible"
        if usage is None and why is not None and self._surely_unbilled(end, why, text):
            charged = "none"
        return Verdict(
            ok=why is None,
            text=text,
            model=self._model,
            usage=usage,
            finish_reason=self._stop,
            fault=why,
            charged=charged,
            retry_after_ms=retry_after_ms(self._body.head.headers) if why is not None else None,
        )

    def _why_not(self, end: End, text: str) -> Fault | None:
        if self._fault is not None:
            return self._fault
        if not (self._stopped and self._stop):
            return self._body.unfinished(end)
        if self._stop == "refusal":
            return fault("refused", self._why_refused or "The model refused.")
        return None if text else self._empty()

    def _empty(self) -> Fault:
        match self._stop:
            case "max_tokens":
                return fault("truncated", "The output limit was reached before any text.")
            case "model_context_window_exceeded":
                return fault("context_too_long", "The model's context was full before any text.")
            case "tool_use":
                return fault("unsupported", "The model wants to call a tool; this task has none.")
            case _:
                return fault("invalid", "The answer is empty.")

    def _surely_unbilled(self, end: End, why: Fault, text: str) -> bool:
        if text or "".join(self._thinking) or self._stop:
            return False
        return end.surely_unsent or (self._said_no and why.error_class in UNBILLED)

    def _usage(self) -> Usage:
        """Return what the provider counted."""
        counts = self._counts
        short, hour = counts.get("written_5m"), counts.get("written_1h")
        split = None if short is None and hour is None else (short or 0) + (hour or 0)
        written = counts.get("written", split)
        read = counts.get("input")
        return Usage(
            input_tokens=None if read is None else read + counts.get("cached", 0) + (written or 0),
            output_tokens=counts.get("output"),
            cached_tokens=counts.get("cached"),
            cache_write_tokens=written,
            cache_write_1h_tokens=hour,
            reasoning_tokens=counts.get("thinking"),
        )

    def _usage_so_far(self, text: str, *, ok: bool) -> Usage | None:
        """Return the input that was told and a guess of what was written; a guess of both only for an answer that is whole."""
        written = estimate(text) + estimate("".join(self._thinking))
        if "input" in self._counts:
            output = max(written, self._counts.get("output", 0))
            return msgspec.structs.replace(self._usage(), output_tokens=output, source="estimated")
        return estimated(self._ask, text) if ok else None
