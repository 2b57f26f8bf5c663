"""Who may connect, what the server must be able to do, what init makes, and what our client rests on in nats-py."""

import asyncio
import inspect
import json

import nats
import pytest
from nats.aio.client import Client
from nats.js.object_store import ObjectStore

from farebox.core.errors import AccessDenied, LogUnfit, NotReachable
from farebox.log import dead, names
from farebox.log.jetstream import JetStreamLog
from farebox.log.raw_client import RawClient, Reply, status_of
from farebox.log.streams import Sizes, _check_config, stream_configs

RIGHTS = """
accounts {
  APP {
    jetstream: enabled
    users: [
      {user: init, password: init}
      {user: router, password: r, permissions: {
        publish: {allow: ["farebox.log.router.>", "$JS.API.DIRECT.GET.FAREBOX.farebox.log.router.>",
          "$JS.API.STREAM.INFO.FAREBOX",
          "$JS.API.CONSUMER.CREATE.FAREBOX.router-1.farebox.log.>", "$JS.API.CONSUMER.CREATE.FAREBOX.router-2.farebox.log.>",
          "$JS.API.CONSUMER.DELETE.FAREBOX.router-1", "$JS.API.CONSUMER.DELETE.FAREBOX.router-2",
          "$JS.API.CONSUMER.MSG.NEXT.FAREBOX.router-1", "$JS.API.CONSUMER.MSG.NEXT.FAREBOX.router-2"]}
        subscribe: {allow: ["_INBOX_router.>"]}}}
    ]
  }
}
"""


async def connect(stack, server, **options):
    log = await JetStreamLog.connect(server.url, **options)
    stack.append(log)
    return log


@pytest.fixture
async def logs():
    opened = []
    yield opened
    for log in opened:
        await log.close()


async def test_a_server_that_is_not_there_is_said_at_once_without_the_password():
    async with asyncio.timeout(100):
        with pytest.raises(NotReachable, match="No server answers") as error:
            await JetStreamLog.connect("nats://me:secret@127.0.0.1:1,nats://127.0.0.1:2")
    assert "secret" not in str(error.value)
    assert "farebox up" in error.value.hint


async def test_a_wrong_password_is_said_at_once(account):
    async with asyncio.timeout(100):
        with pytest.raises(AccessDenied, match="refused the credentials"):
            await JetStreamLog.connect(account.url, user=account.user, password="wrong")


async def test_an_inbox_of_somebody_else_is_refused_when_connecting(server_with):
    server = server_with(extra=RIGHTS)
    with pytest.raises(AccessDenied, match="listen on _INBOX"):
        await JetStreamLog.connect(server.url, user="router", password="r")


async def test_one_of_several_servers_is_enough(own_server, logs, entry):
    log = await JetStreamLog.connect(f"nats://127.0.0.1:1, {own_server.url}")
    logs.append(log)
    await log.prepare("always", [])
    assert await log.append([entry("router.routed.-.c.t")]) == (1,)


async def test_a_server_without_jetstream_is_unfit(server_with, logs):
    log = await connect(logs, server_with(jetstream=False))
    with pytest.raises(LogUnfit, match="JetStream off"):
        await log.check()
    with pytest.raises(LogUnfit, match="JetStream"):
        await log.prepare("always", [])


async def test_an_old_server_is_unfit(own_server, logs, monkeypatch):
    log = await connect(logs, own_server)
    client = log._connection.client
    monkeypatch.setitem(client._server_info, "version", "2.14.9")
    if client._current_server is not None:
        monkeypatch.setattr(client._current_server, "server_version", "2.14.9")
    with pytest.raises(LogUnfit, match=r"too old; 2\.15"):
        await log.check()
    with pytest.raises(LogUnfit, match=r"too old; 2\.15"):
        await log.prepare("always", [])
    monkeypatch.undo()
    with pytest.raises(LogUnfit, match="FAREBOX is missing"):
        await log.check()


