"""What happens when the server goes, freezes, comes back, or the network lies. Real servers, really killed."""

import asyncio
import hashlib
import signal
from contextlib import contextmanager

import msgspec
import pytest

from farebox.core.errors import AppendBusy, AppendRefused, AppendUnknown, BadFact, LogDamaged, LogFull, LogUnfit, NotReachable
from farebox.log import connection as connection_file
from farebox.log import pull as pull_file
from farebox.log.answers import ApiError, raise_api
from farebox.log.jetstream import JetStreamLog
from farebox.log.streams import Sizes


@contextmanager
def answers_waited_for(wait_s):
    """Set how long (s) an answer is waited for."""
    with pytest.MonkeyPatch.context() as patch:
        ask = connection_file.Connection.ask
        patch.setattr(ask, "__kwdefaults__", ask.__kwdefaults__ | {"wait_s": wait_s})
        yield


async def outcome_of(log, *entries):
    return (await asyncio.gather(log.append(entries), return_exceptions=True))[0]


async def test_a_reading_goes_on_where_it_was_after_the_server_was_killed(opened, own_server, entry, reading):
    health = []
    log = await opened(on_health=health.append)
    await log.append([entry(f"router.routed.-.c.t{n}") for n in range(50)])
    reader = reading(log)
    await reader.until(50)
    own_server.restart()
    other = await opened()
    await other.append([entry(f"router.routed.-.c.u{n}") for n in range(50)])
    facts = await reader.until(100)
    assert [fact.seq for fact in facts] == list(range(1, 101))
    assert health[0]
    assert health[-1] == ""


async def test_a_reading_survives_a_kill_in_the_middle_of_a_replay(opened, own_server, entry):
    log = await opened()
    for n in range(12):
        await log.append([entry(f"router.routed.-.c.t{n}x{m}", b"x" * 400) for m in range(1000)])
    seqs = []
    async for facts in log.follow(1):
        if len(seqs) < 3000 <= len(seqs) + len(facts):
            own_server.restart()
        seqs.extend(fact.seq for fact in facts)
        if len(seqs) >= 12_000:
            break
    assert seqs == list(range(1, 12_001))


async def test_a_consumer_goes_on_after_the_server_was_killed(opened, own_server, entry):
    log = await opened()
    held = asyncio.Queue()
    await log.consume("adapter-openai", held.put_nowait)
    await log.append([entry("quota.reserved.openai.c.t1")])
    async with asyncio.timeout(100):
        await (await held.get()).ack()
        own_server.restart()
        other = await opened()
        await other.append([entry("quota.reserved.openai.c.t2")])
        bodies = {(await held.get()).stored.subject}
        while "farebox.log.quota.reserved.openai.c.t2" not in bodies:
            bodies.add((await held.get()).stored.subject)


async def test_those_who_listen_and_serve_are_there_again_after_a_restart(opened, own_server):
    log, back = await opened(), asyncio.Event()
    heard = asyncio.Queue()

    async def handler(body):
        return body

    await log.listen("farebox.live.>", lambda _, body: heard.put_nowait(body))
    await log.serve("farebox.api.echo", handler)
    log._connection.on_reconnect.add(back.set)
    own_server.restart()
    other = await opened()
    async with asyncio.timeout(100):
        await back.wait()
        assert await other.request("farebox.api.echo", b"again", 25) == b"again"
        await other.publish("farebox.live.x", b"text")
        assert await heard.get() == b"text"


async def test_an_append_while_the_server_is_away_waits_and_then_says_that_nothing_was_stored(
    opened, own_server, entry, monkeypatch
):
    log = await opened()
    own_server.kill()
    monkeypatch.setattr(connection_file.Connection.connected, "__defaults__", (0.3,))
    outcome = await outcome_of(log, entry("router.routed.-.c.t"))
    while isinstance(outcome, AppendUnknown):  # the first one may be on its way when the connection breaks
        outcome = await outcome_of(log, entry("router.routed.-.c.t"))
    assert isinstance(outcome, AppendBusy)
    await log.publish("farebox.live.x", b"lost without a word")
    with pytest.raises(NotReachable):
        await log.last("farebox.log.router.routed.-.c.t")
    own_server.start()
    monkeypatch.undo()
    assert await log.append([entry("router.routed.-.c.t")]) == (1,)


