"""A platform that fails is spared for a while; then one task finds out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.core import health
from farebox.core.events import AttemptFailed, AttemptInterrupted, TaskCompleted
from farebox.core.health import HEALTHY, IN_A_ROW, NEXT_MS, OPEN_MS, OPEN_MS_MAX
from farebox.core.terms import Fault


def failed(one, times=1, at_ms=1_000, task=""):
    for _ in range(times):
        one = health.after(one, "failed", duration_ms=5, at_ms=at_ms, task=task)
    return one


def opened(turns=1):
    one, at_ms = failed(HEALTHY, IN_A_ROW), 1_000
    for _ in range(turns - 1):
        at_ms = one.until_ms
        one = failed(health.claimed(one, "c.probe", at_ms), at_ms=at_ms, task="c.probe")
    return one


@pytest.mark.parametrize(
    ("error_class", "what"),
    [("server_error", "failed"), ("crashed", "failed"), ("refused", "said_no"), ("rate_limited", "said_no"),
     ("auth_missing", "unknown"), ("cancelled", "unknown")],
)  # fmt: skip
def test_failures_of_a_provider_are_told_from_what_only_one_that_works_says(error_class, what):
    assert health.outcome(AttemptFailed(fault=Fault(error_class=error_class))) == what


def test_an_answer_is_an_answer_and_a_lost_adapter_says_nothing_about_the_provider():
    assert health.outcome(TaskCompleted(status="completed")) == "answered"
    fault = Fault(error_class="crashed")
    assert health.outcome(AttemptInterrupted(fault=fault, reason="crash")) == "unknown"
    assert health.outcome(AttemptInterrupted(fault=fault, reason="stall")) == "failed"


def test_four_failures_cost_points_and_the_fifth_opens_for_half_a_minute():
    one = failed(HEALTHY, IN_A_ROW - 1)
    assert (one.state, health.not_before_ms(one, "c.t", 1_000)) == ("closed", 0)
    assert 0 < one.points < 1000
    one = failed(one)
    assert (one.state, one.until_ms) == ("open", 1_000 + OPEN_MS)


def test_an_answer_between_failures_starts_the_count_anew_and_heals_slowly():
    one = health.after(failed(HEALTHY, IN_A_ROW - 1), "answered", duration_ms=5, at_ms=2_000)
    assert failed(one).state == "closed"
    assert one.points < 1000
    for _ in range(60):
        one = health.after(one, "answered", duration_ms=5, at_ms=2_000)
    assert one.points == 1000
    assert one.errors == 0


def test_an_open_time_doubles_to_ten_minutes_at_most():
    waits = [opened(turns).until_ms - opened(turns - 1).until_ms for turns in range(2, 9)]
    assert waits == [60_000, 120_000, 240_000, 480_000, OPEN_MS_MAX, OPEN_MS_MAX, OPEN_MS_MAX]


def test_one_task_probes_and_the_others_look_again_later():
    one = health.claimed(opened(), "c.first", 2_000)
    assert health.claimed(one, "c.second", 3_000) == one
    assert health.not_before_ms(one, "c.first", 2_000) == one.until_ms
    assert health.not_before_ms(one, "c.first", one.until_ms) == 0
    assert health.not_before_ms(one, "c.second", 2_000) == one.until_ms + NEXT_MS
    assert health.not_before_ms(one, "c.second", one.until_ms + 5) == one.until_ms + 5 + NEXT_MS


def test_a_probe_that_never_ends_gives_way_and_one_that_went_elsewhere_does_so_at_once():
    one = health.claimed(opened(), "c.first", 2_000)
    late_ms = one.until_ms + health.PROBE_MS
    assert health.claimed(one, "c.second", late_ms - 1).probe == "c.first"
    assert health.claimed(one, "c.second", late_ms).probe == "c.second"
    assert health.claimed(health.released(one, "c.first"), "c.second", 2_000).probe == "c.second"
    assert health.released(one, "c.other") == one
    assert health.released(one, "") == one


def test_nobody_probes_what_is_well():
    assert health.claimed(HEALTHY, "c.t", 5) == HEALTHY


@pytest.mark.parametrize("what", ["answered", "said_no"])
def test_any_answer_closes_the_breaker(what):
    one = health.after(health.claimed(opened(), "c.t", 2_000), what, duration_ms=5, at_ms=40_000, task="c.t")
    assert (one.state, one.turns, one.in_a_row, one.probe) == ("closed", 0, 0, "")


def test_an_end_that_says_nothing_lets_another_task_find_out():
    one = health.claimed(opened(), "c.t", 2_000)
    assert health.after(one, "unknown", duration_ms=5, at_ms=40_000, task="c.t").probe == ""


def test_what_began_before_the_breaker_opened_changes_nothing_about_it():
    one = opened()
    assert failed(one, at_ms=5_000).until_ms == one.until_ms
    probed = health.claimed(one, "c.t", one.until_ms)
    assert failed(probed, at_ms=probed.until_ms + 1, task="c.other").until_ms == probed.until_ms
    assert failed(one, at_ms=one.until_ms + 1, task="c.other").until_ms > one.until_ms


def test_latency_follows_slowly_and_is_told_in_two_digits():
    one = health.after(HEALTHY, "answered", duration_ms=1234, at_ms=1)
    assert health.latency_ms(one) == 1200
    assert health.latency_ms(health.after(one, "answered", duration_ms=2234, at_ms=1)) == 1400
    assert [health.latency_ms(health.Health(latency_ms=ms)) for ms in (0.2, 7, 42, 99.6)] == [0, 7, 42, 100]


def test_a_platform_that_nobody_used_is_well():
    assert health.of({}, "p") is HEALTHY
    assert HEALTHY.points == 1000


@given(steps=st.lists(st.tuples(st.sampled_from(["answered", "failed", "said_no", "unknown"]), st.integers(0, 10**6))))
def test_law_health_stays_between_nothing_and_a_thousand_and_a_breaker_never_opens_for_more_than_ten_minutes(steps):
    one, now_ms = HEALTHY, 0
    for what, passed_ms in steps:
        now_ms += passed_ms
        one = health.claimed(one, "c.t", now_ms)
        one = health.after(one, what, duration_ms=passed_ms, at_ms=now_ms, task="c.t")
        assert 0 <= one.points <= 1000
        assert 0 <= one.errors <= 1
        assert one.until_ms <= now_ms + OPEN_MS_MAX
        assert bool(one.until_ms) == (one.turns > 0)
