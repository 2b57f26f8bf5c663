"""Seeded worlds: whatever crashes, freezes, is lost or comes twice, the laws of src/farebox/simulation/laws.py hold.

`FAREBOX_SEEDS=10000 uv run pytest tests/simulation` runs more; a failing seed says how to see it again.
"""

import os
import subprocess
import sys

import pytest

from farebox.simulation import runs

SEEDS = int(os.environ.get("FAREBOX_SEEDS", "300"))
GROUPS = 20


@pytest.mark.timeout(0 if SEEDS > 300 else 60)
@pytest.mark.parametrize("group", [pytest.param(one, marks=[pytest.mark.slow] * (one % 2)) for one in range(GROUPS)])
def test_no_world_breaks_a_law(group):
    seeds = range(group * SEEDS // GROUPS, (group + 1) * SEEDS // GROUPS)
    broken = [runs.report(outcome) for outcome in runs.run_all(seeds) if outcome.wrong]
    assert not broken, "\n\n".join(broken)


def test_the_worlds_are_rough_enough_to_mean_something():
    outcomes = list(runs.run_all(range(1000, 1020)))
    assert sum(outcome.crashes for outcome in outcomes) > 20
    assert sum(outcome.freezes for outcome in outcomes) > 5
    assert sum(outcome.charges for outcome in outcomes) > 40


def test_a_seed_is_the_same_world_in_every_process():
    here = [runs.run(seed).digest for seed in (5, 17, 54)]
    code = "from farebox.simulation import runs; print(*[runs.run(seed).digest for seed in (5, 17, 54)])"
    there = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7"}
    )
    assert there.stdout.split() == here


def test_a_seed_prints_the_command_that_repeats_it():
    outcome = runs.run(1)
    assert runs.report(outcome).endswith("uv run python -m farebox.simulation --seed 1 --log")
    told = subprocess.run(
        [sys.executable, "-m", "farebox.simulation", "--seed", "1", "--log"], capture_output=True, text=True, check=True
    )
    assert told.stdout.count("farebox.log.") >= outcome.facts
    assert "1 worlds" in told.stdout
