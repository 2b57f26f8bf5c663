"""A platform that says that it is used up: what costs nothing more is waited for, money is spent only where that was said."""

import pytest

from farebox.core.terms import Constraints

HOUR_MS = 3_600_000


def refused(story, routing, error_class, *, on_quota="wait", retry_after_ms=None, platform="home", **fields):
    """Return what follows when a platform that costs no money refuses a task for lack of capacity."""
    one = story()
    routing.routed(one, constraints=Constraints(on_quota=on_quota), **fields)
    (said,) = one.hear(routing.failed(error_class=error_class, retry_after_ms=retry_after_ms, platform=platform))
    return said


@pytest.mark.parametrize("error_class", ["rate_limited", "quota_exhausted"])
@pytest.mark.parametrize("on_quota", ["wait", "stop"])
def test_nothing_is_paid_in_the_place_of_what_is_used_up(story, routing, error_class, on_quota):
    said = refused(story, routing, error_class, on_quota=on_quota, retry_after_ms=5_000)
    assert "cloud" not in routing.names(said)
    assert "home is used up, and --on-quota" in routing.reasons(said)["cloud"]


def test_another_plan_may_take_it_at_once(story, routing):
    said = refused(story, routing, "quota_exhausted", retry_after_ms=5_000)
    assert routing.names(said) == ["plan", "home"]
    assert said.candidates[0].not_before_ms == 0


def test_a_window_that_turns_in_hours_is_waited_for(story, routing):
    said = refused(story, routing, "quota_exhausted", retry_after_ms=9 * HOUR_MS)
    assert routing.names(said)[-1] == "home"
    assert said.candidates[-1].not_before_ms > 9 * HOUR_MS


@pytest.mark.parametrize(("on_quota", "asked_ms"), [("stop", 5_000), ("wait", None)])
def test_a_window_that_nobody_waits_for_or_that_nobody_knows_is_not(story, routing, on_quota, asked_ms):
    said = refused(story, routing, "quota_exhausted", on_quota=on_quota, retry_after_ms=asked_ms)
    assert routing.names(said) == ["plan"]


def test_who_may_spill_goes_on_where_it_costs(story, routing):
    said = refused(story, routing, "quota_exhausted", on_quota="spill", retry_after_ms=5_000)
    assert routing.names(said) == ["plan", "cloud"]


def test_who_was_asked_for_is_paid_whatever_else_is_used_up(story, routing):
    said = refused(story, routing, "quota_exhausted", retry_after_ms=5_000, platform="home")
    assert "cloud" not in routing.names(said)
    one = story()
    routing.routed(one, platform="cloud")
    (said,) = one.hear(routing.failed(error_class="quota_exhausted", retry_after_ms=5_000, platform="home"))
    assert routing.names(said)[0] == "cloud"


def test_a_metered_platform_that_is_used_up_may_be_replaced_by_another(story, routing):
    one = story({"cloud": {"billing": "metered"}, "other": {"billing": "metered"}})
    routing.routed(one)
    (said,) = one.hear(routing.failed(error_class="quota_exhausted", retry_after_ms=5_000, platform="cloud"))
    assert routing.names(said) == ["other", "cloud"]


def test_an_outage_is_not_waited_for(story, routing):
    one = story()
    routing.routed(one)
    (said,) = one.hear(routing.failed(error_class="server_error", platform="home"))
    assert "cloud" in routing.names(said)


def test_a_task_that_ends_for_it_says_what_was_not_paid(story, routing):
    one = story({"home": {"billing": "free"}, "cloud": {"billing": "metered"}})
    routing.routed(one)
    (said,) = one.hear(routing.failed(error_class="quota_exhausted", platform="home"))
    assert said.fault.error_class == "quota_exhausted"
    assert said.fault.message == (
        "Tried home: quota_exhausted: no Not paid for: home is used up, and --on-quota wait does not pay instead (spill does)."
    )
