"""Every door through which strangers' bytes come in, row by row of the table of hostile inputs in docs/guides/security.md."""

import asyncio
import gzip
import json
import os
import resource
import subprocess
import sys
import zlib
from contextlib import asynccontextmanager
from decimal import Decimal
from functools import cache

import msgspec
import pytest

from actors.platforms import PLATFORMS
from farebox import engines, inputs
from farebox.client import joined
from farebox.config import load, platform_kinds
from farebox.core import ids, money, wire
from farebox.core.errors import BadFact, BadInput
from farebox.core.events import CostRecorded, TaskSubmitted
from farebox.core.platform import Ask
from farebox.core.settings import PlatformSettings
from farebox.core.terms import Usage
from farebox.discovery import of_store
from farebox.runtime import caller, secrecy
from farebox.runtime.unpack import PIECE_BYTES, UnknownPackingError, Unpacker
from farebox.tasks import spec_of

KINDS = {kind.name: kind for kind in PLATFORMS}
DEEP = "[" * 100_000 + "]" * 100_000
IDS = ["a.b", "*", ">", "a b", "..", "../x", "A", "ä", "a" * 64, "", "-a", "_a", "a\n", "a\x00", "а", "a/b", "~", "con.txt"]


@pytest.mark.fault(30)
@pytest.mark.parametrize("name", IDS)
def test_ids_that_could_leave_their_place_are_refused(name):
    """Row: ids."""
    with pytest.raises(BadInput):
        ids.check(name, "task")
    with pytest.raises((BadInput, msgspec.ValidationError)):
        spec_of({"prompt": "p", "chain": name} if name else {"prompt": "p", "id": "", "chain": "A"})
    with pytest.raises(BadFact):
        wire.decode(
            f"farebox.log.client.submitted.-.c1.{name}",
            json.dumps({"fact": "TaskSubmitted", "chain": "c1", "task": name}).encode(),
        )


@asynccontextmanager
async def engine_with(tmp_path, toml):
    (tmp_path / "farebox.toml").write_text(toml)
    store = tmp_path / "store"
    config = load(file=tmp_path / "farebox.toml", kinds=platform_kinds())
    async with engines.embedded(store, config), joined(of_store(store)) as client:
        yield client


LOOKS = """
import json, os, sys
text = sys.stdin.buffer.read()
print(json.dumps({"argv": sys.argv[1:], "bytes": len(text), "head": text[-12:].decode(), "environ": sorted(os.environ),
                  "fds": len(os.listdir("/proc/self/fd"))}))
"""


PROMPTS = ["--dangerously-skip-permissions", "-rf /", "a\x00b", "$(reboot) `id` ; rm", "x" * 200_000]