async def test_a_server_that_takes_no_large_messages_is_unfit(server_with, logs):
    log = await connect(logs, server_with(extra="max_payload: 64KB"))
    with pytest.raises(LogUnfit, match="max_payload"):
        await log.check()


async def test_missing_streams_are_unfit_and_stay_missing(own_server, logs):
    log = await connect(logs, own_server)
    for _ in range(2):
        with pytest.raises(LogUnfit, match="FAREBOX is missing"):
            await log.check()


async def test_prepare_makes_what_the_check_wants_and_changes_nothing_when_called_again(own_server, logs, entry):
    log = await connect(logs, own_server)
    await log.prepare("always", ["openai"])
    await log.check()
    await log.append([entry("router.routed.-.c.t")])
    before = await log.position()
    await log.prepare("100ms", ["openai", "ollama"])
    await log.check()
    assert await log.position() == before
    assert (await log._streams.consumer("adapter-ollama"))["config"]["filter_subject"] == "farebox.log.quota.reserved.ollama.>"


async def test_nobody_can_delete_purge_or_expire_facts(own_server, logs, entry):
    log = await connect(logs, own_server)
    await log.prepare("always", [])
    await log.append([entry("router.routed.-.c.t")])
    for verb, body in (("STREAM.PURGE.FAREBOX", {}), ("STREAM.MSG.DELETE.FAREBOX", {"seq": 1})):
        answer = await log._connection.ask(f"$JS.API.{verb}", json.dumps(body).encode())
        assert b'"error"' in answer.body, verb
    for header in ({"Nats-Rollup": "all"}, {"Nats-TTL": "1"}, {"Nats-Schedule": "@every 1s"}):
        answer = await log._connection.ask("farebox.log.router.routed.-.c.t", b"x", header)
        assert b'"error"' in answer.body, header
    answer = await log._connection.ask(f"{names.METAS}.x", b"", {"Nats-Rollup": "all"})
    assert b'"error"' in answer.body


@pytest.mark.parametrize(
    ("key", "value"),
    [("discard", "old"), ("deny_purge", False), ("allow_atomic", False), ("max_age", 1), ("allow_msg_schedules", True),
     ("persist_mode", "async"), ("max_msgs", 5), ("mirror", {"name": "x"}), ("subjects", ["farebox.>"])],
)  # fmt: skip
def test_a_log_with_a_dangerous_setting_is_unfit(key, value):
    good = stream_configs("always", 1, Sizes())["FAREBOX"]
    _check_config("FAREBOX", good)
    with pytest.raises(LogUnfit, match=key):
        _check_config("FAREBOX", good | {key: value})


@pytest.mark.fault(74)
async def test_a_forbidden_subject_is_denied_at_once_and_told(server_with, logs, entry):
    server = server_with(extra=RIGHTS)
    await (await connect(logs, server, user="init", password="init")).prepare("always", ["openai"])
    told = []
    options = {"user": "router", "password": "r", "inbox_prefix": "_INBOX_router", "consumer": "router-1"}
    log = await connect(logs, server, on_health=told.append, **options)
    async with asyncio.timeout(100):
        with pytest.raises(AccessDenied):
            await log.append([entry("quota.reserved.openai.c.t")])
        with pytest.raises(AccessDenied):
            await log.append([entry("router.routed.-.c.t"), entry("quota.reserved.openai.c.t"), entry("router.routed.-.c.u")])
        with pytest.raises(AccessDenied):
            await log.last("farebox.log.quota.reserved.openai.c.t")
        with pytest.raises(AccessDenied):
            await log.listen("farebox.log.>", print)
        with pytest.raises(AccessDenied):
            await log.consume("adapter-openai", print)
    assert any("farebox.log.quota.reserved.openai.c.t" in text for text in told)
    assert "the user router: publish to farebox.log.quota.reserved.openai.c.t" in str(log.denial())
    assert len(told) == len(set(told)), "said once, not at each try"
    told.clear()
    await log.check()
    assert told == []
    assert await log.append([entry("router.routed.-.c.t", b"mine", "router.*.*.c.t", 0)]) == (1,)
    assert (await log.last("farebox.log.router.routed.-.c.t")).body == b"mine"


