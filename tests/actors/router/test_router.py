"""The router: cheapest first, honest about why not, and one end where nobody can."""

from actors import router
from farebox.core.events import (
    PlatformReported,
    QuotaRefused,
    TaskCancelRequested,
    TaskCompleted,
    TaskRouted,
)
from farebox.core.terms import Constraints, Fault
from farebox.core.wire import submission_sha256

TIERS = {
    "cloud": {"billing": "metered"},
    "home": {"billing": "free"},
    "plan": {"billing": "plan", "models": ("large", "small")},
}


def test_free_comes_before_plan_and_plan_before_metered(story, routing):
    (said,) = story().hear(routing.task())
    assert isinstance(said, TaskRouted)
    assert routing.names(said) == ["home", "plan", "cloud"]
    assert [candidate.tier for candidate in said.candidates] == [0, 1, 2]
    assert said.attempt == 1


def test_a_tier_that_the_user_sets_beats_the_billing(story, routing):
    (said,) = story({**routing.TIERS, "cloud": {"billing": "metered", "tier": 0}, "home": {"billing": "free", "tier": 9}}).hear(
        routing.task()
    )
    assert routing.names(said) == ["cloud", "plan", "home"]


def test_equal_tiers_go_by_name_as_adopted_settings_do(story, routing):
    (said,) = story({"b": {"billing": "free"}, "a": {"billing": "free"}}).hear(routing.task())
    assert routing.names(said) == ["a", "b"]


def test_the_one_asked_for_comes_first_and_the_others_stand_in(story, routing):
    (said,) = story().hear(routing.task(platform="cloud"))
    assert routing.names(said) == ["cloud", "home", "plan"]


def test_without_fallback_only_the_one_asked_for_is_a_candidate(story, routing):
    (said,) = story().hear(routing.task(platform="cloud", fallback=False))
    assert routing.names(said) == ["cloud"]
    assert {one.reason for one in said.rejected} == {"only cloud was asked for"}


def test_a_closed_platform_is_used_only_by_name(story, routing):
    platforms = {**routing.TIERS, "home": {"billing": "free", "open": False}}
    (said,) = story(platforms).hear(routing.task())
    assert routing.names(said) == ["plan", "cloud"]
    assert said.rejected[0].reason == "used only when asked for by name"
    (asked,) = story(platforms).hear(routing.task(platform="home"))
    assert routing.names(asked)[0] == "home"


def test_disabled_absent_and_unreported_platforms_are_rejected_with_their_reason(story, told, routing):
    one = told.Story(router.ACTOR)
    one.tell(told.adopted({**routing.TIERS, "off": {"enabled": False}}), *told.reported("cloud", "off"))
    one.tell(PlatformReported(platform="plan", available=False, detail="not logged in"))
    (said,) = one.hear(routing.task())
    assert routing.names(said) == ["cloud"]
    assert {rejected.platform: rejected.reason for rejected in said.rejected} == {
        "home": "not available: has not reported yet",
        "off": "disabled",
        "plan": "not available: not logged in",
    }


def test_the_model_asked_for_decides_who_can(story, routing):
    one = story()
    one.tell(PlatformReported(platform="home", available=True, models=("small",)))
    (said,) = one.hear(routing.task(model="large"))
    assert routing.names(said) == ["plan", "cloud"]
    assert {candidate.model for candidate in said.candidates} == {"large"}
    assert said.rejected[0].reason == "has no model large"


def test_without_a_wish_the_platform_uses_its_model_or_its_first_one(story, routing):
    one = story({"own": {"model": "m1", "models": ("m2",)}, "list": {"models": ("m3",)}, "found": {}, "bare": {}})
    one.tell(PlatformReported(platform="found", available=True, models=("m4",)))
    (said,) = one.hear(routing.task())
    assert {candidate.platform: candidate.model for candidate in said.candidates} == {
        "own": "m1", "list": "m3", "found": "m4", "bare": "",
    }  # fmt: skip


def test_what_was_submitted_travels_with_the_route(story, routing):
    one = story()
    submitted = routing.task(priority=7, timeout_s=9.0, on_interrupt="ask", batch="b", traceparent="00-x")
    (said,) = one.hear(submitted)
    assert (said.priority, said.timeout_s, said.on_interrupt, said.batch, said.traceparent) == (7, 9.0, "ask", "b", "00-x")
    assert said.submission_sha256 == submission_sha256(submitted)
    assert said.cause == one.facts[-1].id


