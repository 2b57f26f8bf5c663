"""A local stand-in for the vendors' servers: answers real programs as a script says, and keeps what they asked.

`Upstream(script)` calls `script(request)` for each request; it returns an `Answer` in the vendor's own dialect. Everything
that is asked is in `requests`; when a program closes a connection before its answer was whole, the moment is in `closed_at_s`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Self


@dataclass(frozen=True)
class Request:
    """One request; header names are in lower case, `at_s` is monotonic."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    at_s: float

    def json(self) -> Any:
        """Return the body as plain data."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    """What the server says: `parts` are written one by one, then it ends as `ending` says.

    `whole`: well. `cut`: the connection is closed without the end of the body.
    `stall`: nothing more comes until the client goes.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    parts: tuple[bytes, ...] = ()
    ending: Literal["whole", "cut", "stall"] = "whole"
    pause_s: float = 0.0


def json_answer(value: Any, status: int = 200, **headers: str) -> Answer:
    """Return `value` as a JSON body; `retry_after="7"` becomes the header `retry-after`."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Answer(status, {"content-type": "application/json", **named}, (json.dumps(value).encode(),))


def sse(name: str, data: Any) -> bytes:
    """Return one server-sent event; without a name only its data."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data)}\n\n".encode()


def event_stream(*events: bytes, ending: Literal["whole", "cut", "stall"] = "whole", pause_s: float = 0.0) -> Answer:
    """Return a streamed answer."""
    return Answer(200, {"content-type": "text/event-stream"}, events, ending, pause_s)


Script = Callable[[Request], Answer]


class Upstream:
    """The server, on a free port of the loopback, in the loop of the test. `async with Upstream(script) as upstream`."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[Request] = []
        self.closed_at_s: list[float] = []
        self.streaming = asyncio.Event()
        """Set as soon as a part of an answer has gone out."""
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=64 * 1024 * 1024)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def asked(self, method: str = "POST") -> list[Request]:
        """Return the requests of one method: programs like to say HEAD first."""
        return [request for request in self.requests if request.method == method]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while (request := await _read(reader)) is not None:
                self.requests.append(request)
                if not await self._say(self.script(request), reader, writer, head_only=request.method == "HEAD"):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            self.closed_at_s.append(time.monotonic())
        finally:
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _say(
        self, answer: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, head_only: bool
    ) -> bool:
        """Write the answer. False where the connection is over with it."""
        fields = {"transfer-encoding": "chunked", **answer.headers}
        head = "".join(f"{name}: {text}\r\n" for name, text in fields.items())
        writer.write(f"HTTP/1.1 {answer.status} Scripted\r\n{head}\r\n".encode())
        await writer.drain()
        if head_only:
            return True
        for part in answer.parts:
            writer.write(b"%x\r\n%b\r\n" % (len(part), part))
            await writer.drain()
            self.streaming.set()
            await asyncio.sleep(answer.pause_s)
        if answer.ending == "stall":
            await reader.read(1)
            self.closed_at_s.append(time.monotonic())
            return False
        if answer.ending == "cut":
            return False
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True


async def _read(reader: asyncio.StreamReader) -> Request | None:
    """Read one request, None when the client has gone in good order."""
    first = await reader.readline()
    if not first:
        return None
    method, path, _ = first.decode("latin-1").split()
    headers: dict[str, str] = {}
    while line := (await reader.readline()).strip():
        name, _, text = line.decode("latin-1").partition(":")
        headers[name.lower()] = text.strip()
    if headers.get("transfer-encoding") == "chunked":
        body = await _chunks(reader)
    else:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method, path, headers, body, time.monotonic())


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while size := int((await reader.readline()).split(b";")[0], 16):
        body += await reader.readexactly(size)
        await reader.readline()
    while (await reader.readline()).strip():
        pass
    return bytes(body)
