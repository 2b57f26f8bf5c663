"""A reader of the `gemini` program's stream-json: one JSON object a line, and what its exit codes mean. Pure.

Success = exit code 0, a final `result` of status `success`, and text (unless tools ran). The exit code of an API error is
its HTTP status modulo 256; exit code 0 also occurs with status `error`, and without any result. `output_tokens` leaves out
the thinking, which is billed: total - input - output. An answer cut short by its output limit, or by a filter after some
text, looks like success: the program does not say. It exits without waiting for its pipe, so an answer that comes at once
to a prompt above 200 KB can be lost whole: that is `crashed`. Gemini CLI 0.61.0, run against a local server (2026-11-21).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, cast

from actors.platforms.faults import fault, fault_of_answer, fault_of_cut
from actors.platforms.foreign_json import at, count_at, parse, text_at
from actors.platforms.gemini_quota import delay_ms, error_object, fault_of, learned_from, wait_ms
from actors.platforms.json_lines import LINE_BYTES_MAX, Lines
from actors.platforms.plain_text import estimated
from farebox.core.events import QuotaLearned
from farebox.core.platform import Ask, End, Head, Piece, Verdict
from farebox.core.terms import ErrorClass, Fault, Usage

STDERR_CHARS = 800
_EXITS: dict[int, tuple[ErrorClass, str]] = {
    41: ("auth_missing", "The program is not logged in, or has no key."),
    42: ("invalid", "The program did not take its input."),
    44: ("invalid", "The program's sandbox does not start."),
    52: ("invalid", "The program's settings do not work."),
    53: ("invalid", "The program's limit of turns was reached."),
    55: ("invalid", "The program does not trust the folder."),
    126: ("unavailable", "The program does not start."),
    127: ("unavailable", "The program does not start; is Node.js on PATH?"),
}
_BEFORE_ANY_CALL = frozenset({41, 42, 44, 52, 55, 126, 127})
_PROSE: tuple[tuple[re.Pattern[str], ErrorClass], ...] = (
    (re.compile(r"daily quota|quota for the day", re.IGNORECASE), "quota_exhausted"),
    (re.compile(r"blocked due to|\(SAFETY\)|\(RECITATION\)|prohibited content", re.IGNORECASE), "refused"),
    (re.compile(r"\(MAX_TOKENS\)|exceeded the token limit"), "truncated"),
    (re.compile(r"empty response|no text or thoughts", re.IGNORECASE), "invalid"),
    (re.compile(r"is not found for API version", re.IGNORECASE), "unavailable"),
    (re.compile(r"malformed function call|unexpected tool call", re.IGNORECASE), "unsupported"),
    (re.compile(r"\bterminated\b|fetch failed|ECONNRESET|socket", re.IGNORECASE), "network"),
)
_NO_FINISH = re.compile(r"without a finish reason|no finish reason", re.IGNORECASE)
_NEVER_SENT = re.compile(r"ECONNREFUSED|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH")
_SUGGESTED = re.compile(r"Suggested retry after (\d{1,9}(?:\.\d{1,9})?)s", re.ASCII)
_UNBILLED: frozenset[ErrorClass] = frozenset(
    {"rate_limited", "quota_exhausted", "auth_missing", "context_too_long", "unavailable"}
)

Said = Piece | QuotaLearned


class GeminiLinesReader:
    """Reads one run. Lines of unknown types are passed over; one that is no JSON is kept as evidence."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._lines = Lines()
        self._text: list[str] = []
        self._model = self._complaint = ""
        self._tools = 0
        self._result: Any = None
        self._error: Any = None

    def head(self, head: Head) -> Sequence[Said]:
        """A program has no headers."""
        assert not head.headers, "a program answers without headers"
        return []

    def feed(self, data: bytes) -> Sequence[Said]:
        """Read more of standard output."""
        said: list[Said] = []
        for event in self._lines.feed(data):
            said += self._take(event)
        return said

    def end(self, end: End) -> Verdict:
        """Say what it came to."""
        for event in self._lines.end():
            self._take(event)
        text, stats = "".join(self._text), at(self._result, "stats")
        why = self._why_not(end, text)
        usage = _usage(stats)
        if why is None and (usage is None or not usage.output_tokens):
            usage = estimated(self._ask, text)
        counted = usage is not None and (why is None or why.error_class != "network")
        unbilled = usage is None and why is not None and not text and self._surely_unbilled(end, why)
        return Verdict(
            ok=why is None,
            text=text,
            model=_model(stats) or self._model,
            usage=usage,
            finish_reason="stop" if why is None else "",
            fault=why,
            charged="known" if counted else "none" if unbilled else "possible",
            retry_after_ms=self._wait_ms(),
        )

    def _take(self, event: Any) -> list[Said]:
        """Read one line; after the final word nothing more is believed."""
        return [] if self._result is not None else self._event(event)

    def _event(self, event: Any) -> list[Said]:
        match text_at(event, "type"):
            case "init":
                self._model = text_at(event, "model")
            case "message" if text_at(event, "role") == "assistant" and text_at(event, "content"):
                self._text.append(text_at(event, "content"))
                return [Piece(text_at(event, "content"))]
            case "tool_use":
                self._tools += 1
            case "error" if text_at(event, "severity") != "warning":
                self._complaint = text_at(event, "message") or self._complaint
            case "result":
                self._result = event
                self._error = _inner_error(text_at(event, "error", "message"))
                return [*learned_from(self._ask.platform, self._error, {})]
            case _:
                pass
        return []

    def _why_not(self, end: End, text: str) -> Fault | None:
        if self._result is not None:
            return self._judged(end, text)
        if end.cut:
            return fault_of_cut(end)
        if self._lines.overflow:
            return fault_of_cut(End(cut="overflow", detail=f"A line passed {LINE_BYTES_MAX} bytes."))
        said = _last_words(end) or self._lines.garbage
        if end.exit_code in _EXITS:
            error_class, message = _EXITS[end.exit_code]
            return fault(error_class, f"{message} {said}")
        if status := _status(end):
            return fault_of_answer(status, "", said)
        return fault("crashed", f"The program ended (exit code {end.exit_code}) without its final word. {said}")

    def _judged(self, end: End, text: str) -> Fault | None:
        """Return what the final `result` means."""
        if text_at(self._result, "status") != "success":
            return fault_of_cut(end) if end.cut else self._failed(end, text)
        if end.exit_code != 0 and not end.cut:
            return fault("crashed", f"The program ended with exit code {end.exit_code}. {_last_words(end)}")
        return None if text or self._tools else fault("invalid", "The answer is empty.")

    def _failed(self, end: End, text: str) -> Fault:
        told = text_at(self._result, "error", "message") or self._complaint or _last_words(end)
        if self._error is not None:
            return fault_of(_status(end), self._error)
        if _NO_FINISH.search(told):
            return fault("refused" if not text and self._only_read() else "network", told)
        error_class: ErrorClass | None = next((known for pattern, known in _PROSE if pattern.search(told)), None)
        if error_class is not None:
            return fault(error_class, f"{told} {_refused_by_network(end)}")
        if _status(end) == 429:
            return fault("rate_limited", f"429: {told}")
        if end.exit_code in _EXITS:
            return fault(_EXITS[end.exit_code][0], f"{_EXITS[end.exit_code][1]} {told}")
        return fault_of_answer(_status(end), "", told)

    def _only_read(self) -> bool:
        """Whether the model read the prompt and then wrote and thought nothing: so does one that is kept from answering."""
        usage = _usage(at(self._result, "stats"))
        return usage is not None and not usage.output_tokens

    def _surely_unbilled(self, end: End, why: Fault) -> bool:
        if end.surely_unsent or end.exit_code in _BEFORE_ANY_CALL or why.error_class in _UNBILLED:
            return True
        if why.error_class == "network":
            return self._result is not None and bool(_NEVER_SENT.search(end.stderr_tail))
        return _status(end) in {400, 503}

    def _wait_ms(self) -> int | None:
        suggested = _SUGGESTED.search(text_at(self._result, "error", "message"))
        if suggested:
            return delay_ms({"details": [{"retryDelay": f"{suggested[1]}s"}]})
        return wait_ms(self._error, {})


