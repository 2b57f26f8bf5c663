"""The caller against the stand-ins and against servers that misbehave, over real sockets."""

import asyncio
import socket
from contextlib import asynccontextmanager

import pytest

from actors.platforms import PLATFORMS
from farebox.core.settings import PlatformSettings
from farebox.rehearsal.faults import Faults
from farebox.rehearsal.server import StandIn
from farebox.runtime import http_call

KINDS = {kind.name: kind for kind in PLATFORMS}


def settings(url, **more):
    return PlatformSettings(kind="compatible", url=url, **more)


def fails(*shares, attempts_max=1_000_000):
    return Faults(dict.fromkeys(shares, 1.0), attempts_max=attempts_max)


@asynccontextmanager
async def server(talk):
    async def served(reader, writer):
        try:
            await talk(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(served, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("stream", ["yes", "no"])
async def test_an_answer_comes_with_text_usage_quota_and_one_record(call, stream):
    pieces = []
    async with StandIn() as stand_in:
        called = await call(settings(stand_in.url, options={"stream": stream}), on_piece=pieces.append)
    assert called.verdict.ok
    assert called.text.startswith("About: Sparrows count the ships every morning.")
    assert "".join(pieces) == (called.text if stream == "yes" else "")
    (line,) = stand_in.books.lines
    usage = called.verdict.usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens) == (line.input_tokens, line.output_tokens)
    assert (called.verdict.model, called.verdict.charged) == ("rehearsal-small", "known")
    assert [(record.status, record.error_class) for record in called.calls] == [(200, "")]
    assert [(fact.unit, fact.used, fact.limit) for fact in called.learned] == [("requests", 1, 10_000)]


@pytest.mark.fault(44, 75)
@pytest.mark.parametrize(
    ("fault", "error_class", "charged"),
    [
        ("500", "server_error", "possible"),
        ("cut", "network", "possible"),
        ("garbage", "invalid", "possible"),
        ("error", "server_error", "possible"),
        ("refuse", "refused", "known"),
    ],
)
@pytest.mark.parametrize("stream", ["yes", "no"])
async def test_what_goes_wrong_at_the_provider_is_named_and_not_bought_twice(call, fault, error_class, charged, stream):
    async with StandIn(faults=fails(fault)) as stand_in:
        called = await call(settings(stand_in.url, options={"stream": stream}))
    assert called.verdict.fault is not None
    assert (called.verdict.fault.error_class, called.verdict.charged) == (error_class, charged)
    assert stand_in.seen == len(called.calls) == 1
    assert called.calls[-1].error_class == error_class
    assert sum(line.charged for line in stand_in.books.lines) <= 1


async def test_an_overloaded_server_is_tried_a_few_times_and_each_wait_is_twice_the_last(call, waits, monkeypatch):
    monkeypatch.setattr(http_call, "FIRST_WAIT_S", 0.01)
    async with StandIn(faults=fails("503")) as stand_in:
        called = await call(settings(stand_in.url))
    assert called.verdict.fault is not None
    assert (called.verdict.fault.error_class, called.verdict.charged) == ("server_error", "none")
    assert stand_in.seen == len(called.calls) == 4
    assert all(0.01 * 2**n <= wait_s <= 0.0125 * 2**n for n, wait_s in enumerate(waits))


async def test_a_cut_stream_keeps_what_came(call):
    async with StandIn(faults=fails("cut")) as stand_in:
        called = await call(settings(stand_in.url))
    assert called.text.startswith("About: Sparrows")
    assert stand_in.books.lines[0].charged


@pytest.mark.fault(43)
async def test_an_answer_without_usage_is_whole_and_estimated(call):
    async with StandIn(faults=fails("no_usage")) as stand_in:
        called = await call(settings(stand_in.url))
    assert called.verdict.usage is not None
    assert (called.verdict.ok, called.verdict.usage.source) == (True, "estimated")


@pytest.mark.fault(40)
async def test_a_429_with_a_short_wait_is_tried_again_after_it(call, waits):
    async with StandIn(faults=fails("429", attempts_max=1), retry_after_s=0.3) as stand_in:
        called = await call(settings(stand_in.url))
    assert called.verdict.ok
    assert [(record.status, record.error_class) for record in called.calls] == [(429, "rate_limited"), (200, "")]
    (wait_s,) = waits
    assert 0.3 <= wait_s <= 0.375


@pytest.mark.fault(40)
async def test_a_429_with_a_long_wait_goes_back_at_once(call):
    async with StandIn(faults=fails("429"), retry_after_s=600) as stand_in:
        called = await call(settings(stand_in.url))
    assert stand_in.seen == 1
    assert called.verdict.fault is not None
    assert (called.verdict.fault.error_class, called.verdict.retry_after_ms) == ("rate_limited", 600_000)
    assert called.verdict.charged == "none"


async def test_waiting_for_another_try_ends_at_once_when_cancelled(call, waits, soon, monkeypatch):
    monkeypatch.setattr(http_call, "RETRY_S_MAX", 1000)
    cancelled = asyncio.Event()
    async with StandIn(faults=fails("429"), retry_after_s=600) as stand_in:
        running = asyncio.ensure_future(call(settings(stand_in.url), cancelled=cancelled, timeout_s=1000))
        await soon(lambda: waits)
        cancelled.set()
        called = await running
    assert stand_in.seen == 1
    assert called.verdict.fault is not None
    assert (called.verdict.fault.error_class, called.verdict.charged) == ("cancelled", "none")


async def test_nobody_waits_for_another_try_longer_than_the_task_has_time(call, monkeypatch):
    monkeypatch.setattr(http_call, "RETRY_S_MAX", 1000)
    async with StandIn(faults=fails("429"), retry_after_s=26) as stand_in:
        called = await call(settings(stand_in.url), timeout_s=25)
    assert stand_in.seen == 1
    assert called.verdict.fault is not None
    assert called.verdict.fault.error_class == "rate_limited"


async def test_the_waits_of_all_tries_together_stay_inside_their_bound(call, waits, monkeypatch):
    monkeypatch.setattr(http_call, "RETRY_S_MAX", 0.7)
    async with StandIn(faults=fails("429"), retry_after_s=0.4) as stand_in:
        called = await call(settings(stand_in.url))
    assert stand_in.seen == len(waits) <= 2
    assert called.verdict.fault is not None
    assert called.verdict.fault.error_class == "rate_limited"


async def test_nobody_at_the_address_is_tried_a_few_times_and_costs_nothing(call, monkeypatch):
    monkeypatch.setattr(http_call, "FIRST_WAIT_S", 0.01)
    called = await call(settings(f"http://127.0.0.1:{free_port()}/v1"))
    assert called.verdict.fault is not None
    assert (called.verdict.fault.error_class, called.verdict.charged, len(called.calls)) == ("network", "none", 4)


async def test_an_address_that_is_none_costs_nothing(call):
    called = await call(settings("telnet://127.0.0.1/v1"))
    assert called.verdict.fault is not None
    assert (called.verdict.fault.error_class, called.verdict.charged, len(called.calls)) == ("network", "none", 1)


async def test_a_server_that_starts_late_is_reached(call, waits, soon, monkeypatch):
    for name, much in (("FIRST_WAIT_S", 0.05), ("TRIES_MAX", 20), ("RETRY_S_MAX", 25)):
        monkeypatch.setattr(http_call, name, much)
    stand_in, port = StandIn(), free_port()
    running = asyncio.ensure_future(call(settings(f"http://127.0.0.1:{port}/v1")))
    await soon(lambda: waits)
    await stand_in.start(port)
    called = await running
    await stand_in.close()
    assert called.verdict.ok
    assert len(called.calls) > 1


async def test_a_cancel_closes_the_connection_at_once_and_keeps_the_text(call, soon):
    cancelled, pieces = asyncio.Event(), []
    async with StandIn(delay_ms=5000) as stand_in:
        running = asyncio.ensure_future(call(settings(stand_in.url), cancelled=cancelled, on_piece=pieces.append))
        await soon(lambda: len(pieces) >= 2)
        cancelled.set()
        called = await running
        await soon(lambda: stand_in.gone)
    assert called.verdict.fault is not None
    assert (called.verdict.fault.error_class, called.verdict.charged) == ("cancelled", "possible")
    assert called.text == "".join(pieces) != ""
    assert [line.outcome for line in stand_in.books.lines] == ["gone"]
    assert stand_in.open == 0


async def test_the_end_of_the_asyncio_task_closes_the_connection_too(call, soon):
    pieces = []
    async with StandIn(delay_ms=5000) as stand_in:
        running = asyncio.ensure_future(call(settings(stand_in.url), on_piece=pieces.append))
        await soon(lambda: pieces)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await soon(lambda: stand_in.gone)


async def test_a_call_that_is_cancelled_before_it_begins_sends_nothing(call):
    cancelled = asyncio.Event()
    cancelled.set()
    async with StandIn() as stand_in:
        called = await call(settings(stand_in.url), cancelled=cancelled)
    assert (stand_in.seen, called.verdict.charged, called.calls) == (0, "none", ())


@pytest.mark.fault(41)
@pytest.mark.parametrize(
    ("fault", "limits", "error_class"),
    [
        ("stall", {"idle_timeout_s": 0.2}, "stalled"),
        ("endless", {"timeout_s": 0.4}, "timeout"),
        ("stall", {"timeout_s": 0.3}, "timeout"),
    ],
)
@pytest.mark.usefixtures("from_first_byte")
async def test_each_clock_cuts_for_itself_and_keeps_the_text(call, soon, fault, limits, error_class):
    async with StandIn(faults=fails(fault)) as stand_in:
        called = await call(settings(stand_in.url), **limits)
        await soon(lambda: stand_in.gone)
    assert called.verdict.fault is not None
    assert (called.verdict.fault.error_class, called.verdict.charged) == (error_class, "possible")
    assert called.text.startswith("About: Sparrows")
    assert called.calls[0].status == 200


@pytest.mark.fault(41)
async def test_an_answer_that_never_begins_is_cut_by_the_first_byte_clock(call, soon, from_first_byte):
    async with StandIn(faults=fails("stall")) as stand_in:
        running = asyncio.ensure_future(call(settings(stand_in.url, options={"stream": "no"})))
        await soon(lambda: stand_in.seen)
        from_first_byte[-1]._due_s = 0.0
        called = await running
    assert called.verdict.fault is not None
    assert called.verdict.fault.message == "No answer began."
    assert called.verdict.fault.error_class == "stalled"


async def test_a_key_goes_along_and_never_into_a_message(call):
    secret = "sk-very-secret-key"

    async def repeats(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        said = head.decode().split("Bearer ")[1].split("\r\n", maxsplit=1)[0]
        body = f'{{"error":{{"message":"Bad key {said}"}}}}'.encode()
        writer.write(b"HTTP/1.1 401 No\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))

    async with StandIn(key=secret) as stand_in:
        of = settings(stand_in.url, key_env="KEY")
        assert (await call(of, environ={"KEY": f" {secret}\n"})).verdict.ok
        refused = await call(of, environ={"KEY": "wrong"})
    async with server(repeats) as url:
        repeated = await call(settings(url, key_env="KEY"), environ={"KEY": secret})
    assert refused.verdict.fault is not None
    assert refused.verdict.fault.error_class == "auth_missing"
    assert repeated.verdict.fault is not None
    assert repeated.verdict.fault.message == "401: Bad key [key]"


@pytest.mark.parametrize(("key", "words"), [("", "not set"), ("sk-ü", "unusable"), ("a\nb", "unusable")])
async def test_a_key_that_cannot_be_sent_is_told_before_anything_leaves(call, key, words):
    async with StandIn() as stand_in:
        called = await call(settings(stand_in.url, key_env="KEY"), environ={"KEY": key})
    assert called.verdict.fault is not None
    assert words in called.verdict.fault.message
    assert (called.verdict.fault.error_class, called.verdict.charged, stand_in.seen) == ("auth_missing", "none", 0)


@pytest.mark.fault(42)
async def test_an_answer_larger_than_the_cap_is_cut_off(call):
    async def floods(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
        block = (b": " + b"x" * 8189 + b"\n") * 128
        for _ in range(80):
            writer.write(block)
            await writer.drain()

    async with server(floods) as url:
        called = await call(settings(url))
    assert called.verdict.fault is not None
    assert called.verdict.fault.error_class == "invalid"
    assert "larger than allowed" in called.verdict.fault.message


@pytest.mark.parametrize(
    "said", [b"", b"SSH-2.0-OpenSSH_9\r\n", b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\nnope"]
)
async def test_a_server_that_speaks_something_else_may_have_charged(call, said):
    async def talk(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        await writer.drain()

    async with server(talk) as url:
        called = await call(settings(url))
    assert called.verdict.fault is not None
    assert (called.verdict.fault.error_class, called.verdict.charged, len(called.calls)) == ("network", "possible", 1)


async def test_a_huge_rejection_is_read_only_so_far(call):
    async def talk(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 429 No\r\nconnection: close\r\n\r\n" + b"x" * 3_000_000)
        await writer.drain()

    async with server(talk) as url:
        called = await call(settings(url))
    assert called.verdict.fault is not None
    assert (called.verdict.fault.error_class, len(called.verdict.fault.message)) == ("rate_limited", 1000)


async def test_an_inline_answer_needs_no_clock_and_can_be_cancelled(call):
    of = PlatformSettings(kind="rehearsal", billing="rehearsal", options={"wire": "inline"})
    cancelled, pieces = asyncio.Event(), []
    called = await call(of, on_piece=pieces.append)
    assert (called.verdict.ok, "".join(pieces), called.calls) == (True, called.text, ())
    cancelled.set()
    stopped = await call(of, cancelled=cancelled)
    assert stopped.verdict.fault is not None
    assert (stopped.verdict.fault.error_class, stopped.text) == ("cancelled", "")


async def test_an_answer_is_not_read_on_while_its_text_is_not_worked_off(call, soon):
    held, pieces = asyncio.get_running_loop().create_future(), []

    def on_piece(text):
        pieces.append(text)
        return held

    async with StandIn() as stand_in:
        running = asyncio.ensure_future(call(settings(stand_in.url), on_piece=on_piece))
        await soon(lambda: pieces)
        done, _ = await asyncio.wait({running}, timeout=0.1)
        assert not done
        held.set_result(None)
        called = await running
    assert (called.verdict.ok, "".join(pieces)) == (True, called.text)


async def test_many_calls_share_one_client_and_do_not_wait_for_each_other(call, soon):
    """None of the answers comes to its end, and all of them are being written."""
    cancelled = asyncio.Event()
    async with StandIn(delay_ms=60_000) as stand_in:
        calls = (call(settings(stand_in.url), prompt=f"Sparrows {n}", cancelled=cancelled) for n in range(40))
        running = asyncio.gather(*calls)
        await soon(lambda: stand_in.open == 40)
        cancelled.set()
        results = await running
        await soon(lambda: stand_in.open == 0)
    assert {called.verdict.fault.error_class for called in results} == {"cancelled"}
    assert len({line.mark for line in stand_in.books.lines}) == 40