async def test_a_confined_reader_uses_its_own_names_and_filters_by_itself(server_with, logs, entry, reading):
    server = server_with(extra=RIGHTS)
    init = await connect(logs, server, user="init", password="init")
    await init.prepare("always", ["openai"])
    log = await connect(logs, server, user="router", password="r", inbox_prefix="_INBOX_router", consumer="router-1")
    await init.append([entry("router.routed.-.c.t"), entry("quota.reserved.openai.c.t")])
    everything, filtered = reading(log), reading(log, 1, "farebox.log.quota.>")
    assert [fact.seq for fact in await everything.until(2)] == [1, 2]
    assert [fact.seq for fact in await filtered.until(1)] == [2]
    again = await connect(logs, server, user="router", password="r", inbox_prefix="_INBOX_router", consumer="router-1")
    await everything.stop()
    assert [fact.seq for fact in await reading(again, 2).until(1)] == [2]


def test_one_name_carries_one_reading_and_minus_one_stands_for_four():
    assert names.reader_names("views") == ("views",)
    assert names.reader_names("views-1") == ("views-1", "views-2", "views-3", "views-4")


async def test_a_fifth_reading_of_a_confined_user_is_denied(own_server, logs, entry):
    log = await connect(logs, own_server, consumer="x-1")
    await log.prepare("always", [])
    await log.append([entry("router.routed.-.c.t")])
    readings = [log.follow(1) for _ in range(4)]
    for facts in readings:
        assert len(await anext(facts)) == 1
    with pytest.raises(AccessDenied, match="4 times"):
        await anext(log.follow(1))
    for facts in readings:
        await facts.aclose()


async def test_any_object_store_client_reads_our_contents(own_server, logs):
    log = await connect(logs, own_server)
    await log.prepare("always", [])
    bodies = [b"small", b"y" * 400_000]
    refs = [await log.put_blob(body) for body in bodies]
    link = await nats.connect(own_server.url)
    bucket = await link.jetstream().object_store(names.BUCKET)
    assert isinstance(bucket, ObjectStore)
    for ref, body in zip(refs, bodies, strict=True):
        assert (await bucket.get(ref.ref)).data == body
    await link.close()


@pytest.mark.fault(25)
async def test_a_terminated_fact_leaves_its_reason_in_the_dead_stream(own_server, logs, entry):
    log = await connect(logs, own_server)
    await log.prepare("always", ["openai"])
    held = asyncio.Queue()
    await log.consume("adapter-openai", held.put_nowait)
    await log.append([entry("quota.reserved.openai.c.t")])
    async with asyncio.timeout(100):
        await (await held.get()).term("it crashes every hand")
        while not (await log._streams.info(names.DEAD_STREAM))["state"]["messages"]:
            await asyncio.sleep(0.01)
    last = await log._connection.ask(f"$JS.API.STREAM.MSG.GET.{names.DEAD_STREAM}", b'{"seq":1}')
    assert b"error" not in last.body


async def test_what_is_stored_is_said_again_for_those_who_must_not_hear_refusals(own_server, logs, entry):
    log = await connect(logs, own_server)
    await log.prepare("always", [])
    heard = asyncio.Queue()
    await log.listen("farebox.stored.log.>", lambda subject, body: heard.put_nowait((subject, body)))
    own = "router.routed.-.c.t"
    await log.append([entry(own, b"1", own, 0)])
    await asyncio.gather(log.append([entry(own, b"2", own, 0)]), return_exceptions=True)
    await log.append([entry(own, b"3", own, 1)])
    async with asyncio.timeout(100):
        assert [(await heard.get())[1], (await heard.get())[1]] == [b"1", b"3"]


