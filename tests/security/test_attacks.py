"""Logged in as each user, everything that he must not do: all of it is refused, and the log is afterwards what it was."""

import asyncio
import json
import re
import socket
from contextlib import suppress

import pytest
from nats.errors import MaxPayloadError, NoRespondersError
from nats.errors import TimeoutError as NoAnswer

from farebox.core.subjects import TABLE
from farebox.runtime.permissions import CONTROL, users

PLATFORMS = ("openai", "ollama")
USERS = {user.name: user for user in users(PLATFORMS)}
CONFINED = sorted(name for name, user in USERS.items() if not user.at_home)
LONG_RUNNING = sorted(name for name, user in USERS.items() if not user.free)
API = "$JS.API"
STREAMS = ("FAREBOX", "FAREBOX_LIVE", "FAREBOX_DEAD", "OBJ_farebox-blobs")
RESERVED = "farebox.log.quota.reserved.openai.c1.t1"
OWN = {
    "client": "farebox.log.client.submitted.-.c1.t1",
    "router": "farebox.log.router.routed.-.c1.t1",
    "quota": RESERVED,
    "cost": "farebox.log.cost.recorded.openai.c1.t1",
    "aggregator": "farebox.log.aggregator.batch_completed.-.b1.-",
    "handoff": "farebox.log.handoff.ready.-.c1.t1",
    "adapter-openai": "farebox.log.adapter.started.openai.c1.t1",
    "adapter-ollama": "farebox.log.adapter.started.ollama.c1.t1",
    "engine": RESERVED,
}


def covers(pattern, subject):
    """Whether a subject falls under a pattern of the server."""
    ours, theirs = pattern.split("."), subject.split(".")
    for place, token in enumerate(ours):
        if token == ">":
            return len(theirs) > place
        if place >= len(theirs) or token not in {"*", theirs[place]}:
            return False
    return len(ours) == len(theirs)


def facts_of_others(name):
    """One subject for each kind of fact in each lane that is not his to say."""
    for row in TABLE:
        for lane in PLATFORMS:
            place = re.sub(r"<(\w)\w+>", r"\g<1>1", row.place.value.replace("<platform>", lane))
            for root in ("farebox.log", "farebox.live"):
                subject = f"{root}.{row.writer}.{row.token}.{place}"
                if not any(covers(pattern, subject) for pattern in USERS[name].publishes):
                    yield subject


def destruction():
    for stream in STREAMS:
        for call in ("PURGE", "DELETE", "UPDATE", "CREATE", "MSG.DELETE", "MSG.GET", "SNAPSHOT", "RESTORE", "LEADER.STEPDOWN"):
            yield f"{API}.STREAM.{call}.{stream}"
    yield from (f"{API}.STREAM.NAMES", f"{API}.STREAM.LIST", f"{API}.INFO", f"{API}.ACCOUNT.PURGE.LOG", "$SYS.REQ.SERVER.PING")
    yield from ("$SYS.REQ.SERVER.PING.CONNZ", "$SYS.REQ.ACCOUNT.LOG.CONNZ", "$SYS.ACCOUNT.LOG.CLAIMS.UPDATE")


def foreign_consumers(name):
    for other in sorted({"adapter-openai", "adapter-ollama", "views-1", "router-1", "quota-1"} - {name, f"{name}-1"}):
        if name == "engine" and other.startswith("adapter"):
            continue  # the engine runs all adapters that are not somewhere else
        yield f"{API}.CONSUMER.MSG.NEXT.FAREBOX.{other}"
        yield f"$JS.ACK.FAREBOX.{other}.1.1.1.1.0"
        for prefix in (API, CONTROL):
            for call in ("INFO", "DELETE", "PAUSE", "RESET", "UNPIN"):
                yield f"{prefix}.CONSUMER.{call}.FAREBOX.{other}"
    for prefix in (API, CONTROL):
        yield f"{prefix}.CONSUMER.CREATE.FAREBOX"
        yield f"{prefix}.CONSUMER.CREATE.FAREBOX.thief"
        yield f"{prefix}.CONSUMER.CREATE.FAREBOX.thief.farebox.log.>"
        yield f"{prefix}.CONSUMER.CREATE.FAREBOX.adapter-openai.farebox.log.>"
        yield f"{prefix}.CONSUMER.DURABLE.CREATE.FAREBOX.thief"
        yield f"{prefix}.CONSUMER.NAMES.FAREBOX"
        yield f"{prefix}.CONSUMER.LIST.FAREBOX"


