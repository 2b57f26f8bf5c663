"""The blocking client: the same methods, no event loop of the caller's."""

from __future__ import annotations

import importlib.util
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal

from farebox import sync
from farebox.client import Client
from farebox.core.errors import FareboxError, NotReachable
from farebox.log.memory import MemoryLog, MemoryStore

spec = importlib.util.spec_from_file_location("scripted", Path(__file__).with_name("conftest.py"))
scripted = importlib.util.module_from_spec(spec)
spec.loader.exec_module(scripted)


@asynccontextmanager
async def opened():
    store = MemoryStore()
    async with scripted.engine_on(store):
        client = Client(MemoryLog(store), patience_s=2)
        yield client
        await client.close()


@pytest.fixture
def fb():
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(opened()) as client:
        yield sync.Client(portal, client)


def test_a_task_streams_and_ends(fb):
    handle = fb.submit("hello world", platform="rehearsal")
    assert "".join(chunk.text for chunk in handle.chunks()) == "HELLO WORLD"
    assert handle.result(timeout_s=25).ok
    assert (handle.status(), handle.partial) == ("completed", "HELLO WORLD")
    assert fb.handle(handle.chain_id, handle.task_id).result().task_id == handle.task_id


def test_a_task_can_be_cancelled_and_reading_can_be_left_early(fb):
    handle = fb.submit("slow")
    for _ in handle.chunks():
        break
    handle.cancel("enough")
    assert handle.result().status == "cancelled"


def test_a_batch_runs(fb):
    batch = fb.batch(["a", "b", "fail"])
    assert sorted(result.output for result in batch) == ["", "A", "B"]
    assert (batch.done, batch.total, batch.aggregate().failed) == (3, 3, 1)
    assert batch.aggregate().batch_id == batch.id
    batch.stop()
    batch.cancel()


def test_questions_are_answered(fb):
    assert fb.status()["schema"] == "farebox.status/1"
    assert fb.costs(["model"])["by"] == ["model"]
    assert fb.platforms()["platforms"][0]["platform"] == "rehearsal"
    assert fb.quota()["quotas"] == []
    with pytest.raises(FareboxError, match='There is no task "nobody"'):
        fb.why("nobody")
    assert fb.replay()["same_as_before"]
    assert fb.info()["version"] == "0.1.0"


def test_a_store_without_an_engine_on_a_dead_server_is_not_reachable(tmp_path):
    with pytest.raises(NotReachable), sync.connect("nats://127.0.0.1:1"):
        pass
