"""Edges of the certificate: windows that turn otherwise, decisions across a turn, whose budget it is, names nobody knows."""

from __future__ import annotations

import pytest

from farebox.certificate.turns import turn_of
from farebox.core.errors import BadInput
from farebox.core.quotas import BudgetSettings, QuotaSettings
from farebox.core.terms import Take

DAY = QuotaSettings(platform="p", window="day", limit=2, zone="Europe/Berlin")
D, R = "p/day/requests", "p/minute/requests"


def test_a_rolling_window_of_thousands_of_starts_forgets_the_old_ones(book, of):
    log = book(r=QuotaSettings(platform="p", window="60s", limit=9_999))
    for number in range(1, 2_501):
        log.now_ms += 100
        log.grant(f"t{number}", of(R, min(number, 600), 9_999))
        log.settle(f"t{number}", of(R, None, None))
    found = log.certificate()
    assert found.holds
    assert next(line for line in found.lines if line.id == R).grants == 2_500


def test_a_window_that_settings_turn_otherwise_may_count_more_than_is_in_it_never_less(book, of):
    log = book(d=DAY)
    log.grant("a", of(D, 1, 2))
    log.settle("a", of(D, None, None))
    log.adopt(quotas={"d": QuotaSettings(platform="p", window="day", limit=3, kind="rolling")})
    log.grant("b", of(D, 3, 3))
    assert log.certificate().holds
    less = log.grant("c", of(D, 2, 3), in_use=2)
    assert (less, "used") in log.kinds()


def test_a_decision_from_before_a_reset_or_a_turn_is_right_when_it_is_stored_after_it(book, of):
    name = "p/90s/requests"
    log = book(m=QuotaSettings(platform="p", window="minute", limit=5))
    log.learn(window_s=90, limit=10, used=4, resets_at_ms=log.now_ms + 1_000)
    as_of = log.route("a")
    log.now_ms += 200_000
    log.grant("a", of(R, 1, 5), of(name, 5, 10), as_of=as_of, routed=False)
    assert log.certificate().holds


@pytest.mark.parametrize(
    ("scope", "key", "whose"),
    [("platform", "", "p"), ("platform", "p", ""), ("tag", "", "team=red"), ("tag", "team=red", ""), ("chain", "", "c"),
     ("chain", "c", ""), ("task", "", "c.a"), ("task", "a", "")],
)  # fmt: skip
def test_a_budget_is_that_of_whom_it_names_or_of_each(book, of, scope, key, whose):
    log = book()
    log.budget("b", limit_usd="1", scope=scope, key=key)
    log.route("a", "0.4", tags={"team": "red"}, max_cost_usd="0.5")
    name = f"budget:b{'=' + whose if whose else ''}/all/usd"
    log.grant("a", of(name, "0.4", 1, "0.4"), of("budget:task=c.a/all/usd", "0.4", "0.5", "0.4"), routed=False)
    assert log.certificate().holds
    other = book()
    other.budget("b", limit_usd="1", scope=scope, key="else=1" if scope == "tag" else "else")
    other.grant("a")
    assert other.certificate().holds


def test_play_money_takes_of_budgets_that_name_its_platform_only(book, of):
    log = book()
    log.adopt(budgets={"real": BudgetSettings(limit_usd="1"), "play": BudgetSettings(limit_usd="1", scope="platform", key="p")})
    log.grant("a", of("budget:play/all/usd", "0.1", 1, "0.1"), billing="rehearsal", bound="0.1")
    assert log.certificate().holds


def test_a_task_of_unknown_price_that_is_allowed_takes_nothing(book):
    log = book()
    log.budget("all", limit_usd="1")
    log.grant("a", Take(quota="budget:all/all/usd", amount="0", used="0", limit="1"), bound="0.2")
    assert log.certificate().holds


def test_a_window_that_nobody_knows_and_a_percentage_without_a_limit_are_understood(book, of):
    log = book(p=QuotaSettings(platform="p", window="5h", unit="percent"))
    log.learn(window_s=10**12, limit=1)
    log.learn(window_s=0, limit=3, used=1, resets_at_ms=log.now_ms + 5_000)
    log.grant("a", of("p/5h/percent", 1, 100), of("p/window/requests", 2, 3))
    assert log.certificate().holds


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../etc", ""])
def test_a_time_zone_that_does_not_exist_is_refused(zone):
    with pytest.raises(BadInput, match="time zone"):
        turn_of("day", None, zone)


def test_of_one_quota_a_grant_takes_once(book, of):
    log = book(d=DAY)
    seq = log.grant("a", of(D, 1, 2), of(D, 2, 2))
    assert (seq, "twice") in log.kinds()