def foreign_reading(name):
    for subject in ("farebox.log.client.submitted.-.c1.t1", RESERVED, "farebox.log.engine.settings.-.-.-"):
        asked = f"{API}.DIRECT.GET.FAREBOX.{subject}"
        if not any(covers(pattern, asked) for pattern in USERS[name].publishes):
            yield asked
    for stream in STREAMS:
        asked = f"{API}.DIRECT.GET.{stream}"
        if asked not in USERS[name].publishes:
            yield asked
    if name not in {"engine", "router", "quota", "cost", "aggregator", "handoff", "views"}:
        yield from (f"{API}.STREAM.INFO.FAREBOX", f"{CONTROL}.STREAM.INFO.FAREBOX")


ATTACKS = {
    "forge a fact of another writer or lane": facts_of_others,
    "purge, delete, change, copy, step down": lambda _name: destruction(),
    "draw, ack, look at, make or change a consumer": foreign_consumers,
    "read what is not his": foreign_reading,
}


@pytest.mark.fault(29)
@pytest.mark.parametrize("attack", ATTACKS)
async def test_refused(bus, attack):
    await bus.say("init", RESERVED)
    await bus.say("init", OWN["client"])
    before = await bus.state()

    async def refused(link, name, subject):
        try:
            answer = await link.request(subject, b"", timeout=0.2)
        except (NoAnswer, NoRespondersError):
            return
        pytest.fail(f"{name} did what he must not do on {subject}: {answer.data[:200]}")

    links = {name: await bus.user(name) for name in LONG_RUNNING}
    tries = [(links[name], name, subject) for name in LONG_RUNNING for subject in ATTACKS[attack](name)]
    assert {name for _, name, _ in tries} == set(LONG_RUNNING), "an attack that tries nothing proves nothing"
    await asyncio.gather(*(refused(*one) for one in tries))
    after = await bus.state()
    assert (after.last_seq, after.messages, after.first_seq) == (before.last_seq, before.messages, before.first_seq)
    js = (await bus.user("init")).jetstream()
    assert {one.name for one in await js.consumers_info("FAREBOX")} == {"adapter-openai", "adapter-ollama"}
    assert {one.config.name for one in await js.streams_info()} == {"FAREBOX", "FAREBOX_LIVE", "OBJ_farebox-blobs"}


async def test_nobody_listens_to_everything_or_to_another_ones_answers(bus):
    for name in LONG_RUNNING:
        foreign = [f"_INBOX_{other}.>" for other in USERS if other != name]
        everything = (">", "*.>", "_INBOX.>", "$JS.>", "$SYS.>", "farebox.log.>", "farebox.stored.>")
        await bus.refuses_to_hear(name, *everything, *foreign)


@pytest.mark.parametrize(
    "header",
    [
        {"Nats-Rollup": "all"}, {"Nats-Rollup": "sub"}, {"Nats-TTL": "1s"}, {"Nats-Incr": "+1"},
        {"Nats-Schedule": "@every 1s", "Nats-Schedule-Target": RESERVED},
    ],
    ids=lambda header: next(iter(header)) + next(iter(header.values())),
)  # fmt: skip
async def test_no_header_makes_the_log_forget_or_repeat(bus, header):
    await bus.say("init", RESERVED)
    for name, subject in OWN.items():
        answer = await bus.say(name, subject, b"x", **header)
        assert "error" in answer, (name, answer)
    assert (await bus.state()).messages == 1


@pytest.mark.parametrize("name", ["adapter-openai", "client", "engine"])
@pytest.mark.parametrize("header", ["all", "sub"])
async def test_no_rollup_takes_large_contents_away(bus, name, header):
    await bus.say(name, "$O.farebox-blobs.C.n1.0", b"kept")
    answer = await bus.say(name, "$O.farebox-blobs.C.n1.0", b"gone", **{"Nats-Rollup": header})
    assert "error" in answer
    js = (await bus.user("init")).jetstream()
    assert (await js.stream_info("OBJ_farebox-blobs")).state.messages == 1


@pytest.mark.fault(31)
async def test_a_message_id_that_another_one_squats_drops_nobodys_fact_in_silence(bus):
    """farebox sends no message ids (ADR 6): a guessed one hits only who uses it, and is said to him."""
    taken = await bus.say("adapter-ollama", OWN["adapter-ollama"], b"squat", **{"Nats-Msg-Id": "c1.t1.started"})
    assert "duplicate" not in taken
    told = await bus.say("adapter-openai", OWN["adapter-openai"], b"mine", **{"Nats-Msg-Id": "c1.t1.started"})
    assert told.get("duplicate") is True, "the server says so, and the product never asks for it"
    assert (await bus.say("adapter-openai", OWN["adapter-openai"], b"mine"))["seq"] == 2


