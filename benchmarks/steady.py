"""A steady stream of tasks: uv run python benchmarks/steady.py [--seconds N] [--durability D].

A client in a process of its own submits tasks at an even pace and hears their ends. At 100 tasks/s: what all actors and their
disk writes add to a task whose platform answers at once, from its publish until its end is heard (five facts and two marks in
the spool, one after the other). Beside it, in the same run, on the same server and at the same pace: chains of five plain
acknowledged publishes of nats-py. At 500 tasks/s: how long after the log had stored it each fact stood in the views.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import nats
from harness import BODY, engine, percentiles, ran_on, run, yardstick

from farebox import engines
from farebox.core import ids, subjects, wire
from farebox.core.events import TaskSubmitted
from farebox.discovery import Where
from farebox.log.jetstream import JetStreamLog
from farebox.log.port import Entry, Fence

FACTS_ON_THE_WAY = 5
SLOW, FAST = 100, 500
"""Tasks a second."""
OVERHEAD_MUST_MS, BEHIND_MUST_MS = 10.0, 200.0
WARM_S = 1.0
"""The first tasks warm the engine up and do not count."""


async def paced(rate: int, count: int, work: Callable[[int], Awaitable[None]]) -> None:
    """Begin `work` for each number at its moment, whether or not the ones before have ended; return when all have."""
    began = time.perf_counter()
    running: list[asyncio.Task[None]] = []
    for number in range(count):
        await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
        running.append(asyncio.ensure_future(work(number)))  # pyright: ignore[reportArgumentType]
    await asyncio.gather(*running)


async def submit_all(credentials: Path, rate: int, count: int) -> None:
    """Submit at an even pace and print, as JSON, how long each task took (seconds): the client process.

    A client hears an end when it is published; here it counts once it is stored, so a second connection may listen to that.
    """
    where = msgspec.json.decode(credentials.read_bytes(), type=Where)
    log = await JetStreamLog.connect(where.url, user=where.user, password=where.password, inbox_prefix=where.inbox_prefix)
    ended: dict[str, asyncio.Future[float]] = {}
    took: list[float] = []

    async def on_end(message: Any) -> None:
        waiting = ended.pop(message.subject.rpartition(".")[2], None)
        if waiting is not None:
            waiting.set_result(time.perf_counter())

    seeds = msgspec.json.decode((credentials.parent / "users.json").read_bytes(), type=dict[str, str])
    raw = await nats.connect(where.url, nkeys_seed_str=seeds["init"], inbox_prefix=b"_INBOX_init")
    await raw.subscribe("farebox.stored.log.*.completed.>", cb=on_end)
    await raw.flush()

    async def one(number: int) -> None:
        task = ids.new(time.time_ns() // 1_000_000, os.urandom(5))
        fact = TaskSubmitted(chain=task, task=task, platform="rehearsal", prompt=f"Say what you see in {number}.")
        subject = subjects.subject_of("client", fact)
        end = ended[task] = asyncio.get_running_loop().create_future()
        began = time.perf_counter()
        await log.append([Entry(subject, wire.encode(fact), Fence(subject, 0))])
        took.append(await asyncio.wait_for(end, 60) - began)

    await paced(rate, count, one)
    await raw.close()
    await log.close()
    print(msgspec.json.encode(took).decode())


async def stream(hosted: engines.Hosted, rate: int, seconds: float) -> list[float]:
    """Let a client process submit `rate` tasks a second and return what it measured (seconds), without the warm-up."""
    count = round(rate * (seconds + WARM_S))
    client = await asyncio.create_subprocess_exec(
        sys.executable, __file__, "--credentials", str(hosted.credentials), "--rate", str(rate), "--count", str(count),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await client.communicate()
    assert client.returncode == 0, "the client said on stderr what is wrong"
    return msgspec.json.decode(out, type=list[float])[round(rate * WARM_S) :]


async def chains(stream: Any, seconds: float) -> list[float]:
    """Return the latencies of chains of plain acknowledged publishes at the slow pace."""
    took: list[float] = []

    async def one(number: int) -> None:
        began = time.perf_counter()
        for place in range(FACTS_ON_THE_WAY):
            await stream.publish(f"raw.c.{number}.{place}", BODY)
        took.append(time.perf_counter() - began)

    await paced(SLOW, round(SLOW * seconds), one)
    return took


async def watch(hosted: engines.Hosted, shown: list[tuple[int, int]]) -> None:
    """Note, for each commit of the views, the sequence they reach and when (ms since 1970)."""
    projection = hosted.engine.projection
    while True:
        if await projection.wait_for(projection.seq + 1, 60):
            shown.append((projection.seq, time.time_ns() // 1_000_000))


async def behind(hosted: engines.Hosted, seconds: float) -> list[float]:
    """Return how long (seconds) after it was stored each fact of a fast stream stood in the views."""
    log = hosted.engine.log
    first, shown = (await log.position()).last_seq + 1, list[tuple[int, int]]()
    watching = asyncio.ensure_future(watch(hosted, shown))
    await stream(hosted, FAST, seconds)
    last = (await log.position()).last_seq
    assert await hosted.engine.projection.wait_for(last, 60), "the views come to the end"
    await asyncio.sleep(0)
    watching.cancel()
    lags: list[float] = []
    commits = iter(shown)
    reached, at_ms = next(commits)
    async for batch in log.follow(first):
        for stored in batch:
            while stored.seq > reached and stored.seq <= last:
                reached, at_ms = next(commits)
            if stored.seq <= last:
                lags.append((at_ms - stored.at_ms) / 1000)
        if batch[-1].seq >= last:
            break
    return lags[round(len(lags) * WARM_S / (seconds + WARM_S)) :]


async def one(durability: str, seconds: float) -> None:
    """Measure one durability and print its lines."""
    async with engine(durability) as (hosted, _client):
        overhead = await stream(hosted, SLOW, seconds)
        lags = await behind(hosted, seconds)
        async with yardstick(hosted) as (_, raw):
            raw_p50, raw_p99 = percentiles(await chains(raw, seconds))
    p50, p99 = percentiles(overhead)
    print(f"{durability:>7}  overhead at {SLOW} tasks/s p50 {p50:6.2f} ms  p99 {p99:6.2f} ms  five raw publishes p50 "
          f"{raw_p50:6.2f} ms  p99 {raw_p99:6.2f} ms  ratio of p99 {p99 / raw_p99:5.2f}  must p99 {OVERHEAD_MUST_MS} "
          f"{'ok' if p99 <= OVERHEAD_MUST_MS else 'MISSED'}")  # fmt: skip
    p50, p99 = percentiles(lags)
    print(f"{durability:>7}  views behind at {FAST} tasks/s p50 {p50:6.1f} ms  p99 {p99:6.1f} ms  must {BEHIND_MUST_MS} "
          f"{'ok' if p99 <= BEHIND_MUST_MS else 'MISSED'}  ({len(lags)} facts)")  # fmt: skip


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--durability", choices=["always", "100ms"])
    for hidden, kind in (("--credentials", str), ("--rate", int), ("--count", int)):
        parser.add_argument(hidden, type=kind, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.credentials:
        await submit_all(Path(options.credentials), options.rate, options.count)
        return
    print(ran_on())
    for durability in [options.durability] if options.durability else ["always", "100ms"]:
        await one(durability, options.seconds)


if __name__ == "__main__":
    run(main())
