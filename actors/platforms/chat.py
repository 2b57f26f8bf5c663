"""OpenAI Chat Completions on the wire: the request, and a reader of streamed and unstreamed answers. Pure.

Success needs the server's own final word (a `finish_reason`, or `[DONE]` after text): a stream that merely ends is a fault.
Source: platform.openai.com/docs/api-reference/chat and /chat-streaming (read 2026-11-21); llama.cpp, vLLM and Ollama leave
out or add what the tests under tests/golden/platforms/ show.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from actors.platforms.chat_quota import learned_from
from actors.platforms.faults import error_in, fault, fault_of_answer
from actors.platforms.foreign_json import at, count_at, items_at, parse, text_at, usd_at
from actors.platforms.http_answer import UNBILLED, AnswerBody, sendable
from farebox.core.events import QuotaLearned
from farebox.core.platform import Ask, End, Head, Piece, Verdict
from farebox.core.retry_after import retry_after_ms
from farebox.core.terms import Charged, Fault, Usage
from farebox.core.tokens import estimate


def request_body(ask: Ask, model: str, *, stream: bool, max_tokens_field: str = "max_tokens") -> bytes:
    """Return the JSON body that asks for one answer; a streamed one ends with its usage."""
    messages = [{"role": "system", "content": sendable(ask.system)}] if ask.system else []
    body: dict[str, Any] = {"model": model} if model else {}
    body |= {"messages": [*messages, {"role": "user", "content": sendable(ask.prompt)}], "stream": stream}
    if stream:
        body["stream_options"] = {"include_usage": True}
    if ask.task.max_tokens is not None:
        body[max_tokens_field] = ask.task.max_tokens
    if ask.task.temperature is not None:
        body["temperature"] = ask.task.temperature
    return msgspec.json.encode(body)


class ChatReader:
    """Reads one answer. An error is known by its status, by an error object anywhere, or by the missing final word."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._body = AnswerBody()
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._refusal: list[str] = []
        self._model = ""
        self._finish = ""
        self._done = False
        self._usage: Usage | None = None
        self._usd: str | None = None
        self._fault: Fault | None = None
        self._said_no = False

    def head(self, head: Head) -> Sequence[Piece | QuotaLearned]:
        """Read status and headers."""
        self._body.head = head
        return learned_from(self._ask.platform, head.headers)

    def feed(self, data: bytes) -> Sequence[Piece | QuotaLearned]:
        """Read more bytes: an event stream, or one JSON document that is read at the end."""
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

    def _take(self, events: Sequence[Any]) -> list[Piece | QuotaLearned]:
        pieces: list[Piece | QuotaLearned] = []
        for event in events:
            if event.data.strip() == "[DONE]":
                self._done = True
            elif not self._done:
                pieces += self._chunk(parse(event.data))
        return pieces

    def _chunk(self, chunk: Any) -> list[Piece | QuotaLearned]:
        """Read one event. Once the final word is in, only the usage is still of interest."""
        self._count(chunk)
        if self._finish or self._fault is not None:
            return []
        if self._refused(chunk):
            return []
        if not isinstance(chunk, dict):
            self._fault = fault("invalid", "The stream holds an event that is no JSON object.")
            return []
        self._model = self._model or text_at(chunk, "model")
        return self._choice(at(chunk, "choices", 0), "delta")

    def _count(self, body: Any) -> None:
        """Keep what the provider counted; Groq hides it among its own, and OpenRouter says what it charged."""
        counted = at(body, "usage") or at(body, "x_groq", "usage")
        self._usage = _usage(counted) or self._usage
        self._usd = usd_at(counted, "cost") or self._usd

    def _refused(self, body: Any) -> bool:
        """Note an error, of the answer or of its first choice; OpenRouter's code is the status it would have had."""
        holder = body if error_in(body) is not None else at(body, "choices", 0)
        error = error_in(holder) if at(holder, "error") or holder is body else None
        if error is not None:
            code = count_at(holder, "error", "code") or 0
            self._fault, self._said_no = fault_of_answer(code if 400 <= code < 600 else 0, *error), True
        return error is not None

    def _choice(self, choice: Any, part: str) -> list[Piece | QuotaLearned]:
        said = at(choice, part)
        text = _content(at(said, "content"))
        self._reasoning.append(text_at(said, "reasoning_content") or text_at(said, "reasoning"))
        self._refusal.append(text_at(said, "refusal"))
        self._finish = text_at(choice, "finish_reason")
        if not text:
            return []
        self._text.append(text)
        return [Piece(text)]

    def _document(self, end: End) -> None:
        """Read an unstreamed answer; one that broke off is left to the cut."""
        body = self._body.document()
        self._count(body)
        if not self._refused(body) and isinstance(body, dict):
            self._model = text_at(body, "model")
            self._choice(at(body, "choices", 0), "message")
        elif self._fault is None and not end.cut and not self._body.overflow:
            self._fault = self._body.broken_document()

    def _verdict(self, end: End) -> Verdict:
        text = "".join(self._text)
        why = self._why_not(end, text)
        usage = self._usage or (self._estimated(text) if why is None else None)
        charged: Charged = "known" if usage is not None else "possible"
        if usage is None and self._surely_unbilled(end, why, text):
            charged = "none"
        return Verdict(
            ok=why is None,
            text=text,
            model=self._model,
            usage=usage,
            finish_reason=self._finish or ("stop" if why is None else ""),
            fault=why,
            charged=charged,
            retry_after_ms=retry_after_ms(self._body.head.headers) if why is not None else None,
            provider_usd=self._usd,
        )

    def _why_not(self, end: End, text: str) -> Fault | None:
        if self._fault is not None:
            return self._fault
        if self._finish == "content_filter" or "".join(self._refusal):
            return fault("refused", "".join(self._refusal) or "The platform's content filter stopped the answer.")
        if self._finish or (self._done and text):
            return None if text and self._finish != "error" else self._empty()
        return self._body.unfinished(end)

    def _empty(self) -> Fault:
        if self._finish == "error":
            return fault("server_error", "The platform ended the answer with an error.")
        if self._finish == "length":
            return fault("truncated", "The output limit was reached before any text.")
        if self._finish in {"tool_calls", "function_call"}:
            return fault("unsupported", "The model wants to call a tool; this task has none.")
        return fault("invalid", "The answer is empty.")

    def _surely_unbilled(self, end: End, why: Fault | None, text: str) -> bool:
        if text or self._reasoned() or why is None or self._finish:
            return False
        return end.surely_unsent or (self._said_no and why.error_class in UNBILLED)

    def _reasoned(self) -> str:
        return "".join(self._reasoning)

    def _estimated(self, text: str) -> Usage:
        """Return a guess where the server said nothing: of all that was sent and all that came."""
        written = estimate(text) + estimate(self._reasoned())
        return Usage(
            input_tokens=estimate(self._ask.system) + estimate(self._ask.prompt), output_tokens=written, source="estimated"
        )


def _content(content: Any) -> str:
    """Return the text of a content: a text, or a list of parts that hold one."""
    if isinstance(content, str):
        return content
    return "".join(text_at(part, "text") for part in items_at(content))


def _usage(usage: Any) -> Usage | None:
    """Return what the provider counted; `prompt_tokens` holds the cached, `completion_tokens` the reasoning ones."""
    read, written = count_at(usage, "prompt_tokens"), count_at(usage, "completion_tokens")
    if read is None and written is None:
        return None
    cached = count_at(usage, "prompt_tokens_details", "cached_tokens")
    return Usage(
        input_tokens=read,
        output_tokens=written,
        cached_tokens=count_at(usage, "prompt_cache_hit_tokens") if cached is None else cached,
        cache_write_tokens=count_at(usage, "prompt_tokens_details", "cache_write_tokens"),
        reasoning_tokens=count_at(usage, "completion_tokens_details", "reasoning_tokens"),
    )
