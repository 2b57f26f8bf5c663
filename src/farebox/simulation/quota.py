"""`python -m farebox.simulation.quota`: engines race for quotas, a million random things happen, and no limit is passed.

    uv run python -m farebox.simulation.quota --operations 1000000

Each world has a seed; one that breaks a law is repeated by it. Exit code 8 says that a law was broken.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor

import msgspec
from msgspec import Struct

from farebox.simulation.quota_laws import Books
from farebox.simulation.quota_world import QuotaWorld
from farebox.simulation.world import installed

OPERATIONS = 1_000
"""What happens in one world. The laws look at each grant against all before it, so many small worlds are faster."""
BROKEN = 8


class Outcome(Struct, frozen=True):
    """What became of one world."""

    seed: int
    counts: dict[str, int]
    wrong: tuple[str, ...]


def run(seed: int, operations: int = OPERATIONS) -> Outcome:
    """Run one world and hold the laws against it."""
    (actor,) = (one for one in installed("farebox.actors") if one.name == "quota")
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)  # Troubles are the point of it.
    try:
        world = QuotaWorld(seed, actor)
        while world.counts["operations"] < operations:
            world.operate()
        ended = world.settle_down()
        return Outcome(seed, world.counts, tuple(_wrong(world, ended=ended)))
    finally:
        logging.disable(before)


def _wrong(world: QuotaWorld, *, ended: bool) -> Iterator[str]:
    books = Books(world.facts)
    yield from books.wrong()
    if not ended:
        yield f"a lost wake-up: {sorted(world.routes)[:5]} wait, and nobody is to be woken"
        return
    yield from (f"a leak: something of {quota} is still held" for quota in books.open_now())
    for number, engine in enumerate(world.engines):
        state, ahead = engine.mind.state, engine.mind.ahead
        if state.holds or state.waiting or any(tally.open for tally in state.uses.tallies.values()):
            yield f"a leak: engine {number} holds {list(state.holds)} or waits for {list(state.waiting)}"
        if _bytes(state) != _bytes(ahead):
            yield f"engine {number} runs ahead of the log for ever"
        if _bytes(state) != _bytes(world.engines[0].mind.state):
            yield f"engine {number} and engine 0 read the same log and know something else"


def _bytes(state: object) -> bytes:
    return msgspec.json.encode(state, order="sorted")


def run_all(seeds: Iterable[int], processes: int = 1) -> Iterator[Outcome]:
    """Run many worlds, in so many processes."""
    if processes == 1:
        yield from map(run, seeds)
        return
    with ProcessPoolExecutor(processes) as pool:
        yield from pool.map(run, seeds, chunksize=4)


def main() -> int:
    """Run what was asked for; 8 if a law is broken."""
    parser = argparse.ArgumentParser(prog="python -m farebox.simulation.quota", description=__doc__)
    parser.add_argument("--operations", type=int, default=100_000, help="how many things happen (100000)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (0)")
    parser.add_argument("--seed", type=int, help="only this world")
    asked = parser.parse_args()
    began_s = time.monotonic()
    worlds = max(1, -(-asked.operations // OPERATIONS))
    seeds = [asked.seed] if asked.seed is not None else range(asked.first, asked.first + worlds)
    totals: Counter[str] = Counter()
    broken = 0
    for outcome in run_all(seeds, 1 if len(seeds) == 1 else os.cpu_count() or 1):
        totals.update(outcome.counts)
        broken += len(outcome.wrong)
        for wrong in outcome.wrong[:5]:
            again = f"uv run python -m farebox.simulation.quota --seed {outcome.seed}"
            print(f"seed {outcome.seed}: {wrong}\n  again: {again}", file=sys.stderr)  # noqa: T201
    told = ", ".join(f"{count:,} {SAID[name]}" for name, count in totals.items())
    print(f"{len(seeds):,} worlds in {time.monotonic() - began_s:.0f} s: {told}; {broken} laws broken")  # noqa: T201
    return BROKEN if broken else 0


SAID = {
    "operations": "operations",
    "grants": "grants",
    "refused": "refused fences",
    "crashes": "crashes",
    "turns": "turns of the clock",
    "evidence": "reports of providers",
}

if __name__ == "__main__":
    sys.exit(main())
