"""Very many tasks and a kill in the middle: memory stays bounded, small tasks get their turn, no limit is passed."""

from __future__ import annotations

import asyncio

import psutil
import pytest

from farebox.core import events, subjects, wire
from farebox.log.port import Entry, Fence

MANY = 10_000
WAITING = 50_000
RSS_MB = 700
READY_S = 60


async def all_of(batch):
    async for _ in batch:
        pass
    return batch.results


@pytest.mark.chaos
@pytest.mark.fault(34)
@pytest.mark.timeout(420)
async def test_a_batch_of_ten_thousand_with_a_kill_in_it_is_fair_bounded_and_doubles_nothing(scene):
    await scene.open(delay_ms=0, limit=64, billed=9)
    specs = [{"prompt": f"Many {n}: count the owls.", "max_tokens": 50} for n in range(MANY)]
    async with scene.joined() as bus:
        batch = bus.batch(specs, parallel=400)
        running = asyncio.ensure_future(all_of(batch))
        while batch.done < MANY // 4 and not running.done():
            await asyncio.wait({running}, timeout=0.1)
        await scene.kill_engine()
        await scene.up()
        small = await bus.submit("A small one in between.", priority=5)
        async with asyncio.timeout(30):
            assert (await small.result()).status == "completed"
        assert batch.done < MANY, "it did not wait for the batch"
        largest = 0
        while not running.done():
            largest = max(largest, psutil.Process(scene.engine.pid).memory_info().rss)
            await asyncio.wait({running}, timeout=1)
        results = await running
    assert len(results) == MANY
    assert largest < RSS_MB << 20
    await scene.verify(MANY + 1)


@pytest.mark.chaos
@pytest.mark.fault(71)
@pytest.mark.timeout(300)
async def test_a_restart_over_fifty_thousand_waiting_tasks_goes_on_and_passes_no_limit(scene):
    await scene.open(delay_ms=100, limit=4, billed=9)
    async with scene.as_init() as log:
        for begin in range(0, WAITING, 500):
            await log.append([_submitted(number) for number in range(begin, begin + 500)])
    await scene.kill_engine()
    await scene.up(ready_s=READY_S)
    before = scene.calls()
    async with asyncio.timeout(30):
        while scene.calls() < before + 20:
            await asyncio.sleep(0.1)
    assert psutil.Process(scene.engine.pid).memory_info().rss < RSS_MB << 20
    assert scene.broken(await scene.stored(), ended=False) == []


def _submitted(number: int) -> Entry:
    fact = events.TaskSubmitted(
        id=f"storm-{number}", chain=f"storm-{number}", task=f"storm-{number}", prompt=f"Storm {number}."
    )
    subject = subjects.subject_of("client", fact)
    return Entry(subject, wire.encode(fact), Fence(subject, 0))
