"""The Gemini API over real sockets: streamed and unstreamed, refused, cut, stalled, cancelled, without a key, probed."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from actors.platforms.gemini import GEMINI
from farebox.core.settings import PlatformSettings
from farebox.runtime import caller

KEY = {"GEMINI_API_KEY": "k-123456789"}
USAGE = {"promptTokenCount": 12, "candidatesTokenCount": 5, "totalTokenCount": 20, "thoughtsTokenCount": 3}


def settings(url, **more):
    return PlatformSettings(kind="gemini", url=url, key_env="GEMINI_API_KEY", model="gemini-2.5-flash", **more)


def chunk(text, finish=""):
    candidate = {"content": {"role": "model", "parts": [{"text": text}]}, **({"finishReason": finish} if finish else {})}
    return {"candidates": [candidate], "usageMetadata": USAGE, "modelVersion": "gemini-2.5-flash"}


def event(value):
    return f"data: {json.dumps(value)}\r\n\r\n".encode()


OK = (event(chunk("The quick ")), event(chunk("brown fox.", "STOP")))


class Server:
    """Answers every request with a status and parts; keeps what was asked, and when a client went."""

    def __init__(self, status=200, parts=OK, kind="text/event-stream", ending="whole"):
        self.status, self.parts, self.kind, self.ending = status, parts, kind, ending
        self.asked, self.gone = [], asyncio.Event()

    async def serve(self, reader, writer):
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = next(
                (int(line.split(":")[1]) for line in head.split("\r\n") if line.lower().startswith("content-length")), 0
            )
            self.asked.append((head, await reader.readexactly(length)))
            writer.write(f"HTTP/1.1 {self.status} X\r\ncontent-type: {self.kind}\r\nconnection: close\r\n".encode())
            writer.write(b"transfer-encoding: chunked\r\n\r\n")
            for part in self.parts:
                writer.write(b"%x\r\n%b\r\n" % (len(part), part))
                await writer.drain()
            if self.ending == "stall":
                await reader.read(1)
                self.gone.set()
            elif self.ending == "whole":
                writer.write(b"0\r\n\r\n")
        finally:
            writer.close()


@asynccontextmanager
async def serving(*args, **more):
    server = Server(*args, **more)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, limit=8 * 1024 * 1024)
    async with listening:
        yield server, f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"


def refusal(status, name, message, *details):
    body = {"error": {"code": status, "message": message, "status": name, "details": list(details)}}
    return {"status": status, "parts": (json.dumps(body).encode(),), "kind": "application/json"}


async def test_an_answer_streams_with_text_usage_and_the_key_in_its_header(call):
    pieces = []
    async with serving() as (server, url):
        called = await call(settings(url), environ=KEY, on_piece=pieces.append)
    assert (called.verdict.ok, called.text, pieces) == (True, "The quick brown fox.", ["The quick ", "brown fox."])
    usage = called.verdict.usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.reasoning_tokens) == (12, 8, 3)
    ((head, body),) = server.asked
    assert head.startswith("POST /v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse HTTP/1.1\r\n")
    assert "x-goog-api-key: k-123456789\r\n" in head
    assert "authorization" not in head.lower()
    assert b"Sparrows" in body


async def test_unstreamed_equals_streamed(call):
    whole = json.dumps(chunk("The quick brown fox.", "STOP")).encode()
    async with serving() as (_, url):
        streamed = await call(settings(url), environ=KEY)
    async with serving(parts=(whole,), kind="application/json") as (server, url):
        called = await call(settings(url, options={"stream": "no"}), environ=KEY)
    assert called.verdict == streamed.verdict
    assert ":generateContent HTTP" in server.asked[0][0]


async def test_without_the_key_nothing_is_sent(call):
    async with serving() as (server, url):
        called = await call(settings(url), environ={})
    assert called.verdict.fault is not None
    assert (called.verdict.fault.error_class, called.verdict.charged, server.asked) == ("auth_missing", "none", [])


@pytest.mark.parametrize(
    ("answer", "error_class", "charged", "wait_ms"),
    [
        (refusal(400, "INVALID_ARGUMENT", "API key not valid.", {"reason": "API_KEY_INVALID"}), "auth_missing", "none", None),
        (refusal(429, "RESOURCE_EXHAUSTED", "Slow down.", {"retryDelay": "7s"}), "rate_limited", "none", 7000),
        (refusal(500, "INTERNAL", "Sorry."), "server_error", "possible", None),
        ({"parts": OK[:1]}, "network", "possible", None),
        ({"parts": OK[:1], "ending": "cut"}, "network", "possible", None),
        ({"parts": OK[:1], "ending": "stall"}, "stalled", "possible", None),
    ],
)
async def test_what_goes_wrong_is_named_and_asked_for_once(call, answer, error_class, charged, wait_ms):
    async with serving(**answer) as (server, url):
        called = await call(settings(url), environ=KEY, idle_timeout_s=0.3)
    assert called.verdict.fault is not None
    assert (called.verdict.fault.error_class, called.verdict.charged) == (error_class, charged)
    assert (called.verdict.retry_after_ms, len(server.asked)) == (wait_ms, 1)
    assert "k-123456789" not in called.verdict.fault.message


async def test_a_cancel_closes_the_connection_and_keeps_the_text(call):
    cancelled = asyncio.Event()
    async with serving(parts=OK[:1], ending="stall") as (server, url):
        called = await call(settings(url), environ=KEY, cancelled=cancelled, on_piece=lambda _text: cancelled.set())
        await asyncio.wait_for(server.gone.wait(), 100)
    assert called.verdict.fault is not None
    assert (called.verdict.fault.error_class, called.text, called.verdict.charged) == ("cancelled", "The quick ", "possible")


async def test_the_probe_lists_models_with_the_key():
    body = {"models": [{"name": "models/gemini-2.5-flash", "supportedGenerationMethods": ["generateContent"]}]}
    async with serving(parts=(json.dumps(body).encode(),), kind="application/json") as (server, url):
        told = await caller.probe(GEMINI, "gemini", settings(url), KEY)
    assert (told.available, told.models) == (True, ("gemini-2.5-flash",))
    assert server.asked[0][0].startswith("GET /v1beta/models?pageSize=1000 HTTP")
    assert "x-goog-api-key: k-123456789\r\n" in server.asked[0][0]
