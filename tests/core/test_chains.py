"""Chains: what was written on top of something must find it there."""

import pytest

from farebox.core import events as e
from farebox.core import subjects
from farebox.core.chains import Chains
from farebox.core.errors import BrokenChain


def routed(seq, prev, task="t"):
    return e.TaskRouted(id=f"r{seq}", chain="c", task=task, seq=seq, prev=prev)


def reserved(seq, prev, task="t"):
    return e.QuotaReserved(id=f"q{seq}", chain="c", task=task, platform="p", seq=seq, prev=prev)


def take(chains, fact, writer):
    return chains.checked(fact, subjects.subject_of(writer, fact))


def broken(chains, fact, writer):
    with pytest.raises(BrokenChain, match="was written on top of fact"):
        take(chains, fact, writer)


def test_facts_on_top_of_each_other_hold():
    chains = Chains()
    take(chains, routed(1, 0), "router")
    take(chains, routed(5, 1), "router")
    take(chains, e.TaskSubmitted(chain="c", task="u", seq=6), "client")


def test_a_fact_on_top_of_one_that_never_was_is_broken_and_so_is_what_follows():
    chains = Chains()
    take(chains, routed(1, 0), "router")
    broken(chains, routed(5, 3), "router")
    broken(chains, routed(6, 5), "router")
    take(chains, routed(7, 0, "other"), "router")
    take(chains, routed(8, 1), "router")


def test_facts_of_one_append_share_what_they_were_written_on():
    chains = Chains()
    for seq in (1, 2, 3):
        take(chains, reserved(seq, 0, f"t{seq}"), "quota")
    take(chains, reserved(4, 3), "quota")


def test_one_broken_word_of_quota_does_not_break_all_of_quota():
    chains = Chains()
    take(chains, reserved(1, 0), "quota")
    broken(chains, reserved(2, 99), "quota")
    take(chains, reserved(3, 2), "quota")


def test_before_the_reading_began_nothing_is_doubted():
    chains = Chains(since=10)
    take(chains, routed(11, 7), "router")
    broken(Chains(since=10), routed(12, 11), "router")


def test_what_was_forgotten_is_not_doubted():
    chains = Chains(kept_max=4)
    for seq in range(1, 7):
        take(chains, routed(seq, 0, f"t{seq}"), "router")
    take(chains, routed(7, 1, "t1"), "router")
    broken(chains, routed(8, 4, "t6"), "router")


def test_a_client_need_not_say_what_it_knew_but_may_not_invent_it():
    chains = Chains()
    cancel = e.TaskCancelRequested(chain="c", task="t", seq=3)
    take(chains, cancel, "client")
    take(chains, e.TaskCancelRequested(chain="c", task="t", seq=4), "client")
    broken(chains, e.TaskCancelRequested(chain="c", task="t", seq=5, prev=9), "client")


FACTS = {
    "router": routed(9, 8), "quota": reserved(9, 8), "engine": e.SettingsAdopted(seq=9, prev=8),
    "adapter": e.TaskStarted(chain="c", task="t", platform="p", seq=9, prev=8),
    "handoff": e.HandoffCreated(chain="c", task="t", memory="m", seq=9, prev=8),
    "cost": e.CostRecorded(chain="c", task="t", platform="p", seq=9, prev=8),
}  # fmt: skip


@pytest.mark.parametrize("writer", FACTS)
def test_a_fact_that_nobody_can_read_is_followed_all_the_same(writer):
    fact = FACTS[writer]
    chains = Chains()
    chains.skip(3, subjects.subject_of(writer, fact))
    chains.skip(8, subjects.subject_of(writer, fact))
    assert take(chains, fact, writer) is fact


@pytest.mark.parametrize("subject", ["farebox.log.late.result.p.c.t", "farebox.log.nobody.x.-.c.t", "something else"])
def test_what_has_no_fence_leaves_no_trace(subject):
    chains = Chains()
    chains.skip(3, subject)
    take(chains, e.LateResult(chain="c", task="t", platform="p", seq=4), "late")
    assert not chains._ends
