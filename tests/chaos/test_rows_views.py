"""Flipped bits in the file of the views of an engine that stopped: noticed, or harmless, and never there after a rebuild."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import suppress

import pytest

from farebox import client, discovery, engines
from farebox.config import load, platform_kinds
from farebox.core.errors import FareboxError
from farebox.views.desk import Desk

FLIPS = 40
WHOLE_START = 10
"""Each so many flips the whole engine starts; else only where opening the views alone does not move them aside."""
TASKS = 24


class Damaged:
    """A stopped store whose views are put back before each flip."""

    def __init__(self, scene) -> None:
        self.scene = scene
        self.config = load(file=scene.folder / "farebox.toml", kinds=platform_kinds())
        self.folder = scene.store / "views"
        self.whole = {path.name: path.read_bytes() for path in self.folder.iterdir()}
        self.dice = random.Random(57)

    def flip(self, name: str) -> None:
        """Put all files back and flip one bit of this one."""
        for path in self.folder.iterdir():
            path.unlink()
        for one, body in self.whole.items():
            (self.folder / one).write_bytes(body)
        body = bytearray(self.whole[name])
        bit = self.dice.randrange(len(body) * 8)
        body[bit // 8] ^= 1 << bit % 8
        (self.folder / name).write_bytes(body)

    @property
    def moved_aside(self) -> bool:
        return any("damaged" in path.name for path in self.folder.iterdir())

    async def seen(self, flips: int, name: str, good: str) -> Counter:
        """Flip, start, ask, rebuild, so many times. Returns what the starts made of it."""
        seen = Counter()
        for number in range(flips):
            self.flip(name)
            if number % WHOLE_START and await asyncio.to_thread(self.refused_at_opening):
                seen["moved aside"] += 1
                continue
            said, rebuilt = await self.answers()
            assert rebuilt == good
            assert said in {good, None}, "a wrong answer"
            seen["moved aside" if self.moved_aside else "refused" if said is None else "the same"] += 1
        return seen

    def refused_at_opening(self) -> bool:
        """Whether the views that an engine would open begin anew, with nothing of what was there."""
        desk = Desk(self.folder / "ledger.duckdb")
        try:
            assert bool(desk.notices) == self.moved_aside
            assert not self.moved_aside or desk.checkpoint.seq == 0
            return self.moved_aside
        finally:
            desk.close()

    async def answers(self):
        """What a start makes of it: the digest, None where a question is refused in one line; and that of a rebuild."""
        async with engines.offline(self.scene.store, self.config) as hosted:
            said = None
            with suppress(FareboxError):
                said = await hosted.engine.projection.ask(hosted.engine.projection.views.digest)
            async with client.joined(discovery.of_store(self.scene.store)) as bus:
                return said, (await bus.replay())["digest"]


async def run(scene):
    """A batch, and the digest of what the views say of it."""
    await scene.open(delay_ms=20, limit=8)
    async with scene.joined() as bus:
        batch = bus.batch([{"prompt": f"Flip {n}: count the owls.", "max_tokens": 400} for n in range(TASKS)], parallel=12)
        async for _ in batch:
            pass
        await scene.quiet()
        return (await bus.replay())["digest"]


@pytest.mark.chaos
@pytest.mark.fault(57)
@pytest.mark.timeout(120)
async def test_each_of_forty_flips_after_a_stop_is_noticed_by_the_start(scene):
    await run(scene)
    assert await scene.stop() == 0
    place = Damaged(scene)
    good, again = await place.answers()
    assert good == again
    assert await place.seen(FLIPS, "ledger.duckdb", good) == {"moved aside": FLIPS}


@pytest.mark.chaos
@pytest.mark.fault(57)
@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", ["ledger.duckdb", "ledger.duckdb.wal"])
async def test_a_flip_after_a_kill_is_noticed_or_changes_nothing(scene, name):
    """No seal is left then: the checksums of DuckDB itself have to do, also at the first question."""
    await run(scene)
    await scene.kill_engine()
    place = Damaged(scene)
    assert "ledger.duckdb.sha256" not in place.whole
    place.whole.setdefault("ledger.duckdb.wal", b"")
    good = (await place.answers())[1]
    seen = await place.seen(FLIPS // 2, name, good)
    assert seen.total() == FLIPS // 2
