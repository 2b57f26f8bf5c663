"""Each user does exactly its own things: on a real server, with raw nats-py, also by the tricks that a rule on paper misses."""

import asyncio
import json

import pytest
from nats.errors import NoRespondersError
from nats.js.errors import NotFoundError

from farebox.runtime.permissions import CONTROL

SUBMITTED = "farebox.log.client.submitted.-.c1.t1"
RESERVED = "farebox.log.quota.reserved.openai.c1.t1"
STARTED = "farebox.log.adapter.started.openai.c1.t1"
COMPLETED = "farebox.log.adapter.completed.openai.c1.t1"
GET = "$JS.API.DIRECT.GET.FAREBOX"
BLOBS = "OBJ_farebox-blobs"
FOLLOW = {"ack_policy": "none", "deliver_policy": "all", "mem_storage": True, "inactive_threshold": 30 * 10**9}


async def test_a_client_submits_reads_its_own_facts_and_asks_the_engine(bus):
    assert (await bus.say("client", SUBMITTED))["seq"] == 1
    assert (await bus.ask("client", f"{GET}.{SUBMITTED}")).data == b"fact"
    again = await bus.say("client", SUBMITTED, **{"Nats-Expected-Last-Subject-Sequence": "0"})
    assert again["error"]["err_code"] == 10071
    engine = await bus.user("engine")

    async def answer(message):
        await message.respond(b"answer")

    await engine.subscribe("farebox.api.>", queue="farebox", cb=answer)
    await engine.flush()
    assert (await bus.ask("client", "farebox.api.status")).data == b"answer"
    assert bus.refused == []


async def test_a_question_without_an_engine_is_answered_at_once(bus):
    with pytest.raises(NoRespondersError):
        await bus.ask("client", "farebox.api.status")
    with pytest.raises(NoRespondersError):
        await bus.ask("client", "farebox.api.status")


async def test_a_client_hears_results_costs_batches_and_live_text(bus):
    results = await bus.hear("client", "farebox.log.*.completed.*.c1.t1")
    costs = await bus.hear("client", "farebox.log.cost.recorded.>")
    live = await bus.hear("client", "farebox.live.>")
    await bus.say("engine", COMPLETED)
    await bus.say("engine", "farebox.log.cost.recorded.openai.c1.t1")
    await (await bus.user("engine")).publish("farebox.live.adapter.chunk.openai.c1.t1", b"text")
    for heard, subject in ((results, COMPLETED), (costs, "farebox.log.cost.recorded.openai.c1.t1")):
        assert (await asyncio.wait_for(heard.get(), 100)).subject == subject
    assert (await asyncio.wait_for(live.get(), 100)).data == b"text"
    assert (await bus.ask("client", f"{GET}.{COMPLETED}")).data == b"fact"
    assert bus.refused == []


async def test_a_client_can_do_nothing_else(bus):
    await bus.say("engine", RESERVED)
    last = (await bus.state()).last_seq
    await bus.refuses(
        "client",
        RESERVED,
        COMPLETED,
        "farebox.log.router.completed.-.c1.t1",
        "farebox.log.client.submitted.openai.c1.t1",
        "farebox.log.client.forged.-.c1.t1",
        "farebox.live.adapter.chunk.openai.c1.t1",
        "farebox.stored.log.adapter.completed.openai.c1.t1",
        f"{GET}.{RESERVED}",
        GET,
        "$JS.API.STREAM.MSG.GET.FAREBOX",
        "$JS.API.CONSUMER.CREATE.FAREBOX",
        "$JS.API.CONSUMER.CREATE.FAREBOX.client-1.farebox.log.>",
        "$JS.API.CONSUMER.MSG.NEXT.FAREBOX.adapter-openai",
        "$JS.API.CONSUMER.DELETE.FAREBOX.adapter-openai",
        "$JS.ACK.FAREBOX.adapter-openai.1.1.1.1.0",
        "$JS.API.STREAM.PURGE.FAREBOX",
        "$JS.API.STREAM.DELETE.FAREBOX",
        f"{CONTROL}.STREAM.INFO.FAREBOX",
        f"$JS.API.DIRECT.GET.{BLOBS}",
        f"$JS.API.STREAM.PURGE.{BLOBS}",
        "$SYS.REQ.SERVER.PING",
        "_R_.x",
    )
    await bus.refuses_to_hear(
        "client", ">", "farebox.log.>", "farebox.log.client.>", "_INBOX.>", "_INBOX_engine.>", "farebox.api.>", "$JS.>"
    )
    assert (await bus.state()).last_seq == last


