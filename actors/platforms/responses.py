"""OpenAI Responses on the wire: the request, and a reader of streamed and unstreamed answers. Pure.

Success needs the whole response as the last event, or as the document, with its status. Nothing is kept at the provider
(`store: false`). Source: platform.openai.com/docs/api-reference/responses and /responses-streaming (read 2026-11-21).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from actors.platforms.chat_quota import learned_from
from actors.platforms.faults import error_in, fault, fault_of_answer
from actors.platforms.foreign_json import at, count_at, items_at, parse, text_at
from actors.platforms.http_answer import UNBILLED, AnswerBody, sendable
from actors.platforms.plain_text import estimated
from actors.platforms.server_sent import Event
from farebox.core.events import QuotaLearned
from farebox.core.platform import Ask, End, Head, Piece, Verdict
from farebox.core.retry_after import retry_after_ms
from farebox.core.terms import Charged, Fault, Usage

_ENDS = ("completed", "incomplete", "failed", "cancelled")
_FINAL = {f"response.{status}": status for status in _ENDS}


def request_body(ask: Ask, model: str, *, stream: bool) -> bytes:
    """Return the JSON body that asks for one answer."""
    body: dict[str, Any] = {"model": model, "input": sendable(ask.prompt), "stream": stream, "store": False}
    if ask.system:
        body["instructions"] = sendable(ask.system)
    if ask.task.max_tokens is not None:
        body["max_output_tokens"] = ask.task.max_tokens
    if ask.task.temperature is not None:
        body["temperature"] = ask.task.temperature
    return msgspec.json.encode(body)


class ResponsesReader:
    """Reads one answer. An error is known by its status, by an error event or a failed response, or by the missing end."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._body = AnswerBody()
        self._text: list[str] = []
        self._thought = False
        self._model = ""
        self._status = ""
        self._reason = ""
        self._whole = ""
        self._refusal = ""
        self._calls_tool = False
        self._usage: Usage | None = None
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
            return rejected
        if self._body.is_document:
            self._document(end)
        return self._verdict(end)

    def _take(self, events: Sequence[Event]) -> list[Piece]:
        pieces: list[Piece] = []
        for event in events:
            if not self._status and self._fault is None and event.data.strip() != "[DONE]":
                pieces += self._event(parse(event.data))
        return pieces

    def _event(self, event: Any) -> list[Piece]:
        if not isinstance(event, dict):
            self._fault = fault("invalid", "The stream holds an event that is no JSON object.")
            return []
        kind, delta = text_at(event, "type"), text_at(event, "delta")
        if kind == "response.output_text.delta" and delta:
            self._text.append(delta)
            return [Piece(delta)]
        if kind == "response.refusal.delta":
            self._refusal += delta
        elif kind.startswith("response.reasoning"):
            self._thought = True
        elif kind in _FINAL:
            self._finish(at(event, "response"), _FINAL[kind])
        elif kind in {"error", ""}:
            self._refuse(event)
        self._model = text_at(event, "response", "model") or self._model
        return []

    def _finish(self, response: Any, status: str) -> None:
        """Read the whole response, which repeats all that was streamed."""
        self._status = status
        self._reason = text_at(response, "incomplete_details", "reason")
        self._model = text_at(response, "model") or self._model
        self._usage = _usage(at(response, "usage"))
        parts = [part for item in items_at(response, "output") for part in items_at(item, "content")]
        self._whole = "".join(text_at(part, "text") for part in parts if text_at(part, "type") == "output_text")
        self._refusal = "".join(text_at(part, "refusal") for part in parts) or self._refusal
        self._calls_tool = any(text_at(item, "type").endswith("_call") for item in items_at(response, "output"))
        if status == "failed":
            self._refuse(response)

    def _refuse(self, holder: Any) -> None:
        """Note an error; without its own words a failure is the server's."""
        error = error_in(holder)
        if error is not None:
            self._fault, self._said_no = fault_of_answer(0, *error), True

    def _document(self, end: End) -> None:
        """Read an unstreamed answer; one that broke off is left to the cut, one that is not yet ended is none."""
        body = self._body.document()
        if isinstance(body, dict):
            status = text_at(body, "status")
            if status in _ENDS:
                self._finish(body, status)
            else:
                self._refuse(body)
        elif not end.cut and not self._body.overflow:
            self._fault = self._body.broken_document()

    def _verdict(self, end: End) -> Verdict:
        text = self._whole or "".join(self._text)
        why = self._why_not(end, text)
        usage = self._usage or (estimated(self._ask, text) if why is None else None)
        charged: Charged = "known" if usage is not None else "possible"
        if usage is None and why is not None and self._surely_unbilled(end, why, text):
            charged = "none"
        return Verdict(
            ok=why is None,
            text=text,
            model=self._model,
            usage=usage,
            finish_reason=self._reason or self._status,
            fault=why,
            charged=charged,
            retry_after_ms=retry_after_ms(self._body.head.headers) if why is not None else None,
        )

    def _why_not(self, end: End, text: str) -> Fault | None:
        if self._fault is not None:
            return self._fault
        if not self._status:
            return self._body.unfinished(end)
        if self._status in {"failed", "cancelled"}:
            return fault("server_error", f"The platform ended the answer: {self._status}.")
        if self._reason == "content_filter" or self._refusal:
            return fault("refused", self._refusal or "The platform's content filter stopped the answer.")
        return None if text else self._empty()

    def _empty(self) -> Fault:
        if self._status == "incomplete":
            return fault("truncated", f"The answer ended before any text: {self._reason or 'no reason given'}.")
        if self._calls_tool:
            return fault("unsupported", "The model wants to call a tool; this task has none.")
        return fault("invalid", "The answer is empty.")

    def _surely_unbilled(self, end: End, why: Fault, text: str) -> bool:
        if text or self._thought:
            return False
        return end.surely_unsent or (self._said_no and why.error_class in UNBILLED)


def _usage(usage: Any) -> Usage | None:
    """Return what the provider counted; `input_tokens` holds the cached, `output_tokens` the reasoning ones."""
    read, written = count_at(usage, "input_tokens"), count_at(usage, "output_tokens")
    if read is None and written is None:
        return None
    return Usage(
        input_tokens=read,
        output_tokens=written,
        cached_tokens=count_at(usage, "input_tokens_details", "cached_tokens"),
        cache_write_tokens=count_at(usage, "input_tokens_details", "cache_write_tokens"),
        reasoning_tokens=count_at(usage, "output_tokens_details", "reasoning_tokens"),
    )
