"""From submit to the adapter's start, idle, every fact on disk: uv run python benchmarks/latency.py [--tasks N].

Four facts lie on this way (submitted, routed, reserved, started). Beside it, in the same run and on the same server: four
plain acknowledged publishes of nats-py, one after the other.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time

from harness import engine, percentiles, ran_on, run, sequential, yardstick

from farebox.core import ids, subjects, wire
from farebox.core.events import TaskSubmitted
from farebox.log.port import Entry, Fence

FACTS_ON_THE_WAY = 4
MUST_MS = 6.0
THINK_S = 0.1
"""Between the end of a task and the next one: idle means that nothing of the last one is still being written."""


async def one(durability: str, tasks: int) -> None:
    """Submit one task after the other and print the line."""
    async with engine(durability) as (hosted, log), yardstick(hosted) as (raw, stream):
        started: asyncio.Queue[float] = asyncio.Queue()
        ended: asyncio.Queue[None] = asyncio.Queue()

        async def on_started(_message: object) -> None:
            started.put_nowait(time.perf_counter())

        async def on_recorded(_message: object) -> None:
            ended.put_nowait(None)

        await raw.subscribe("farebox.log.adapter.started.>", cb=on_started)
        await raw.subscribe("farebox.log.cost.recorded.>", cb=on_recorded)
        await raw.flush()
        latencies: list[float] = []
        for number in range(tasks):
            task = ids.new(time.time_ns() // 1_000_000, os.urandom(5))
            fact = TaskSubmitted(chain=task, task=task, platform="rehearsal", prompt=f"Say what you see in {number}.")
            subject = subjects.subject_of("client", fact)
            began = time.perf_counter()
            await log.append([Entry(subject, wire.encode(fact), Fence(subject, 0))])
            latencies.append(await asyncio.wait_for(started.get(), 20) - began)
            await asyncio.wait_for(ended.get(), 20)
            await asyncio.sleep(THINK_S)
        p50, p99 = percentiles(latencies)
        raw_p50, _ = percentiles(await sequential(stream, 400))
    floor = raw_p50 * FACTS_ON_THE_WAY
    print(f"{durability:>7}  submit to start p50 {p50:6.2f} ms  p99 {p99:6.2f} ms  four raw publishes {floor:6.2f} ms  "
          f"ratio {p50 / floor:5.2f}  must {MUST_MS} {'ok' if p50 <= MUST_MS else 'MISSED'}")  # fmt: skip


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=300)
    options = parser.parse_args()
    print(ran_on())
    for durability in ("always", "100ms"):
        await one(durability, options.tasks)


if __name__ == "__main__":
    run(main())