@pytest.mark.parametrize("name", CONFINED)
async def test_an_answer_is_never_delivered_where_the_asker_may_not_speak(bus, name):
    """ADR 11: the reply subject is chosen by the asker and nobody's rights are looked at when the server answers."""
    await bus.say("init", RESERVED)
    before, link = await bus.state(), await bus.user(name)
    own = [subject for subject in USERS[name].publishes if "*" not in subject and ">" not in subject and "ACK" not in subject]
    asked = [*own, *([OWN[name]] if name in OWN else [])]
    said = sum(subject.startswith("farebox.log") for subject in asked)
    targets = ["farebox.log.cost.recorded.openai.c1.forged", f"{API}.STREAM.PURGE.FAREBOX", f"{API}.STREAM.DELETE.FAREBOX",
               f"{API}.CONSUMER.DELETE.FAREBOX.adapter-openai"]  # fmt: skip
    for subject in asked:
        for target in targets:
            await link.publish(subject, b"", reply=target)
    await link.flush()
    js = (await bus.user("init")).jetstream()
    async with asyncio.timeout(100):
        while (after := await bus.state()).last_seq < before.last_seq + said * len(targets):
            await asyncio.sleep(0.02)
    last = await js.stream_info("FAREBOX", subjects_filter="farebox.log.cost.recorded.openai.c1.forged")
    assert not last.state.subjects
    assert after.first_seq == 1
    assert {one.name for one in await js.consumers_info("FAREBOX")} >= {"adapter-openai", "adapter-ollama"}


@pytest.mark.fault(32)
async def test_two_megabytes_are_refused(bus):
    for name, subject in OWN.items():
        link = await bus.user(name)
        with pytest.raises(MaxPayloadError):
            await link.publish(subject, b"x" * 2_000_000)
    assert (await bus.state()).last_seq == 0


def raw(bus, sent):
    """What the server answers to raw bytes before it closes the connection."""
    port = int(bus.server.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=25) as line:
        line.sendall(sent)
        heard = b""
        with suppress(ConnectionResetError):  # it is closed before all was read
            while data := line.recv(65536):
                heard += data
    return heard


@pytest.mark.parametrize(
    "sent",
    [
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 60\r\n\r\nPUB farebox.log.client.submitted.-.c1.t1 1\r\nx\r\n",
        b"GET /varz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"PUB farebox.log.client.submitted.-.c1.t1 1\r\nx\r\n",
        b'CONNECT {"user":"client","pass":"x"}\r\nPING\r\n',
        b'CONNECT {"verbose":false}\r\nPUB farebox.log.client.submitted.-.c1.t1 2000000\r\n',
        b'CONNECT {"no_responders":true,"headers":true,"nkey":"U' + b"A" * 55 + b'","sig":"x"}\r\nPING\r\n',
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 40 + b"\r\n",
        b"A" * 5000,
    ],
    ids=["http post", "http get", "no login", "password", "no user", "unknown nkey", "tls hello", "long line"],
)
async def test_strangers_on_the_port_are_thrown_out(bus, sent):
    heard = await asyncio.to_thread(raw, bus, sent)
    assert heard.startswith(b"INFO ")
    assert b"-ERR" in heard
    assert b"PONG" not in heard
    assert (await bus.state()).last_seq == 0


async def test_no_monitoring_port_is_open(bus):
    link = await bus.user("init")
    assert "monitor" not in json.dumps(link._server_info)
    import psutil

    ports = {one.laddr.port for one in psutil.Process(bus.server.pid).net_connections() if one.status == psutil.CONN_LISTEN}
    assert ports == {int(bus.server.url.rpartition(":")[2])}


async def test_the_seeds_are_readable_by_nobody_else_and_in_no_configuration(bus):
    folder = bus.server.store.path
    seeds = json.loads((folder / "users.json").read_text())
    assert set(seeds) == {"sys", *USERS}
    for name in ("users.json", "client.json", "client.nk", "users.conf", "server.json"):
        assert (folder / name).stat().st_mode & 0o777 == 0o600
    for file in folder.rglob("*"):
        if file.is_file() and file.name not in {"users.json", "client.json", "client.nk"}:
            assert not any(seed.encode() in file.read_bytes() for seed in seeds.values()), file
    import psutil

    process = psutil.Process(bus.server.pid)
    known = " ".join([*process.cmdline(), *process.environ().values()])
    assert not any(seed in known for seed in seeds.values())