async def test_an_answer_cannot_be_sent_where_the_asker_may_not_speak(bus):
    """The server asks nobody for rights when it answers: in one shared account each of these goes through."""
    forged = "farebox.log.client.answered.-.c1.forged"
    update = "farebox.log.client.answered.-.c1.update"
    await bus.say("client", forged, b'{"fact":"QuotaReserved"}')
    await bus.say("client", update, json.dumps(bus.log_config | {"max_msgs_per_subject": 1}).encode())
    asked = await bus.hear("engine", "farebox.api.>")
    before = await bus.state()
    client = await bus.user("client")
    missing = f"{GET}.farebox.log.client.answered.-.c1.missing"
    tries = [
        ("farebox.log.client.decided.-.c1.t1", RESERVED),
        (f"{GET}.{forged}", RESERVED),
        (f"{GET}.{update}", "$JS.API.STREAM.UPDATE.FAREBOX"),
        (missing, "$JS.API.CONSUMER.DELETE.FAREBOX.adapter-openai"),
        (missing, "$JS.API.STREAM.DELETE.FAREBOX"),
        ("farebox.api.status", RESERVED),
    ]
    for subject, reply in tries:
        await client.publish(subject, b"", reply=reply)
    await client.flush()
    question = await asyncio.wait_for(asked.get(), 100)
    assert question.reply.startswith("_R_.")
    await question.respond(b"answer")
    assert (await bus.ask("client", f"{GET}.{forged}")).data.startswith(b"{")
    js = (await bus.user("init")).jetstream()
    info = await js.stream_info("FAREBOX")
    assert info.config.max_msgs_per_subject == -1
    assert info.state.last_seq == before.last_seq + 1, "its own decision, nothing else"
    assert (await js.consumer_info("FAREBOX", "adapter-openai")).name == "adapter-openai"
    with pytest.raises(NotFoundError):
        await js.get_last_msg("FAREBOX", RESERVED)


async def test_an_adapter_works_in_its_own_lane(bus):
    await bus.say("client", SUBMITTED, b"prompt")
    await bus.say("engine", RESERVED, b"reserved")
    task = await bus.pull("adapter-openai", "adapter-openai")
    assert (task.subject, task.data) == (RESERVED, b"reserved")
    assert (await bus.ask("adapter-openai", f"{GET}.{SUBMITTED}")).data == b"prompt"
    assert (await bus.ask("adapter-openai", f"{GET}.{RESERVED}")).data == b"reserved"
    assert (await bus.say("adapter-openai", STARTED))["seq"] == 3
    lane = {"Nats-Expected-Last-Subject-Sequence-Subject": "farebox.log.adapter.*.openai.c1.t1"}
    fenced = await bus.say("adapter-openai", COMPLETED, **lane, **{"Nats-Expected-Last-Subject-Sequence": "3"})
    assert fenced["seq"] == 4
    assert (await bus.say("adapter-openai", "farebox.log.late.result.openai.c1.t1"))["seq"] == 5
    assert (await bus.ask("adapter-openai", f"{GET}.{COMPLETED}")).data == b"fact"
    await task.ack_sync(timeout=25)
    info = json.loads((await bus.ask("adapter-openai", f"{CONTROL}.CONSUMER.INFO.FAREBOX.adapter-openai")).data)
    assert info["ack_floor"]["stream_seq"] == 2
    assert bus.refused == []


