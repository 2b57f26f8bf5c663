"""Engines race for quotas in seeded worlds: nothing is granted beyond a limit, nothing leaks, nobody waits for ever."""

import subprocess
import sys

import msgspec
import pytest

from farebox.core.terms import Take
from farebox.simulation import quota
from farebox.simulation.quota_laws import Books, same_window
from farebox.simulation.quota_world import QuotaWorld
from farebox.simulation.world import installed


@pytest.mark.parametrize("seed", range(6))
def test_no_race_passes_a_limit(seed):
    outcome = quota.run(seed, operations=150)
    assert not outcome.wrong, outcome.wrong


def test_the_worlds_are_rough_enough_to_mean_something():
    outcomes = [quota.run(seed, operations=300) for seed in (20, 21)]
    for what in ("grants", "refused", "crashes", "turns", "evidence"):
        assert sum(outcome.counts[what] for outcome in outcomes) > 3, what


@pytest.fixture
def world():
    (actor,) = (one for one in installed("farebox.actors") if one.name == "quota")
    made = QuotaWorld(20, actor)
    while made.counts["operations"] < 300:
        made.operate()
    made.settle_down()
    return made


def _takes_of_a_window(fact):
    return hasattr(fact, "in_use") and any(not take.quota.startswith("budget:") and take.limit for take in fact.takes)


def test_the_laws_see_a_grant_beyond_a_limit_and_one_that_takes_of_nothing(world):
    assert not list(Books(world.facts).wrong())
    places = [place for place, (_, fact) in enumerate(world.facts) if _takes_of_a_window(fact)]
    writer, grant = world.facts[places[0]]
    forgot = [*world.facts]
    forgot[places[0]] = writer, msgspec.structs.replace(grant, takes=())
    assert any("was forgotten" in wrong for wrong in Books(forgot).wrong())
    huge = tuple(Take(quota=one.quota, amount="1000000", limit=one.limit) for one in grant.takes)
    beyond = [*world.facts]
    beyond[places[0]] = writer, msgspec.structs.replace(grant, takes=huge)
    assert any("more is granted" in wrong for wrong in Books(beyond).wrong())


def test_a_broken_world_is_an_exit_code_and_a_way_to_see_it_again():
    code = """
import sys
from farebox.simulation import quota
quota._wrong = lambda world, ended: iter(["as told"])
sys.argv = ["farebox.simulation.quota", "--operations", "1", "--seed", "7"]
sys.exit(quota.main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == quota.BROKEN
    assert "uv run python -m farebox.simulation.quota --seed 7" in done.stderr
    assert "1 laws broken" in done.stdout


@pytest.mark.parametrize("window", ["month", "week", "day", "hour", "minute", "90s", "all", "window"])
def test_the_laws_own_windows(window):
    now_ms = 1_774_741_500_000
    assert same_window(window, "fixed", "Europe/Berlin", now_ms, now_ms) is (window != "window")
    assert same_window(window, "fixed", "UTC", now_ms - 40 * 86_400_000, now_ms) is (window == "all")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_hundred_thousand_random_operations_break_no_law():
    outcomes = list(quota.run_all(range(1000, 1100), processes=2))
    assert not [(outcome.seed, outcome.wrong) for outcome in outcomes if outcome.wrong]
