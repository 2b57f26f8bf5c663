"""What a stand-in says to one question: who asked, which text, which fault, how fast. Pure."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from farebox.core.digest import chunks, digest, mark
from farebox.core.terms import Usage
from farebox.core.tokens import estimate

CHARS_PER_TOKEN = 3.5


class Question(Struct, frozen=True, kw_only=True):
    """What was asked, whatever the wire."""

    prompt: str
    system: str = ""
    model: str = ""
    stream: bool = False
    with_usage: bool = False
    max_tokens: int | None = None

    @property
    def mark(self) -> str:
        """Twelve hex digits that stand for the text."""
        return mark(self.prompt, self.system)


class Answer(Struct, frozen=True, kw_only=True):
    """What is said: the pieces as they stream, why they end, and their tokens."""

    pieces: tuple[str, ...]
    finish_reason: str
    input_tokens: int

    def usage(self, said: str) -> Usage:
        """Return the tokens of the question and of what was said of the answer."""
        return Usage(input_tokens=self.input_tokens, output_tokens=estimate(said), source="computed")


def answer(question: Question) -> Answer:
    """Return the digest of the question's text, cut where it asks for fewer tokens."""
    text = digest(question.prompt, question.system)
    kept = text if question.max_tokens is None else text[: int(question.max_tokens * CHARS_PER_TOKEN)]
    return Answer(
        pieces=tuple(chunks(kept)),
        finish_reason="stop" if kept == text else "length",
        input_tokens=estimate(question.system) + estimate(question.prompt),
    )


class _Message(Struct):
    role: str
    content: str | list[dict[str, Any]] | None = None


class _Body(Struct):
    messages: list[_Message]
    model: str = ""
    stream: bool = False
    stream_options: dict[str, Any] | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None


_decoder = msgspec.json.Decoder(_Body)


def read_chat(body: bytes) -> Question:
    """Return the question in a Chat Completions body. Raises msgspec.MsgspecError for anything else."""
    asked = _decoder.decode(body)
    system = [_text(message.content) for message in asked.messages if message.role in {"system", "developer"}]
    rest = [_text(message.content) for message in asked.messages if message.role not in {"system", "developer"}]
    return Question(
        prompt="\n\n".join(rest),
        system="\n\n".join(system),
        model=asked.model,
        stream=asked.stream,
        with_usage=bool((asked.stream_options or {}).get("include_usage")),
        max_tokens=asked.max_completion_tokens or asked.max_tokens,
    )


def _text(content: str | list[dict[str, Any]] | None) -> str:
    if isinstance(content, list):
        return "".join(text for part in content if isinstance(text := part.get("text"), str))
    return content or ""