async def test_an_adapter_keeps_and_reads_large_contents(bus):
    for subject in ("$O.farebox-blobs.C.n1.0", "$O.farebox-blobs.M.bmFtZQ=="):
        assert "seq" in await bus.say("adapter-openai", subject, b"large")
    meta = f"$JS.API.DIRECT.GET.{BLOBS}.$O.farebox-blobs.M.bmFtZQ=="
    for name in ("adapter-openai", "client", "views", "engine"):
        assert (await bus.ask(name, meta)).data == b"large"
    chunk = f"$JS.API.DIRECT.GET.{BLOBS}.$O.farebox-blobs.C.n1.0"
    for name in ("adapter-openai", "client", "views", "engine"):
        assert (await bus.ask(name, chunk)).data == b"large"
        await bus.refuses(name, f"$JS.API.DIRECT.GET.{BLOBS}", f"$JS.API.STREAM.PURGE.{BLOBS}")
    await bus.refuses("views", "$O.farebox-blobs.C.n2.0")
    await bus.refuses("router", chunk)


async def test_a_batch_of_a_confined_user_is_stored_whole(bus):
    adapter = await bus.user("adapter-openai")
    first = {"Nats-Batch-Id": "b", "Nats-Batch-Sequence": "1"}
    await adapter.publish(STARTED, b"1", headers=first)
    last = {"Nats-Batch-Id": "b", "Nats-Batch-Sequence": "2", "Nats-Batch-Commit": "1"}
    assert (await bus.say("adapter-openai", COMPLETED, b"2", **last))["count"] == 2


@pytest.mark.fault(29)
async def test_an_adapter_can_do_nothing_in_another_lane(bus):
    await bus.say("engine", "farebox.log.quota.reserved.ollama.c1.t1")
    last = (await bus.state()).last_seq
    await bus.refuses(
        "adapter-openai",
        "farebox.log.adapter.completed.ollama.c1.t1",
        "farebox.log.late.result.ollama.c1.t1",
        "farebox.live.adapter.chunk.ollama.c1.t1",
        SUBMITTED,
        RESERVED,
        f"{GET}.farebox.log.adapter.completed.ollama.c1.t1",
        f"{GET}.farebox.log.quota.reserved.ollama.c1.t1",
        "$JS.API.CONSUMER.MSG.NEXT.FAREBOX.adapter-ollama",
        f"{CONTROL}.CONSUMER.INFO.FAREBOX.adapter-ollama",
        "$JS.ACK.FAREBOX.adapter-ollama.1.1.1.1.0",
        "farebox.api.status",
        f"{CONTROL}.STREAM.INFO.FAREBOX",
    )
    await bus.refuses_to_hear("adapter-openai", ">", "farebox.live.>", "farebox.log.client.>", "_INBOX_client.>")
    assert (await bus.state()).last_seq == last


@pytest.mark.parametrize("name", ["engine", "views", "router", "quota", "cost", "aggregator", "handoff"])
async def test_a_follower_reads_the_log_with_its_own_consumers_only(bus, name):
    await bus.say("client", SUBMITTED, b"prompt")
    control = "$JS.API" if name == "engine" else CONTROL
    config = {"stream_name": "FAREBOX", "config": FOLLOW | {"name": f"{name}-1", "filter_subject": "farebox.log.>"}}
    made = await bus.say(name, f"{control}.CONSUMER.CREATE.FAREBOX.{name}-1.farebox.log.>", json.dumps(config).encode())
    assert made["config"]["name"] == f"{name}-1"
    fact = await bus.pull(name, f"{name}-1")
    assert (fact.subject, fact.data) == (SUBMITTED, b"prompt")
    assert (await bus.say(name, f"{control}.STREAM.INFO.FAREBOX", b""))["state"]["last_seq"] == 1
    foreign = {"stream_name": "FAREBOX", "config": FOLLOW | {"name": "adapter-openai", "filter_subject": "x.>"}}
    refused = await bus.say(name, f"{control}.CONSUMER.CREATE.FAREBOX.{name}-1.farebox.log.>", json.dumps(foreign).encode())
    assert "error" in refused
    await bus.refuses(
        name,
        f"{control}.CONSUMER.CREATE.FAREBOX",
        f"{control}.CONSUMER.CREATE.FAREBOX.{name}-5.farebox.log.>",
        f"{control}.CONSUMER.DELETE.FAREBOX.adapter-openai",
        f"{control}.STREAM.DELETE.FAREBOX",
    )
    assert (await bus.say(name, f"{control}.CONSUMER.DELETE.FAREBOX.{name}-1", b""))["success"] is True


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("router", "farebox.log.router.routed.-.c1.t1"),
        ("quota", RESERVED),
        ("cost", "farebox.log.cost.recorded.openai.c1.t1"),
        ("aggregator", "farebox.log.aggregator.batch_completed.-.b1.-"),
        ("handoff", "farebox.log.handoff.ready.-.c1.t1"),
    ],
)
async def test_an_actor_alone_says_and_reads_back_only_its_own(bus, name, own):
    assert (await bus.say(name, own))["seq"] == 1
    assert (await bus.ask(name, f"{GET}.{own}")).data == b"fact"
    await bus.refuses(name, SUBMITTED, COMPLETED, "farebox.log.engine.prices.-.-.-", f"{GET}.{COMPLETED}", GET)


