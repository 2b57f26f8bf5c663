"""Two whole engines over one server and one log, a platform that takes one call at a time: who writes first has the slot."""

from __future__ import annotations

import asyncio
import sys

import pytest

from farebox import client, discovery
from farebox.core import events, ids
from farebox.rehearsal.books import prices
from farebox.rehearsal.server import StandIn
from farebox.runtime.store import Store

MODEL = "gpt-5-mini"
TASKS = 40


class Watched(StandIn):
    """A provider that remembers how many of its answers were open at once."""

    most = 0

    async def _say(self, client, saying):
        self.most = max(self.most, self.open + 1)
        await super()._say(client, saying)


@pytest.fixture
async def provider(tmp_path):
    made = Watched(models=(MODEL,), delay_ms=60, books=tmp_path / "books.jsonl", prices=prices(f"{MODEL}=0.25/2"))
    async with made:
        yield made


async def second_engine(scene, url):
    """Another engine with a store and a key of its own, on the same server."""
    store = scene.folder / "second"
    with (scene.folder / "second.log").open("ab") as log:
        scene.adapters[2] = process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "farebox", "up", "--json", "--server", url, "--store", str(store),
            "--config", str(scene.folder / "farebox.toml"),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=log, env=scene._environ,
        )  # fmt: skip
    line = await asyncio.wait_for(process.stdout.readline(), 20)
    assert line, (scene.folder / "second.log").read_text()
    return store


async def run(bus, name):
    batch = bus.batch(
        [{"prompt": f"Race {name} {n}: count the owls.", "max_tokens": 400} for n in range(TASKS // 2)], parallel=20
    )
    async for _ in batch:
        pass
    return [result.status for result in batch.results.values()]


def said_by(key, facts):
    """The reservations that the engine with this key said: an id is made with the key of who says it."""
    return {
        fact.task
        for fact in facts
        if isinstance(fact, events.QuotaReserved)
        and fact.id
        in {
            ids.of_fact(key, "quota", f"{fact.chain}.{fact.task}.{fact.attempt}.{fact.batch}\n{fact.cause}", "QuotaReserved", n)
            for n in range(50)
        }
    }


@pytest.mark.chaos
@pytest.mark.fault(61)
@pytest.mark.timeout(90)
async def test_two_engines_that_race_for_one_slot_never_make_two_calls_at_once(scene, provider, own_server):
    scene.settle(provider.url, limit=1)
    scene.login, scene.options = {"url": own_server.url}, ["--server", own_server.url]
    await scene.up()
    second = await second_engine(scene, own_server.url)
    async with scene.joined() as one, client.joined(discovery.of_store(second)) as two, asyncio.timeout(40):
        ends = await asyncio.gather(run(one, "one"), run(two, "two"))
    assert ends == [["completed"] * (TASKS // 2)] * 2
    assert provider.most == 1, "two calls at once"
    assert scene.calls() == TASKS
    facts = await scene.facts()
    open_slots = 0
    for fact in facts:
        open_slots += isinstance(fact, events.QuotaReserved) - isinstance(fact, events.QuotaSettled)
        assert 0 <= open_slots <= 1, fact
    first_said, second_said = (said_by(Store(place).key(), facts) for place in (scene.store, second))
    assert len(first_said) + len(second_said) == TASKS
    assert min(len(first_said), len(second_said)) > 0, "both engines gave the slot away"
    assert len({fact.adapter for fact in facts if isinstance(fact, events.TaskStarted)}) == 2, "and both made calls"
    await scene.verify(TASKS)