@pytest.mark.fault(19)
async def test_an_append_into_a_frozen_server_is_unknown_and_reading_back_finds_it(opened, own_server, entry):
    log = await opened()
    own = "router.routed.-.c.t"
    await log.append([entry("router.routed.-.c.first")])
    own_server.signal(signal.SIGSTOP)
    with answers_waited_for(0.2), pytest.raises(AppendUnknown):
        await log.append([entry(own, b"mine", own, 0)])
    own_server.signal(signal.SIGCONT)
    async with asyncio.timeout(100):
        while (found := await log.last(f"farebox.log.{own}")) is None:
            await asyncio.sleep(0.01)
    assert (found.body, found.seq) == (b"mine", 2)
    with pytest.raises(AppendRefused) as refusal:
        await log.append([entry(own, b"mine", own, 0)])
    assert refusal.value.last_seq == 2


@pytest.mark.fault(19)
async def test_an_append_cut_off_is_unknown_at_once_and_is_not_sent_later(opened, own_server, entry):
    """Long before its answer would have been waited for in vain."""
    log = await opened()
    own_server.signal(signal.SIGSTOP)
    with answers_waited_for(1000):
        appends = [asyncio.ensure_future(log.append([entry(f"router.routed.-.c.t{n}")])) for n in range(3)]
        while len(log._connection._waiting) < 3:
            await asyncio.sleep(0)
    own_server.restart()
    outcomes = await asyncio.gather(*appends, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {AppendUnknown}
    assert await log.append([entry("router.routed.-.c.after")]) == (1,)


async def test_a_batch_cut_off_leaves_nothing_or_all(opened, own_server, entry):
    log = await opened()
    batch = [entry(f"router.routed.-.c.t{n}", b"x" * 1000) for n in range(500)]
    for _ in range(4):
        before = (await log.position()).last_seq
        appending = asyncio.ensure_future(log.append(batch))
        await asyncio.sleep(0.003)
        own_server.restart()
        outcome = (await asyncio.gather(appending, return_exceptions=True))[0]
        assert isinstance(outcome, (tuple, AppendUnknown, AppendBusy)), outcome
        assert (await log.position()).last_seq - before in ({500} if isinstance(outcome, tuple) else {0, 500})


async def test_a_log_that_was_replaced_is_damage_for_who_was_reading_it(opened, entry):
    log = await opened()
    await log.append([entry("router.routed.-.c.t")])
    facts = log.follow(1)
    assert len(await anext(facts)) == 1
    await log._connection.ask("$JS.API.STREAM.DELETE.FAREBOX")
    await log.prepare("always", [])
    with pytest.raises(LogDamaged, match="replaced"):
        await anext(facts)


async def test_a_log_that_was_deleted_is_said_and_never_made_again_by_a_reader(opened, entry, reading):
    log = await opened()
    await log.append([entry("router.routed.-.c.t")])
    reader = reading(log)
    await reader.until(1)
    await log._connection.ask("$JS.API.STREAM.DELETE.FAREBOX")
    with pytest.raises(LogUnfit, match="FAREBOX is missing"):
        await asyncio.wait_for(reader.end(), 100)
    with pytest.raises(LogUnfit, match="FAREBOX is missing"):
        await log.position()
    with pytest.raises(AppendBusy):
        await log.append([entry("router.routed.-.c.t")])


async def test_a_hole_in_the_log_is_damage_and_names_the_place(opened, own_server, entry, reading):
    """A block of the store is gone; the server starts, says it is well, and would read over it in silence."""
    log = await opened()
    for n in range(30):
        await log.append([entry(f"router.routed.-.c.t{n}x{m}", b"x" * 60_000) for m in range(10)])
    own_server.kill()
    blocks = sorted((own_server.directory / "js").rglob("FAREBOX/msgs/*.blk"), key=lambda path: int(path.stem))
    assert len(blocks) >= 3
    blocks[1].unlink()
    own_server.start()
    with pytest.raises(LogDamaged, match="the facts between are gone"):
        await reading(log).until(300)


@pytest.mark.fault(18)
async def test_a_full_log_says_so_and_stores_nothing(own_server, entry):
    log = await JetStreamLog.connect(own_server.url)
    small = msgspec.structs.replace(Sizes(), log_bytes=100_000, blob_bytes=300_000)
    await log.prepare("always", [], sizes=small)
    outcomes = [await outcome_of(log, entry(f"router.routed.-.c.t{n}", b"x" * 20_000)) for n in range(6)]
    assert isinstance(outcomes[0], tuple)
    assert isinstance(outcomes[-1], LogFull)
    last = (await log.position()).last_seq
    with pytest.raises(LogFull):
        await log.append([entry(f"router.routed.-.c.u{n}", b"x" * 50_000) for n in range(3)])
    assert (await log.position()).last_seq == last
    with pytest.raises(LogFull):
        await log.put_blob(b"x" * 900_000)
    filling = (await log.position()).filling
    assert (filling.bytes_max, filling.percent) == (100_000, filling.bytes // 1000)
    assert filling.refusal() is None, "0 of 100 when it was made, and no fact of 20 kB fits any more"
    await log.close()


@pytest.mark.fault(18)
async def test_a_log_is_given_more_room_and_never_less(own_server, entry):
    log = await JetStreamLog.connect(own_server.url)
    await log.prepare("always", [], sizes=msgspec.structs.replace(Sizes(), log_bytes=100_000, blob_bytes=300_000))
    before = (await log._streams.info("FAREBOX"))["config"]
    await log.append([entry(f"router.routed.-.c.t{n}", b"x" * 19_000) for n in range(5)])
    with pytest.raises(LogFull):
        await log.append([entry("router.routed.-.c.t", b"x" * 19_000)])
    assert "95 % full" in str((await log.position()).filling.refusal())
    await log.prepare("always", [], log_bytes=50_000)
    assert (await log.position()).filling.bytes_max == 100_000
    await log.prepare("always", [], log_bytes=300_000)
    assert (await log._streams.info("FAREBOX"))["config"] == before | {"max_bytes": 300_000}
    await log.append([entry("router.routed.-.c.t", b"x" * 19_000)])
    await log.check()
    await log.close()


async def test_closing_beside_a_frozen_server_does_not_hang(opened, own_server, entry, reading):
    log = await opened()
    await log.append([entry("router.routed.-.c.t")])
    reader = reading(log)
    await reader.until(1)
    own_server.signal(signal.SIGSTOP)
    appending = asyncio.ensure_future(log.append([entry("router.routed.-.c.t2")]))
    await asyncio.sleep(0.05)
    async with asyncio.timeout(100):
        await log.close()
        assert isinstance((await asyncio.gather(appending, return_exceptions=True))[0], AppendUnknown)
        await reader.end()
    own_server.signal(signal.SIGCONT)


async def test_closing_right_after_the_server_went_breaks_over_nothing(opened):
    log = await opened()
    client = log._connection.client
    client._transport._io_writer.transport.abort()
    for _ in range(2):
        await asyncio.sleep(0)  # the transport has ended, nobody was told yet
    client._pending.append(b"PING\r\n")
    client._pending_data_size = 6
    await log.close()
    assert client.is_closed


async def test_closing_while_a_reconnection_was_cut_off_breaks_over_nothing(opened):
    """Who waits for a socket's end and is cancelled cancels that end itself (asyncio); nats-py then closes over it."""
    log = await opened()
    client = log._connection.client
    client._transport._io_writer._protocol._closed.cancel()
    await log.close()
    assert client.is_closed


async def test_who_is_cancelled_while_he_closes_is_cancelled(opened):
    log = await opened()
    closing = asyncio.ensure_future(log.close())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    await log.close()


async def test_a_reader_whose_consumer_was_removed_makes_it_anew(opened, entry, reading):
    told = []
    log = await opened(consumer="views", on_health=told.append)
    await log.append([entry(f"router.routed.-.c.t{n}") for n in range(3)])
    reader = reading(log)
    await reader.until(3)
    await log._connection.ask("$JS.API.CONSUMER.DELETE.FAREBOX.views")
    await log.append([entry("router.routed.-.c.t3")])
    assert [fact.seq for fact in await reader.until(4)] == [1, 2, 3, 4]
    assert any("Reading the log begins anew" in text for text in told)


async def test_a_delivery_lost_on_the_way_is_read_again(opened, entry, reading):
    log = await opened()
    reader = reading(log)
    await log.append([entry("router.routed.-.c.t0")])
    await reader.until(1)
    (following,) = log._followings
    following._pull._on_fact = lambda *_: None  # one delivery vanishes between server and us
    await log.append([entry("router.routed.-.c.t1")])
    await log.append([entry("router.routed.-.c.t2")])
    following._pull._on_fact = following._on_fact
    await log.append([entry("router.routed.-.c.t3")])
    assert [fact.seq for fact in await reader.until(4)] == [1, 2, 3, 4]


async def test_a_server_that_falls_silent_is_noticed_and_asked_again(opened, own_server, entry, reading, monkeypatch):
    monkeypatch.setattr(pull_file, "BEAT_S", 0.1)
    monkeypatch.setattr(pull_file, "SILENCE_S", 0.3)
    told = []
    log = await opened(on_health=told.append)
    held = asyncio.Queue()
    await log.consume("adapter-openai", held.put_nowait)
    reader = reading(log)
    own_server.signal(signal.SIGSTOP)
    async with asyncio.timeout(100):
        while not any("silent" in text for text in told):
            await asyncio.sleep(0.02)
    own_server.signal(signal.SIGCONT)
    other = await opened()
    await other.append([entry("quota.reserved.openai.c.t")])
    await reader.until(1)
    async with asyncio.timeout(100):
        assert (await held.get()).stored.seq == 1


async def test_a_durable_that_is_removed_is_told(opened, entry):
    told = []
    log = await opened(on_health=told.append)
    held = asyncio.Queue()
    await log.consume("adapter-openai", held.put_nowait)
    await log.append([entry("quota.reserved.openai.c.t")])
    await asyncio.wait_for(held.get(), 100)  # now a pull request is open for certain
    await log._connection.ask("$JS.API.CONSUMER.DELETE.FAREBOX.adapter-openai")
    async with asyncio.timeout(100):
        while not any("adapter-openai hands out nothing" in text for text in told):
            await asyncio.sleep(0.02)
    await log.close()


async def test_acks_and_words_without_a_connection_are_lost_without_a_fault(opened, own_server, entry):
    log = await opened()
    held = asyncio.Queue()
    await log.consume("adapter-openai", held.put_nowait)
    await log.append([entry("quota.reserved.openai.c.t")])
    async with asyncio.timeout(100):
        delivery = await held.get()
    own_server.kill()
    while log._connection._up.is_set():
        await asyncio.sleep(0.01)
    await delivery.ack()
    await delivery.nak(1)
    await delivery.progress()
    await delivery.term("gone")
    own_server.start()


def test_every_error_of_the_server_has_a_meaning():
    expected = {10071: AppendRefused, 10164: AppendBusy, 10008: AppendBusy, 10077: LogFull, 10047: LogFull, 10054: BadFact}
    for code, kind in expected.items():
        with pytest.raises(kind, match=str(code)):
            raise_api(ApiError(400, code, "wrong last sequence: 7"))
    with pytest.raises(LogUnfit, match="10060"):
        raise_api(ApiError(400, 10060, "expected stream does not match"))
    with pytest.raises(AppendRefused) as refusal:
        raise_api(ApiError(400, 10071, "something new"))
    assert refusal.value.last_seq is None


async def test_a_large_content_that_was_broken_off_goes_on_at_its_place(opened, own_server):
    log = await opened()
    body = bytes(range(256)) * 32_000
    name = hashlib.sha256(body).hexdigest()
    putting = asyncio.ensure_future(log.put_blob(body))
    while not (begun := log._blobs._begun.get(name)) or not begun.stored:
        await asyncio.sleep(0)
    own_server.signal(signal.SIGSTOP)
    for _ in range(100):
        await asyncio.sleep(0)  # what it had said before is read; what is asked for now has no answer
    own_server.restart()
    with pytest.raises(NotReachable, match="The server does not say that it has stored a large content"):
        await putting
    assert 0 < len(begun.stored) < 63
    ref = await log.put_blob(body)
    assert await log.get_blob(ref) == body
    assert begun.stored == set(range(63))
    assert log._blobs._begun == {}
