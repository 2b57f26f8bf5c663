"""A stand-in for an OpenAI-compatible provider: GET /v1/models and POST /v1/chat/completions on a loopback port."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Mapping
from email.utils import formatdate
from pathlib import Path
from types import TracebackType
from typing import Self

import h11
import msgspec

from farebox.rehearsal import chat_wire as wire
from farebox.rehearsal.answer import Question, answer, read_chat
from farebox.rehearsal.books import Books, Line, Price
from farebox.rehearsal.connection import ClientGoneError, Connection, Request
from farebox.rehearsal.faults import Faults, pause_s
from farebox.rehearsal.saying import Saying

MODELS = ("rehearsal-small",)
WINDOW_S = 60
JSON = ("content-type", "application/json")


class StandIn:
    """Listens on 127.0.0.1 after `start`, or inside `async with`; `url` ends in /v1.

    Books and counts can be read at any time: `books.lines`, `seen` (requests), `open` (answers being written), `gone`
    (monotonic times at which a client hung up in the middle of its answer).
    """

    def __init__(
        self,
        *,
        models: tuple[str, ...] = MODELS,
        seed: int = 7,
        faults: Faults | None = None,
        delay_ms: float = 0,
        key: str = "",
        books: Path | None = None,
        prices: Mapping[str, Price] | None = None,
        requests_max: int = 10_000,
        window_s: int = WINDOW_S,
        tokens_max: int = 1_000_000,
        retry_after_s: float = 1.0,
        host: str = "127.0.0.1",
    ) -> None:
        self.books = Books(books, prices)
        self.seen = 0
        self.open = 0
        self.gone: list[float] = []
        self.url = ""
        self._models, self._seed, self._faults, self._delay_ms = models, seed, faults or Faults(), delay_ms
        self._key, self._requests_max, self._tokens_max, self._host = key, requests_max, tokens_max, host
        self._retry_after_s, self._window_s = retry_after_s, window_s
        self._attempts: dict[str, int] = {}
        self._window, self._in_window = 0, 0
        self._server: asyncio.Server | None = None
        self._talks: set[asyncio.Task[None]] = set()

    async def start(self, port: int = 0) -> None:
        """Begin to listen; port 0 takes a free one. Raises OSError when the port is taken."""
        self._server = await asyncio.start_server(self._greet, self._host, port, limit=1024 * 1024)
        self.url = f"http://{self._host}:{self._server.sockets[0].getsockname()[1]}/v1"

    async def close(self) -> None:
        """Hang up on everybody and stop listening."""
        if self._server is not None:
            self._server.close()
        for talk in self._talks:
            talk.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = asyncio.ensure_future(self._talk(Connection(reader, writer)))
        self._talks.add(talk)
        talk.add_done_callback(self._talks.discard)

    async def _talk(self, client: Connection) -> None:
        try:
            while (request := await client.request()) is not None:
                self.seen += 1
                await self._serve(client, request)
                if not client.can_go_on:
                    break
        except h11.RemoteProtocolError as error:
            await self._refuse(client, 413 if error.error_status_hint == 413 else 400, str(error))
        except (ClientGoneError, h11.LocalProtocolError):
            pass  # They hung up, or we did: the books know.
        finally:
            await client.close()

    async def _serve(self, client: Connection, request: Request) -> None:
        path = request.path.partition("?")[0]
        if self._key and not hmac.compare_digest(request.headers.get("authorization", ""), f"Bearer {self._key}"):
            return await self._refuse(client, 401, "Incorrect API key provided.")
        if path == "/v1/models":
            return await self._whole(client, 200, wire.models(self._models, int(time.time())))
        if path != "/v1/chat/completions":
            return await self._refuse(client, 404, f"There is nothing at {path[:80]}.", code="not_found")
        if request.method != "POST":
            return await self._refuse(client, 405, "Use POST.")
        try:
            question = read_chat(request.body)
        except msgspec.MsgspecError as error:
            return await self._refuse(client, 400, f"The body does not read: {error}")
        return await self._answer(client, question)

    async def _answer(self, client: Connection, question: Question) -> None:
        model = question.model or self._models[0]
        said = answer(question)
        if model not in self._models:
            return await self._refuse(client, 404, f"The model {model[:80]!r} does not exist.")
        if said.input_tokens > self._tokens_max:
            message = f"This model's maximum context length is {self._tokens_max} tokens, you sent {said.input_tokens}."
            return await self._refuse(client, 400, message, code="context_length_exceeded")
        attempt = self._attempts[question.mark] = self._attempts.get(question.mark, 0) + 1
        fault = self._faults.pick(self._seed, question.mark, attempt)
        if self._take_turn() or fault in {"429", "500", "503"}:
            return await self._turn_away(client, question, model, attempt, fault or "429")
        saying = Saying(
            question=question,
            model=model,
            answer=said,
            attempt=attempt,
            fault=fault,
            books=self.books,
            headers=self._headers(),
            whole_s=pause_s(self._seed, question.mark, attempt, self._delay_ms),
        )
        return await self._say(client, saying)

    async def _say(self, client: Connection, saying: Saying) -> None:
        self.open += 1
        try:
            await saying.to(client)
        except ClientGoneError:
            self.gone.append(time.monotonic())
            raise
        finally:
            saying.book("gone")
            self.open -= 1

    async def _turn_away(self, client: Connection, question: Question, model: str, attempt: int, fault: str) -> None:
        self.books.note(Line(mark=question.mark, model=model, outcome=fault, attempt=attempt))
        wait = [("retry-after", f"{self._retry_after_s:g}")] if fault == "429" else []
        messages = {"429": "Rate limit reached for requests.", "500": "The server had an error.", "503": "Overloaded."}
        await self._refuse(client, int(fault), messages[fault], headers=wait)

    def _take_turn(self) -> bool:
        """Count a request in its window; True when the window is full."""
        window = int(time.time()) // self._window_s
        if window != self._window:
            self._window, self._in_window = window, 0
        self._in_window += 1
        return self._in_window > self._requests_max

    def _headers(self) -> list[tuple[str, str]]:
        """Return what every answer tells: the date, and how much of the window is left."""
        left, reset_s = max(self._requests_max - self._in_window, 0), self._window_s - int(time.time()) % self._window_s
        return [
            ("date", formatdate(usegmt=True)),
            ("x-ratelimit-limit-requests", str(self._requests_max)),
            ("x-ratelimit-remaining-requests", str(left)),
            ("x-ratelimit-reset-requests", f"{reset_s}s"),
        ]

    async def _refuse(
        self,
        client: Connection,
        status: int,
        message: str,
        *,
        code: str | None = None,
        headers: list[tuple[str, str]] | None = None,
    ) -> None:
        await self._whole(client, status, wire.error(status, message, code), headers)

    async def _whole(self, client: Connection, status: int, body: bytes, headers: list[tuple[str, str]] | None = None) -> None:
        told = [*self._headers(), JSON, ("content-length", str(len(body))), *(headers or [])]
        await client.begin(status, told)
        await client.data(body)
        await client.end()
