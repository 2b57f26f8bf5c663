"""The baton rule on every schedule: exactly one end, no second call unless the first attempt ended in the log, no deadlock."""

import msgspec
import pytest

from actors import ACTORS
from farebox.core.actor import Actor
from farebox.simulation.baton import Bounds, Model, Violation


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("bounds", "states_min"),
    [
        pytest.param(Bounds(crashes=0, answers=("cut",)), 10_000, marks=pytest.mark.slow),
        (Bounds(crashes=0, answers=("answered", "failed"), handed_twice=0), 200),
        (Bounds(crashes=0, answers=("answered",)), 4_000),
        pytest.param(Bounds(crashes=1, handed_twice=0), 10_000, marks=pytest.mark.slow),
        (Bounds(crashes=0, policy="fail"), 2_000),
        (Bounds(crashes=0, platforms=("alpha", "beta"), answers=("answered",)), 4_000),
    ],
    ids=["zombie and cancel", "failures", "twice handed out", "crash and cancel", "policy fail", "two lanes"],
)
def test_every_schedule_of_a_task_ends_it_exactly_once(bounds, states_min):
    assert Model(list(ACTORS), bounds).explore().states >= states_min


@pytest.mark.fault(69)
@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize(("policy", "states_min"), [("retry", 300_000), ("fail", 26_000)])
def test_every_schedule_with_crash_zombie_and_cancel_at_once(policy, states_min):
    # 338,761 and 26,745 states: a task that fails at its first interruption has fewer ways to go on.
    assert Model(list(ACTORS), Bounds(policy=policy)).explore().states >= states_min


def broken(name, decide):
    """Return the actors, one of them with a fault."""
    return [
        Actor(name=a.name, new=a.new, decide=decide(a.decide), evolve=a.evolve, pace=a.pace, perform=a.perform)
        if a.name == name
        else a
        for a in ACTORS
    ]


def test_the_model_sees_a_router_that_fences_nothing_it_knows():
    def forgetful(decide):
        return lambda state, heard: [msgspec.structs.replace(fact, prev=0) for fact in decide(state, heard)]

    with pytest.raises(Violation, match="deadlock"):
        Model(broken("router", forgetful), Bounds(crashes=0, handed_twice=0)).explore()


def test_the_model_sees_an_adapter_that_starts_what_another_started():
    def hasty(decide):
        def decided(state, heard):
            taken = state.started if type(heard).__name__ == "QuotaReserved" else None
            if taken is not None and state.ended is None:
                return decide(type(state)(reserved=state.reserved, submitted=state.submitted), heard)
            return decide(state, heard)

        return decided

    with pytest.raises(Violation, match=r"is called, .* was not ended"):
        Model(broken("adapter", hasty), Bounds(crashes=0, cancels=0)).explore()
