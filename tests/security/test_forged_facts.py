"""Whoever may do everything writes what is not his to say: nobody acts on it, and `farebox status` rings the alarm."""

import asyncio
import json
import os
import subprocess
import sys
from contextlib import asynccontextmanager

import pytest

from farebox import engines
from farebox.client import joined
from farebox.config import load, platform_kinds
from farebox.core import events, wire
from farebox.discovery import of_store
from farebox.log.jetstream import JetStreamLog
from farebox.log.port import Entry
from farebox.runtime.dead import Letter, alarm
from farebox.runtime.store import Store

DONE = {"fact": "TaskCompleted", "attempt": 1, "platform": "slow", "status": "completed", "output": "forged", "model": "m"}


@asynccontextmanager
async def house(tmp_path):
    """An engine with a platform that waits until a file appears, a client, and a login that may do everything."""
    go = tmp_path / "go"
    script = (
        "import pathlib, sys, time\nsys.stdin.read()\n"
        "while not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.02)\nprint('true words')\n"
    )
    (tmp_path / "slow.py").write_text(script)
    (tmp_path / "farebox.toml").write_text(
        f'[platforms.slow]\nkind = "command"\nargv = ["{sys.executable}", "{tmp_path}/slow.py", "{go}"]\nbilling = "free"\n'
    )
    store = tmp_path / "store"
    config = load(file=tmp_path / "farebox.toml", kinds=platform_kinds())
    async with engines.embedded(store, config) as host, joined(of_store(store)) as client:
        seed = Store(store).seeds(["init"])["init"]
        init = await JetStreamLog.connect(host.url, password=seed, inbox_prefix="_INBOX_init")
        yield client, init, go
        await init.close()


def body(**fields):
    return json.dumps({"id": "forged", **fields}).encode()


@pytest.mark.fault(29)
async def test_forged_facts_move_nobody_and_ring_the_alarm(tmp_path):
    async with house(tmp_path) as (client, init, go):
        handle = await client.submit("wait", platform="slow")
        waiting = asyncio.ensure_future(handle.result(20))
        await _started(init, handle)
        key = {"chain": handle.chain_id, "task": handle.task_id}
        reserved = {"fact": "QuotaReserved", "attempt": 1, "platform": "slow", "model": "m", "billing": "free"}
        forged = [
            # a reservation for another task, in the lane of this one's adapter: its worker must not begin it
            ("farebox.log.quota.reserved.slow.c9.t9", body(**reserved, chain="c8", task="t8")),
            # a reservation said by a client; a result said by the quota; words of a writer who does not exist
            ("farebox.log.client.submitted.-.c9.t9", body(**reserved, chain="c9", task="t9")),
            ("farebox.log.quota.reserved.slow.c9.t9", body(**DONE, chain="c9", task="t9")),
            ("farebox.log.nobody.completed.slow.c9.t9", body(**DONE, chain="c9", task="t9")),
            # the result of the task that is waited for, but the body speaks of another lane
            (f"farebox.log.adapter.completed.rehearsal.{handle.chain_id}.{handle.task_id}", body(**DONE, **key)),
            ("farebox.log.cost.recorded.slow.c9.t9", b"\x00 no fact at all"),
        ]
        last = 0
        for subject, fact in forged:
            (last,) = await init.append([Entry(subject, fact)])
        await asyncio.sleep(0.2)
        assert not waiting.done(), "nothing forged ends a task"
        go.touch()
        result = await waiting
        assert (result.status, result.output, result.attempts) == ("completed", "true words", 1)
        status = await _alarmed(client, last)
        assert status["alarm"]["count"] == len(forged)
        assert not {"t8", "other"} & set(json.dumps(status["tasks"]).split(chr(34)))
        after = [stored async for batch in _all(init) for stored in batch if stored.seq > last]
        told = [wire.decode(one.subject, one.body, one.seq) for one in after]
        assert all(fact.key == (handle.chain_id, handle.task_id) or isinstance(fact, events.TaskCompleted) for fact in told)
        assert not [fact for fact in told if isinstance(fact, events.TaskStarted)], "no worker began what was forged"
        shown = await asyncio.to_thread(_status, tmp_path / "store")
        assert f"! {len(forged)} facts are not what a writer of the log may say" in shown
        assert f"farebox dead show {last}" in shown


async def test_a_lie_where_a_task_is_guarded_stops_that_task_alone(tmp_path):
    """Whoever may write there can break a fence. Nobody believes what he says, and nobody else waits for it."""
    async with house(tmp_path) as (client, init, go):
        first = await client.submit("wait", platform="slow")
        await _started(init, first)
        subject = f"farebox.log.adapter.completed.slow.{first.chain_id}.{first.task_id}"
        (seq,) = await init.append([Entry(subject, body(**DONE, chain="other", task="other"))])
        go.touch()
        second = await (await client.submit("and I?", platform="slow")).result(20)
        assert (second.status, second.output) == ("completed", "true words")
        status = await _alarmed(client, seq)
        assert status["alarm"]["count"] == 1
        shown = await first.status()
        assert shown != "completed"
        assert "forged" not in json.dumps(status["tasks"])


async def test_live_text_that_lies_about_its_task_is_not_shown(tmp_path):
    async with house(tmp_path) as (client, init, go):
        handle = await client.submit("wait", platform="slow")
        chunks = asyncio.ensure_future(_texts(handle))
        await asyncio.sleep(0.1)
        lie = events.ChunkStreamed(chain="x", task="x", attempt=1, epoch=1, platform="slow", number=1, text="forged")
        await init.publish(f"farebox.live.adapter.chunk.slow.{handle.chain_id}.{handle.task_id}", wire.encode(lie))
        go.touch()
        assert "forged" not in await chunks


@pytest.mark.parametrize(
    ("kinds", "count"), [((), None), (("parked", "undecided"), None), (("quarantined", "parked", "quarantined"), 2)]
)
def test_the_alarm_counts_lies_alone(kinds, count):
    letters = [Letter(seq=seq, kind=kind, who="w", reason="r") for seq, kind in enumerate(kinds, 1)]
    found = alarm(letters)
    assert (found and found["count"]) == count
    assert found is None or found["last_seq"] == 3


async def _started(log, handle):
    async with asyncio.timeout(100):
        while await log.last(f"farebox.log.adapter.started.slow.{handle.chain_id}.{handle.task_id}") is None:
            await asyncio.sleep(0.02)


async def _alarmed(client, seq):
    """Wait until the views have read as far as the forged fact."""
    async with asyncio.timeout(100):
        while ((status := await client.status())["alarm"] or {}).get("last_seq") != seq:
            await asyncio.sleep(0.05)
    return status


async def _texts(handle):
    return "".join([chunk.text async for chunk in handle.chunks()])


async def _all(log):
    last = (await log.position()).last_seq
    async for batch in log.follow(1):
        yield batch
        if batch[-1].seq >= last:
            return


def _status(store):
    environ = {**os.environ, "NO_COLOR": "1", "COLUMNS": "200"}
    command = [sys.executable, "-m", "farebox", "status", "--store", str(store)]
    return subprocess.run(command, capture_output=True, text=True, env=environ, timeout=60, check=True).stdout
