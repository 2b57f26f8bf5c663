"""What a durable knew is lost, damaged or set back: the log says what was done, so nothing is called again."""

from __future__ import annotations

import asyncio

import pytest

from farebox.log.names import durable_of

OBS = "nats/jetstream/LOG/streams/FAREBOX/obs/adapter-far"
TASKS = 12


async def ran(scene, name, count):
    specs = [{"prompt": f"{name} {n}: count the owls.", "max_tokens": 400} for n in range(count)]
    async with scene.joined() as bus, asyncio.timeout(40):
        batch = bus.batch(specs, parallel=8)
        async for _ in batch:
            pass
    assert [result.status for result in batch.results.values()] == ["completed"] * count


async def until_handed_out(scene):
    """Until nobody holds a reservation any more: all that came again was acked."""
    async with scene.as_init() as log, asyncio.timeout(30):
        while True:
            state = await log._streams.consumer(durable_of("far"))
            if state["num_pending"] == state["num_ack_pending"] == 0:
                return state
            await asyncio.sleep(0.1)


@pytest.mark.chaos
@pytest.mark.fault(8)
@pytest.mark.timeout(90)
@pytest.mark.parametrize("damage", ["o.dat removed", "o.dat garbage", "meta.inf garbage", "all removed"])
async def test_a_durable_that_lost_its_memory_costs_no_call(scene, damage):
    await scene.open(delay_ms=20)
    await ran(scene, "Before", TASKS)
    assert await scene.stop() == 0
    folder = scene.store / OBS
    name, _, how = damage.partition(" ")
    for path in [folder / name] if name != "all" else list(folder.iterdir()):
        if how == "removed":
            path.unlink()
        else:
            path.write_bytes(b"\x07garbage" * 8)
    await scene.up()
    state = await until_handed_out(scene)
    assert state["delivered"]["consumer_seq"] >= TASKS, "it began anew"
    assert scene.calls() == TASKS
    await ran(scene, "After", 4)
    await scene.verify(TASKS + 4)
    assert scene.calls() == TASKS + 4


@pytest.mark.chaos
@pytest.mark.fault(9)
@pytest.mark.timeout(90)
async def test_a_durable_that_an_operator_makes_anew_costs_no_call_and_the_engine_goes_on_with_it(scene):
    await scene.open(delay_ms=20)
    await ran(scene, "Before", TASKS)
    async with scene.as_init() as log:
        await log._streams.drop(durable_of("far"))
        await log.prepare("always", ["far"])
    await until_handed_out(scene)
    assert scene.calls() == TASKS
    await ran(scene, "After", 4)
    await scene.verify(TASKS + 4)
    assert scene.calls() == TASKS + 4
