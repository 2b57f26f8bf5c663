"""Providers that refuse, charge and fail, and people who change their minds at the worst moment: one end, one bill."""

from __future__ import annotations

import asyncio
import random

import pytest

from farebox.core import events


async def all_of(batch):
    async for _ in batch:
        pass
    return batch.results


def specs(count, **options):
    return [{"prompt": f"Rough {n}: count the owls.", "max_tokens": 400, **options} for n in range(count)]


@pytest.mark.chaos
@pytest.mark.fault(40)
@pytest.mark.timeout(120)
async def test_a_storm_of_refusals_is_waited_out_and_counts_no_attempt_against_the_task(scene):
    await scene.open(delay_ms=50, limit=6, faults="429=0.5,503=0.15", more=["--fault-attempts", "6", "--retry-after-s", "0.3"])
    async with scene.joined() as bus, asyncio.timeout(100):
        results = await all_of(bus.batch(specs(40), parallel=20))
    assert [result.status for result in results.values()] == ["completed"] * 40
    await scene.verify(40)


@pytest.mark.chaos
@pytest.mark.fault(75)
@pytest.mark.timeout(90)
async def test_a_provider_that_charges_and_fails_is_asked_once_for_each_start_and_as_often_as_policy_says(scene):
    await scene.open(delay_ms=20, limit=6, faults="cut=1", billed=2)
    async with scene.joined() as bus, asyncio.timeout(60):
        results = await all_of(bus.batch([*specs(6, on_interrupt="retry"), *specs(12, on_interrupt="fail")[6:]], parallel=12))
    assert {result.status for result in results.values()} == {"failed"}
    seen = await scene.verify(12)
    assert scene.calls() == seen["TaskStarted"] == 6 * 2 + 6


@pytest.mark.chaos
@pytest.mark.fault(69)
@pytest.mark.timeout(120)
async def test_a_cancel_that_races_the_end_leaves_one_end_and_one_bill(scene):
    await scene.open(delay_ms=200, limit=8)
    dice = random.Random(69)
    async with scene.joined() as bus:

        async def one(spec):
            handle = await bus.submit(**spec)
            await asyncio.sleep(dice.uniform(0, 0.5))
            await handle.cancel()
            return await handle.result()

        async with asyncio.timeout(60):
            results = await asyncio.gather(*(one(spec) for spec in specs(40)))
    assert {result.status for result in results} == {"cancelled", "completed"}
    await scene.verify(40)


@pytest.mark.chaos
@pytest.mark.fault(70)
@pytest.mark.timeout(120)
@pytest.mark.parametrize("after_s", [1.6, 2.0, 2.4])
async def test_an_engine_killed_around_the_moment_at_which_it_wanted_to_wake_wakes_once(scene, after_s):
    await scene.open(delay_ms=20, limit=8, faults="429=1", more=["--fault-attempts", "3", "--retry-after-s", "2"])
    async with scene.joined() as bus:
        running = asyncio.ensure_future(all_of(bus.batch(specs(8, timeout_s=120), parallel=8)))
        async with asyncio.timeout(20):
            while not any(isinstance(fact, events.AttemptFailed | events.QuotaDeferred) for fact in await scene.facts()):
                await asyncio.wait({running}, timeout=0.1)
        await asyncio.wait({running}, timeout=after_s)
        await scene.kill_engine()
        await scene.up()
        async with asyncio.timeout(60):
            results = await running
    assert [result.status for result in results.values()] == ["completed"] * 8
    await scene.verify(8)
