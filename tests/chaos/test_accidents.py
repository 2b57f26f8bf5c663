"""Accidents at every step of every actor, against real processes; the ten invariants and the provider's books afterwards.

An accident is a kill -9, a standstill past the ack wait, or a kill of the server, at one point (inside_accident.py).
"""

from __future__ import annotations

import asyncio
import contextlib

import psutil
import pytest

from farebox.core.errors import BusError

ACK_WAIT_S = 3.0
TASKS = 16
FAULTS = "refuse=0.15,500=0.1,cut=0.15,error=0.05"
RARE = ("router.completed", "batch_completed", "failed", "interrupted")
"""Points that a run passes a few times only: there it happens the first time."""
ROUTER = ("before router.routed", "after router.routed", "before router.completed", "after router.completed", "read")
QUOTA = ("before quota.reserved", "after quota.reserved", "before quota.settled", "after quota.settled")
VIEWS = ("views before", "views within", "views after", "witness before", "witness after")
SUMS = (
    "before cost.recorded", "after cost.recorded",
    "before aggregator.batch_completed", "after aggregator.batch_completed", *VIEWS,
)  # fmt: skip
ADAPTER = (
    "taken", "before adapter.started", "after adapter.started", "marked", "calling", "called", "kept",
    "before adapter.completed", "after adapter.completed", "before adapter.failed", "after adapter.failed",
    "before adapter.interrupted", "after adapter.interrupted",
)  # fmt: skip


def specs():
    """Some may be repeated, some must not be: those end by the router when their answer was cut."""
    return [
        {"prompt": f"Accident {n}: count the owls.", "max_tokens": 400, "on_interrupt": "fail" if n % 3 == 0 else "retry"}
        for n in range(TASKS)
    ]


async def all_of(batch):
    async for _ in batch:
        pass
    return batch.results


async def happened(scene, running):
    """Until the accident has happened. It must happen before all is over."""
    async with asyncio.timeout(40):
        while not scene.happened.exists():
            assert not running.done() or not running.exception(), running.exception()
            await asyncio.sleep(0.02)


async def mended(scene, process, how):
    """What a supervisor does: who is dead is started, who stood still goes on after the ack wait."""
    if how == "kill":
        await asyncio.wait_for(process.wait(), 10)
        await scene.up()
    elif how == "freeze":
        one = psutil.Process(process.pid)
        async with asyncio.timeout(10):
            while one.status() != psutil.STATUS_STOPPED:
                await asyncio.sleep(0.02)
        await asyncio.sleep(ACK_WAIT_S + 1.5)
        scene.thaw()
    else:
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(BusError):
                    async with scene.as_init():
                        return
                await asyncio.sleep(0.1)


async def lived_through(scene, point, how):
    nth = 1 if point.endswith(RARE) else 7 if point in VIEWS else 3  # a start writes views and witness a few times itself
    scene.accident = {"point": point, "how": how, "nth": nth, "ack_wait_s": ACK_WAIT_S}
    await scene.open(delay_ms=80, limit=4, billed=9, faults=FAULTS)
    async with scene.joined() as bus:
        running = asyncio.ensure_future(all_of(bus.batch(specs(), parallel=6)))
        await happened(scene, running)
        await mended(scene, scene.engine, how)
        async with asyncio.timeout(60):
            results = await running
    assert len(results) == TASKS
    seen = await scene.verify(TASKS)
    with contextlib.suppress(ValueError):
        assert await scene.stop() == 0
    return seen


@pytest.mark.chaos
@pytest.mark.fault(1)
@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", ["kill", "freeze", "server"])
@pytest.mark.parametrize("point", ROUTER)
async def test_an_accident_at_a_step_of_the_router(scene, point, how):
    await lived_through(scene, point, how)


@pytest.mark.chaos
@pytest.mark.fault(3)
@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", ["kill", "freeze", "server"])
@pytest.mark.parametrize("point", QUOTA)
async def test_an_accident_at_a_step_of_quota(scene, point, how):
    seen = await lived_through(scene, point, how)
    assert seen["QuotaReserved"] == seen["QuotaSettled"]


@pytest.mark.chaos
@pytest.mark.fault(4)
@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", ["kill", "freeze", "server"])
@pytest.mark.parametrize("point", SUMS)
async def test_an_accident_at_a_step_of_cost_sums_or_views(scene, point, how):
    seen = await lived_through(scene, point, how)
    assert seen["BatchCompleted"] == 1


@pytest.mark.chaos
@pytest.mark.fault(7)
@pytest.mark.timeout(120)
@pytest.mark.parametrize("point", ["acking", "acked"])
async def test_a_server_killed_right_at_an_ack_hands_out_again_what_is_not_called_again(scene, point):
    await lived_through(scene, point, "server")


@pytest.mark.chaos
@pytest.mark.fault(2)
@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", ["kill", "freeze", "server"])
@pytest.mark.parametrize("point", [*ADAPTER, "acking", "acked"])
async def test_an_accident_at_a_step_of_an_adapter(scene, point, how):
    await lived_through(scene, point, how)
