"""The log fills up: no new tasks from nine tenths on, those it has come to their ends, and with more room it goes on."""

from __future__ import annotations

import asyncio
import contextlib
import sys

import pytest

from farebox.core import events, subjects, wire
from farebox.core.errors import LogFilling, LogFull
from farebox.log.port import Entry, Fence

LOG_MIB = 2
MANY = 400
SPECS = [{"prompt": f"Filling {n}: count the owls. {'x' * 1500}", "max_tokens": 50} for n in range(MANY)]


async def drained(batch):
    async for _ in batch:
        pass


async def said_by(scene, *words):
    """Run a command; return its exit code and what it says to the person."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "farebox", *words, "--store", str(scene.store), "--config", str(scene.folder / "farebox.toml"),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env=scene._environ,
    )  # fmt: skip
    out, _ = await asyncio.wait_for(child.communicate(), 30)
    return child.returncode, out.decode()


async def grown(scene, log_mib):
    """Stop the engine, let its log grow, start it."""
    assert await scene.stop() == 0
    config = scene.folder / "farebox.toml"
    config.write_text(config.read_text().partition("[bus]")[0] + f"[bus]\nlog_mib = {log_mib}\n")
    await scene.up()


@pytest.mark.chaos
@pytest.mark.fault(18)
@pytest.mark.timeout(120)
async def test_a_log_that_fills_up_ends_what_it_has_takes_nothing_new_and_goes_on_with_more_room(scene, monkeypatch):
    monkeypatch.setenv("FAREBOX_BUS__LOG_MIB", str(LOG_MIB))
    scene._environ["FAREBOX_BUS__LOG_MIB"] = str(LOG_MIB)
    await scene.open(delay_ms=20, limit=8)
    async with scene.joined() as bus, asyncio.timeout(60):
        batch = bus.batch(SPECS, parallel=8)
        with pytest.raises(LogFilling, match="takes no new tasks; those it has go on to their ends"):
            await drained(batch)
        ended = [one for one in batch.results.values() if one.status == "completed"]
        assert len(ended) + batch.unsent == MANY
        assert len(ended) > 50
        with pytest.raises(LogFilling, match="log_mib in farebox"):
            await bus.submit("One more.")
        about = await bus.info()
    assert 90 <= about["log"]["bytes"] * 100 / about["log"]["bytes_max"] < 100
    assert (about["warning"]["code"], about["trouble"]) == ("FB114", None)
    await refused_on_the_command_line(scene)
    await scene.quiet()
    assert sum(isinstance(fact, events.TaskSubmitted) for fact in await scene.facts()) == len(ended)
    del scene._environ["FAREBOX_BUS__LOG_MIB"]
    await grown(scene, LOG_MIB * 8)
    async with scene.joined() as bus, asyncio.timeout(60):
        again = bus.batch(resume=batch.id)
        await drained(again)
        assert [one.status for one in again.results.values()] == ["completed"] * MANY
        assert (await bus.info())["warning"] is None
    await scene.verify(MANY)
    assert scene.calls() == MANY


@pytest.mark.chaos
@pytest.mark.fault(18)
@pytest.mark.timeout(120)
async def test_an_engine_over_a_log_without_any_room_waits_stops_when_told_and_ends_everything_when_there_is_some(scene):
    """The last tenth is gone, too: by a writer that asks nobody, or by very large answers."""
    scene._environ["FAREBOX_BUS__LOG_MIB"] = str(LOG_MIB)
    await scene.open(delay_ms=20, limit=2)
    async with scene.joined() as bus, asyncio.timeout(30):
        handles = [await bus.submit(f"Without room {n}: count the owls.") for n in range(40)]
        strangers = await fill(scene)
        assert (await bus.info())["warning"]["code"] == "FB114"
    del scene._environ["FAREBOX_BUS__LOG_MIB"]
    async with asyncio.timeout(40):
        await grown(scene, LOG_MIB * 8)
    async with scene.joined() as bus, asyncio.timeout(60):
        for handle in handles:
            assert (await bus.handle(handle.chain_id, handle.task_id).result()).status == "completed"
    await scene.verify(len(handles) + strangers)


async def fill(scene):
    """Submit past all questions until nothing fits any more. Returns how many tasks that were."""
    count = 0
    async with scene.as_init() as log:
        with contextlib.suppress(LogFull):
            while True:
                name, prompt = f"stranger-{count}", f"Stranger {count} {'y' * 60_000}"
                fact = events.TaskSubmitted(id=name, chain=name, task=name, prompt=prompt, max_tokens=50)
                subject = subjects.subject_of("client", fact)
                await log.append([Entry(subject, wire.encode(fact), Fence(subject, 0))])
                count += 1
    return count


async def refused_on_the_command_line(scene):
    file = scene.folder / "more.jsonl"
    file.write_text('{"prompt": "More."}\n')
    before = scene.calls()
    for words in (("submit", "One more."), ("submit", "One more.", "--detach"), ("batch", str(file))):
        code, said = await said_by(scene, *words)
        assert code == 3, said
        assert said.count("FB114") == 1, said
        assert "takes no new tasks" in said
    code, said = await said_by(scene, "status")
    assert code == 0
    assert said.count("FB114 The log is 9") == 1, said
    assert scene.calls() == before
