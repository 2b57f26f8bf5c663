"""Agent programs that print one JSON object a line, as Claude Code's `--output-format stream-json` does. Pure.

Success = exit code 0 and a final `result` that says no error and text: exit code 0 and `subtype: "success"` both occur on
failures. Formats from Claude Code 2.1.329, run against a local server (2026-11-21).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from actors.platforms.faults import fault, fault_of_answer, fault_of_cut
from actors.platforms.foreign_json import at, count_at, items_at, text_at, usd_at
from actors.platforms.json_lines import LINE_BYTES_MAX, Lines
from actors.platforms.plain_text import estimated
from actors.platforms.plan_windows import learned_from
from actors.platforms.stream_json_usage import Tally, usage_of
from farebox.core.events import QuotaLearned
from farebox.core.platform import Ask, End, Head, Piece, Verdict
from farebox.core.terms import Charged, ErrorClass, Fault, Usage

_REASONS: dict[str, ErrorClass] = {"prompt_too_long": "context_too_long", "aborted_streaming": "cancelled"}
_PROSE: tuple[tuple[str, ErrorClass], ...] = (
    ("output token maximum", "truncated"),
    ("ECONNREFUSED", "network"),
    ("ECONNRESET", "network"),
    ("Connection error", "network"),
)
_CODES: dict[str, ErrorClass] = {
    "connection_failed": "network",
    "max_output_tokens": "truncated",
    "usage_limit_reached": "quota_exhausted",
}
_SYNTHETIC = "<synthetic>"
"""The model of messages that the program writes itself, to tell of an error."""
_BUSY = frozenset({503, 529})
"""A server that says so before anything else has not let a model run."""
_UNBILLED: frozenset[ErrorClass] = frozenset(
    {"rate_limited", "quota_exhausted", "auth_missing", "context_too_long", "unavailable"}
)


class StreamJsonReader:
    """Reads one run of such a program. Lines of unknown types are passed over; one that is no JSON is kept as evidence."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._lines = Lines()
        self._silent = True
        self._text: list[str] = []
        self._whole: list[str] = []
        self._model = ""
        self._tally = Tally()
        self._result: Any = None
        self._rejected = False

    def head(self, head: Head) -> Sequence[Piece | QuotaLearned]:
        """A program has no headers."""
        assert not head.headers, "a program answers without headers"
        return []

    def feed(self, data: bytes) -> Sequence[Piece | QuotaLearned]:
        """Read more of standard output."""
        self._silent = self._silent and not data
        said: list[Piece | QuotaLearned] = []
        for event in self._lines.feed(data):
            said += self._take(event)
        return said

    def end(self, end: End) -> Verdict:
        """Say what it came to."""
        for event in self._lines.end():
            self._take(event)
        why = self._why_not(end)
        text = self._answer(why)
        usage, charged = self._used(end, why, text)
        return Verdict(
            ok=why is None,
            text=text,
            model=self._model,
            usage=usage,
            finish_reason=text_at(self._result, "stop_reason"),
            fault=why,
            charged=charged,
            provider_usd=usd_at(self._result, "total_cost_usd") if usage and usage.source == "provider" else None,
        )

    def _take(self, event: Any) -> list[Piece | QuotaLearned]:
        """Read one line; after the final word nothing more is believed."""
        return [] if self._result is not None else self._event(event)

    def _event(self, event: Any) -> list[Piece | QuotaLearned]:
        match text_at(event, "type"):
            case "system":
                self._model = text_at(event, "model") or self._model
            case "stream_event":
                return self._streamed(at(event, "event"))
            case "assistant" if text_at(event, "message", "model") != _SYNTHETIC:
                self._whole += [text_at(part, "text") for part in items_at(event, "message", "content")]
            case "rate_limit_event":
                info = at(event, "rate_limit_info")
                self._rejected = text_at(info, "status") == "rejected"
                return list(learned_from(self._ask.platform, info))
            case "result":
                self._result = event
            case _:
                pass
        return []

    def _streamed(self, event: Any) -> list[Piece | QuotaLearned]:
        """Read one raw event of the model's own stream."""
        self._tally.take(event)
        kind = text_at(event, "type")
        if kind == "message_start":
            self._model = text_at(event, "message", "model") or self._model
        text = text_at(event, "delta", "text") if kind == "content_block_delta" else ""
        if not text:
            return []
        self._text.append(text)
        return [Piece(text)]

    def _answer(self, why: Fault | None) -> str:
        """Return the text: the result's own on success, else what streamed or was told whole."""
        if why is None:
            return text_at(self._result, "result")
        return "".join(self._text) or "".join(self._whole)

    def _why_not(self, end: End) -> Fault | None:
        if self._result is not None:
            return self._judged(end)
        if end.cut:
            return fault_of_cut(end)
        if self._lines.overflow:
            return fault_of_cut(End(cut="overflow", detail=f"A line passed {LINE_BYTES_MAX} bytes."))
        said = end.stderr_tail[-800:] or self._lines.garbage
        return fault("crashed", f"The program ended (exit code {end.exit_code}) without its final word. {said}")

    def _judged(self, end: End) -> Fault | None:
        """Return what the final `result` means; its own error flag counts more than subtype and exit code."""
        told = text_at(self._result, "result") or text_at(self._result, "error")
        status = count_at(self._result, "api_error_status")
        reason = text_at(self._result, "terminal_reason")
        failed = at(self._result, "is_error") is not False or text_at(self._result, "subtype") != "success"
        if failed and end.cut:
            return fault_of_cut(end)
        if text_at(self._result, "stop_reason") == "refusal":
            return fault("refused", told or "The model refused.")
        if self._rejected and failed:
            return fault("quota_exhausted", told or "The plan's limit is reached.")
        if reason in _REASONS:
            return fault(_REASONS[reason], told or reason)
        if failed:
            return self._failed(status or 0, told)
        if end.exit_code != 0 and not end.cut:
            return fault("crashed", f"The program ended with exit code {end.exit_code}. {end.stderr_tail[-800:]}")
        return None if told else fault("invalid", "The answer is empty.")

    def _failed(self, status: int, told: str) -> Fault:
        by_prose: ErrorClass | None = next((known for words, known in _PROSE if words in told), None)
        error_class = _CODES.get(text_at(self._result, "api_error")) or by_prose
        return fault(error_class, told) if error_class else fault_of_answer(status, text_at(self._result, "subtype"), told)

    def _used(self, end: End, why: Fault | None, text: str) -> tuple[Usage | None, Charged]:
        """Return what the run used, and whether it cost something: its own count, else what streamed, else a guess."""
        told = usage_of(at(self._result, "usage"))
        if told is not None and self._tally.is_whole(ended_well=why is None):
            return told, "known"
        so_far = self._tally.so_far(text, told)
        if why is None:
            return so_far or told or estimated(self._ask, text), "known"
        return so_far or told, "none" if self._surely_unbilled(end, why) else "possible"

    def _surely_unbilled(self, end: End, why: Fault) -> bool:
        if self._text or self._whole or self._tally.has_begun:
            return False
        if self._silent and not end.cut and end.exit_code:
            return True  # It says what it is before it asks anybody.
        refused_there = why.error_class in _UNBILLED or count_at(self._result, "api_error_status") in _BUSY
        return end.surely_unsent or refused_there or "ECONNREFUSED" in why.message
