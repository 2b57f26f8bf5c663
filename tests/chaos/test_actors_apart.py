"""One actor in a process of its own stands still past the ack wait, or dies and is started again: at hooked steps of each."""

from __future__ import annotations

import asyncio
import json
import random
import signal

import pytest

from farebox import discovery
from farebox.core import events
from farebox.runtime.store import Store

ACK_WAIT_S = 2.0
NOTHING = {"point": "", "how": "nothing", "ack_wait_s": ACK_WAIT_S}
TASKS = 16
READY_S = 60
STEPS = {
    "router": ("before router.routed", "after router.routed"),
    "quota": ("before quota.reserved", "after quota.reserved", "before quota.settled", "after quota.settled"),
    "adapter-far": ("taken", "after adapter.started", "marked", "calling", "called", "kept", "after adapter.completed"),
    "cost": ("before cost.recorded", "after cost.recorded"),
    "aggregator": ("before aggregator.batch_completed", "after aggregator.batch_completed"),
}
CASES = [(actor, point) for actor, points in STEPS.items() for point in points]
ONCE = "batch_completed"
"""What a batch says once: there the accident happens the first time."""


def specs():
    return [{"prompt": f"Actors apart {n}: count the owls.", "max_tokens": 400, "on_interrupt": "retry"} for n in range(TASKS)]


async def all_of(batch):
    async for _ in batch:
        pass
    return batch.results


async def started(scene, actor, accident):
    """Start the actor alone, as its own user, with a store of its own."""
    seed = Store(scene.store).seeds([actor])[actor]
    url = discovery.of_store(scene.store).url.replace("nats://", f"nats://{actor}:{seed}@")
    folder = scene.folder / actor
    folder.mkdir(exist_ok=True)
    with (folder / "log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *scene._program(accident), "up", "--json", "--only", actor, "--server", url, "--store", str(folder / "store"),
            "--config", str(scene.folder / "farebox.toml"),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=log, env=scene._with(accident),
        )  # fmt: skip
    scene.adapters[actor] = process
    line = await asyncio.wait_for(process.stdout.readline(), READY_S)
    assert json.loads(line or b"{}").get("only") == [actor], (line, (folder / "log").read_text())
    return process


async def mended(scene, actor, how, process):
    """What a supervisor does."""
    if how == "freeze":
        await asyncio.sleep(ACK_WAIT_S * 1.5)
        process.send_signal(signal.SIGCONT)
    else:
        assert await asyncio.wait_for(process.wait(), 60) == -signal.SIGKILL
        await started(scene, actor, NOTHING)


async def until_summed(scene):
    """Until the batch has its sum. Returns how many there are."""
    async with asyncio.timeout(60):
        while not (sums := sum(isinstance(fact, events.BatchCompleted) for fact in await scene.facts())):
            await asyncio.sleep(0.2)
    return sums


@pytest.mark.chaos
@pytest.mark.timeout(240)
@pytest.mark.parametrize("how", ["freeze", "kill"])
@pytest.mark.parametrize(("actor", "point"), CASES)
async def test_an_actor_apart_that_stops_at_a_step_and_comes_back_loses_and_doubles_nothing(scene, actor, point, how):
    nth = 1 if ONCE in point else random.Random(f"{point} {how}").randint(1, TASKS // 2)
    scene.accident = NOTHING
    scene.options = ["--without", actor]
    await scene.open(delay_ms=50, limit=4, billed=5)
    process = await started(scene, actor, NOTHING | {"point": point, "how": how, "nth": nth})
    async with scene.joined() as bus, asyncio.timeout(120):
        running = asyncio.ensure_future(all_of(bus.batch(specs(), parallel=8)))
        while not scene.happened.exists():
            await asyncio.sleep(0.02)
        await mended(scene, actor, how, process)
        results = await running
    assert [result.status for result in results.values()] == ["completed"] * TASKS
    assert await until_summed(scene) == 1
    seen = await scene.verify(TASKS)
    assert seen["AttemptInterrupted"] <= (4 if (actor, how) == ("adapter-far", "kill") else 0), "nobody else held a call"
    assert scene.calls() <= TASKS + seen["AttemptInterrupted"]
