"""Kills spread at random over engine, adapters and servers while tasks run on a provider that keeps its own books.

uv run pytest -m campaign -s tests/chaos/test_campaign.py      200 kills, 5,000 tasks; a table at the end
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from decimal import Decimal

import psutil
import pytest

from farebox.core import events
from farebox.core.digest import mark
from farebox.core.errors import BusError
from farebox.log.jetstream import JetStreamLog
from farebox.rehearsal.books import read as read_books

ADAPTERS = 2


class Campaign:
    """A scene whose adapters run apart, a batch over it, and somebody who kills."""

    def __init__(self, scene, seed: int) -> None:
        self.scene = scene
        self.random = random.Random(seed)
        self.kills: Counter[str] = Counter()

    def specs(self, tasks: int) -> list[dict]:
        """Every third task must not be called twice, whatever happens."""
        return [
            {"prompt": f"Task {n}: count the owls.", "max_tokens": 400, "on_interrupt": "fail" if n % 3 == 0 else "retry"}
            for n in range(tasks)
        ]

    async def run(self, kills: int, tasks: int, adapter_url, victims) -> dict:
        """Run the batch and kill until `kills` are done or the batch is."""
        for number in range(ADAPTERS):
            await self.scene.start_adapter(number, adapter_url)
        async with self.scene.joined() as bus:
            batch = bus.batch(self.specs(tasks), parallel=40)
            running = asyncio.ensure_future(self._all(batch))
            while not running.done() and self.kills.total() < kills:
                await asyncio.wait({running}, timeout=self.random.uniform(0.1, 1.0))
                victim = self.random.choice(victims)
                await getattr(self, f"_kill_{victim}")(adapter_url)
                self.kills[victim] += 1
            async with asyncio.timeout(120 + tasks / 5):
                return await running

    @staticmethod
    async def _all(batch) -> dict:
        async for _ in batch:
            pass
        return batch.results

    async def _kill_engine(self, _url) -> None:
        await self.scene.kill_engine()
        await self.scene.up()

    async def _kill_joined_engine(self, _url) -> None:
        self.scene.engine.kill()
        await self.scene.engine.wait()
        await self.scene.up()

    async def _kill_adapter(self, url) -> None:
        number = self.random.randrange(ADAPTERS)
        await self.scene.kill_adapter(number)
        await self.scene.start_adapter(number, url)

    async def _kill_server(self, _url) -> None:
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(ValueError, psutil.NoSuchProcess):
                    self.scene.server().kill()
                    return
                await asyncio.sleep(0.02)

    def check_calls(self, facts) -> dict[str, object]:
        """Hold the log against the provider's books: calls, orders to repeat, money. Returns what is worth printing."""
        started = Counter(fact.task for fact in facts if isinstance(fact, events.TaskStarted))
        by_mark = {mark(f.prompt, f.system): f for f in facts if isinstance(f, events.TaskSubmitted)}
        calls, charged, billed = Counter(), Counter(), Counter()
        for line in read_books(self.scene.books):
            calls[line.mark] += 1
            charged[line.mark] += line.charged
            billed[line.mark] += Decimal(line.usd or 0) if line.charged else 0
        for one, count in calls.items():
            task = by_mark[one]
            assert count <= started[task.task], f"{task.task}: {count} calls, {started[task.task]} intents"
            assert charged[one] <= 1 or task.on_interrupt == "retry", f"{task.task} was paid {charged[one]} times"
        known, possible = self._booked(facts)
        for one, usd in billed.items():
            task = by_mark[one].task
            assert known[task] <= usd <= known[task] + possible[task], (task, known[task], usd, possible[task])
        ends = Counter(f.status for f in facts if isinstance(f, events.TaskCompleted))
        return {
            "tasks": len(by_mark),
            "ended": dict(ends),
            "kills": dict(self.kills),
            "calls": sum(calls.values()),
            "paid a second time, ordered by policy retry": sum(count > 1 for count in charged.values()),
            "interrupted": sum(isinstance(fact, events.AttemptInterrupted) for fact in facts),
            "late results": sum(isinstance(fact, events.LateResult) for fact in facts),
            "provider's books": f"${sum(billed.values())}",
            "booked": f"${sum(known.values())} and at most ${sum(possible.values())} more",
            "facts": len(facts),
        }

    @staticmethod
    def _booked(facts) -> tuple[Counter, Counter]:
        """What was booked for each task: as known, and as at most."""
        known, possible = Counter(), Counter()
        last = {(f.task, f.attempt): f for f in facts if isinstance(f, events.CostRecorded)}
        for fact in last.values():
            (possible if fact.status == "possible" else known)[fact.task] += Decimal(fact.paid_usd or 0)
        return known, possible


def _print(title, found) -> None:
    print(f"\n{title}")
    for name, value in found.items():
        print(f"  {name}: {value}")


async def _embedded(scene, kills, tasks, delay_ms):
    scene.options = ["--without", "adapter-far"]
    await scene.open(delay_ms=delay_ms, limit=8, billed=50)
    campaign = Campaign(scene, seed=kills)
    results = await campaign.run(kills, tasks, scene.adapter_url(), ("engine", "server", "adapter", "adapter"))
    assert len(results) == tasks
    await scene.verify(tasks)
    found = campaign.check_calls(await scene.facts())
    _print("kill -9 of engine, adapters and server", found)
    return campaign


@pytest.mark.fault(75)
@pytest.mark.chaos
@pytest.mark.timeout(240)
async def test_twenty_kills_over_engine_adapters_and_server(scene):
    campaign = await _embedded(scene, 20, 300, 300)
    assert campaign.kills.total() >= 15


@pytest.mark.campaign
@pytest.mark.timeout(2400)
async def test_two_hundred_kills_while_five_thousand_tasks_run(scene):
    campaign = await _embedded(scene, 200, 5000, 600)
    assert campaign.kills.total() == 200


async def _leader(scene) -> str:
    """The server that leads the log now; while one is being chosen there is none."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(BusError):
                log = await JetStreamLog.connect(**scene.login)
                try:
                    if leader := (await log._streams.info("FAREBOX"))["cluster"].get("leader"):
                        return leader
                finally:
                    await log.close()
            await asyncio.sleep(0.2)


async def _on_a_cluster(scene, cluster, account, kills, tasks):
    """The leader of the log is killed again and again; engine and adapters in between."""
    url = account.url.replace("nats://", f"nats://{account.user}:{account.password}@", 1)
    scene.login = {"url": account.url, "user": account.user, "password": account.password}
    scene.options = ["--without", "adapter-far", "--server", url]
    await scene.open(delay_ms=400, limit=8, billed=50)
    campaign = Campaign(scene, seed=kills)

    async def kill_leader(_url):
        leader = await _leader(scene)
        for node in cluster.nodes:
            if node.directory.name == leader:
                node.kill()
                await asyncio.sleep(campaign.random.uniform(0, 2))  # how long it stays away is part of the campaign
                await asyncio.to_thread(node.start)

    campaign._kill_leader = kill_leader
    results = await campaign.run(kills, tasks, url, ("leader", "leader", "joined_engine", "adapter"))
    assert len(results) == tasks
    await scene.verify(tasks)
    _print("kill -9 of the leader of three servers, engine and adapters", campaign.check_calls(await scene.facts()))
    return campaign


@pytest.mark.chaos
@pytest.mark.timeout(300)
async def test_a_cluster_whose_leader_is_killed_again_and_again(scene, cluster, cluster_account):
    campaign = await _on_a_cluster(scene, cluster, cluster_account, 10, 200)
    assert campaign.kills["leader"] >= 3
