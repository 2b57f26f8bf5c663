"""A later farebox wrote to the same log: its facts park their tasks, nothing is skipped, and after the update all goes on.

The update is simulated by what it is: a decoder that knows the version (wire.VERSIONS) and lifts what was before.
"""

import asyncio
import json

import pytest

from farebox.cli import attention
from farebox.client import Client
from farebox.core import events, subjects, wire
from farebox.core.errors import BadInput
from farebox.log.port import Entry


@pytest.fixture
def update(monkeypatch):
    """Let this farebox know version 2 of a fact, as the next one will."""

    def know(fact):
        monkeypatch.setitem(wire.VERSIONS, fact, 2)
        monkeypatch.setitem(wire.UPCASTS, (fact, 1), lambda raw: raw)

    return know


def body(fact, **fields):
    return json.dumps({"fact": fact, **fields}).encode()


async def write(log, writer, token, task, raw, lane="-"):
    (seq,) = await log.append([Entry(subjects.exact(writer, token, task, task, lane), raw)])
    return seq


async def submitted(log, task, **fields):
    return await write(
        log, "client", "submitted", task, body("TaskSubmitted", chain=task, task=task, prompt="Hello.", **fields)
    )


async def until(condition, timeout_s=100):
    async with asyncio.timeout(timeout_s):
        while not (found := await condition()):
            await asyncio.sleep(0.02)
    return found


async def said(log, task):
    stored = [await log.at(seq) for seq in range(1, (await log.position()).last_seq + 1)]
    return [one.subject.split(".")[3] for one in stored if one.subject.endswith(f".{task}")]


@pytest.mark.fault(27)
async def test_a_newer_submission_parks_its_task_and_no_other(opened, engines, update):
    log = opened()
    first = await engines.make(log)
    client = Client(opened())
    seq = await submitted(log, "t1", version=2, mood="new")
    await submitted(log, "t2")
    assert (await client.handle("t2", "t2").result(timeout_s=100)).status == "completed"
    assert await said(log, "t1") == ["submitted"]

    async def parked():
        found = await client.status()
        return found if found["dead"] else None

    found = await until(parked)
    (letter,) = found["dead"]
    assert (letter["seq"], letter["kind"], letter["task"]) == (seq, "parked", "t1")
    assert attention.lines(found) == [f"! task t1 is parked at fact {seq}: written by a newer farebox, upgrade this one"]
    with pytest.raises(BadInput, match="TaskSubmitted has version 2, this farebox knows 1") as refused:
        await client.retry_dead(seq)
    assert refused.value.hint.startswith("Update this farebox")
    await engines.stop(first)
    update("TaskSubmitted")
    await engines.make(log)
    assert (await client.handle("t1", "t1").result(timeout_s=100)).status == "completed"
    assert (await client.dead())["letters"] == []


@pytest.mark.parametrize(
    ("fact", "token", "fields"),
    [("TaskCancelRequested", "cancel_requested", {"reason": "x"}), ("TaskDecision", "decided", {"decision": "retry"})],
)
async def test_a_newer_word_about_a_task_that_waits_holds_it_until_the_update(opened, engines, update, fact, token, fields):
    """The word comes before anything was decided: nobody may go on as if it had not been said."""
    log = opened()
    await submitted(log, "t1")
    seq = await write(log, "client", token, "t1", body(fact, chain="t1", task="t1", version=2, **fields))
    first = await engines.make(log)
    client = Client(opened())
    await submitted(log, "t2")
    assert (await client.handle("t2", "t2").result(timeout_s=100)).status == "completed"
    assert await said(log, "t1") == ["submitted", token]
    assert [one["seq"] for one in (await client.dead())["letters"]] == [seq]
    await engines.stop(first)
    assert not (first._folder / "snapshots" / "router.json").exists(), "what is parked must be folded again"
    update(fact)
    await engines.make(log)
    end = "cancelled" if fact == "TaskCancelRequested" else "completed"
    assert (await client.handle("t1", "t1").result(timeout_s=100)).status == end


async def test_a_kind_of_fact_that_nobody_knows_yet_parks_its_task_too(tape, engines):
    log = tape.log()
    await submitted(log, "t1")
    seq = tape.store.append([Entry("farebox.log.router.pondered.-.t1.t1", body("TaskPondered", chain="t1", task="t1"))])[0]
    engine = await engines.make(log)
    client = Client(tape.log())
    await submitted(log, "t2")
    await client.handle("t2", "t2").result(timeout_s=100)
    assert await said(log, "t1") == ["submitted", "pondered"]
    assert [(one["seq"], one["kind"]) for one in (await client.dead())["letters"]] == [(seq, "parked")]
    (router,) = (mind for mind in engine.minds if mind.actor.name == "router")
    assert router.stopped.parked == {("t1", "t1"): seq}


@pytest.mark.fault(27)
async def test_a_newer_fact_in_the_lane_keeps_the_adapter_from_the_task(tape, workers):
    submission = tape.submit()
    started = body("TaskStarted", chain="c1", task="t1", platform="rehearsal", version=2)
    tape.say("adapter", events.TaskStarted(chain="c1", task="t1", platform="rehearsal"), body=started)
    tape.reserve(submitted=submission)
    tape.reserve("t2")
    await workers.make(tape)
    await tape.end_of("t2")
    durable = tape.store.durable("adapter-rehearsal")
    async with asyncio.timeout(100):
        while [held.fact.seq for held in durable._held.values()] != [3] or durable.due_ms() < tape.store.clock() + 300_000:
            await asyncio.sleep(0.01)
    assert durable.dead == []
    assert [one.subject.split(".")[3] for one in tape.store.facts if one.subject.endswith(".t1")] == [
        "submitted", "started", "reserved",
    ]  # fmt: skip


async def test_a_newer_reservation_is_handed_out_again_later_and_never_given_up_at_once(tape, workers):
    tape.submit()
    raw = body("QuotaReserved", chain="c1", task="t1", platform="rehearsal", version=2)
    tape.say("quota", events.QuotaReserved(chain="c1", task="t1", platform="rehearsal"), body=raw)
    tape.reserve("t2")
    await workers.make(tape)
    await tape.end_of("t2")
    durable = tape.store.durable("adapter-rehearsal")
    assert durable.dead == []
    assert 2 in {held.fact.seq for held in durable._held.values()}


async def test_who_counts_slots_stops_where_a_later_one_counts_them_too(tape, engines):
    log = tape.log()
    engine = await engines.make(log)
    raw = body("QuotaReserved", chain="t1", task="t1", platform="rehearsal", version=2)
    seq = await write(log, "quota", "reserved", "t1", raw, "rehearsal")
    with pytest.raises(wire.NewerFact, match=f"Fact {seq} is of a later farebox") as stopped:
        await asyncio.wait_for(engine.wait(), 100)
    assert (stopped.value.exit_code, stopped.value.code) == (8, "FB803")


@pytest.mark.fault(72)
async def test_fields_that_nobody_knows_yet_change_nothing(opened, engines):
    """Unknown fields stay in the log, where a later farebox finds them; only a new version changes a meaning."""
    log = opened()
    await engines.make(log)
    client = Client(opened())
    seq = await submitted(log, "t1", mood="cheerful", tags={"a": "b"})
    assert (await client.handle("t1", "t1").result(timeout_s=100)).status == "completed"
    assert b"cheerful" in (await log.at(seq)).body
    assert (await client.dead(ended=True))["letters"] == []
