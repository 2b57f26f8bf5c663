"""The command line in process, over the memory log and the scripted engine of the client's tests."""

from __future__ import annotations

import importlib.util
import os
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from farebox.cli import main, session
from farebox.client import Client
from farebox.core.errors import NotReachable
from farebox.log.memory import MemoryLog, MemoryStore

_spec = importlib.util.spec_from_file_location("scripted", Path(__file__).parents[1] / "client" / "conftest.py")
scripted = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(scripted)


class Ran:
    """What a command line came to."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> dict:
        return msgspec.json.decode(self.out)

    @property
    def jsonl(self) -> list[dict]:
        return [msgspec.json.decode(line) for line in self.out.splitlines()]


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def let_go():
    """Set it, and tasks whose prompt is "held" are answered."""
    scripted.LET_GO.clear()
    yield scripted.LET_GO
    scripted.LET_GO.set()


@pytest.fixture
def needs() -> list[str]:
    """Which needs the commands had."""
    return []


@pytest.fixture
def cli(store, needs, capsys, tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith(("FAREBOX", "NATS"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FAREBOX_HOME", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)

    @asynccontextmanager
    async def over_memory(common, need):
        needs.append(need)
        if common.server == "nats://nobody:1":
            raise NotReachable("No farebox engine answers on nats://nobody:1.", hint="Start one: farebox up --detach")
        async with scripted.engine_on(store):
            client = Client(MemoryLog(store), patience_s=2)
            yield client
            await client.close()

    def run(*arguments: str) -> Ran:
        token = session.OPENER.set(over_memory)
        try:
            code = main([str(argument) for argument in arguments])
        finally:
            session.OPENER.reset(token)
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return run
