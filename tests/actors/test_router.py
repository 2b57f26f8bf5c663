"""The router: cheapest first, honest about why not, and one end where nobody can."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import router
from farebox.core import subjects
from farebox.core.actor import Quarantined
from farebox.core.events import (
    AttemptFailed,
    AttemptInterrupted,
    PlatformReported,
    QuotaRefused,
    QuotaReserved,
    TaskCancelRequested,
    TaskCompleted,
    TaskDecision,
    TaskReady,
    TaskRouted,
    TaskSubmitted,
)
from farebox.core.terms import Fault
from farebox.core.wire import submission_sha256

TIERS = {
    "cloud": {"billing": "metered"},
    "home": {"billing": "free"},
    "plan": {"billing": "plan", "models": ("large", "small")},
}


@pytest.fixture
def story(told):
    def tell(platforms=TIERS, **settings):
        one = told.Story(router.ACTOR)
        one.tell(told.adopted(platforms, **settings), *told.reported(*platforms))
        return one

    return tell


def task(name="t", **fields):
    return TaskSubmitted(chain="c", task=name, prompt="?", **fields)


def failed(attempt=1, platform="home", error_class="server_error", **fields):
    return AttemptFailed(
        chain="c", task="t", attempt=attempt, platform=platform, fault=Fault(error_class=error_class, message="no"), **fields
    )


def interrupted(attempt=1, platform="home", charged="possible"):
    fault = Fault(error_class="crashed", message="gone")
    return AttemptInterrupted(chain="c", task="t", attempt=attempt, platform=platform, charged=charged, fault=fault)


def routed(story, **fields):
    """Submit, route, and return the story with its TaskRouted told."""
    (said,) = story.hear(task(**fields))
    return story.tell(said)


def names(said):
    return [candidate.platform for candidate in said.candidates]


def test_free_comes_before_plan_and_plan_before_metered(story):
    (said,) = story().hear(task())
    assert isinstance(said, TaskRouted)
    assert names(said) == ["home", "plan", "cloud"]
    assert [candidate.tier for candidate in said.candidates] == [0, 1, 2]
    assert said.attempt == 1


def test_a_tier_that_the_user_sets_beats_the_billing(story):
    (said,) = story({**TIERS, "cloud": {"billing": "metered", "tier": 0}, "home": {"billing": "free", "tier": 9}}).hear(task())
    assert names(said) == ["cloud", "plan", "home"]


def test_equal_tiers_go_by_name_as_adopted_settings_do(story):
    (said,) = story({"b": {"billing": "free"}, "a": {"billing": "free"}}).hear(task())
    assert names(said) == ["a", "b"]


def test_the_one_asked_for_comes_first_and_the_others_stand_in(story):
    (said,) = story().hear(task(platform="cloud"))
    assert names(said) == ["cloud", "home", "plan"]


def test_without_fallback_only_the_one_asked_for_is_a_candidate(story):
    (said,) = story().hear(task(platform="cloud", fallback=False))
    assert names(said) == ["cloud"]
    assert {one.reason for one in said.rejected} == {"only cloud was asked for"}


def test_a_closed_platform_is_used_only_by_name(story):
    platforms = {**TIERS, "home": {"billing": "free", "open": False}}
    (said,) = story(platforms).hear(task())
    assert names(said) == ["plan", "cloud"]
    assert said.rejected[0].reason == "used only when asked for by name"
    (asked,) = story(platforms).hear(task(platform="home"))
    assert names(asked)[0] == "home"


def test_disabled_absent_and_unreported_platforms_are_rejected_with_their_reason(story, told):
    one = told.Story(router.ACTOR)
    one.tell(told.adopted({**TIERS, "off": {"enabled": False}}), *told.reported("cloud", "off"))
    one.tell(PlatformReported(platform="plan", available=False, detail="not logged in"))
    (said,) = one.hear(task())
    assert names(said) == ["cloud"]
    assert {rejected.platform: rejected.reason for rejected in said.rejected} == {
        "home": "not available: has not reported yet",
        "off": "disabled",
        "plan": "not available: not logged in",
    }


def test_the_model_asked_for_decides_who_can(story):
    one = story()
    one.tell(PlatformReported(platform="home", available=True, models=("small",)))
    (said,) = one.hear(task(model="large"))
    assert names(said) == ["plan", "cloud"]
    assert {candidate.model for candidate in said.candidates} == {"large"}
    assert said.rejected[0].reason == "has no model large"


def test_without_a_wish_the_platform_uses_its_model_or_its_first_one(story):
    one = story({"own": {"model": "m1", "models": ("m2",)}, "list": {"models": ("m3",)}, "found": {}, "bare": {}})
    one.tell(PlatformReported(platform="found", available=True, models=("m4",)))
    (said,) = one.hear(task())
    assert {candidate.platform: candidate.model for candidate in said.candidates} == {
        "own": "m1", "list": "m3", "found": "m4", "bare": "",
    }  # fmt: skip


def test_what_was_submitted_travels_with_the_route(story):
    one = story()
    submitted = task(priority=7, timeout_s=9.0, on_interrupt="ask", batch="b", traceparent="00-x")
    (said,) = one.hear(submitted)
    assert (said.priority, said.timeout_s, said.on_interrupt, said.batch, said.traceparent) == (7, 9.0, "ask", "b", "00-x")
    assert said.submission_sha256 == submission_sha256(submitted)
    assert said.cause == one.facts[-1].id


def test_nobody_set_up_ends_the_task_with_one_clear_reason(story):
    (said,) = story({}).hear(task())
    assert isinstance(said, TaskCompleted)
    assert said.status == "failed"
    assert said.fault == Fault(error_class="unavailable", message="No platform may do this task (none is set up).")


def test_a_platform_that_does_not_exist_is_said_so(story):
    (said,) = story().hear(task(platform="nowhere", fallback=False))
    assert said.fault == Fault(error_class="invalid", message="There is no platform 'nowhere'.")


def test_tasks_with_needs_or_memory_end_as_unsupported(story):
    for fields in ({"needs": ("other",)}, {"memory": "m"}):
        (said,) = story().hear(task(**fields))
        assert said.fault.error_class == "unsupported"


def test_a_cancel_before_the_submission_counts(story):
    one = story()
    assert one.hear(TaskCancelRequested(chain="c", task="t")) == []
    (said,) = one.hear(task())
    assert (said.status, said.fault.error_class) == ("cancelled", "cancelled")


def test_a_cancel_while_the_router_holds_the_task_ends_it_and_one_while_others_hold_it_does_not(story):
    one = story()
    submitted = one.tell(task())
    (said,) = one.hear(TaskCancelRequested(chain="c", task="t"))
    assert said.status == "cancelled"
    assert said.cause == submitted.id

    one = story()
    routed(one)
    assert one.hear(TaskCancelRequested(chain="c", task="t")) == []
    (said,) = one.hear(failed())
    assert said.status == "cancelled"


def test_only_so_many_cancels_of_unknown_tasks_are_remembered(story):
    one = story()
    for number in range(router.CANCELS_MAX + 5):
        one.state = router.evolve(one.state, TaskCancelRequested(chain="c", task=f"t{number}"))
    assert len(one.state.cancels) == router.CANCELS_MAX
    assert "c.t0" not in one.state.cancels


def test_a_refusal_by_quota_for_a_cancel_ends_the_task(story):
    one = story()
    routed(one)
    fault = Fault(error_class="cancelled", message="Cancelled while waiting.")
    (said,) = one.hear(QuotaRefused(chain="c", task="t", attempt=1, fault=fault))
    assert (said.status, said.fault) == ("cancelled", fault)


def test_a_refusal_because_nobody_may_any_more_routes_anew_under_the_settings_of_now(story, told):
    one = story()
    routed(one, platform="home", fallback=False)
    one.tell(told.adopted({**TIERS, "home": {"billing": "free", "enabled": False}}))
    (said,) = one.hear(QuotaRefused(chain="c", task="t", attempt=1, fault=Fault(error_class="unavailable")))
    assert said.fault == Fault(
        error_class="unavailable",
        message="No platform may do this task (home: disabled).",
    )


def test_platforms_that_are_used_only_by_name_are_no_reason_why_nobody_may(story):
    platforms = {"home": {"billing": "free", "enabled": False}, "toy": {"open": False}}
    (said,) = story(platforms).hear(task())
    assert said.fault.message == "No platform may do this task (home: disabled)."
    (said,) = story({"toy": {"open": False}}).hear(task())
    assert said.fault.message == "No platform may do this task (toy: used only when asked for by name)."


def test_a_failed_platform_goes_last_and_waits_as_long_as_it_asked(story):
    one = story()
    routed(one)
    (said,) = one.hear(failed(error_class="rate_limited", retry_after_ms=5_000))
    assert (names(said), said.attempt) == (["plan", "cloud", "home"], 2)
    assert said.candidates[-1].not_before_ms == one.facts[-1].at_ms + 5_000
    assert said.candidates[-1].lane_seq == one.facts[-1].seq
    assert [candidate.not_before_ms for candidate in said.candidates[:-1]] == [0, 0]


def test_waits_double_while_nobody_asks_for_one(story):
    one = story({"home": {"billing": "free"}})
    routed(one)
    waits = []
    for attempt in (1, 2):
        (said,) = one.hear(failed(attempt))
        waits.append(said.candidates[0].not_before_ms - one.facts[-1].at_ms)
        one.tell(said)
    assert waits == [1_000, 2_000]


@pytest.mark.parametrize("error_class", ["auth_missing", "refused", "invalid", "damaged", "context_too_long"])
def test_a_failure_that_no_second_try_mends_rules_the_platform_out(story, error_class):
    one = story()
    routed(one)
    (said,) = one.hear(failed(error_class=error_class))
    assert names(said) == ["plan", "cloud"]
    assert said.rejected[0].reason == f"failed: {error_class}: no"


def test_three_tries_are_enough_but_being_rate_limited_is_no_try(story):
    one = story({"home": {"billing": "free"}}, attempts_max=50)
    routed(one)
    for attempt in range(1, 6):
        (said,) = one.hear(failed(attempt, error_class="rate_limited"))
        one.tell(said)
    for attempt in range(6, 6 + router.TRIES_MAX):
        (said,) = one.hear(failed(attempt))
        one.tell(said)
    assert isinstance(said, TaskCompleted)
    assert said.fault == Fault(error_class="server_error", message="Tried home: server_error: no")


def test_a_wait_longer_than_allowed_rules_the_platform_out(story):
    one = story({"home": {"billing": "free"}}, retry_wait_max_s=10)
    routed(one)
    (said,) = one.hear(failed(error_class="rate_limited", retry_after_ms=11_000))
    assert isinstance(said, TaskCompleted)


def test_the_end_names_each_platform_that_was_tried(story):
    one = story({"home": {"billing": "free"}, "cloud": {}})
    routed(one)
    (said,) = one.hear(failed(error_class="refused"))
    one.tell(said)
    (said,) = one.hear(failed(2, "cloud", "auth_missing"))
    assert said.fault == Fault(error_class="exhausted", message="Tried home: refused: no; cloud: auth_missing: no")
    assert [(one.platform, one.reason) for one in said.tried] == [("home", "refused: no"), ("cloud", "auth_missing: no")]


def test_all_attempts_together_are_bounded(story):
    one = story(attempts_max=2)
    routed(one)
    (said,) = one.hear(failed())
    one.tell(said)
    (said,) = one.hear(failed(2, "plan"))
    assert isinstance(said, TaskCompleted)
    assert (said.attempt, said.fault.error_class) == (2, "exhausted")


def test_attempts_that_may_have_been_charged_are_bounded_more_tightly(story):
    one = story(billed_attempts_max=2)
    routed(one)
    (said,) = one.hear(interrupted())
    assert isinstance(one.tell(said), TaskRouted)
    (said,) = one.hear(failed(2, "plan", "truncated", charged="known"))
    assert isinstance(said, TaskCompleted)
    assert said.fault.error_class == "exhausted"
    assert said.fault.message == (
        "2 attempts may have been charged, no more are allowed. Tried home: crashed: gone; plan: truncated: no"
    )


def test_an_interruption_that_cost_nothing_is_repeated_whatever_the_policy(story):
    one = story()
    routed(one, on_interrupt="fail")
    (said,) = one.hear(interrupted(charged="none"))
    assert isinstance(said, TaskRouted)


def test_policy_fail_ends_the_task_with_the_interruption(story):
    one = story()
    routed(one, on_interrupt="fail")
    (said,) = one.hear(interrupted())
    assert (said.status, said.fault.error_class) == ("failed", "crashed")


def test_the_policy_of_the_platform_that_ran_counts_not_of_the_first_candidate(story):
    platforms = {"home": {"billing": "free", "on_interrupt": "retry"}, "agent": {"billing": "plan", "kind": "command"}}
    one = story(platforms)
    said = routed(one)
    assert (names(said), said.on_interrupt) == (["home", "agent"], "retry")
    (said,) = one.hear(interrupted(platform="agent"))
    assert isinstance(said, TaskCompleted)


def test_where_the_platform_is_gone_the_policy_of_the_route_counts(story, told):
    one = story({"home": {"billing": "free", "on_interrupt": "fail"}})
    routed(one)
    one.tell(told.adopted({}))
    (said,) = one.hear(interrupted())
    assert said.fault.error_class == "crashed"


def asked(story, **settings):
    one = story(**settings)
    routed(one, on_interrupt="ask")
    assert one.hear(interrupted()) == []
    return one


def test_policy_ask_waits_for_a_person(story):
    one = asked(story)
    assert one.hear(TaskDecision(chain="c", task="t", attempt=9, decision="retry")) == []
    (said,) = one.hear(TaskDecision(chain="c", task="t", attempt=1, decision="retry"))
    assert (type(said), said.attempt) == (TaskRouted, 2)
    assert said.cause == one.facts[-1].id


@pytest.mark.parametrize("decision", ["fail", "accept"])
def test_a_person_may_end_it(story, decision):
    (said,) = asked(story).hear(TaskDecision(chain="c", task="t", attempt=1, decision=decision))
    assert said.fault == Fault(error_class="policy", message="Ended by decision.")


def test_a_cancel_is_a_decision(story):
    one = asked(story)
    (said,) = one.hear(TaskCancelRequested(chain="c", task="t"))
    assert said.status == "cancelled"
    one = story()
    routed(one, on_interrupt="ask")
    one.tell(TaskCancelRequested(chain="c", task="t"))
    (said,) = one.hear(interrupted())
    assert said.status == "cancelled"


def test_nobody_is_asked_about_an_attempt_that_may_not_be_repeated_anyway(story):
    one = story(billed_attempts_max=1)
    routed(one, on_interrupt="ask")
    (said,) = one.hear(interrupted())
    assert said.fault.error_class == "exhausted"


def test_a_decision_nobody_asked_for_changes_nothing(story):
    one = story()
    routed(one)
    assert one.hear(TaskDecision(chain="c", task="t", attempt=1, decision="fail")) == []
    assert one.hear(TaskReady(chain="c", task="t")) == []
    assert one.state.tasks["c.t"].cause == ""


def test_a_submission_that_cannot_be_believed_ends_its_task(story):
    one = story()
    (said,) = one.hear(Quarantined("c", "t", 5, 9, "it lies"))
    assert (said.chain, said.task, said.cause) == ("c", "t", "seq-5")
    assert said.fault == Fault(error_class="quarantined", message="The submission cannot be believed: it lies")


def test_the_first_submission_counts(story):
    one = story()
    first = one.tell(task())
    (said,) = one.hear(task(platform="cloud"))
    assert (said.cause, names(said)[0]) == (first.id, "home")


def test_what_the_router_says_is_fenced_with_its_own_last_word(story):
    one = story()
    said = one.tell(*one.hear(task()))
    assert said.prev == 0
    (again,) = one.hear(failed())
    assert again.prev == said.seq


def test_a_task_submitted_again_after_its_end_is_to_the_router_a_first_word(story):
    one = story()
    routed(one)
    one.tell(TaskCompleted(chain="c", task="t", platform="home", status="completed"))
    (said,) = one.hear(task())
    assert said.prev == 0  # the log refuses that: it holds a router's word about this task


def test_facts_of_tasks_that_are_over_or_unknown_change_nothing(story, told):
    one = story()
    before = msgspec.json.encode(one.state)
    for fact in (failed(), interrupted(), QuotaRefused(chain="c", task="t", fault=Fault(error_class="cancelled"))):
        assert one.hear(fact) == []
    assert msgspec.json.encode(one.state) == before


def test_an_outcome_of_another_attempt_changes_nothing(story):
    one = story()
    routed(one)
    assert one.hear(failed(attempt=7)) == []
    (said,) = one.hear(failed())
    assert one.answer(failed()) == [said]
    assert one.hear(interrupted()) == [said], "the baton is here already"


def test_the_subjects_and_fence_of_what_it_says(story):
    (said,) = story().hear(task())
    assert subjects.subject_of("router", said) == "farebox.log.router.routed.-.c.t"
    assert subjects.fence_filter("router", said) == "farebox.log.router.*.*.c.t"


ERRORS = st.sampled_from(["rate_limited", "server_error", "network", "refused", "truncated"])


@given(
    outcomes=st.lists(
        st.tuples(st.sampled_from(["failed", "interrupted", "cancel"]), ERRORS, st.sampled_from(["none", "known"]))
    ),
    policy=st.sampled_from([None, "retry", "fail", "ask"]),
    attempts_max=st.integers(1, 6),
    billed_max=st.integers(1, 3),
)
def test_law_attempts_rise_one_by_one_end_once_and_replay_to_the_same_state(told, outcomes, policy, attempts_max, billed_max):
    one = told.Story(router.ACTOR)
    one.tell(told.adopted(TIERS, attempts_max=attempts_max, billed_attempts_max=billed_max), *told.reported(*TIERS))
    said = one.hear(task(on_interrupt=policy))
    attempts, billed, ends = 0, 0, 0
    for kind, error_class, charged in [*outcomes, *[("failed", "refused", "none")] * 9]:
        for fact in said:
            one.tell(fact)
            assert one.answer(one.facts[-2]) == [], "what was answered is answered"
            if isinstance(fact, TaskCompleted):
                ends += 1
            else:
                attempts += 1
                assert fact.attempt == attempts <= attempts_max
                assert billed < billed_max
        if not one.state.tasks:
            break
        if kind == "cancel" or one.state.tasks["c.t"].asking:
            said = one.hear(TaskCancelRequested(chain="c", task="t"))
            continue
        platform = next(fact for fact in reversed(one.facts) if isinstance(fact, TaskRouted)).candidates[0].platform
        fault = Fault(error_class=error_class)
        fields = {"chain": "c", "task": "t", "attempt": attempts, "platform": platform, "fault": fault, "charged": charged}
        billed += charged != "none"
        said = one.hear(AttemptFailed(**fields) if kind == "failed" else AttemptInterrupted(**fields))
    assert ends == 1
    assert told.same(one.state, one.replayed())
    assert one.answer(QuotaReserved(chain="c", task="t", platform="home")) == []
