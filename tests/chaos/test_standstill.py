"""Servers that stand still or stay away, clocks that jump, machines that sleep: calls go on or end, nothing is asked twice."""

from __future__ import annotations

import asyncio
import signal
import time

import psutil
import pytest

IDLE_SHARE = 0.15
"""An engine without its server may use so much of a core."""


async def all_of(batch):
    async for _ in batch:
        pass
    return batch.results


def specs(count, **options):
    return [{"prompt": f"Still {n}: count the owls.", "max_tokens": 400, **options} for n in range(count)]


@pytest.mark.chaos
@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "frozen_s", [pytest.param(7, marks=pytest.mark.fault(20)), pytest.param(60, marks=pytest.mark.fault(36))]
)
async def test_a_server_that_stands_still_in_a_batch(scene, frozen_s):
    await scene.open(delay_ms=300, limit=6)
    async with scene.joined() as bus:
        running = asyncio.ensure_future(all_of(bus.batch(specs(40), parallel=12)))
        await asyncio.wait({running}, timeout=1.2)
        server = scene.server()
        server.send_signal(signal.SIGSTOP)
        await asyncio.sleep(frozen_s)
        server.send_signal(signal.SIGCONT)
        async with asyncio.timeout(60):
            results = await running
    assert [result.status for result in results.values()] == ["completed"] * 40
    await scene.verify(40)
    assert scene.calls() == 40, "calls that ran went on; none was repeated"


@pytest.mark.chaos
@pytest.mark.fault(37)
@pytest.mark.timeout(180)
async def test_a_server_that_stays_away_is_waited_for_without_work_and_without_calls(scene, own_server):
    scene.login = {"url": own_server.url}
    scene.options = ["--server", own_server.url]
    await scene.open(delay_ms=200, limit=4)
    async with scene.joined() as bus:
        running = asyncio.ensure_future(all_of(bus.batch(specs(40), parallel=12)))
        await asyncio.wait({running}, timeout=1.5)
        own_server.kill()
        await asyncio.sleep(5)  # what was called comes to its end
        calls, engine = scene.calls(), psutil.Process(scene.engine.pid)
        began_s, before = time.monotonic(), engine.cpu_times()
        await asyncio.sleep(60)
        after = engine.cpu_times()
        used_s = after.user + after.system - before.user - before.system
        assert used_s < IDLE_SHARE * (time.monotonic() - began_s)
        assert scene.calls() == calls, "no call without its start in the log"
        own_server.start()
        async with asyncio.timeout(60):
            results = await running
    assert [result.status for result in results.values()] == ["completed"] * 40
    await scene.verify(40)
    assert scene.calls() == 40


@pytest.mark.chaos
@pytest.mark.fault(38)
@pytest.mark.timeout(90)
@pytest.mark.parametrize("seconds", [3600, -3600])
async def test_a_wall_clock_that_jumps_ends_nothing_and_dates_no_fact(scene, seconds):
    scene.accident = {"point": "calling", "how": "clock", "seconds": seconds, "nth": 5}
    await scene.open(delay_ms=300, limit=6, faults="429=0.2", more=["--fault-attempts", "1"])
    began_ms = time.time() * 1000
    async with scene.joined() as bus, asyncio.timeout(60):
        results = await all_of(bus.batch(specs(24, timeout_s=20), parallel=12))
    assert scene.happened.exists()
    assert [result.status for result in results.values()] == ["completed"] * 24
    assert all(began_ms - 10_000 < one.at_ms < time.time() * 1000 + 1000 for one in await scene.stored())
    scene.accident = None
    await scene.verify(24)


@pytest.mark.chaos
@pytest.mark.fault(39)
@pytest.mark.timeout(120)
async def test_a_machine_that_slept_past_the_time_of_its_calls_ends_them_at_waking_up(scene):
    await scene.open(delay_ms=3000, limit=6)
    async with scene.joined() as bus:
        running = asyncio.ensure_future(all_of(bus.batch(specs(6, timeout_s=5, on_interrupt="fail"), parallel=6)))
        await asyncio.wait({running}, timeout=1.5)
        asleep = [scene.server(), psutil.Process(scene.engine.pid), psutil.Process(scene.provider.pid)]
        for one in asleep:
            one.send_signal(signal.SIGSTOP)
        await asyncio.sleep(40)  # past the ack wait, too
        woke_s = time.monotonic()
        for one in asleep:
            one.send_signal(signal.SIGCONT)
        async with asyncio.timeout(30):
            results = await running
    assert time.monotonic() - woke_s < 15
    assert {result.status for result in results.values()} <= {"failed", "completed"}
    await scene.verify(6)
    assert scene.calls() == 6
