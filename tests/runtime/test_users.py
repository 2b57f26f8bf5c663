"""The users themselves: nobody has more than the table gives him, and the product's own calls work for each."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from farebox.core.errors import AppendRefused, BadInput, LogUnfit
from farebox.core.subjects import TABLE
from farebox.log.jetstream import JetStreamLog
from farebox.log.port import Entry, Fence
from farebox.runtime import greeting
from farebox.runtime.permissions import CONTROL, control_prefix, names, render, users

PLATFORMS = ("openai", "ollama")
SUBMITTED = "farebox.log.client.submitted.-.c1.t1"
RESERVED = "farebox.log.quota.reserved.openai.c1.t1"
COMPLETED = "farebox.log.adapter.completed.openai.c1.t1"


def test_every_writer_has_a_user_and_every_fact_its_right():
    found = {user.name: user for user in users(PLATFORMS)}
    for row in TABLE:
        name = "adapter-openai" if row.writer in {"adapter", "late"} else row.writer
        assert any(said.startswith(f"farebox.log.{row.writer}.{row.token}.") for said in found[name].says), row
    assert set(names(PLATFORMS)) == {"sys", *found}


def test_only_init_is_free_and_nobody_confined_has_a_wildcard_over_the_api():
    for user in users(PLATFORMS):
        assert user.free == (user.name == "init")
        for subject in user.publishes:
            assert not subject.startswith(("$JS.API.STREAM.C", "$JS.API.STREAM.U", "$JS.API.>", "$JS.>", "$JS.ACK.>", "_INBOX"))
            assert not subject.endswith((".CREATE.FAREBOX", ".CREATE.FAREBOX.>"))
        assert all("_INBOX_" + user.name in heard for heard in user.subscribes if "_INBOX" in heard)


def test_a_platform_whose_name_cannot_stand_in_a_subject_is_refused():
    for name in ("a.b", "*", ">", "", 'x" }', "A"):
        with pytest.raises(BadInput, match="name of a platform"):
            users([name])


def test_the_same_platforms_in_any_order_give_the_same_text():
    keys = dict.fromkeys(names(PLATFORMS), "U")
    assert render(PLATFORMS, keys) == render(reversed(PLATFORMS), keys)


async def test_the_log_of_the_port_works_for_confined_users(server):
    """The same calls that the product makes, over accounts: append, read back, follow, compete, large contents, questions."""
    async with AsyncExitStack() as stack:

        async def log(name):
            login = server.login(name)
            opened = await JetStreamLog.connect(
                login.url,
                user=name,
                password=login.password,
                inbox_prefix=login.inbox_prefix,
                consumer=f"{name}-1",
                control=control_prefix(name),
            )
            stack.push_async_callback(opened.close)
            return opened

        await (await log("init")).prepare("always", PLATFORMS)
        client, engine, adapter, views = [await log(name) for name in ("client", "engine", "adapter-openai", "views")]
        for one in (engine, views):
            await one.check()
        handed = asyncio.Queue()
        await adapter.consume("adapter-openai", handed.put_nowait)
        ref = await client.put_blob(b"p" * 300_000)
        assert await client.append([Entry(SUBMITTED, b"one", Fence(SUBMITTED, 0))]) == (1,)
        with pytest.raises(AppendRefused):
            await client.append([Entry(SUBMITTED, b"two", Fence(SUBMITTED, 0))])
        assert await engine.append([Entry(RESERVED, b"r"), Entry("farebox.log.quota.settled.ollama.c.t", b"s")]) == (2, 3)
        delivery = await asyncio.wait_for(handed.get(), 100)
        assert (await adapter.last(SUBMITTED)).body == b"one"
        assert await adapter.get_blob(ref) == b"p" * 300_000
        results = asyncio.Queue()
        await client.listen("farebox.log.*.completed.>", lambda subject, body: results.put_nowait((subject, body)))
        lane = Fence("farebox.log.adapter.*.openai.c1.t1", 0)
        assert await adapter.append([Entry(COMPLETED, b"done", lane)]) == (4,)
        await delivery.ack()
        assert await asyncio.wait_for(results.get(), 100) == (COMPLETED, b"done")
        seen = []
        async for facts in views.follow(1):
            seen += [fact.seq for fact in facts]
            if len(seen) == 4:
                break
        assert seen == [1, 2, 3, 4]
        assert (await views.position()).last_seq == 4

        async def answer(question):
            return question + b"?"

        await engine.serve("farebox.api.status", answer)
        assert await client.request("farebox.api.status", b"well", 25) == b"well?"


async def test_a_user_who_comes_while_the_server_runs_can_do_all_that_is_his(server):
    """One reload makes his account and leaves his requests unanswered (nats-server 2.15): it takes two."""
    await server.reload((*PLATFORMS, "later"))
    async with AsyncExitStack() as stack:
        init, login = server.login("init"), server.login("adapter-later")
        maker = await JetStreamLog.connect(init.url, password=init.password, inbox_prefix=init.inbox_prefix)
        stack.push_async_callback(maker.close)
        await maker.prepare("always", (*PLATFORMS, "later"))
        log = await JetStreamLog.connect(login.url, password=login.password, inbox_prefix=login.inbox_prefix, control=CONTROL)
        stack.push_async_callback(log.close)
        assert await log.append([Entry("farebox.log.adapter.started.later.c1.t1", b"fact")]) == (1,)
        await (await log.consume("adapter-later", lambda _delivery: None)).close()


async def test_who_was_let_in_beside_the_engine_is_known_to_its_server_when_that_comes_back(server):
    greeting.write_users(server.store, [*greeting.lanes_in(server.store), "beside"])
    await server.restart()
    login = server.login("adapter-beside")
    log = await JetStreamLog.connect(login.url, password=login.password, inbox_prefix=login.inbox_prefix, control=CONTROL)
    await log.close()
    assert {*PLATFORMS, "beside"} <= {*greeting.lanes_in(server.store)}


async def test_a_configuration_that_the_server_refuses_is_said(server):
    server.store.write("users.conf", b"accounts {")
    with pytest.raises(LogUnfit, match="refuses its new configuration"):
        await greeting.reload(server.pid, server.log, 5)
    with pytest.raises(LogUnfit, match="does not read its configuration"):
        await greeting.reload(server.pid, server.store.path / "users.conf", 0.1)
