"""The laws see what they are for: each world here was good, then one thing in it was made wrong."""

import re
import subprocess
import sys

import msgspec
import pytest

from farebox.core import subjects, wire
from farebox.core.events import (
    AttemptInterrupted,
    BatchCompleted,
    CostRecorded,
    LateResult,
    QuotaReserved,
    QuotaSettled,
    TaskCompleted,
    TaskRouted,
    TaskStarted,
    TaskSubmitted,
)
from farebox.core.terms import Fault
from farebox.log.port import Stored
from farebox.simulation import laws, runs
from farebox.simulation.chances import CALM
from farebox.simulation.history import History
from farebox.simulation.machine import SimulatedWorker
from farebox.simulation.provider import Charge
from farebox.simulation.world import World

SEED = 3
"""A calm world with a batch."""


@pytest.fixture
def world():
    made = World(SEED)
    made.chances = CALM
    made.run()
    yield made
    made.loop.let_go()


def rewrite(world, kind, change, which=0):
    """Change the body of one fact of a kind in the log."""
    facts = world.store.facts
    places = [place for place, one in enumerate(facts) if f'"fact":"{kind.__name__}"'.encode() in one.body]
    one = facts[places[which]]
    fact = wire.decode(one.subject, one.body, one.seq, one.at_ms)
    writer = subjects.parse(one.subject).writer
    changed = change(fact)
    facts[places[which]] = Stored(subjects.subject_of(writer, changed), wire.encode(changed), one.seq, one.at_ms)


def repeat(world, kind, writer="adapter", **changes):
    """Let a fact of a kind stand in the log once more."""
    one = next(one for one in world.store.facts if f'"fact":"{kind.__name__}"'.encode() in one.body)
    fact = msgspec.structs.replace(wire.decode(one.subject, one.body), **changes)
    add(world, writer, fact)


def add(world, writer, fact):
    facts = world.store.facts
    facts.append(Stored(subjects.subject_of(writer, fact), wire.encode(fact), facts[-1].seq + 1, facts[-1].at_ms))


def drop(world, kind):
    """Take all facts of a kind out of the log, sequences closed up."""
    rest = [one for one in world.store.facts if f'"fact":"{kind.__name__}"'.encode() not in one.body]
    world.store.facts[:] = [Stored(one.subject, one.body, seq, one.at_ms) for seq, one in enumerate(rest, 1)]


def change(**fields):
    return lambda fact: msgspec.structs.replace(fact, **fields)


WRONGS = {
    "nothing_escapes": lambda w: w.loop.broken.append(ZeroDivisionError()),
    "sequences_are_contiguous": lambda w: w.store.facts.pop(5),
    "only_clients_write_garbage": lambda w: w.store.facts.append(
        Stored("farebox.log.router.routed.-.c.t", b"{", len(w.store.facts) + 1, 1)
    ),
    "a_task_ends_at_most_once": lambda w: repeat(w, TaskCompleted),
    "the_baton_has_one_holder": lambda w: repeat(w, QuotaReserved, "quota"),
    "attempts_rise": lambda w: rewrite(w, TaskStarted, change(attempt=7)),
    "a_start_has_at_most_one_call": lambda w: w.provider.calls.extend([(w.provider.calls[0][0], 9**9), (9**6, 0)]),
    "charged_attempts_are_bounded": lambda w: w.provider.charges.extend([w.provider.charges[0]] * 5),
    "no_limit_is_passed": lambda w: rewrite(w, QuotaReserved, change(in_use=99)),
    "causes_and_fences_are_true": lambda w: (
        rewrite(w, TaskStarted, change(cause="nobody")), rewrite(w, QuotaSettled, change(prev=1)),
    ),
    "ids_are_unique": lambda w: repeat(w, QuotaSettled, "quota"),
    "a_second_fold_gives_the_same_state": lambda w: [mind.state.tasks.clear() or mind.state.cancels.update(x=True)
                                                     for m in w.machines for mind in m.minds if mind.actor.name == "router"],
    "a_charge_is_recorded_once_for_an_end": lambda w: repeat(w, CostRecorded, "cost"),
    "what_was_acknowledged_stands": lambda w: w.store.facts.pop(),
    "nothing_is_handed_on_unfinished": lambda w: (
        add(w, "client", TaskSubmitted(chain="c", task="t", prompt="?", needs=("other",))),
        add(w, "adapter", TaskStarted(chain="c", task="t", platform="p", attempt=1)),
    ),
    "late_results_belong_to_interrupted_attempts": lambda w: add(
        w, "late", LateResult(chain="c", task="t", platform="p", epoch=5)
    ),
    "every_task_has_ended": lambda w: drop(w, TaskCompleted),
    "every_slot_is_free_again": lambda w: drop(w, QuotaSettled),
    "every_paid_call_is_booked": lambda w: w.provider.charges.extend([
        Charge(1, "c", "nobody", 1, w.provider.charges[0].usage),
        msgspec.structs.replace(w.provider.charges[0], usage=type(w.provider.charges[0].usage)(input_tokens=10**9)),
    ]),
    "what_reached_a_disk_is_booked_as_known": lambda w: drop(w, CostRecorded),
    "a_batch_is_summed_when_it_is_done": lambda w: rewrite(w, BatchCompleted, change(completed=99, paid_usd="12345")),
    "nobody_is_busy_at_rest": lambda w: [setattr(mind._folding, "ahead", mind.actor.new()) or mind.wake(1)
                                         for m in w.machines for mind in m.minds if mind.actor.name == "quota"],
}  # fmt: skip


