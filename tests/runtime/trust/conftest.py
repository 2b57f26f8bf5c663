"""Stores with a real log of three blocks, and the damage a disk, a person or an old copy does to it."""

from __future__ import annotations

import shutil
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from farebox import discovery, engines
from farebox.client import joined
from farebox.config import load, platform_kinds
from farebox.core import events, subjects, wire
from farebox.core.errors import FareboxError
from farebox.log.jetstream import JetStreamLog
from farebox.log.port import Entry, Fence
from farebox.runtime.embedded import EmbeddedServer
from farebox.runtime.founding import STREAMS
from farebox.runtime.store import Store

FILLING_BYTES = 200_000
SETTINGS = """
[platforms.rehearsal]
kind = "rehearsal"
billing = "rehearsal"
options = { wire = "inline" }
"""


class Place:
    """A store, and what one can do to it while no engine runs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = path / "store"
        self._settings = path / "farebox.toml"

    @property
    def config(self):
        self._settings.write_text(SETTINGS)
        return load(file=self._settings, kinds=platform_kinds())

    @property
    def stream(self) -> Path:
        return self.store / STREAMS / "FAREBOX"

    @property
    def blocks(self) -> list[Path]:
        return sorted((self.stream / "msgs").glob("*.blk"), key=lambda path: int(path.stem))

    def forget_index(self) -> None:
        """As after a kill: a clean stop writes down what a kill leaves to be found out."""
        (self.stream / "msgs" / "index.db").unlink(missing_ok=True)

    def copied(self, path: Path) -> Place:
        shutil.copytree(self.path, path)
        return Place(path)

    @asynccontextmanager
    async def up(self):
        async with engines.embedded(self.store, self.config) as hosted:
            yield hosted

    async def run(self, *prompts: str) -> list[str]:
        """Start an engine, run tasks, stop it. Returns the answers."""
        async with self.up(), joined(discovery.of_store(self.store)) as client:
            return [(await (await client.submit(text, platform="rehearsal")).result()).output for text in prompts]

    async def refusal(self) -> FareboxError:
        """Return why an engine does not start."""
        with pytest.raises(FareboxError) as refused:
            async with self.up():
                pass
        return refused.value

    @asynccontextmanager
    async def as_init(self):
        """The server alone, and a connection that may do everything."""
        place = Store(self.store)
        place.open()
        server = EmbeddedServer(place, ["rehearsal"])
        try:
            await server.start()
            login = server.login("init")
            log = await JetStreamLog.connect(login.url, user="init", password=login.password, inbox_prefix="_INBOX_init")
            try:
                yield log
            finally:
                await log.close()
        finally:
            await server.stop()
            place.close()

    async def fill(self, count: int, kind: str = "filling") -> None:
        """Large submissions that no platform takes, so that the log has several blocks."""
        async with self.as_init() as log:
            for number in range(count):
                name = f"{kind}-{number:04d}"
                fact = events.TaskSubmitted(id=name, chain=name, task=name, prompt="x" * FILLING_BYTES, platform="nobody")
                subject = subjects.subject_of("client", fact)
                await log.append([Entry(subject, wire.encode(fact), Fence(subject, 0))])


async def _made(path: Path, count: int) -> Place:
    path.mkdir()
    place = Place(path)
    await place.run("first")
    await place.fill(count)
    await place.run("second")
    return place


@pytest.fixture(scope="session")
def masters(tmp_path_factory):
    """Finished stores, made once."""
    return {}, tmp_path_factory.mktemp("masters")


@pytest.fixture
async def place(masters, tmp_path) -> Place:
    """A store with facts in three blocks, stopped in order."""
    made, folder = masters
    if "large" not in made:
        made["large"] = await _made(folder / "large", 100)
    return made["large"].copied(tmp_path / "place")


@pytest.fixture
async def small(masters, tmp_path) -> Place:
    """A store with the facts of two tasks, stopped in order."""
    made, folder = masters
    if "small" not in made:
        made["small"] = await _made(folder / "small", 0)
    return made["small"].copied(tmp_path / "small")


@pytest.fixture
def remove():
    def gone(path: Path) -> None:
        with suppress(FileNotFoundError):
            shutil.rmtree(path)

    return gone
