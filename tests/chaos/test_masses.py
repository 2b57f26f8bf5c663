"""Very many tasks and a kill in the middle: memory stays bounded, small tasks get their turn, no limit is passed."""

from __future__ import annotations

import asyncio
import contextlib

import psutil
import pytest

from farebox.core import events, subjects, wire
from farebox.log.port import Entry, Fence
from farebox.rehearsal.books import read as read_books

MANY = 10_000
LIMIT = 64
BATCH_RSS_MB = 400
"""Seen: 255."""
SMALL_S = 10.0
"""How long a task of somebody else may take while the batch runs. Seen: 1.4 beside other work on the machine."""
WAITING = 50_000
RSS_MB = 700
READY_S = 60


async def all_of(batch):
    async for _ in batch:
        pass
    return batch.results


class Watched:
    """A batch that runs, and what it takes meanwhile."""

    def __init__(self, scene, batch):
        self.batch = batch
        self.largest = 0
        self.slowest_s = 0.0
        self._scene = scene
        self._running = asyncio.ensure_future(all_of(batch))

    async def until(self, done=MANY):
        """Until so many have ended."""
        while self.batch.done < done and not self._running.done():
            with contextlib.suppress(psutil.NoSuchProcess):
                self.largest = max(self.largest, psutil.Process(self._scene.engine.pid).memory_info().rss)
            await asyncio.wait({self._running}, timeout=0.2)
        return await self._running if self._running.done() else self.batch.results

    async def small_one(self, bus):
        """Somebody else's task in between."""
        began_s = asyncio.get_running_loop().time()
        small = await bus.submit("A small one in between.", priority=5)
        assert (await small.result()).status == "completed"
        assert self.batch.done < MANY, "it did not wait for the batch"
        self.slowest_s = max(self.slowest_s, asyncio.get_running_loop().time() - began_s)

    async def leave(self):
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)


@pytest.mark.chaos
@pytest.mark.fault(34)
@pytest.mark.timeout(420)
async def test_a_batch_of_ten_thousand_with_a_kill_in_it_is_fair_bounded_and_doubles_nothing(scene):
    await scene.open(delay_ms=0, limit=LIMIT, billed=9)
    specs = [{"prompt": f"Many {n}: count the owls.", "max_tokens": 50} for n in range(MANY)]
    async with scene.joined() as bus:
        seen = Watched(scene, bus.batch(specs, parallel=400))
        await seen.until(MANY // 4)
        await seen.small_one(bus)
        assert await handed_out(scene) <= 2 * LIMIT, "acks come with the ends, not long after them"
        await scene.kill_engine()
        await scene.up()
        await seen.small_one(bus)
        await seen.until(MANY // 2)
        await seen.leave()
    async with scene.joined() as bus:
        resumed = Watched(scene, bus.batch(resume=seen.batch.id, parallel=400))
        await resumed.until(MANY // 2)
        await resumed.small_one(bus)
        results = await resumed.until()
    assert [result.status for result in results.values()] == ["completed"] * MANY
    assert max(seen.largest, resumed.largest) < BATCH_RSS_MB << 20
    assert max(seen.slowest_s, resumed.slowest_s) < SMALL_S
    assert scene.calls() <= MANY + 3 + LIMIT, "a second call only for what the kill interrupted"
    await scene.verify(MANY + 3)


async def handed_out(scene):
    """How many reservations the server waits for an ack of: after a kill it holds them back for the ack wait."""
    async with scene.as_init() as log:
        return (await log._streams.consumer("adapter-far"))["num_ack_pending"]


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
    books = list(read_books(scene.books))
    assert scene.broken(await scene.stored(), ended=False, books=books) == []


def _submitted(number: int) -> Entry:
    fact = events.TaskSubmitted(
        id=f"storm-{number}", chain=f"storm-{number}", task=f"storm-{number}", prompt=f"Storm {number}."
    )
    subject = subjects.subject_of("client", fact)
    return Entry(subject, wire.encode(fact), Fence(subject, 0))
