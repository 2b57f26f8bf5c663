"""The Messages and the Responses API the whole way: real sockets and a server that misbehaves."""

import asyncio
import contextlib
from pathlib import Path

import msgspec
import pytest

from actors.platforms import PLATFORMS
from farebox.core.events import TaskSubmitted
from farebox.core.platform import Ask
from farebox.core.settings import PlatformSettings
from farebox.runtime import caller

KINDS = {kind.name: kind for kind in PLATFORMS}
FOLDER = Path(__file__).parents[2] / "golden" / "platforms"
PLACES = {"anthropic": "/v1/messages", "openai": "/v1/responses"}
KEYS = {"anthropic": {"ANTHROPIC_API_KEY": "sk-ant-test"}, "openai": {"OPENAI_API_KEY": "sk-test"}}
FOX = "The quick brown fox."


def recorded(kind, case):
    """Return the recorded answer as it goes over the wire, with a close at its end."""
    top, _, body = (FOLDER / kind / f"{case}.txt").read_bytes().partition(b"\n\n")
    return top.replace(b"\n", b"\r\n") + b"\r\nconnection: close\r\n\r\n", body


class Server:
    """Gives the recorded answers it is told, in order, the last one for ever; notes requests and when a caller was gone."""

    def __init__(self, kind, *cases, bytes_max=None, then="close", silent=False):
        self.kind, self.cases, self.bytes_max, self.then, self.silent = kind, list(cases), bytes_max, then, silent
        self.requests, self.gone = [], 0

    async def __aenter__(self):
        self._listening = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._listening.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self._listening.close()
        await self._listening.wait_closed()

    async def _serve(self, reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.split("content-length: ")[1].split("\r\n")[0]) if "content-length: " in head else 0
            self.requests.append((head, await reader.readexactly(length)))
            if not self.silent:
                top, body = recorded(self.kind, self.cases.pop(0) if len(self.cases) > 1 else self.cases[0])
                writer.write(top + body[: self.bytes_max])
                await writer.drain()
            if self.then == "hang" or self.silent:
                await reader.read(1)
        self.gone += 1
        writer.close()


@pytest.fixture(params=["anthropic", "openai"])
def kind(request):
    return request.param


@pytest.fixture
def ask(call, kind):
    """Call the kind's platform as it is by default, at another address."""

    async def make(server, *, options=None, **more):
        (default,) = KINDS[kind].defaults.values()
        base = server.url + ("/v1" if kind == "openai" else "")
        of = msgspec.structs.replace(default, url=base, options=options or {})
        return await call(of, environ=KEYS[kind], **more)

    return make


@pytest.mark.parametrize(("case", "stream"), [("ok", "yes"), ("unstreamed", "no")])
async def test_an_answer_comes_with_text_usage_quota_and_its_key_in_the_right_place(ask, kind, case, stream):
    pieces = []
    async with Server(kind, case) as server:
        called = await ask(server, options={"stream": stream}, on_piece=pieces.append)
    assert (called.verdict.ok, called.text, called.verdict.charged) == (True, FOX, "known")
    assert "".join(pieces) == (FOX if stream == "yes" else "")
    usage = called.verdict.usage
    assert (usage.input_tokens, usage.output_tokens, usage.cached_tokens, usage.reasoning_tokens) == (1200, 340, 1000, 120)
    assert len(called.learned) == {"anthropic": 4, "openai": 2}[kind]
    ((head, body),) = server.requests
    assert head.startswith(f"post {PLACES[kind]} ")
    assert {"anthropic": "\r\nx-api-key: sk-ant-test\r\n", "openai": "\r\nauthorization: bearer sk-test\r\n"}[kind] in head
    assert msgspec.json.decode(body)["stream"] is (stream == "yes")