def overtaken(world, times=1, **changes):
    """Let somebody who had not read the end of an attempt say that its time was over, before it is settled."""
    facts = world.store.facts
    place = next(place for place, one in enumerate(facts) if b'"fact":"QuotaSettled"' in one.body)
    one = facts[place]
    said = msgspec.structs.replace(wire.decode(one.subject, one.body), **{"id": "lag", "expired": True, **changes})
    facts[place:place] = [Stored(one.subject, wire.encode(said), one.seq, one.at_ms)] * times


@pytest.mark.parametrize(
    ("times", "changes", "accepted"),
    [(1, {}, True), (2, {}, False), (1, {"expired": False}, False), (1, {"attempt": 2}, False)],
)
def test_a_deadline_may_be_corrected_by_the_end_it_had_not_seen_and_nothing_else(world, times, changes, accepted):
    overtaken(world, times, **changes)
    wrong = list(laws.every_slot_is_free_again(world, History(world.store.facts)))
    assert (not wrong) is accepted, wrong


def test_a_deadline_that_follows_the_end_of_its_attempt_is_wrong(world):
    repeat(world, QuotaSettled, "quota", expired=True, id="lag")
    assert list(laws.every_slot_is_free_again(world, History(world.store.facts)))


def test_a_good_world_breaks_none(world):
    assert world.clients.batch is not None
    assert laws.broken(world, healed=True) == []


@pytest.mark.parametrize("name", WRONGS)
def test_each_law_sees_its_wrong(world, name):
    WRONGS[name](world)
    assert [wrong for wrong in laws.broken(world, healed=True) if wrong.startswith(f"{name}: ")]


def test_each_of_the_ten_invariants_is_named_by_a_law():
    named = " ".join(law.__doc__ for law in (*laws.SAFETY, *laws.LIVENESS))
    assert {f"I{number}" for number in range(1, 11)} == set(re.findall(r"\bI\d+\b", named))


def test_what_the_runtime_catches_and_only_tells_its_log_breaks_a_world(monkeypatch):
    def broken(self, state, started, running, learning):
        raise ZeroDivisionError

    monkeypatch.setattr(SimulatedWorker, "_call", broken)
    assert any(wrong.startswith("nothing_escapes: ZeroDivisionError") for wrong in runs.run(SEED).wrong)


def test_two_sums_of_a_batch_are_one_too_many_and_a_missing_charge_is_seen(world):
    repeat(world, BatchCompleted, "aggregator")
    assert [wrong for wrong in laws.broken(world, healed=True) if "2 BatchCompleted" in wrong]


def test_a_sum_before_its_last_charge_is_seen(world):
    rewrite(world, BatchCompleted, change(as_of_seq=10**6))
    drop(world, CostRecorded)
    assert [wrong for wrong in laws.broken(world, healed=True) if "had no charge yet" in wrong]


@pytest.mark.parametrize(("policy", "charged", "seen"), [("fail", "possible", 1), ("ask", "possible", 1), ("fail", "none", 0)])
def test_a_repetition_against_the_policy_is_seen(world, policy, charged, seen):
    submitted = next(one for one in world.store.facts if ".client.submitted." in one.subject)
    task = wire.decode(submitted.subject, submitted.body)
    told = {"chain": "x", "task": "x", "attempt": 1}
    fault = Fault(error_class="crashed")
    platform = next(iter(world.settings.platforms))
    add(world, "client", msgspec.structs.replace(task, chain="x", task="x", on_interrupt=policy))
    add(world, "router", TaskRouted(**told))
    add(world, "adapter", AttemptInterrupted(**told, platform=platform, charged=charged, fault=fault))
    add(world, "router", TaskRouted(**{**told, "attempt": 2}))
    wrongs = [wrong for wrong in laws.broken(world, healed=False) if f"policy {policy}, and yet" in wrong]
    assert len(wrongs) == seen


def test_a_broken_world_is_an_exit_code_and_a_way_to_see_it_again():
    code = """
import sys
from farebox.simulation import __main__ as command, laws
laws.SAFETY = (lambda world, history: iter(["as told"]),)
sys.argv = ["farebox.simulation", "--seeds", "2", "--first", "7"]
sys.exit(command.main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "seed 7:" in done.stderr
    assert "uv run python -m farebox.simulation --seed 8 --log" in done.stderr
    assert "2 broken" in done.stdout
