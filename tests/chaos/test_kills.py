"""Kills in the middle of a batch. A bounded selection runs with every commit; all of them with `-m chaos`."""

from __future__ import annotations

import asyncio

import psutil
import pytest


async def _run(bus, prompts, *, at=None, then=None, parallel=8):
    """Run a batch; when `at` results are there, do `then`. Returns the results by line."""
    batch = bus.batch([{"prompt": prompt, "max_tokens": 400} for prompt in prompts], parallel=parallel)
    seen = 0
    async for _ in batch:
        seen += 1
        if seen == at:
            await then()
    return batch.results


@pytest.mark.timeout(120)
async def test_a_killed_engine_loses_nothing_and_pays_nothing_twice_without_saying_so(scene, prompts):
    """What the dead engine held is taken over at once: the ack wait is never over."""
    scene.accident = {"point": "", "how": "nothing", "ack_wait_s": 600}
    await scene.open(delay_ms=60)

    async def kill():
        await scene.kill_engine()
        await scene.up()

    async with scene.joined() as bus:
        results = await _run(bus, prompts(24), at=8, then=kill)
    assert [result.status for result in results.values()] == ["completed"] * 24
    happened = await scene.verify(24)
    assert happened["AttemptInterrupted"] <= 6
    assert await scene.stop() == 0


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.fault(5)
async def test_a_killed_server_is_started_again_and_the_batch_goes_on(scene, prompts):
    await scene.open(delay_ms=60)

    async def kill():
        scene.server().kill()

    async with scene.joined() as bus:
        results = await _run(bus, prompts(24), at=8, then=kill)
    assert [result.status for result in results.values()] == ["completed"] * 24
    happened = await scene.verify(24)
    assert happened["AttemptInterrupted"] == 0
    assert await scene.stop() == 0


@pytest.mark.fault(1)
@pytest.mark.chaos
@pytest.mark.timeout(180)
@pytest.mark.parametrize("after", range(1, 40, 4))
async def test_an_engine_killed_at_any_moment(scene, prompts, after):
    await scene.open(delay_ms=40)

    async def kill():
        await scene.kill_engine()
        await scene.up()

    async with scene.joined() as bus:
        await _run(bus, prompts(60), at=after, then=kill)
    await scene.verify(60)


@pytest.mark.chaos
@pytest.mark.timeout(180)
async def test_an_engine_killed_again_and_again(scene, prompts):
    await scene.open(delay_ms=300, billed=20)
    async with scene.joined() as bus:
        running = asyncio.ensure_future(_run(bus, prompts(60)))
        for pause_s in (1.0, 0.3, 0.6, 0.1, 1.2):
            await asyncio.wait({running}, timeout=pause_s)
            await scene.kill_engine()
            await scene.up()
        results = await running
    assert len(results) == 60
    await scene.verify(60)


@pytest.mark.fault(5)
@pytest.mark.chaos
@pytest.mark.timeout(180)
async def test_a_server_killed_again_and_again(scene, prompts):
    await scene.open(delay_ms=100)
    async with scene.joined() as bus:
        running = asyncio.ensure_future(_run(bus, prompts(100)))
        for _ in range(6):
            await asyncio.wait({running}, timeout=0.7)
            async with asyncio.timeout(20):
                while not _serves(scene):
                    await asyncio.sleep(0.1)
            scene.server().kill()
        results = await running
    assert [result.status for result in results.values()] == ["completed"] * 100
    await scene.verify(100)


def _serves(scene):
    try:
        return scene.server().is_running()
    except (ValueError, psutil.NoSuchProcess):
        return False


@pytest.mark.fault(2, 23)
@pytest.mark.chaos
@pytest.mark.timeout(180)
async def test_an_engine_frozen_past_the_ack_wait(scene, prompts):
    await scene.open(delay_ms=2_000)

    async def freeze():
        scene.freeze()
        await asyncio.sleep(35)
        scene.thaw()

    async with scene.joined() as bus:
        results = await _run(bus, prompts(12), at=2, then=freeze)
    assert len(results) == 12
    await scene.verify(12)


@pytest.mark.chaos
@pytest.mark.timeout(120)
async def test_kills_while_the_provider_misbehaves(scene, prompts):
    await scene.open(delay_ms=100, faults="429=0.1,500=0.1,cut=0.1,stall=0.02", billed=9)
    async with scene.joined() as bus:
        running = asyncio.ensure_future(_run(bus, prompts(40)))
        for pause_s in (0.8, 0.8):
            await asyncio.wait({running}, timeout=pause_s)
            await scene.kill_engine()
            await scene.up()
        results = await running
    assert len(results) == 40
    assert sum(result.status == "completed" for result in results.values()) > 20
    await scene.verify(40)
