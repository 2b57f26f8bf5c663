"""The stand-in for a provider: its wire, its rules, its books, spoken to by plain sockets."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path

import psutil
import pytest

from farebox.core.errors import BadInput
from farebox.core.terms import Usage
from farebox.rehearsal import __main__ as alone
from farebox.rehearsal import books as ledger
from farebox.rehearsal.books import Books, Price, prices
from farebox.rehearsal.faults import KINDS, Faults, chance, parse, pause_s
from farebox.rehearsal.server import StandIn

CHAT = "/v1/chat/completions"
LARGE = 32 * 1024 * 1024 + 1


async def raw(stand_in, request, *, half=False):
    port = int(stand_in.url.rpartition(":")[2].removesuffix("/v1"))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    if half:
        writer.write_eof()
    said = await asyncio.wait_for(reader.read(), 25)
    writer.close()
    return said


async def ask(stand_in, body=None, *, method="POST", path=CHAT, headers=()):
    data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "host: x", "connection: close", f"content-length: {len(data)}", *headers]
    said = await raw(stand_in, "\r\n".join(lines).encode() + b"\r\n\r\n" + data)
    top, _, rest = said.partition(b"\r\n\r\n")
    first, *told = top.decode().split("\r\n")
    return int(first.split()[1]), dict(line.lower().split(": ", 1) for line in told), rest


def question(text="Sparrows count the ships.", **more):
    return {"model": "rehearsal-small", "messages": [{"role": "user", "content": text}], **more}


async def error_of(stand_in, *args, **more):
    status, _, body = await ask(stand_in, *args, **more)
    error = json.loads(body)["error"]
    return status, error["code"], error["message"]


async def test_a_whole_answer_is_written_as_the_provider_documents_it():
    async with StandIn(prices={"rehearsal-small": Price(Decimal("0.25"), Decimal(2))}) as stand_in:
        status, headers, body = await ask(stand_in, question())
    said = json.loads(body)
    assert (status, said["object"], said["choices"][0]["finish_reason"]) == (200, "chat.completion", "stop")
    assert said["choices"][0]["message"]["content"].startswith("About: Sparrows count the ships.")
    assert headers["x-ratelimit-remaining-requests"] == "9999"
    assert headers["date"].endswith("gmt")
    (line,) = stand_in.books.lines
    usage = Usage(input_tokens=said["usage"]["prompt_tokens"], output_tokens=said["usage"]["completion_tokens"])
    assert line.usd == stand_in.books.price_of("rehearsal-small", usage)


async def test_a_stream_ends_with_its_usage_if_that_was_asked_for():
    async with StandIn() as stand_in:
        _, _, body = await ask(stand_in, question(stream=True, stream_options={"include_usage": True}))
        _, _, plain = await ask(stand_in, question(stream=True))
    assert b'"choices":[],"usage":{' in body
    assert b'"usage"' not in plain
    assert b"data: [DONE]" in body


async def test_messages_may_be_parts_and_have_a_system_and_a_limit():
    parts = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Sparrows count ships."}]},
    ]
    async with StandIn() as stand_in:
        _, _, body = await ask(
            stand_in, {"messages": [*parts, {"role": "assistant", "content": None}], "max_completion_tokens": 4}
        )
    (choice,) = json.loads(body)["choices"]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("length", "About: Sparrow")


async def test_models_are_listed():
    async with StandIn(models=("a", "b")) as stand_in:
        status, _, body = await ask(stand_in, method="GET", path="/v1/models?x=1")
    assert (status, [model["id"] for model in json.loads(body)["data"]]) == (200, ["a", "b"])


async def test_what_is_wrong_with_a_request_is_told_as_the_provider_does():
    async with StandIn(key="right", tokens_max=50) as stand_in:
        key = ["authorization: Bearer right"]
        assert (await error_of(stand_in, question()))[:2] == (401, "invalid_api_key")
        assert (await error_of(stand_in, path="/v1/other", headers=key))[:2] == (404, "not_found")
        assert (await error_of(stand_in, method="GET", headers=key))[0] == 405
        assert (await error_of(stand_in, b"{", headers=key))[0] == 400
        assert (await error_of(stand_in, question(model="gpt-9"), headers=key))[:2] == (404, "model_not_found")
        told = await error_of(stand_in, question("word " * 500), headers=key)
        assert told[:2] == (400, "context_length_exceeded")
        assert "maximum context length" in told[2]
    assert stand_in.books.lines == []


async def test_a_full_window_turns_callers_away():
    async with StandIn(requests_max=1, retry_after_s=3) as stand_in:
        assert (await ask(stand_in, question()))[0] == 200
        status, headers, _ = await ask(stand_in, question())
        if status == 200:  # A new minute began between the two.
            status, headers, _ = await ask(stand_in, question())
    assert (status, headers["retry-after"], headers["x-ratelimit-remaining-requests"]) == (429, "3", "0")


async def test_what_is_no_http_is_refused_and_what_is_too_large_too():
    async with StandIn() as stand_in:
        assert b" 400 " in await raw(stand_in, b"\x16\x03\x01 hello\r\n\r\n")
        big = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % LARGE + b" " * LARGE
        assert b" 413 " in await raw(stand_in, big)
        assert await raw(stand_in, b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhalf", half=True) is not None
        assert await raw(stand_in, b"", half=True) == b""


async def test_one_connection_carries_several_requests():
    one = b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n"
    async with StandIn() as stand_in:
        said = await raw(stand_in, one + one + one.replace(b"host: x", b"host: x\r\nconnection: close"))
    assert (said.count(b"200 "), stand_in.seen) == (3, 3)


async def test_a_stand_in_that_stops_books_what_it_was_saying():
    stand_in = StandIn(delay_ms=60_000)
    await stand_in.start()
    asking = asyncio.ensure_future(ask(stand_in, question(stream=True)))
    while not stand_in.open:
        await asyncio.sleep(0.005)
    await stand_in.close()
    await asyncio.gather(asking, return_exceptions=True)
    assert [(line.outcome, line.charged) for line in stand_in.books.lines] == [("gone", True)]
    await StandIn().close()


# ---- chance and books


def test_the_same_seed_goes_wrong_in_the_same_places():
    faults = Faults({"429": 0.3, "cut": 0.2})
    drawn = [faults.pick(7, f"mark{number}", 1) for number in range(1000)]
    assert drawn == [faults.pick(7, f"mark{number}", 1) for number in range(1000)]
    assert drawn != [faults.pick(8, f"mark{number}", 1) for number in range(1000)]
    assert 230 < drawn.count("429") < 370
    assert 140 < drawn.count("cut") < 260


def test_later_attempts_can_be_spared():
    faults = Faults(dict.fromkeys(["500"], 1.0), attempts_max=2)
    assert [faults.pick(7, "m", attempt) for attempt in (1, 2, 3)] == ["500", "500", ""]


def test_chance_and_pace_stay_in_their_bounds():
    assert all(0 <= chance(seed, "a") < 1 for seed in range(200))
    assert all(0.05 <= pause_s(seed, "m", 1, 100) <= 0.15 for seed in range(200))


def test_shares_are_read_as_they_are_written():
    assert parse(" 429=0.1, cut ,,") == {"429": 0.1, "cut": 1.0}
    assert parse("") == {}


@pytest.mark.parametrize("shares", [{"fire": 0.1}, {"cut": 1.5}, {"cut": -0.1}, {"cut": 0.6, "500": 0.6}])
def test_shares_that_cannot_be_are_refused(shares):
    with pytest.raises(BadInput):
        Faults(shares)


def test_a_share_that_is_no_number_is_refused():
    with pytest.raises(BadInput, match="is no share"):
        parse("429=often")


def test_every_kind_of_fault_is_explained():
    assert all(KINDS.values())


def test_prices_are_read_and_money_is_exact():
    found = prices("a=0.25/2, b=3/15,")
    assert found["a"] == Price(Decimal("0.25"), Decimal(2))
    assert found["b"].of(Usage(input_tokens=1, output_tokens=3)) == Decimal("0.000048")


@pytest.mark.parametrize("text", ["a", "a=1", "=1/2", "a=1/x", "a=-1/2"])
def test_prices_that_are_none_are_refused(text):
    with pytest.raises(BadInput):
        prices(text)


def test_books_are_kept_in_memory_and_in_a_file_that_can_be_shared(tmp_path: Path):
    file = tmp_path / "books.jsonl"
    for number in range(2):
        books = Books(file, prices("m=1/1"))
        books.charge(f"mark{number}", "m", "ok", 1, Usage(input_tokens=2, output_tokens=3))
        assert len(books.lines) == 1
    assert [line.usd for line in ledger.read(file)] == ["0.000005", "0.000005"]
    assert file.stat().st_mode & 0o777 == 0o600
    assert ledger.read(tmp_path / "none") == []
    file.write_text("nonsense\n")
    with pytest.raises(BadInput, match="no entry"):
        ledger.read(file)


# ---- alone


def test_the_command_line_makes_the_stand_in_it_describes():
    line = ["--models", "a, b", "--faults", "cut=0.5", "--key-env", "HOME", "--prices", "a=1/2", "--seed", "3"]
    stand_in = alone.made_from(alone.options().parse_args(line))
    assert stand_in.books.price_of("a", Usage(input_tokens=1_000_000)) == "1"
    assert isinstance(alone.made_from(alone.options().parse_args([])), StandIn)


async def test_it_tells_its_address_and_hangs_up_when_asked(capfdbinary):
    stop, stand_in = asyncio.Event(), StandIn()
    serving = asyncio.ensure_future(alone.serve(stand_in, 0, stop))
    while not stand_in.url:
        await asyncio.sleep(0.005)
    stop.set()
    await serving
    assert json.loads(capfdbinary.readouterr().out) == {"url": stand_in.url, "pid": os.getpid()}


def start_alone(*arguments):
    process = subprocess.Popen([sys.executable, "-m", "farebox.rehearsal", *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, json.loads(process.stdout.readline() or "{}")


def test_alone_it_serves_until_it_is_told_to_end():
    process, told = start_alone("--port", "0")
    assert told["url"].startswith("http://127.0.0.1:")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=25)
    assert process.returncode == 0


def test_alone_it_ends_with_whoever_started_it():
    script = (
        "import subprocess, sys\n"
        "started = subprocess.Popen([sys.executable, '-m', 'farebox.rehearsal'], stdout=subprocess.PIPE)\n"
        "print(started.stdout.readline().decode())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    pid = json.loads(done.stdout)["pid"]
    while psutil.pid_exists(pid):
        time.sleep(0.01)


def test_arguments_that_mean_nothing_are_refused_with_one_line():
    line = [sys.executable, "-m", "farebox.rehearsal", "--faults", "fire=1"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr.count("\n"), "There is no fault 'fire'" in done.stderr) == (2, 1, True)
