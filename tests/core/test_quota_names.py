"""Names of quotas and budgets: each has one, and none is too long for a fact."""

import pytest

from farebox.core import wire
from farebox.core.events import QuotaReserved
from farebox.core.quotas import budget_id, is_of_budget, quota_id
from farebox.core.terms import Take

LONG = ("x" * 5_000, "x" * 4_999 + "y", "ä" * 300, "\ud800" * 300, "a/b=c" * 60)


@pytest.mark.parametrize("text", LONG)
def test_no_name_is_too_long_for_a_fact_that_is_read_again(text):
    for name in (budget_id("team", "month", f"team={text[:260]}"), quota_id(text[:300], "hour", "requests")):
        assert len(name) <= 256
        if text.isprintable():
            fact = QuotaReserved(id="i", chain="c", task="t", attempt=1, platform="p", takes=(Take(quota=name, amount="1"),))
            assert wire.decode("farebox.log.quota.reserved.p.c.t", wire.encode(fact), 1, 1).takes == fact.takes
    assert len(budget_id(text, "month", text)) <= 256


def test_two_long_names_that_differ_anywhere_are_two_names_and_each_is_always_the_same():
    found = {budget_id("b", "day", text) for text in LONG} | {budget_id(text, "day") for text in LONG}
    assert len(found) == 2 * len(LONG)
    assert found == {budget_id("b", "day", text) for text in LONG} | {budget_id(text, "day") for text in LONG}


def test_the_longest_name_of_a_task_stays_whole():
    longest = f"{'c' * 63}.{'t' * 63}"
    assert budget_id("task", "all", longest) == f"budget:task={longest}/all/usd"


@pytest.mark.parametrize("name", ["b", *LONG])
def test_a_name_is_told_to_be_of_its_budget_and_of_no_other(name):
    assert is_of_budget(budget_id(name, "day"), name)
    assert is_of_budget(budget_id(name, "day", "team=a"), name)
    assert not is_of_budget(budget_id(f"{name}z", "day"), name)
    assert not is_of_budget(quota_id("b", "day", "usd"), name)
