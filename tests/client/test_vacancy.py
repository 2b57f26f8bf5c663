"""A log that takes no new tasks: the client learns it from the engine before it sends anything."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from farebox import vacancy
from farebox.client import Client
from farebox.core import events
from farebox.core.errors import LogFilling, LogFull
from farebox.log.memory import MemoryLog, MemoryStore
from farebox.posting import say_cancel, say_submission, submission
from farebox.tasks import spec_of

FULL = {"code": "FB114", "message": "The log is 91 % full.", "hint": "Give it more."}


class Teller:
    """An engine that says how full its log is."""

    def __init__(self, refusal=FULL):
        self.refusal = refusal
        self.asked = 0

    async def __call__(self, _body):
        self.asked += 1
        await asyncio.sleep(0)
        return msgspec.json.encode({"schema": "farebox.room/1", "refusal": self.refusal})


@pytest.fixture
async def teller(store):
    found = Teller()
    await MemoryLog(store).serve("farebox.api.room", found)
    return found


async def test_no_new_task_and_no_new_batch_is_sent_to_a_log_that_takes_none(store, teller):
    client = Client(MemoryLog(store))
    with pytest.raises(LogFilling, match="91 % full") as refused:
        await client.submit("hello")
    assert (refused.value.code, refused.value.exit_code, refused.value.hint) == ("FB114", 3, "Give it more.")
    with pytest.raises(LogFull):
        async with client.batch(["one", "two"]):
            pass
    assert store.facts == []


async def test_what_ends_something_is_sent_and_what_stands_is_found(store, teller):
    teller.refusal = None
    log = MemoryLog(store)
    fact = await submission(log, spec_of({"prompt": "hello"}), chain="c", task="t")
    assert await say_submission(log, fact)
    teller.refusal = FULL
    later = MemoryLog(store)
    await say_cancel(later, "c", "t")
    assert await say_submission(later, fact), "it stands, so sending it again is no new task"
    assert len(store.facts) == 2


async def test_an_answer_serves_many_and_for_a_moment_only(store, teller, monkeypatch):
    teller.refusal = None
    log = MemoryLog(store)
    seen = vacancy.of(log)
    assert vacancy.of(log) is seen
    fact = events.TaskSubmitted(chain="c", task="t", prompt="p")
    assert await asyncio.gather(*(seen.refusal(fact) for _ in range(50))) == [None] * 50
    assert teller.asked == 1
    monkeypatch.setattr(vacancy, "FRESH_S", 0.0)
    seen._until_s = 0.0
    teller.refusal = FULL
    assert isinstance(await seen.refusal(fact), LogFilling)
    await seen.refusal(fact)
    assert teller.asked == 3


async def test_without_an_engine_that_answers_tasks_are_sent():
    store = MemoryStore()
    await Client(MemoryLog(store)).submit("hello")
    assert len(store.facts) == 1


async def test_a_batch_that_is_refused_in_the_middle_keeps_what_it_sent_and_says_how_to_go_on(
    store, engine, teller, monkeypatch
):
    monkeypatch.setattr(vacancy, "FRESH_S", 0.0)
    teller.refusal = None
    client = Client(MemoryLog(store), patience_s=2)
    batch = client.batch([f"prompt {number}" for number in range(6)], parallel=1)
    got = []

    async def run():
        async for result in batch:
            got.append(result)
            if len(got) == 2:
                teller.refusal = FULL

    with pytest.raises(LogFilling, match=f"farebox batch --resume {batch.id}"):
        await run()
    sent = [result.status for result in got]
    assert sent.count("completed") in {2, 3}, "the next one may be on its way already"
    assert sent.count("completed") + batch.unsent == 6
    teller.refusal = None
    again = Client(MemoryLog(store), patience_s=2).batch(resume=batch.id)
    assert [result.status async for result in again] == ["completed"] * 6
    assert len({fact.subject for fact in store.facts if ".submitted." in fact.subject}) == 6
