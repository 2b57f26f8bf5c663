"""A batch: bounded, in order of completion, nothing twice, and its sums."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest

from farebox.aggregate import aggregate
from farebox.client import Client
from farebox.core import events, subjects, wire
from farebox.core.errors import AppendBusy, BadInput, NotReachable
from farebox.core.results import CostShown, Result, UsageShown
from farebox.log.memory import MemoryLog


def submitted(store):
    facts = [wire.decode(one.subject, one.body, one.seq, one.at_ms) for one in store.facts]
    return [fact.task for fact in facts if isinstance(fact, events.TaskSubmitted)]


async def test_results_come_as_tasks_complete_and_the_sums_add_up(fb, store):
    batch = fb.batch(["one", {"prompt": "fail", "id": "second"}, {"prompt": "three"}], parallel=2, batch_id="b1")
    results = {result.task_id: result async for result in batch}
    assert set(results) == {"b1-1", "b1-2", "b1-3"}
    assert results["b1-2"].label == "second"
    assert all(result.chain_id == "b1" and result.batch_id == "b1" for result in results.values())
    total = batch.aggregate()
    assert (total.count, total.completed, total.failed, total.cancelled) == (3, 2, 1, 0)
    assert (total.success_rate, total.paid_usd, total.plan_value_usd) == (2 / 3, Decimal("0.0250"), None)
    assert (total.input_tokens, total.output_tokens, total.duration_s) == (20, 10, 4.5)
    assert list(total.platforms) == ["rehearsal"]
    assert (batch.done, batch.total, batch.running) == (3, 3, 0)


async def test_no_more_tasks_are_under_way_than_allowed(fb, store, engine):
    most = 0
    batch = fb.batch([f"task {number}" for number in range(40)], parallel=3)
    async for _ in batch:
        most = max(most, len(engine.tasks) - len(engine.ends), batch.running)
    assert most <= 3
    assert len(submitted(store)) == 40


def announced(store):
    return [one.seq for one in store.facts if ".batch_submitted." in one.subject]


@pytest.mark.fault(6, 73)
async def test_a_batch_that_the_log_lost_with_its_tasks_is_said_again_before_them(store, engine, monkeypatch):
    monkeypatch.setattr("farebox.client.POLL_S", 0.05)
    client = Client(MemoryLog(store), patience_s=20)
    await engine.stop()
    batch = client.batch(["one", "two"], batch_id="b1")
    results = asyncio.ensure_future(all_of(batch))
    async with asyncio.timeout(25):
        while len(submitted(store)) < 2:
            await asyncio.sleep(0.005)
    store.lose_tail(3)
    assert store.facts == []
    again = type(engine)(store)
    await again.start()
    assert sorted(result.output for result in await results) == ["ONE", "TWO"]
    assert announced(store) == [1], "before the first end, so that the batch can be summed up"
    assert len(submitted(store)) == 2
    await again.stop()
    await client.close()


@pytest.mark.fault(6)
async def test_a_batch_that_the_log_lost_while_its_first_task_waited_is_said_again(fb, store, monkeypatch):
    monkeypatch.setattr("farebox.batch.AWAY_S", 0.0)
    async with fb.batch(["one", "two"], batch_id="b1", parallel=1) as batch:
        store.lose_tail(1)
        store.blobs.clear()
        first = await anext(aiter(batch))
        assert (first.output, len(announced(store))) == ("ONE", 1)
    assert sorted([result.output async for result in fb.batch(resume="b1")]) == ["ONE", "TWO"], "with its tasks"


@pytest.mark.fault(6)
async def test_a_batch_that_the_log_lost_alone_is_said_again_at_its_end(fb, store):
    async with fb.batch(["one"], batch_id="b1") as batch:
        store.lose_tail(1)
        assert [result.output async for result in batch] == ["ONE"]
    assert len(announced(store)) == 1


async def all_of(batch):
    return [result async for result in batch]


@pytest.mark.fault(34)
async def test_an_interrupted_batch_goes_on_and_runs_nothing_twice(fb, store, engine):
    tasks = [f"task {number}" for number in range(6)]
    async for _ in fb.batch(tasks, parallel=1, batch_id="b2"):
        if len(submitted(store)) >= 3:
            break
    before = len(submitted(store))
    assert 3 <= before < 6
    resumed = fb.batch(resume="b2", parallel=2)
    results = [result async for result in resumed]
    assert sorted(result.output for result in results) == [task.upper() for task in tasks]
    assert len(submitted(store)) == len(set(submitted(store))) == 6
    again = [result async for result in fb.batch(tasks, resume="b2")]
    assert (len(again), len(submitted(store)), len(engine.ends)) == (6, 6, 6)


async def test_the_bound_of_a_batch_stands_in_all_its_tasks_and_in_those_of_one_that_goes_on_with_its_file(fb, store):
    file = ["one", {"prompt": "two", "deny": ["a"], "tags": {"k": "v"}}, {"prompt": "three", "batch_max_cost": "1"}]
    async for _ in fb.batch(file, parallel=1, batch_id="b2", max_cost_usd=2.5):
        break
    assert [result.ok for result in await all_of(fb.batch(file, resume="b2"))] == [True] * 3
    facts = [wire.decode(one.subject, one.body, one.seq, one.at_ms) for one in store.facts]
    bounds = [fact.constraints.batch_max_cost_usd for fact in facts if isinstance(fact, events.TaskSubmitted)]
    assert bounds == ["2.5", "2.5", "1"]
    for other, differs in ((["one", {"prompt": "two", "deny": ["b"]}, "three"], "line 2 in deny"),
                           (["one", {"prompt": "two", "tags": {"k": "w"}}, "three"], "line 2 in tags"),
                           ([{"prompt": text, "on_quota": "spill"} for text in ("one", "two", "three" )],
                            "line 1 in on_quota")):  # fmt: skip
        with pytest.raises(BadInput, match=differs):
            await all_of(fb.batch(other, resume="b2"))
    with pytest.raises(BadInput, match="and 1 more lines"):
        await all_of(fb.batch(["1", "2", "3", "4"], batch_id="b3")) and await all_of(fb.batch("5678", resume="b3"))
    with pytest.raises(BadInput, match="was said when it began"):
        fb.batch(resume="b2", max_cost_usd="3")
    with pytest.raises(BadInput, match="max_cost_usd is 'much'"):
        fb.batch(file, max_cost_usd="much")


async def test_the_same_batch_sent_again_under_its_id_runs_nothing_twice(fb, store):
    for _ in range(2):
        assert len([result async for result in fb.batch(["a", "b"], batch_id="b3")]) == 2
    assert submitted(store) == ["b3-1", "b3-2"]


async def test_other_tasks_under_the_same_id_are_refused(fb, store):
    async with fb.batch(["a", "b"], batch_id="b4"):
        pass
    with pytest.raises(BadInput, match="started with other tasks"):
        await anext(aiter(fb.batch(["a", "c"], batch_id="b4")))
    with pytest.raises(BadInput, match=r"They differ: line 2 in prompt\."):
        await anext(aiter(fb.batch(["a", "c"], resume="b4")))
    with pytest.raises(BadInput, match="It has 2 tasks, and 1 were given"):
        await anext(aiter(fb.batch(["a"], resume="b4")))
    with pytest.raises(BadInput, match='There is no batch "b5"'):
        await anext(aiter(fb.batch(resume="b5")))
    assert submitted(store) == []


async def test_fail_fast_cancels_what_runs_and_sends_no_more(fb, store):
    batch = fb.batch(["slow", "fail", *["never sent"] * 20], parallel=2, fail_fast=True, batch_id="b6")
    results = [result async for result in batch]
    assert [result.status for result in results].count("failed") == 1
    assert [result.status for result in results].count("cancelled") == 21
    assert len(results) == 22
    assert len(submitted(store)) < 5
    unsent = [result for result in results if result.error and result.error.message == "not sent"]
    assert len(unsent) == 22 - len(submitted(store))


async def test_a_failing_task_does_not_stop_the_others(fb):
    results = [result async for result in fb.batch(["fail", "ok", "fail", "fine"], parallel=1)]
    assert [result.status for result in results] == ["failed", "completed", "failed", "completed"]


async def test_a_stopped_batch_sends_no_more_and_lets_finish_what_runs(fb, store):
    batch = fb.batch(["one", "two", "three"], parallel=1, batch_id="b7")
    results = []
    async for result in batch:
        results.append(result)
        batch.stop()
    assert [result.status for result in results][:1] == ["completed"]
    assert (batch.unsent, batch.cancelled, len(results)) == (3 - len(submitted(store)), 0, 3)
    again = [result async for result in fb.batch(resume="b7")]
    assert [result.status for result in again] == ["completed"] * 3
    assert submitted(store) == ["b7-1", "b7-2", "b7-3"]


async def test_what_was_cancelled_stays_so_in_a_resumed_batch(fb, store):
    batch = fb.batch(["slow", "two"], parallel=1, batch_id="b8")
    async with batch:
        first = asyncio.create_task(anext(aiter(batch)))
        while not batch.running:
            await asyncio.sleep(0.01)
        await batch.cancel("enough")
        assert (await first).status == "cancelled"
    assert batch.cancelled == 1
    again = fb.batch(resume="b8")
    assert [result.status async for result in again] == ["cancelled", "completed"]
    assert (again.cancelled, again.unsent) == (1, 0)
    assert submitted(store) == ["b8-1", "b8-2"]


async def test_cancelling_a_batch_ends_it(fb):
    batch = fb.batch(["slow"] * 3, parallel=3)
    async with batch:
        it = aiter(batch)
        first = asyncio.create_task(anext(it))
        while batch.running < 3:
            await asyncio.sleep(0.01)
        await batch.cancel("enough")
        rest = [await first, *[result async for result in it]]
    assert [result.status for result in rest] == ["cancelled"] * 3
    assert rest[0].partial_output == "so far"


@pytest.mark.parametrize(
    ("tasks", "options", "words"),
    [
        ([], {}, "holds no task"),
        (None, {}, "needs tasks"),
        (["a"], {"parallel": 0}, "parallel is 0"),
        (["a"], {"batch_id": "a.b"}, "batch 'a.b' is not usable"),
        (["a", {"promt": "b"}], {}, 'task 2: unknown field "promt"'),
        (["a", " "], {}, "task 2: the prompt is empty"),
    ],
)
async def test_a_bad_batch_is_refused_before_anything_is_sent(fb, store, tasks, options, words):
    with pytest.raises(BadInput, match=words):
        fb.batch(tasks, **options)
    assert store.facts == []


async def test_an_unknown_platform_in_any_task_stops_the_batch_before_it_starts(fb, store):
    with pytest.raises(BadInput, match='no platform "openay"'):
        await anext(aiter(fb.batch(["a", {"prompt": "b", "platform": "openay"}])))
    assert store.facts == []


async def test_a_worker_that_breaks_ends_the_batch_with_its_error(fb, store):
    batch = fb.batch(["a", "b"], batch_id="b7")
    async with batch:
        fact = events.TaskSubmitted(chain="b7", task="b7-1", prompt="somebody else's")
        from farebox.log.port import Entry

        await MemoryLog(store).append([Entry(subjects.subject_of("client", fact), wire.encode(fact))])
        with pytest.raises(BadInput, match="submitted before with other contents"):
            [result async for result in batch]


async def test_resuming_without_an_engine_is_said(fb, engine):
    async with fb.batch(["a"], batch_id="b8"):
        pass
    await engine.stop()
    with pytest.raises(NotReachable):
        await anext(aiter(fb.batch(resume="b8")))
    assert AppendBusy.code


def test_unknown_costs_are_counted_and_never_zero():
    def result(**cost):
        return Result(task_id="t", chain_id="c", status="completed", attempts=1, cost=CostShown(**cost))

    total = aggregate([result(status="unpriced"), result(status="possible", possible_usd="0.5")])
    assert (total.paid_usd, total.possible_usd, total.unpriced, total.tokens_unknown) == (None, Decimal("0.5"), 1, 2)
    assert list(total.platforms) == ["-"]
    assert aggregate([]).success_rate is None
    assert UsageShown().output_tokens is None


async def test_a_resumed_batch_asks_for_what_ended_before_in_pages_and_not_one_by_one(fb, engine):
    done = fb.batch([f"prompt {number}" for number in range(8)], batch_id="b9")
    before = {result.task_id: result async for result in done}
    engine.asked.clear()
    again = fb.batch(resume="b9")
    assert {result.task_id: result async for result in again} == before
    assert engine.asked.count("results") == 5, "four pages of two, and an empty one"
    assert "result" not in engine.asked
