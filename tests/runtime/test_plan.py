"""What a batch would do: which platform gets which share, which task reaches a limit, when the last one would start."""

from __future__ import annotations

from decimal import Decimal

from farebox.core.standing import Standing
from farebox.core.terms import Candidate
from farebox.runtime.plan import TURNS_MAX, Group, planned

NOW_MS = 1_790_000_000_000
HOUR_MS = 3_600_000
PLAN = Candidate(platform="plan", billing="plan", input_tokens=100, output_tokens=20, estimate_usd="0.02")
PAID = Candidate(
    platform="paid",
    billing="metered",
    input_tokens=100,
    output_tokens=20,
    low_usd="0.01",
    estimate_usd="0.02",
    bound_usd="0.05",
)
FIVE = Standing(quota="plan/5h/requests", platforms=("plan",), window="5h", used="4", limit="10", resets_at_ms=NOW_MS + HOUR_MS)


def plan(groups, standings=(FIVE,)):
    return planned(groups, standings, NOW_MS, 90)


def tasks(found):
    return {name: share.tasks for name, share in found.shares.items()}


def test_a_batch_with_room_everywhere_reaches_nothing():
    found = plan([Group(3, (PLAN, PAID))])
    assert (tasks(found), found.waits, found.ends_ms, found.refused) == ({"plan": 3}, 0, None, {})
    told = found.reached["plan/5h/requests"]
    assert (told.used, told.after, told.warn_at_task, told.full_at_task) == (Decimal(4), Decimal(7), None, None)


def test_who_waits_costs_nothing_and_ends_after_the_turns_of_the_window():
    found = plan([Group(20, (PLAN, PAID), "wait")])
    assert tasks(found) == {"plan": 20}
    told = found.reached["plan/5h/requests"]
    assert (told.warn_at_task, told.full_at_task) == (5, 6)
    assert (found.waits, found.ends_ms) == (14, NOW_MS + HOUR_MS + 5 * HOUR_MS)


def test_who_spills_pays_for_what_does_not_fit():
    found = plan([Group(20, (PLAN, PAID), "spill")])
    assert tasks(found) == {"plan": 6, "paid": 14}
    share = found.shares["paid"]
    assert (share.low_usd, share.estimate_usd, share.bound_usd) == (Decimal("0.14"), Decimal("0.28"), Decimal("0.70"))


def test_who_stops_is_refused_by_name():
    found = plan([Group(20, (PLAN, PAID), "stop")])
    assert (tasks(found), found.refused) == ({"plan": 6}, {"plan/5h/requests is used up": 14})


def test_where_only_money_can_do_it_money_does_it_until_its_budget_is_used():
    budget = Standing(quota="budget:month/month/usd", window="month", unit="usd", used="0.1", limit="0.2")
    ever = Standing(quota="budget:ever/all/usd", window="all", unit="usd", used="0.1", limit="0.17")
    found = plan([Group(5, (PAID,), "stop")], (budget,))
    reason = "budget:month/month/usd has no room for the most that a task may cost"
    assert (tasks(found), found.refused, found.codes) == ({"paid": 3}, {reason: 2}, {reason: "FB302"})
    told = found.reached["budget:month/month/usd"]
    assert (told.after, told.full_at_task) == (Decimal("0.16"), 4), "a grant reserves the bound, a bill takes what was used"
    found = plan([Group(5, (PAID,))], (ever,))
    assert (tasks(found), sum(found.refused.values())) == ({"paid": 2}, 3)


def test_play_money_eats_only_the_budget_that_names_its_platform():
    toy = Candidate(platform="toy", billing="rehearsal", estimate_usd="0.1", bound_usd="0.1")
    own = Standing(quota="budget:toys/all/usd", platforms=("toy",), window="all", unit="usd", limit="0.25")
    everybody = Standing(quota="budget:all/all/usd", window="all", unit="usd", limit="0.1")
    found = plan([Group(5, (toy,))], (own, everybody))
    assert tasks(found) == {"toy": 2}
    assert found.reached["budget:all/all/usd"].after == 0


def test_a_window_told_in_percent_is_used_as_its_provider_showed():
    window = Standing(
        quota="plan/5h/percent", platforms=("plan",), window="5h", unit="percent", used="80", limit="100", per_call="5",
        resets_at_ms=NOW_MS + HOUR_MS,
    )  # fmt: skip
    found = plan([Group(6, (PLAN,), "stop")], (window,))
    told = found.reached["plan/5h/percent"]
    assert (tasks(found), told.warn_at_task, told.full_at_task) == ({"plan": 4}, 2, 4)
    assert found.codes == {"plan/5h/percent is used up": "FB301"}


def test_each_unit_counts_what_it_counts():
    units = {"tokens": "120", "tokens_in": "100", "tokens_out": "20", "percent": "1", "calls": "0"}
    standings = [Standing(quota=f"plan/day/{unit}", window="day", unit=unit, limit="1000") for unit in units]
    other = Standing(quota="other/day/requests", platforms=("other",), window="day", limit="1")
    unnamed = Standing(quota="plan/untold/requests", window="no window", limit="5")
    unknown = Standing(quota="plan/month/requests", window="month")
    slots = Standing(quota="plan/now/calls", window="now", unit="calls", limit="1")
    found = plan([Group(1, (PLAN,))], (*standings, other, unnamed, unknown, slots))
    after = {name: str(told.after) for name, told in found.reached.items()}
    assert {name.split("/")[2]: used for name, used in after.items() if name.startswith("plan/day")} == units
    assert (after["other/day/requests"], after["plan/untold/requests"]) == ("0", "1")
    assert "plan/month/requests" not in after
    assert "plan/now/calls" not in after


def test_a_window_that_nobody_named_turns_once():
    once = Standing(quota="plan/x/requests", window="no window", used="5", limit="5", resets_at_ms=NOW_MS + 1000)
    found = plan([Group(7, (PLAN,))], (once,))
    assert (tasks(found), found.refused, found.ends_ms) == ({"plan": 5}, {"plan/x/requests is used up": 2}, NOW_MS + 1000)


def test_what_can_never_fit_is_refused_and_not_looked_for_for_ever():
    never = Standing(quota="plan/minute/tokens", window="minute", unit="tokens", limit="5")
    found = plan([Group(1, (PLAN,))], (never,))
    assert found.refused == {"plan/minute/tokens is used up": 1}
    assert (found.ends_ms or 0) <= NOW_MS + (TURNS_MAX + 1) * 60_000
    shut = Standing(quota="plan/day/requests", window="day", limit="0")
    assert plan([Group(1, (PLAN,))], (shut,)).refused == {"plan/day/requests is used up": 1}


def test_without_a_candidate_the_reason_is_told_and_without_a_price_the_tasks_are_counted():
    bare = Candidate(platform="free", billing="free")
    found = plan([Group(2, refused="all are disabled"), Group(1), Group(3, (bare,))])
    assert found.refused == {"all are disabled": 2, "no platform may do it": 1}
    assert (found.tasks, found.shares["free"].unpriced) == (6, 3)