def test_nobody_set_up_ends_the_task_with_one_clear_reason(story, routing):
    (said,) = story({}).hear(routing.task())
    assert isinstance(said, TaskCompleted)
    assert said.status == "failed"
    assert said.fault == Fault(error_class="unavailable", message="No platform may do this task (none is set up).")


def test_a_platform_that_does_not_exist_is_said_so(story, routing):
    (said,) = story().hear(routing.task(platform="nowhere", fallback=False))
    assert said.fault == Fault(error_class="invalid", message="There is no platform 'nowhere'.")


def test_tasks_with_needs_or_memory_end_as_unsupported(story, routing):
    for fields in ({"needs": ("other",)}, {"memory": "m"}):
        (said,) = story().hear(routing.task(**fields))
        assert said.fault.error_class == "unsupported"


def test_a_cancel_before_the_submission_counts(story, routing):
    one = story()
    assert one.hear(TaskCancelRequested(chain="c", task="t")) == []
    (said,) = one.hear(routing.task())
    assert (said.status, said.fault.error_class) == ("cancelled", "cancelled")


def test_a_cancel_while_the_router_holds_the_task_ends_it_and_one_while_others_hold_it_does_not(story, routing):
    one = story()
    submitted = one.tell(routing.task())
    (said,) = one.hear(TaskCancelRequested(chain="c", task="t"))
    assert said.status == "cancelled"
    assert said.cause == submitted.id

    one = story()
    routing.routed(one)
    assert one.hear(TaskCancelRequested(chain="c", task="t")) == []
    (said,) = one.hear(routing.failed())
    assert said.status == "cancelled"


def test_only_so_many_cancels_of_unknown_tasks_are_remembered(story):
    one = story()
    for number in range(router.CANCELS_MAX + 5):
        one.state = router.evolve(one.state, TaskCancelRequested(chain="c", task=f"t{number}"))
    assert len(one.state.cancels) == router.CANCELS_MAX
    assert "c.t0" not in one.state.cancels


def test_a_refusal_by_quota_for_a_cancel_ends_the_task(story, routing):
    one = story()
    routing.routed(one)
    fault = Fault(error_class="cancelled", message="Cancelled while waiting.")
    (said,) = one.hear(QuotaRefused(chain="c", task="t", attempt=1, fault=fault))
    assert (said.status, said.fault) == ("cancelled", fault)


def test_a_refusal_because_nobody_may_any_more_routes_anew_under_the_settings_of_now(story, told, routing):
    one = story()
    routing.routed(one, platform="home", fallback=False)
    one.tell(told.adopted({**routing.TIERS, "home": {"billing": "free", "enabled": False}}))
    (said,) = one.hear(QuotaRefused(chain="c", task="t", attempt=1, fault=Fault(error_class="unavailable")))
    assert said.fault == Fault(
        error_class="unavailable",
        message="No platform may do this task (home: disabled).",
    )


def test_platforms_that_are_used_only_by_name_are_no_reason_why_nobody_may(story, routing):
    platforms = {"home": {"billing": "free", "enabled": False}, "toy": {"open": False}}
    (said,) = story(platforms).hear(routing.task())
    assert said.fault.message == "No platform may do this task (home: disabled)."
    (said,) = story({"toy": {"open": False}}).hear(routing.task())
    assert said.fault.message == "No platform may do this task (toy: used only when asked for by name)."


def test_a_failed_platform_goes_last_and_waits_as_long_as_it_asked(story, routing):
    one = story()
    routing.routed(one, constraints=Constraints(on_quota="spill"))
    (said,) = one.hear(routing.failed(error_class="rate_limited", retry_after_ms=5_000))
    assert (routing.names(said), said.attempt) == (["plan", "cloud", "home"], 2)
    assert said.candidates[-1].not_before_ms == one.facts[-1].at_ms + 5_000
    assert said.candidates[-1].lane_seq == one.facts[-1].seq
    assert [candidate.not_before_ms for candidate in said.candidates[:-1]] == [0, 0]


def test_waits_double_while_nobody_asks_for_one(story, routing):
    one = story({"home": {"billing": "free"}})
    routing.routed(one)
    waits = []
    for attempt in (1, 2):
        (said,) = one.hear(routing.failed(attempt))
        waits.append(said.candidates[0].not_before_ms - one.facts[-1].at_ms)
        one.tell(said)
    assert waits == [1_000, 2_000]
