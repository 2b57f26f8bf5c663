"""Two adapters in processes of their own: one stands still, blocks, or dies with a reservation in its hands."""

from __future__ import annotations

import asyncio
import signal

import pytest

from farebox.core import events

ACK_WAIT_S = 3.0
NOTHING = {"point": "", "how": "nothing", "ack_wait_s": ACK_WAIT_S}
TASKS = 16


async def all_of(batch):
    async for _ in batch:
        pass
    return batch.results


def specs(policy="retry"):
    return [{"prompt": f"Apart {n}: count the owls.", "max_tokens": 400, "on_interrupt": policy} for n in range(TASKS)]


async def lived_through(scene, accident, then=None, *, policy="retry", delay_ms=800, late=False):
    scene.accident = NOTHING
    scene.options = ["--without", "adapter-far"]
    await scene.open(delay_ms=delay_ms, limit=4, billed=9)
    await scene.start_adapter(0, scene.adapter_url(), NOTHING | accident)
    await scene.start_adapter(1, scene.adapter_url(), NOTHING)
    async with scene.joined() as bus, asyncio.timeout(90):
        running = asyncio.ensure_future(all_of(bus.batch(specs(policy), parallel=8)))
        while not scene.happened.exists():
            await asyncio.sleep(0.02)
        if then is not None:
            await then()
        results = await running
        if late:
            while not any(isinstance(fact, events.LateResult) for fact in await scene.facts()):
                await asyncio.sleep(0.2)
    assert len(results) == TASKS
    return results, await scene.verify(TASKS)


async def taken_over(scene):
    """Until the other one ended the attempt. The server may hand it to the frozen one again: he asked for more, too."""
    async with asyncio.timeout(60):
        while not any(isinstance(fact, events.AttemptInterrupted) for fact in await scene.facts()):
            await asyncio.sleep(0.2)


@pytest.mark.chaos
@pytest.mark.fault(23)
@pytest.mark.timeout(150)
@pytest.mark.parametrize("policy", ["retry", "fail"])
@pytest.mark.parametrize("point", ["calling", "called"])
async def test_a_frozen_adapter_is_taken_over_and_its_paid_answer_is_booked_late(scene, point, policy):
    async def thaw():
        await taken_over(scene)
        scene.adapters[0].send_signal(signal.SIGCONT)

    _, seen = await lived_through(scene, {"point": point, "how": "freeze"}, thaw, policy=policy, late=True)
    assert seen["AttemptInterrupted"] >= 1
    assert seen["LateResult"] >= 1


@pytest.mark.chaos
@pytest.mark.fault(24)
@pytest.mark.timeout(150)
async def test_an_adapter_whose_loop_is_blocked_past_the_ack_wait_does_nothing_twice(scene):
    _, seen = await lived_through(scene, {"point": "calling", "how": "block", "seconds": ACK_WAIT_S * 8}, late=True)
    assert seen["AttemptInterrupted"] >= seen["LateResult"] > 0


@pytest.mark.chaos
@pytest.mark.fault(62)
@pytest.mark.timeout(150)
async def test_what_a_dead_adapter_had_taken_is_carried_by_another(scene):
    results, seen = await lived_through(scene, {"point": "taken", "how": "kill", "nth": 2}, delay_ms=100)
    assert [result.status for result in results.values()] == ["completed"] * TASKS
    assert seen["QuotaReserved"] == seen["QuotaSettled"]


@pytest.mark.chaos
@pytest.mark.fault(22)
@pytest.mark.timeout(120)
async def test_reservations_that_come_out_of_order_are_each_carried_once(scene):
    scene.accident = {"point": "", "how": "nothing", "shuffled": 2.0}
    await scene.open(delay_ms=50, limit=6)
    async with scene.joined() as bus, asyncio.timeout(60):
        results = await all_of(bus.batch(specs(), parallel=16))
    assert [result.status for result in results.values()] == ["completed"] * TASKS
    await scene.verify(TASKS)
    assert scene.calls() == TASKS