async def test_a_prompt_goes_to_standard_input_and_never_onto_a_command_line(tmp_path, monkeypatch):
    """Rows: prompts beginning with '-', NUL, above 128 KiB; environment."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "not-for-this-program")
    monkeypatch.setenv("NATS_NKEY", "/nor/this")
    (tmp_path / "looks.py").write_text(LOOKS)
    toml = f'[platforms.looks]\nkind = "command"\nargv = ["{sys.executable}", "{tmp_path}/looks.py"]\nbilling = "free"\n'
    async with engine_with(tmp_path, toml) as client:
        handles = [await client.submit(prompt, platform="looks") for prompt in PROMPTS]
        results = [await handle.result() for handle in handles]
    for prompt, result in zip(PROMPTS, results, strict=True):
        assert result.status == "completed", result.error
        _is_harmless(prompt, json.loads(result.output))


def _is_harmless(prompt, seen):
    assert seen["argv"] == []
    assert seen["bytes"] == len(prompt.encode())
    assert seen["head"] == prompt[-12:]
    allowed = {"PATH", "HOME", "LANG", "TMPDIR", "FAREBOX_CALL"}
    assert {name for name in seen["environ"] if name not in allowed and not name.startswith(("LC_", "FAREBOX_"))} == set()
    assert seen["fds"] <= 4, "standard input, output and error, and the folder that is being listed"


async def test_no_program_is_started_where_the_store_lies(tmp_path):
    """Row: agents that read our store."""
    places = {"inside": "store", "deep": "store/nats", "above": "."}
    toml = ""
    for name, where in places.items():
        toml += f'[platforms.{name}]\nkind = "command"\nargv = ["cat"]\nbilling = "free"\n'
        toml += f'[platforms.{name}.options]\ndirectory = "{tmp_path / where}"\n'
    async with engine_with(tmp_path, toml) as client:
        results = [await (await client.submit("hello", platform=name)).result() for name in places]
    for result in results:
        assert result.status == "failed"
        assert "the store of the engine lies there" in result.error.message
        assert result.cost.paid_usd in {"0", None}


def test_a_program_may_start_beside_the_store_or_where_the_engine_was_started(tmp_path, monkeypatch, request):
    secrecy.keep_out_of(tmp_path / "store")
    request.addfinalizer(lambda: secrecy.let_go_of(tmp_path / "store"))
    (tmp_path / "beside").mkdir()
    assert not secrecy.holds_a_store(str(tmp_path / "beside"))
    monkeypatch.chdir(tmp_path)
    assert not secrecy.holds_a_store("")
    (tmp_path / "store").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "store")
    assert secrecy.holds_a_store(str(tmp_path / "link"))
    monkeypatch.chdir(tmp_path / "store")
    assert secrecy.holds_a_store("")


@asynccontextmanager
async def provider(head, body):
    async def served(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {head}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
        try:
            await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(served, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"


async def ask(url):
    settings = PlatformSettings(kind="compatible", url=url, options={"stream": "no"})
    asked = Ask(platform="far", settings=settings, model="m", prompt="p", task=TaskSubmitted(chain="c", task="t", prompt="p"))
    kind = KINDS["compatible"]
    called = await caller.call(
        kind.ask(asked), kind.reader(asked), timeout_s=25, first_byte_timeout_s=25, idle_timeout_s=25,
        on_piece=lambda _piece: None, cancelled=asyncio.Event(), environ={},
    )  # fmt: skip
    await caller.close()
    return called


SPACES = b" " * 2**20


@cache
def bomb(size):
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    return b"".join([*(packer.compress(SPACES) for _ in range(size // 2**20)), packer.flush()])


@pytest.mark.slow
@pytest.mark.parametrize("status", ["200 OK", "400 Bad", "503 Busy"])
async def test_a_gigabyte_in_a_small_parcel_is_not_unpacked(status):
    """Row: decompression bombs."""
    body = bomb(2**30)
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert len(body) < 2**21
    async with provider(f"{status}\r\nContent-Type: application/json\r\nContent-Encoding: gzip", body) as url:
        called = await ask(url)
    assert not called.verdict.ok
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib
    assert grown_kib < 300 * 1024, grown_kib


async def test_what_is_packed_honestly_is_read_and_what_nobody_asked_for_is_refused():
    answer = json.dumps(
        {
            "choices": [{"message": {"content": "Hello."}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 2},
        }
    ).encode()
    for encoding, body in (("gzip", gzip.compress(answer)), ("deflate", zlib.compress(answer)), ("identity", answer)):
        async with provider(f"200 OK\r\nContent-Type: application/json\r\nContent-Encoding: {encoding}", body) as url:
            assert (await ask(url)).text == "Hello."
    for encoding, body in (("br", answer), ("gzip", b"no gzip at all")):
        async with provider(f"200 OK\r\nContent-Type: application/json\r\nContent-Encoding: {encoding}", body) as url:
            called = await ask(url)
        assert not called.verdict.ok
        assert "pack" in called.verdict.fault.message


def test_unpacking_gives_small_pieces_and_takes_deflate_without_its_wrapping():
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = packer.compress(b"x" * 2**20) + packer.flush()
    pieces = list(Unpacker("deflate").feed(body))
    assert (max(map(len, pieces)), sum(map(len, pieces))) == (PIECE_BYTES, 2**20)
    broken = Unpacker("gzip")
    whole = gzip.compress(os.urandom(1000))
    assert b"".join(broken.feed(whole[:500]))
    with pytest.raises(UnknownPackingError, match="does not unpack"):
        list(broken.feed(b"\xff" * 5000))


SAID = '{"choices":[{"message":{"content":'
DONE = '},"finish_reason":"stop"}],"usage":{"prompt_tokens":'
ANSWERS = [
    DEEP,
    '{"choices":' + DEEP + "}",
    SAID + DEEP + "}}]}",
    '{"a":' * 50_000 + "1" + "}" * 50_000,
    SAID + '"\\ud800"' + DONE + "NaN}}",
    SAID + '"a"' + DONE + '1e30,"completion_tokens":-1}}',
    SAID + '"a"' + DONE + "9" * 5000 + "}}",
    '"\\ud800' + "x" * 100 + '"',
    "\x00" * 1000,
    '{"choices":[],"choices":{}}',
]


@pytest.mark.parametrize("body", ANSWERS, ids=range(len(ANSWERS)))
async def test_no_body_of_a_provider_brings_us_down_or_counts_what_nobody_can_mean(body):
    """Rows: nesting, other numbers, lone surrogates, counts, duplicate keys."""
    async with provider("200 OK\r\nContent-Type: application/json", body.encode()) as url:
        called = await ask(url)
    usage = called.verdict.usage
    for count in (usage.input_tokens, usage.output_tokens) if usage else ():
        assert count is None or 0 <= count <= 10**12
    called.text.encode("utf-8", "surrogatepass")


@pytest.mark.parametrize(
    "content", [DEEP, '{"prompt":"p","context":' + DEEP + "}", '{"prompt":"p","metadata":{"a":' + DEEP + "}}"], ids=range(3)
)
def test_a_deep_batch_file_or_context_is_one_line_about_it(tmp_path, content):
    """Row: nesting."""
    file = tmp_path / "batch.jsonl"
    file.write_text(content + "\n")
    with pytest.raises(BadInput) as caught:
        inputs.batch_file(str(file))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    with pytest.raises(BadInput):
        inputs.json_option(content, "--context")


def test_a_deep_context_on_the_command_line_is_one_line(tmp_path):
    (tmp_path / "deep.json").write_text('{"a":' + DEEP + "}")
    environ = {**os.environ, "FAREBOX_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "farebox", "submit", "p", "--context", f"@{tmp_path}/deep.json"]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=60, check=False)
    assert (done.returncode, done.stderr.count("\n"), done.stderr[:5]) == (2, 1, "FB401"), done.stderr


TASK = '{"fact":"TaskSubmitted","chain":"c1","task":"t1","prompt":"p",'
BODIES = [
    DEEP,
    TASK + '"context":{"a":' + DEEP + "}}",
    "{}",
    "null",
    "\x00",
    '{"fact":1}',
    TASK + '"version":1e400}',
    TASK + '"version":99999999999999999999}',
    TASK + '"prompt":"\\ud800"}',
    TASK + '"task":"t2"}',
    TASK + '"chain":"c2"}',
    TASK + '"timeout_s":NaN}',
    TASK + '"bytes":1e30}',
    TASK + '"bytes":-1}',
]


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_no_body_on_the_bus_is_more_than_a_bad_fact(body):
    """Rows: nesting, other numbers, lone surrogates, duplicate keys (the last wins, so the place disagrees)."""
    with pytest.raises(BadFact):
        wire.decode("farebox.log.client.submitted.-.c1.t1", body.encode("utf-8", "surrogatepass"))


async def test_an_engine_answers_bombs_on_its_questions_and_goes_on(tmp_path):
    """Row: nesting, in a submission over the bus and in questions."""
    async with engine_with(tmp_path, "") as client:
        deep = ('{"prompt":"p","platform":"rehearsal","context":{"a":' + DEEP + "}}").encode()
        for name, body in (
            ("submit", deep),
            ("submit", DEEP.encode()),
            ("result", b"\xff"),
            ("status", b"[]"),
            ("submit", b'{"prompt":1}'),
        ):
            answer = json.loads(await client.log.request(f"farebox.api.{name}", body, 25))
            assert answer["error"]["code"].startswith("FB"), answer
        result = await (await client.submit("still there?", platform="rehearsal")).result()
        assert result.status == "completed"


@pytest.mark.parametrize(
    "text",
    [
        "NaN",
        "sNaN",
        "Infinity",
        "1e9",
        "1E-12",
        "1_000",
        " 1 ",
        "١",
        "-1",
        "+1",
        ".5",
        "1.",
        "01",
        "1" * 27,
        "0." + "1" * 13,
        "1\n",
        "",
    ],
)
def test_money_that_is_no_plain_amount_is_refused(text):
    """Row: money."""
    with pytest.raises(BadInput):
        money.parse(text)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"fact": "CostRecorded", "chain": "c", "task": "t", "platform": "p", "paid_usd": text}, CostRecorded)
    for amount in (Decimal("NaN"), Decimal(-1), Decimal("Infinity"), Decimal(10) ** 27):
        with pytest.raises(BadInput):
            money.text(amount)


@pytest.mark.parametrize("count", [-1, 10**12 + 1, 10**30, 1e30, float("inf"), True, "1"])
def test_counts_have_bounds(count):
    """Row: other numbers."""
    with pytest.raises((msgspec.ValidationError, OverflowError)):
        msgspec.convert({"input_tokens": count}, Usage)


@pytest.mark.fault(33)
async def test_lone_surrogates_are_replaced_at_the_edge(tmp_path):
    """Row: lone surrogates."""
    async with engine_with(tmp_path, "") as client:
        handle = await client.submit("half \ud800 an emoji", platform="rehearsal")
        assert (await handle.result()).status == "completed"
        stands = await client.log.last(f"farebox.log.client.submitted.-.{handle.chain_id}.{handle.task_id}")
    assert json.loads(stands.body)["prompt"] == "half \ufffd an emoji"


def test_a_subject_is_taken_at_its_word_only_with_seven_tokens():
    for subject in (
        "farebox.log.client.submitted.-.c1",
        "farebox.log.client.submitted.-.c1.t1.x",
        "farebox.log.client.submitted.-.c1.*",
        "",
        ".",
    ):
        with pytest.raises(BadFact):
            wire.decode(subject, b'{"fact":"TaskSubmitted","chain":"c1","task":"t1","prompt":"p"}')