def _inner_error(message: str) -> Any:
    """Return the API's own error that the program prints inside of its message, None if there is none."""
    start, stop = message.find("{"), message.rfind("}")
    return error_object(parse(message[start : stop + 1])) if 0 <= start < stop else None


def _status(end: End) -> int:
    """Return the HTTP status that an exit code stands for, 0 where it stands for none."""
    return end.exit_code + 256 if end.exit_code is not None and 144 <= end.exit_code <= 255 else 0


def _last_words(end: End) -> str:
    return end.stderr_tail.strip()[-STDERR_CHARS:]


def _refused_by_network(end: End) -> str:
    found = _NEVER_SENT.search(end.stderr_tail)
    return f"({found[0]})" if found else ""


def _usage(stats: Any) -> Usage | None:
    """Return what the program counted over all its calls; all zeros mean that nobody did."""
    total, read, written = (count_at(stats, name) for name in ("total_tokens", "input_tokens", "output_tokens"))
    if read is None or written is None or not (read or written):
        return None
    thoughts = max((total or 0) - read - written, 0)
    return Usage(
        input_tokens=read, output_tokens=written + thoughts, cached_tokens=count_at(stats, "cached"), reasoning_tokens=thoughts
    )


def _model(stats: Any) -> str:
    """Return the model that did most of the work."""
    models: Any = at(stats, "models")
    if not isinstance(models, dict):
        return ""
    used = {name: count_at(one, "total_tokens") or 0 for name, one in cast("dict[str, Any]", models).items()}
    return max(used, key=lambda name: used[name]) if any(used.values()) else ""
