"""A reader of Gemini API answers: GenerateContentResponse, streamed as server-sent events or in one document. Pure.

Success needs `finishReason` STOP (or MAX_TOKENS) and text: a stream that merely ends is a fault. `usageMetadata` of the last
chunk counts; `thoughtsTokenCount` stands outside `candidatesTokenCount`, cached tokens inside `promptTokenCount`.
Sources: ai.google.dev/api/generate-content (read 2026-11-21); google-genai 3.4.0 against a local server (2026-11-21).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from actors.platforms.faults import fault, fault_of_answer, fault_of_cut
from actors.platforms.foreign_json import at, count_at, items_at, parse, text_at
from actors.platforms.gemini_quota import error_object, fault_of, learned_from, wait_ms
from actors.platforms.plain_text import estimated
from actors.platforms.server_sent import Event, ServerSent
from farebox.core.events import QuotaLearned
from farebox.core.platform import Ask, End, Head, Piece, Verdict
from farebox.core.retry_after import retry_after_ms
from farebox.core.terms import ErrorClass, Fault, Usage

BODY_BYTES_MAX = 64 * 1024 * 1024
ERROR_BYTES_MAX = 64 * 1024
SHOWN_BYTES = 200
_WHOLE = {"STOP": "stop", "MAX_TOKENS": "length"}
_REFUSED = frozenset(
    {"SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "LANGUAGE", "IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT"}
)
_TOOLS = frozenset({"MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS"})
_UNBILLED: frozenset[ErrorClass] = frozenset(
    {"rate_limited", "quota_exhausted", "auth_missing", "context_too_long", "invalid", "unavailable", "unsupported"}
)
"""Who says one of these before any chunk has not run the model."""

Said = Piece | QuotaLearned


class GeminiReader:
    """Reads one answer. An error is known by its status, by an error object anywhere, or by the missing final word."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._head = Head(status=0)
        self._raw = bytearray()
        self._events: ServerSent | None = None
        self._overflow = False
        self._heard = False
        self._text: list[str] = []
        self._thoughts: list[str] = []
        self._model = self._finish = self._blocked = self._why = ""
        self._calls_tool = False
        self._usage: Any = None
        self._error: Any = None
        self._fault: Fault | None = None
        self._learned: list[QuotaLearned] = []

    def head(self, head: Head) -> Sequence[Said]:
        """Read status and headers; this API's headers tell nothing about quota."""
        self._head = head
        return []

    def feed(self, data: bytes) -> Sequence[Said]:
        """Read more bytes: an event stream, or one JSON document."""
        if self._events is not None:
            self._keep_tail(data)
            return self._take(self._events.feed(data))
        self._overflow = self._overflow or len(self._raw) + len(data) > BODY_BYTES_MAX
        if self._overflow:
            return []
        self._raw += data
        if self._head.status >= 300:
            return self._rejection()
        start = bytes(self._raw[:64]).lstrip()
        if start[:1] in {b"", b"{", b"["}:
            return []
        self._events = ServerSent()
        begun = bytes(self._raw)
        self._raw.clear()
        self._keep_tail(begun)
        return self._take(self._events.feed(begun))

    def end(self, end: End) -> Verdict:
        """Say what it came to."""
        if self._events is not None:
            self._take([event for event in self._events.end() if parse(event.data) is not None])
            self._overflow = self._overflow or self._events.overflow
            self._stray_error()
        elif self._head.status >= 300:
            return self._rejected()
        elif self._head.status:
            self._document(end)
        return self._verdict(end)

    def _keep_tail(self, data: bytes) -> None:
        """Keep the last bytes of a stream: an error may stand there that is no event."""
        self._raw += data[-ERROR_BYTES_MAX:]
        del self._raw[:-ERROR_BYTES_MAX]

    def _rejection(self) -> list[Said]:
        """Learn from a refusal as soon as it is whole."""
        if self._error is not None or self._head.status != 429 or bytes(self._raw[-3:]).strip()[-1:] not in {b"}", b"]"}:
            return []
        self._error = error_object(parse(bytes(self._raw).decode("utf-8", "replace")))
        return [*learned_from(self._ask.platform, self._error, self._head.headers)]

    def _take(self, events: Sequence[Event]) -> list[Said]:
        said: list[Said] = []
        for event in events:
            self._heard = True
            chunk = parse(event.data)
            if isinstance(chunk, dict | list):
                said += self._chunk(chunk)
            elif self._fault is None and not self._finish:
                self._fault = fault("invalid", "The stream holds an event that is no JSON object.")
        return said

    def _chunk(self, chunk: Any) -> list[Said]:
        """Read one GenerateContentResponse, or an error in its place."""
        if self._fault is not None:
            return []
        error = error_object(chunk)
        if error is not None:
            self._error, self._fault = error, fault_of(0, error)
            return [*learned_from(self._ask.platform, error, self._head.headers)]
        if at(chunk, "usageMetadata") is not None:
            self._usage = at(chunk, "usageMetadata")
        self._model = text_at(chunk, "modelVersion") or self._model
        self._blocked = text_at(chunk, "promptFeedback", "blockReason") or self._blocked
        candidate = at(chunk, "candidates", 0)
        self._finish = text_at(candidate, "finishReason") or self._finish
        self._why = text_at(candidate, "finishMessage") or self._why
        return self._parts(items_at(candidate, "content", "parts"))

    def _parts(self, parts: list[Any]) -> list[Said]:
        said: list[Said] = []
        for part in parts:
            text = text_at(part, "text")
            self._calls_tool = self._calls_tool or at(part, "functionCall") is not None
            if at(part, "thought") is True:
                self._thoughts.append(text)
            elif text:
                self._text.append(text)
                said.append(Piece(text))
        return said

    def _stray_error(self) -> None:
        """Find an error that stands behind the events without being one."""
        if self._finish or self._fault is not None:
            return
        tail = bytes(self._raw).replace(b"\r\n", b"\n")
        for mark in (b"\n{", b"\n["):
            error = error_object(parse(tail[tail.find(mark) + 1 :].decode("utf-8", "replace"))) if mark in tail else None
            if error is not None:
                self._error, self._fault = error, fault_of(0, error)

    def _document(self, end: End) -> None:
        """Read an unstreamed answer, or an array of chunks; one that broke off is left to the cut."""
        body = parse(bytes(self._raw).decode("utf-8", "replace"))
        if isinstance(body, dict | list):
            for chunk in items_at(body) or [body]:
                self._chunk(chunk)
        elif not end.cut and not self._overflow:
            broken_off = bytes(self._raw).lstrip()[:1] in {b"", b"{", b"["}
            self._fault = fault("network" if broken_off else "invalid", f"The answer is no whole JSON: {_shown(self._raw)}")

    def _rejected(self) -> Verdict:
        """Read an answer whose status says no."""
        status = self._head.status
        raw = bytes(self._raw[:ERROR_BYTES_MAX]).decode("utf-8", "replace")
        error = error_object(parse(raw))
        return Verdict(
            ok=False,
            fault=fault_of_answer(status, "", raw) if error is None else fault_of(status, error),
            charged="possible" if status >= 500 and status != 503 else "none",
            retry_after_ms=retry_after_ms(self._head.headers) if error is None else wait_ms(error, self._head.headers),
        )

    def _verdict(self, end: End) -> Verdict:
        text = "".join(self._text)
        why = self._why_not(end, text)
        usage = self._counted(text, whole=why is None)
        told = usage is not None and bool(self._finish or self._blocked)
        unbilled = usage is None and self._surely_unbilled(end, why, text)
        return Verdict(
            ok=why is None,
            text=text,
            model=self._model,
            usage=usage,
            finish_reason=_WHOLE.get(self._finish, self._finish.lower()),
            fault=why,
            charged="known" if told else "none" if unbilled else "possible",
            retry_after_ms=wait_ms(self._error, self._head.headers) if self._error is not None else None,
        )

    def _why_not(self, end: End, text: str) -> Fault | None:
        if self._fault is not None:
            return self._fault
        if self._blocked:
            return fault("refused", f"The prompt was blocked: {self._blocked}.")
        if self._finish:
            return self._finished(text)
        if end.cut or self._overflow:
            return fault_of_cut(end if end.cut else End(cut="overflow"))
        if self._events is not None and not self._heard:
            return fault("invalid", f"The answer is no event stream: {_shown(self._raw)}")
        return fault("network", "The answer ended without its final word.")

    def _finished(self, text: str) -> Fault | None:
        """Return what a final word means that is not both good and with text."""
        told = f"{self._finish}. {self._why}".strip()
        if self._finish in _REFUSED:
            return fault("refused", f"The platform stopped the answer: {told}")
        if self._finish in _TOOLS or (self._calls_tool and not text):
            return fault("unsupported", f"The model wants to call a tool; this task has none: {told}")
        if self._finish not in _WHOLE:
            return fault("server_error", f"The platform ended the answer: {told}")
        if text:
            return None
        if self._finish == "MAX_TOKENS":
            return fault("truncated", "The output limit was reached before any text.")
        return fault("invalid", "The answer is empty.")

    def _surely_unbilled(self, end: End, why: Fault | None, text: str) -> bool:
        if text or self._thoughts or self._finish or why is None:
            return False
        return end.surely_unsent or (self._error is not None and why.error_class in _UNBILLED)

    def _counted(self, text: str, *, whole: bool) -> Usage | None:
        """Return what the provider counted, else for a whole answer a guess: of all that was sent and all that came."""
        read, thoughts = count_at(self._usage, "promptTokenCount"), count_at(self._usage, "thoughtsTokenCount")
        written = _written(self._usage)
        if whole and not written:
            guess = estimated(self._ask, text + "".join(self._thoughts))
            return Usage(input_tokens=read or guess.input_tokens, output_tokens=guess.output_tokens, source="estimated")
        if read is None and not written:
            return None
        tools = count_at(self._usage, "toolUsePromptTokenCount")
        return Usage(
            input_tokens=read if read is None or tools is None else read + tools,
            output_tokens=written,
            cached_tokens=count_at(self._usage, "cachedContentTokenCount"),
            reasoning_tokens=thoughts,
        )


def _written(usage: Any) -> int | None:
    """Return answer and thoughts together; a count of nothing is left out on this wire, then the total tells."""
    answer, thoughts = count_at(usage, "candidatesTokenCount"), count_at(usage, "thoughtsTokenCount")
    if answer is not None:
        return answer + (thoughts or 0)
    total, read = count_at(usage, "totalTokenCount"), count_at(usage, "promptTokenCount")
    if total is None or read is None:
        return thoughts
    return max(total - read - (count_at(usage, "toolUsePromptTokenCount") or 0), thoughts or 0)


def _shown(raw: bytearray) -> str:
    return repr(bytes(raw[:SHOWN_BYTES]).decode("utf-8", "replace"))