async def test_views_read_everything_and_say_nothing(bus):
    await bus.say("client", SUBMITTED, b"prompt")
    first = await bus.ask("views", GET, json.dumps({"seq": 1}).encode())
    assert first.data == b"prompt"
    assert (await bus.ask("views", f"{GET}.{SUBMITTED}")).data == b"prompt"
    await bus.refuses("views", SUBMITTED, COMPLETED, RESERVED, "farebox.live.adapter.chunk.openai.c.t")
    assert (await bus.state()).last_seq == 1


async def test_the_engine_says_what_its_actors_say_and_no_more(bus):
    for subject in (SUBMITTED, RESERVED, STARTED, "farebox.log.engine.settings.-.-.-"):
        assert "seq" in await bus.say("engine", subject)
    heard = await bus.hear("engine", "farebox.log.client.cancel_requested.>")
    await bus.say("client", "farebox.log.client.cancel_requested.-.c1.t1")
    assert (await asyncio.wait_for(heard.get(), 100)).data == b"fact"
    await bus.refuses(
        "engine",
        "farebox.log.nobody.said.-.c1.t1",
        "$JS.API.STREAM.PURGE.FAREBOX",
        "$JS.API.STREAM.UPDATE.FAREBOX",
        "$JS.API.CONSUMER.CREATE.FAREBOX",
    )
    await bus.refuses_to_hear("engine", ">", "_INBOX_client.>")


async def test_everybody_hears_what_was_stored_and_only_that(bus):
    results = await bus.hear("client", "farebox.log.*.completed.>")
    cancels = await bus.hear("adapter-openai", "farebox.log.client.cancel_requested.>")
    refused = await bus.say("engine", COMPLETED, b"zombie", **{"Nats-Expected-Last-Subject-Sequence": "9"})
    assert refused["error"]["err_code"] == 10071
    await bus.say("adapter-openai", COMPLETED, b"stored")
    await bus.say("client", "farebox.log.client.cancel_requested.-.c1.t1")
    result = await asyncio.wait_for(results.get(), 100)
    assert (result.subject, result.data, result.headers["Nats-Sequence"]) == (COMPLETED, b"stored", "1")
    assert (await asyncio.wait_for(cancels.get(), 100)).subject.endswith("cancel_requested.-.c1.t1")
    assert results.empty()


async def test_live_text_of_an_adapter_alone_reaches_clients(bus):
    live = await bus.hear("client", "farebox.live.adapter.*.*.c1.t1")
    adapter = await bus.user("adapter-openai")
    await adapter.publish("farebox.live.adapter.chunk.openai.c1.t1", b"text")
    await adapter.flush()
    message = await asyncio.wait_for(live.get(), 100)
    assert (message.subject, message.data) == ("farebox.live.adapter.chunk.openai.c1.t1", b"text")
    assert live.empty()


async def test_streams_without_a_bound_are_refused(bus):
    link = await bus.user("init")
    config = bus.log_config | {"name": "OTHER", "subjects": ["other"], "max_bytes": -1}
    answer = json.loads((await link.request("$JS.API.STREAM.CREATE.OTHER", json.dumps(config).encode())).data)
    assert answer["error"]["err_code"] == 10113


async def test_many_readings_back_have_each_one_answer(bus):
    await bus.say("client", SUBMITTED, b"prompt")
    client = await bus.user("client")
    answers = await asyncio.gather(*(client.request(f"{GET}.{SUBMITTED}", timeout=25) for _ in range(200)))
    assert {answer.data for answer in answers} == {b"prompt"}