async def test_a_stream_that_is_cut_at_some_byte_is_never_success_and_keeps_what_came(ask, kind):
    _, body = recorded(kind, "ok")
    last = body.rindex(b"\ndata: ")
    for place in (0, 1, len(body) // 3, body.index(b"The quick ") + 60, body.index(b"brown fox.") + 60, last, last + 8):
        async with Server(kind, "ok", bytes_max=place) as server:
            called = await ask(server)
        assert (called.verdict.ok, called.verdict.fault.error_class) == (False, "network"), place
        assert FOX.startswith(called.text), place
        assert called.verdict.charged != "none", place
        assert len(server.requests) == 1, "what may have been billed is not asked again"


async def test_a_caller_that_cancels_is_gone_at_once_with_text_and_usage_so_far(ask, kind, soon):
    cancelled, pieces = asyncio.Event(), []
    async with Server(kind, "cut", then="hang") as server:
        running = asyncio.ensure_future(ask(server, cancelled=cancelled, on_piece=pieces.append))
        await soon(lambda: pieces)
        cancelled.set()
        called = await running
        await soon(lambda: server.gone)
    assert (called.verdict.fault.error_class, called.verdict.charged) == ("cancelled", "possible")
    assert called.text == "The quick brown fox jumps"
    if kind == "anthropic":
        assert (called.verdict.usage.input_tokens, called.verdict.usage.source) == (1200, "estimated")


@pytest.mark.parametrize(
    ("silent", "limits", "words"),
    [
        (False, {"idle_timeout_s": 0.25}, "stopped coming"),
        (True, {}, "No answer began"),
        (False, {"timeout_s": 0.25}, "time was over"),
    ],
)
async def test_each_clock_cuts_and_the_server_sees_it(ask, kind, soon, from_first_byte, silent, limits, words):
    async with Server(kind, "cut", then="hang", silent=silent) as server:
        running = asyncio.ensure_future(ask(server, **limits))
        await soon(lambda: server.requests)
        if silent:
            from_first_byte[-1]._due_s = 0.0
        called = await running
        await soon(lambda: server.gone == len(server.requests))
    assert words in called.verdict.fault.message
    assert (called.verdict.ok, called.verdict.charged) == (False, "possible")


async def test_a_busy_platform_is_asked_again_in_one_place_and_only_when_it_says_when(ask, kind, tmp_path, monkeypatch):
    rate = (FOLDER / kind / "rate_limited.txt").read_text()
    short = "\n".join(line for line in rate.split("\n") if not line.startswith("retry-after"))
    short = short.replace("\n\n", "\nretry-after: 0.05\n\n", 1)
    (tmp_path / kind).mkdir()
    (tmp_path / kind / "busy.txt").write_text(short)
    (tmp_path / kind / "ok.txt").write_bytes((FOLDER / kind / "ok.txt").read_bytes())
    monkeypatch.setattr(f"{__name__}.FOLDER", tmp_path)
    async with Server(kind, "busy", "ok") as server:
        called = await ask(server)
    assert (called.verdict.ok, [record.status for record in called.calls]) == (True, [429, 200])
    assert len(server.requests) == 2


async def test_an_overloaded_platform_is_asked_again_before_somebody_else_is(ask, kind):
    async with Server(kind, "overloaded", "ok") as server:
        called = await ask(server)
    statuses = [{"anthropic": 529, "openai": 503}[kind], 200]
    assert (called.verdict.ok, [record.status for record in called.calls]) == (True, statuses)
    assert called.calls[0].error_class == "server_error"


@pytest.mark.parametrize(
    ("case", "error_class", "charged", "tries"),
    [
        ("bad_key", "auth_missing", "none", 1),
        ("no_model", "unavailable", "none", 1),
        ("context_too_long", "context_too_long", "none", 1),
        ("quota_exhausted", "quota_exhausted", "none", 1),
        ("rate_limited", "rate_limited", "none", 1),
        ("server_error", "server_error", "possible", 1),
        ("refused", "refused", "known", 1),
    ],
)
async def test_an_error_is_of_its_class_and_asked_for_once(ask, kind, case, error_class, charged, tries):
    async with Server(kind, case) as server:
        called = await ask(server)
    assert (called.verdict.fault.error_class, called.verdict.charged) == (error_class, charged)
    assert (len(server.requests), called.calls[-1].error_class) == (tries, error_class)


async def test_without_its_key_nothing_is_sent(call, kind):
    async with Server(kind, "ok") as server:
        (default,) = KINDS[kind].defaults.values()
        called = await call(msgspec.structs.replace(default, url=server.url), environ={})
    assert (called.verdict.fault.error_class, called.verdict.charged, server.requests) == ("auth_missing", "none", [])


@pytest.mark.parametrize("of_kind", ["anthropic", "openai", "compatible"])
async def test_several_of_one_kind_stand_side_by_side_each_with_its_own_key_model_and_limits(of_kind):
    case = "groq_streamed" if of_kind == "compatible" else "ok"
    environ = {"WORK_KEY": "sk-work", "HOME_KEY": "sk-home"}
    async with Server(of_kind, case) as work, Server(of_kind, case) as home:

        async def one(name, server):
            of = PlatformSettings(kind=of_kind, url=server.url, key_env=f"{name.upper()}_KEY", model=f"model-{name}")
            asked = Ask(platform=name, settings=of, model="", prompt="What?", task=TaskSubmitted())
            made, reader = KINDS[of_kind].ask(asked), KINDS[of_kind].reader(asked)
            times = {"timeout_s": 10, "first_byte_timeout_s": 10, "idle_timeout_s": 10}
            return await caller.call(
                made, reader, on_piece=lambda _text: None, cancelled=asyncio.Event(), environ=environ, **times
            )

        called = await asyncio.gather(one("work", work), one("home", home))
    for name, server, answer in zip(("work", "home"), (work, home), called, strict=True):
        ((head, body),) = server.requests
        assert f"sk-{name}\r\n" in head
        assert msgspec.json.decode(body)["model"] == f"model-{name}"
        assert answer.verdict.ok
        assert {fact.platform for fact in answer.learned} == {name}


async def test_looking_for_it_sends_the_key_and_nothing_else(kind, tmp_path, monkeypatch):
    (tmp_path / kind).mkdir()
    models = '{"data":[{"id":"claude-sonnet-4-5-20250929"},{"id":"gpt-6-sol"}]}'
    (tmp_path / kind / "models.txt").write_text(f"HTTP/1.1 200 OK\ncontent-type: application/json\n\n{models}")
    monkeypatch.setattr(f"{__name__}.FOLDER", tmp_path)
    async with Server(kind, "models") as server:
        (default,) = KINDS[kind].defaults.values()
        base = server.url + ("/v1" if kind == "openai" else "")
        report = await caller.probe(KINDS[kind], kind, msgspec.structs.replace(default, url=base), KEYS[kind])
        nobody = await caller.probe(KINDS[kind], kind, msgspec.structs.replace(default, url=base), {})
    ((head, body),) = server.requests
    assert (head.startswith("get /v1/models"), body, report.available) == (True, b"", True)
    assert (nobody.available, nobody.detail) == (False, f"{kind.upper()}_API_KEY is not set")
