"""Whole tasks a second through all actors, every fact on disk: uv run python benchmarks/throughput.py [--tasks N].

A batch of N tasks goes from TaskSubmitted to BatchCompleted (routed, reserved, started, answered in the engine, settled,
priced, summed). Beside it, in the same run and on the same server: what plain nats-py writes, in events of the same size.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from pathlib import Path

import msgspec
from harness import batched, engine, pipelined, ran_on, run, yardstick

from farebox.core import ids, subjects, wire
from farebox.core.events import BatchSubmitted, TaskSubmitted
from farebox.discovery import Where
from farebox.log.jetstream import JetStreamLog
from farebox.log.port import Entry, Fence

FACTS_A_TASK = 7
"""Submitted, routed, reserved, started, completed, settled, recorded."""
WINDOW = 500
MUST = {"always": 500, "100ms": 1500}


async def submit(log: JetStreamLog, batch: str, line: int) -> None:
    """Publish one task of a batch."""
    task = ids.of_line(batch, line)
    fact = TaskSubmitted(chain=batch, task=task, batch=batch, platform="rehearsal", prompt=f"Say what you see in line {line}.")
    subject = subjects.subject_of("client", fact)
    await log.append([Entry(subject, wire.encode(fact), Fence(subject, 0))])


async def submit_all(credentials: str, batch: str, tasks: int) -> None:
    """Submit a whole batch: a client is a process of its own."""
    where = msgspec.json.decode(Path(credentials).read_bytes(), type=Where)
    log = await JetStreamLog.connect(where.url, user=where.user, password=where.password, inbox_prefix=where.inbox_prefix)
    head = BatchSubmitted(chain=batch, batch=batch, count=tasks, parallel=WINDOW)
    subject = subjects.subject_of("client", head)
    await log.append([Entry(subject, wire.encode(head), Fence(subject, 0))])
    print("begin", flush=True)
    for start in range(1, tasks + 1, WINDOW):
        await asyncio.gather(*(submit(log, batch, line) for line in range(start, min(start + WINDOW, tasks + 1))))
    await log.close()


async def one(durability: str, tasks: int) -> None:
    """Run one batch under one durability and print its line."""
    async with engine(durability) as (hosted, log):
        done = asyncio.Event()
        heard = await log.listen("farebox.log.aggregator.batch_completed.>", lambda _subject, _body: done.set())
        batch = ids.new(time.time_ns() // 1_000_000, os.urandom(5))
        client = await asyncio.create_subprocess_exec(
            sys.executable, __file__, "--tasks", str(tasks), "--batch", batch, "--credentials", str(hosted.credentials),
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert client.stdout is not None, "asked for"
        await client.stdout.readline()
        began, loop_s, all_s = time.perf_counter(), time.thread_time(), time.process_time()
        await asyncio.wait_for(done.wait(), 600)
        rate = tasks / (time.perf_counter() - began)
        loop_us = (time.thread_time() - loop_s) / tasks * 1e6
        all_us = (time.process_time() - all_s) / tasks * 1e6
        await client.wait()
        await heard.close()
        async with yardstick(hosted) as (raw, stream):
            limit = max(await batched(raw, 20_000, 100), await pipelined(stream, 5_000 if durability == "always" else 20_000))
    facts = rate * FACTS_A_TASK
    print(f"{durability:>7}  {rate:8.0f} tasks/s  {facts:8.0f} facts/s  raw nats-py {limit:8.0f} events/s  "
          f"ratio {facts / limit:5.2f}  must {MUST[durability]} {'ok' if rate >= MUST[durability] else 'MISSED'}\n"
          f"         CPU of the engine: {all_us:.0f} us a task, {loop_us:.0f} of them in its loop")  # fmt: skip


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=5000)
    parser.add_argument("--durability", choices=["always", "100ms"])
    parser.add_argument("--batch", help=argparse.SUPPRESS)
    parser.add_argument("--credentials", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.batch:
        await submit_all(options.credentials, options.batch, options.tasks)
        return
    print(ran_on())
    for durability in [options.durability] if options.durability else ["always", "100ms"]:
        await one(durability, options.tasks)


if __name__ == "__main__":
    run(main())
