"""One answer of a stand-in being said over HTTP, with the fault that was drawn for it, and what of it is charged."""

from __future__ import annotations

import time
from itertools import repeat
from typing import Any

from msgspec import Struct

from farebox.core.terms import Usage
from farebox.rehearsal import chat_wire as wire
from farebox.rehearsal.answer import Answer, Question
from farebox.rehearsal.books import Books, Line
from farebox.rehearsal.connection import Connection

FOR_EVER_S = 24 * 3600.0
STREAM = ("content-type", "text/event-stream")
JSON = ("content-type", "application/json")
GARBAGE = b"<html><body>502 Bad Gateway \xff\xfe</body></html>\n\n"
UPSTREAM_ERROR = b'{"error":{"message":"The upstream provider failed.","type":"server_error","code":502}}'
UNCHARGED = frozenset({"error", "garbage"})


class Saying(Struct, kw_only=True):
    """One answer: its question, its fault, the headers it begins with, and how long it shall take (seconds)."""

    question: Question
    model: str
    answer: Answer
    attempt: int
    fault: str
    books: Books
    headers: list[tuple[str, str]]
    whole_s: float
    created_s: int = 0
    said: list[str] = []
    booked: bool = False

    def __post_init__(self) -> None:
        self.created_s = int(time.time())

    @property
    def call_id(self) -> str:
        """The id that the provider gives the call."""
        return f"chatcmpl-{self.question.mark}-{self.attempt}"

    async def to(self, client: Connection) -> None:
        """Say it. Raises ClientGoneError when nobody listens any more."""
        if self.question.stream:
            await self._stream(client)
        else:
            await self._whole(client)

    def book(self, outcome: str) -> None:
        """Write into the books what was said so far; once."""
        if self.booked:
            return
        self.booked = True
        if self.fault in UNCHARGED:
            outcome = self.fault
            self.books.note(Line(mark=self.question.mark, model=self.model, outcome=outcome, attempt=self.attempt))
        else:
            self.books.charge(self.question.mark, self.model, outcome, self.attempt, self.answer.usage("".join(self.said)))

    async def _stream(self, client: Connection) -> None:
        await client.begin(200, [*self.headers, STREAM])
        if self.fault in UNCHARGED:
            await self._speak_wrong(client)
            return
        await client.data(self._chunk({"role": "assistant", "content": ""}))
        stop_at = len(self.answer.pieces) // 2 if self.fault in {"cut", "stall", "refuse"} else len(self.answer.pieces)
        for piece in self.answer.pieces[:stop_at]:
            await self._piece(client, piece)
        match self.fault:
            case "cut":
                self.book("cut")
                await client.cut()
            case "stall":
                await client.pause(FOR_EVER_S)
            case "endless":
                for piece in repeat("and so on "):
                    await self._piece(client, piece)
            case _:
                await self._finish(client)

    async def _piece(self, client: Connection, piece: str) -> None:
        pause_s = self.whole_s / max(len(self.answer.pieces), 1)
        if pause_s or self.fault == "endless":
            await client.pause(max(pause_s, 0.001))
        await client.data(self._chunk({"content": piece}))
        self.said.append(piece)

    async def _finish(self, client: Connection) -> None:
        """Say why it ends and what it used. The books come first: whoever has read the end may look at them."""
        refused = self.fault == "refuse"
        self.book("refused" if refused else "ok")
        await client.data(self._chunk({}, "content_filter" if refused else self.answer.finish_reason))
        if self.question.with_usage and self.fault != "no_usage":
            await client.data(self._chunk(None, usage=self.answer.usage("".join(self.said))))
        await client.data(wire.DONE)
        await client.end()

    async def _speak_wrong(self, client: Connection) -> None:
        self.book(self.fault)
        await client.data(GARBAGE if self.fault == "garbage" else wire.event(UPSTREAM_ERROR))
        await client.end()

    async def _whole(self, client: Connection) -> None:
        """Say it in one piece, after the time that it takes."""
        if self.fault in {"stall", "endless"}:
            await client.pause(FOR_EVER_S)
        if self.whole_s:
            await client.pause(self.whole_s)
        refused = self.fault == "refuse"
        self.said = [] if refused else list(self.answer.pieces)
        self.book("refused" if refused else self.fault if self.fault == "cut" else "ok")
        body = self._body()
        await client.begin(200, [*self.headers, JSON, ("content-length", str(len(body)))])
        if self.fault == "cut":
            await client.data(body[: len(body) // 2])
            await client.cut()
            return
        await client.data(body)
        await client.end()

    def _body(self) -> bytes:
        match self.fault:
            case "garbage":
                return GARBAGE
            case "error":
                return UPSTREAM_ERROR
            case "refuse":
                said = Answer(pieces=(), finish_reason="content_filter", input_tokens=self.answer.input_tokens)
            case _:
                said = self.answer
        return wire.whole(self.call_id, self.model, said, self.created_s, with_usage=self.fault != "no_usage")

    def _chunk(self, delta: dict[str, Any] | None, finish: str | None = None, usage: Usage | None = None) -> bytes:
        return wire.chunk(self.call_id, self.model, self.created_s, delta=delta, finish=finish, usage=usage)
