"""`python -m farebox.simulation`: many worlds, one world, or every schedule of one task."""

from __future__ import annotations

import argparse
import os
import sys
import time

from farebox.simulation import baton, runs
from farebox.simulation.world import installed

MANY = 200
"""More worlds than this are run on all cores."""


def main() -> int:
    """Run what was asked for; 1 if a law is broken."""
    parser = argparse.ArgumentParser(prog="python -m farebox.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many worlds (1000)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (0)")
    parser.add_argument("--seed", type=int, help="only this world")
    parser.add_argument("--log", action="store_true", help="with --seed: print its log")
    parser.add_argument("--baton", action="store_true", help="check the baton rule on every schedule of one task")
    asked = parser.parse_args()
    if asked.baton:
        return _baton()
    if asked.seed is not None and asked.log:
        print("\n".join(runs.log_of(asked.seed)))  # noqa: T201
    return _worlds(range(asked.first, asked.first + asked.seeds) if asked.seed is None else [asked.seed])


def _worlds(seeds: range | list[int]) -> int:
    began_s = time.monotonic()
    processes = os.cpu_count() or 1
    outcomes = list(runs.run_beside(seeds, processes) if len(seeds) > MANY else runs.run_all(seeds))
    broken = [outcome for outcome in outcomes if outcome.wrong]
    for outcome in broken:
        print(f"seed {outcome.seed}:\n{runs.report(outcome)}", file=sys.stderr)  # noqa: T201
    totals = {name: sum(getattr(one, name) for one in outcomes) for name in ("facts", "crashes", "freezes", "calls", "charges")}
    told = ", ".join(f"{count:,} {name}" for name, count in totals.items())
    print(f"{len(outcomes):,} worlds in {time.monotonic() - began_s:.0f} s: {told}; {len(broken)} broken")  # noqa: T201
    return 1 if broken else 0


def _baton() -> int:
    for policy in ("retry", "fail"):
        found = baton.Model(installed("farebox.actors"), baton.Bounds(policy=policy)).explore()
        told = f"{found.states:,} states, {found.steps:,} steps, {found.logs:,} logs, {found.ends:,} at rest"
        print(f"policy {policy}: {told}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
