"""Rebuild of all views from the log: uv run python benchmarks/rebuild.py [--facts N].

A log of N facts (seven a task, as the engine writes them) is replayed from the server into DuckDB from nothing. Beside it, in
the same run: reading the same log without doing anything with it, and folding the same facts from memory.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Iterator

import msgspec
from harness import engine, ran_on, run

from farebox.core import events as e
from farebox.core import ids, subjects, wire
from farebox.core.terms import Candidate, Usage
from farebox.log.jetstream import JetStreamLog
from farebox.log.port import Entry, Stored
from farebox.runtime.projection import Projection

MUST, MUST_MIB = 60_000, 600
COMPARED_MAX = 200_000
"""So many facts are folded from memory for comparison."""
BATCH = 994  # a whole number of tasks, at most 1000
AHEAD = 20
"""Batches that are written before the running views are waited for."""


def history(tasks: int) -> Iterator[tuple[str, e.Fact]]:
    """Yield what the engine writes for so many tasks."""
    digest = "0" * 64
    for number in range(tasks):
        chain = task = ids.new(1_790_000_000_000 + number, number.to_bytes(5, "big"))
        usage = Usage(input_tokens=400 + number % 100, output_tokens=90)
        same = {"chain": chain, "task": task, "platform": f"p{number % 4}", "attempt": 1, "model": "gpt-5-mini"}
        told = {"chain": chain, "task": task, "attempt": 1}
        text = "An answer of some length. " * 6
        yield "client", e.TaskSubmitted(id=f"{task}a", chain=chain, task=task, prompt="Say what you see in this text. " * 4)
        yield (
            "router",
            e.TaskRouted(
                id=f"{task}b",
                cause=f"{task}a",
                candidates=(Candidate(platform=f"p{number % 4}"),),
                submission_sha256=digest,
                **told,
            ),
        )
        yield "quota", e.QuotaReserved(id=f"{task}c", cause=f"{task}b", in_use=1, limit=10, **same)
        yield "adapter", e.TaskStarted(id=f"{task}d", cause=f"{task}c", adapter="bench", boot="bench", **same)
        yield (
            "adapter",
            e.TaskCompleted(
                id=f"{task}e",
                cause=f"{task}d",
                status="completed",
                output=text,
                usage=usage,
                charged="known",
                duration_ms=900,
                **same,
            ),
        )
        yield (
            "quota",
            e.QuotaSettled(
                id=f"{task}f",
                cause=f"{task}e",
                requests=1,
                tokens=490,
                chain=chain,
                task=task,
                attempt=1,
                platform=f"p{number % 4}",
            ),
        )
        yield "cost", e.CostRecorded(id=f"{task}g", cause=f"{task}e", status="priced", paid_usd="0.00028", usage=usage, **same)


async def write(log: JetStreamLog, facts: int, projection: Projection) -> None:
    """Write the history in atomic batches, no faster than the running views take it: their backlog is not what is measured."""
    entries: list[Entry] = []
    written = 0
    for writer, fact in history(facts // 7):
        entries.append(Entry(subjects.subject_of(writer, fact), wire.encode(fact), None))
        if len(entries) == BATCH:
            last = (await log.append(entries))[-1]
            written, entries = written + 1, []
            if written % AHEAD == 0:
                assert await projection.wait_for(last, 60), "the running views keep up"
    if entries:
        await log.append(entries)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--facts", type=int, default=200_000)
    options = parser.parse_args()
    print(ran_on())
    async with engine("100ms") as (hosted, _client):
        log, projection = hosted.engine.log, hosted.engine.projection
        await write(log, options.facts, projection)  # pyright: ignore[reportArgumentType]
        last = (await log.position()).last_seq
        assert await projection.wait_for(last, 600), "the running views keep up"
        running = await projection.ask(projection.views.digest)
        rebuilt = await projection.rebuild(log)
        folded, rate = rebuilt.facts, rebuilt.facts / rebuilt.seconds
        # Before facts are held in memory for comparison.
        peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        assert await projection.ask(projection.views.digest) == running, "rebuilt views are the running ones"
        stored, reading = await read_all(hosted, COMPARED_MAX)
        began = time.perf_counter()
        await projection.ask(projection.views.forget)
        for start in range(0, len(stored), 20_000):
            await projection.ask(lambda start=start: projection.views.ingest(stored[start : start + 20_000]))
        folding = len(stored) / (time.perf_counter() - began)
    ok = rate >= MUST and peak_mib <= MUST_MIB
    print(f"rebuild {folded} facts  {rate:8.0f} facts/s  only reading {reading:8.0f}  only folding {folding:8.0f}  "
          f"ratio to reading {rate / reading:5.2f}  peak {peak_mib:.0f} MiB  must {MUST}, {MUST_MIB} MiB "
          f"{'ok' if ok else 'MISSED'}")  # fmt: skip


async def read_all(hosted: object, kept_max: int) -> tuple[list[Stored], float]:
    """Read the whole log over a connection of its own; return its beginning, and the rate."""
    store = hosted.store  # pyright: ignore[reportAttributeAccessIssue]
    seeds = msgspec.json.decode((store / "users.json").read_bytes(), type=dict[str, str])
    url = hosted.url  # pyright: ignore[reportAttributeAccessIssue]
    log = await JetStreamLog.connect(url, user="init", password=seeds["init"], inbox_prefix="_INBOX_init")
    last = (await log.position()).last_seq
    stored: list[Stored] = []
    began = time.perf_counter()
    async for batch in log.follow(1):
        stored += batch if len(stored) < kept_max else ()
        if batch[-1].seq >= last:
            break
    rate = last / (time.perf_counter() - began)
    await log.close()
    return stored, rate


if __name__ == "__main__":
    run(main())