def test_the_overridden_methods_of_nats_py_are_as_we_know_them():
    """After an update of nats-py: read the new parse and publish and what calls them, then correct RawClient and this test."""
    assert "self._ps: Parser = Parser(self)" in inspect.getsource(Client.__init__)
    assert "await self._ps.parse(b)" in inspect.getsource(Client._read_loop)
    parse, publish = nats.protocol.parser.Parser.parse, Client._send_publish
    assert "await self.nc._process_msg(sid, subject, reply, payload, hdr)" in inspect.getsource(parse)
    assert list(inspect.signature(Client.publish).parameters) == list(inspect.signature(RawClient.publish).parameters)
    for line in (
        "await self._send_command(pub_cmd)",
        "if self._flush_queue is not None and self._flush_queue.empty():",
        "await self._flush_pending()",
    ):
        assert line in inspect.getsource(publish)


async def test_the_buffer_of_nats_py_is_emptied_when_told(own_server, logs):
    log = await connect(logs, own_server)
    client = log._connection.client
    await client._send_command(b"PUB a 0\r\n\r\n")
    assert client._pending
    client.forget_unsent()
    assert (client._pending, client._pending_data_size) == ([], 0)
    assert client.options["max_reconnect_attempts"] == -1


async def test_a_listener_that_fails_is_reported_and_the_others_go_on(own_server, logs):
    log = await connect(logs, own_server)
    reported, heard = asyncio.Queue(), asyncio.Queue()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.put_nowait(context))

    def fail(*_):
        raise ValueError("bad ear")

    async def fail_to_answer(_):
        raise ValueError("bad answer")

    await log.listen("farebox.live.>", fail)
    await log.listen("farebox.live.>", lambda *said: heard.put_nowait(said))
    await log.serve("farebox.api.bad", fail_to_answer)
    await log.publish("farebox.live.x", b"1")
    with pytest.raises(NotReachable):
        await log.request("farebox.api.bad", b"", 0.1)
    async with asyncio.timeout(100):
        assert await heard.get() == ("farebox.live.x", b"1")
        texts = {str((await reported.get())["exception"]), str((await reported.get())["exception"])}
    assert texts == {"bad ear", "bad answer"}


def test_headers_are_read_only_when_asked_for():
    reply = Reply(b"", b"NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: 7\r\nNats-Pending-Bytes: 0\r\n\r\n")
    assert (reply.status, reply.field("Nats-Pending-Messages"), reply.field("Nats-Pending")) == (408, "7", "")
    assert status_of(b"NATS/1.0\r\nX: 404\r\n\r\n") == 0
    assert status_of(b"") == 0


async def test_what_durables_gave_up_can_be_read_the_oldest_first(own_server, logs, entry):
    log = await connect(logs, own_server)
    await log.prepare("always", ["openai"])
    assert list(await log.given_up()) == []
    held = asyncio.Queue()
    await log.consume("adapter-openai", held.put_nowait)
    await log.append([entry(f"quota.reserved.openai.c.t{n}") for n in range(60)])
    async with asyncio.timeout(100):
        for _ in range(60):
            await (await held.get()).term("it crashes every hand")
        while len(found := await log.given_up()) < 60:
            await asyncio.sleep(0.01)
    assert [(one.seq, one.consumer, one.reason) for one in found] == [
        (seq, "adapter-openai", "it crashes every hand") for seq in range(1, 61)
    ]
    assert all(one.at_ms > 1_700_000_000_000 for one in found)


def test_an_advisory_of_another_form_is_passed_over():
    assert dead.read(Reply(b"", b"NATS/1.0 404 Message Not Found\r\n\r\n")) is None
    assert dead.read(Reply(b"{}", b"")) is None
    body = b'{"consumer": "x", "stream_seq": 4, "timestamp": "%s", "deliveries": 100}'
    assert dead.read(Reply(body % b"never", b"")) is None
    found = dead.read(Reply(body % b"2026-11-21T10:00:00.123456789Z", b""))
    assert (found.seq, found.tries, found.reason) == (4, 100, "100 tries")
