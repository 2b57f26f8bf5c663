"""`codex exec --json`, the fallback: a JSON object a line, the answer in one piece, errors in prose, no word of quota. Pure.

Success = exit code 0, `turn.completed` and a message. Exit code 0 and `turn.completed` without one is a refusal. An `error`
item is only a warning. Formats from codex 0.169.0, run against a local server (2026-11-21).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from actors.platforms.codex_lines import (
    TOO_LARGE,
    fault_of_prose,
    files_of,
    turned_away,
    usage_of,
    wait_ms,
)
from actors.platforms.faults import fault, fault_of_cut
from actors.platforms.foreign_json import at, text_at
from actors.platforms.json_lines import LINE_BYTES_MAX, Lines
from actors.platforms.plain_text import estimated
from farebox.core.platform import Ask, End, Head, Piece, Verdict
from farebox.core.terms import Charged, Fault


class ExecReader:
    """Reads one run of `codex exec --json`."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._lines = Lines()
        self._messages: list[str] = []
        self._files: dict[str, None] = {}
        self._last: Any = None

    def head(self, head: Head) -> Sequence[Piece]:
        """A program has no headers."""
        assert not head.headers, "a program answers without headers"
        return []

    def feed(self, data: bytes) -> Sequence[Piece]:
        """Read more of standard output."""
        return [piece for event in self._lines.feed(data) for piece in self._take(event)]

    def end(self, end: End) -> Verdict:
        """Say what it came to."""
        for event in self._lines.end():
            self._take(event)
        why = self._why_not(end)
        text = "\n\n".join(self._messages) if why else self._messages[-1]
        usage = usage_of(at(self._last, "usage")) or (None if why else estimated(self._ask, text))
        return Verdict(
            ok=why is None,
            text=text,
            model=self._ask.model or self._ask.settings.model,
            usage=usage,
            finish_reason="" if why else "stop",
            fault=why,
            charged="known" if usage else self._charged(end, why),
            retry_after_ms=wait_ms(why.message) if why else None,
            files_created=tuple(self._files),
        )

    def _take(self, event: Any) -> list[Piece]:
        """Read one event; after the final one nothing more is believed."""
        kind = text_at(event, "type")
        if self._last is not None:
            return []
        if kind in {"turn.completed", "turn.failed"}:
            self._last = event
        if kind != "item.completed":
            return []
        item = at(event, "item")
        self._files |= dict.fromkeys(files_of(item))
        text = text_at(item, "text") if text_at(item, "type") == "agent_message" else ""
        if not text:
            return []
        self._messages.append(text)
        return [Piece(text if len(self._messages) == 1 else f"\n\n{text}")]

    def _why_not(self, end: End) -> Fault | None:
        kind = text_at(self._last, "type")
        if kind == "turn.failed":
            return fault_of_prose(text_at(self._last, "error", "message") or "no reason given")
        if not kind and end.cut:
            return fault_of_cut(end)
        if self._lines.overflow:
            return fault_of_cut(End(cut="overflow", detail=f"A line passed {LINE_BYTES_MAX} bytes."))
        if not kind or (end.exit_code != 0 and not end.cut):
            said = end.stderr_tail[-800:] or self._lines.garbage
            if TOO_LARGE in said:
                return fault("context_too_long", said)
            return fault("crashed", f"The program ended (exit code {end.exit_code}) without its final word. {said}")
        return None if self._messages else fault("refused", "The turn ended without an answer: the model refused, or had none.")

    def _charged(self, end: End, why: Fault | None) -> Charged:
        return "none" if not self._messages and (end.surely_unsent or turned_away(why)) else "possible"
