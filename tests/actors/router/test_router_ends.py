"""Router: how tasks come back to it, and how it ends them."""

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
    QuotaRefused,
    QuotaReserved,
    TaskCancelRequested,
    TaskCompleted,
    TaskDecision,
    TaskReady,
    TaskRouted,
)
from farebox.core.terms import Fault

TIERS = {
    "cloud": {"billing": "metered"},
    "home": {"billing": "free"},
    "plan": {"billing": "plan", "models": ("large", "small")},
}


@pytest.mark.parametrize("error_class", ["auth_missing", "refused", "invalid", "damaged", "context_too_long"])
def test_a_failure_that_no_second_try_mends_rules_the_platform_out(story, error_class, routing):
    one = story()
    routing.routed(one)
    (said,) = one.hear(routing.failed(error_class=error_class))
    assert routing.names(said) == ["plan", "cloud"]
    assert said.rejected[0].reason == f"failed: {error_class}: no"


def test_three_tries_are_enough_but_being_rate_limited_is_no_try(story, routing):
    one = story({"home": {"billing": "free"}}, attempts_max=50)
    routing.routed(one)
    for attempt in range(1, 6):
        (said,) = one.hear(routing.failed(attempt, error_class="rate_limited"))
        one.tell(said)
    for attempt in range(6, 6 + router.TRIES_MAX):
        (said,) = one.hear(routing.failed(attempt))
        one.tell(said)
    assert isinstance(said, TaskCompleted)
    assert said.fault == Fault(error_class="server_error", message="Tried home: server_error: no")


def test_a_wait_longer_than_allowed_rules_the_platform_out(story, routing):
    one = story({"home": {"billing": "free"}}, retry_wait_max_s=10)
    routing.routed(one)
    (said,) = one.hear(routing.failed(error_class="rate_limited", retry_after_ms=11_000))
    assert isinstance(said, TaskCompleted)


def test_the_end_names_each_platform_that_was_tried(story, routing):
    one = story({"home": {"billing": "free"}, "cloud": {}})
    routing.routed(one)
    (said,) = one.hear(routing.failed(error_class="refused"))
    one.tell(said)
    (said,) = one.hear(routing.failed(2, "cloud", "auth_missing"))
    assert said.fault == Fault(error_class="exhausted", message="Tried home: refused: no; cloud: auth_missing: no")
    assert [(one.platform, one.reason) for one in said.tried] == [("home", "refused: no"), ("cloud", "auth_missing: no")]


def test_all_attempts_together_are_bounded(story, routing):
    one = story(attempts_max=2)
    routing.routed(one)
    (said,) = one.hear(routing.failed())
    one.tell(said)
    (said,) = one.hear(routing.failed(2, "plan"))
    assert isinstance(said, TaskCompleted)
    assert (said.attempt, said.fault.error_class) == (2, "exhausted")


def test_attempts_that_may_have_been_charged_are_bounded_more_tightly(story, routing):
    one = story(billed_attempts_max=2)
    routing.routed(one)
    (said,) = one.hear(routing.interrupted())
    assert isinstance(one.tell(said), TaskRouted)
    (said,) = one.hear(routing.failed(2, "plan", "truncated", charged="known"))
    assert isinstance(said, TaskCompleted)
    assert said.fault.error_class == "exhausted"
    assert said.fault.message == (
        "2 attempts may have been charged, no more are allowed. Tried home: crashed: gone; plan: truncated: no"
    )


def test_an_interruption_that_cost_nothing_is_repeated_whatever_the_policy(story, routing):
    one = story()
    routing.routed(one, on_interrupt="fail")
    (said,) = one.hear(routing.interrupted(charged="none"))
    assert isinstance(said, TaskRouted)


def test_policy_fail_ends_the_task_with_the_interruption(story, routing):
    one = story()
    routing.routed(one, on_interrupt="fail")
    (said,) = one.hear(routing.interrupted())
    assert (said.status, said.fault.error_class) == ("failed", "crashed")


def test_the_policy_of_the_platform_that_ran_counts_not_of_the_first_candidate(story, routing):
    platforms = {"home": {"billing": "free", "on_interrupt": "retry"}, "agent": {"billing": "plan", "kind": "command"}}
    one = story(platforms)
    said = routing.routed(one)
    assert (routing.names(said), said.on_interrupt) == (["home", "agent"], "retry")
    (said,) = one.hear(routing.interrupted(platform="agent"))
    assert isinstance(said, TaskCompleted)


def test_where_the_platform_is_gone_the_policy_of_the_route_counts(story, told, routing):
    one = story({"home": {"billing": "free", "on_interrupt": "fail"}})
    routing.routed(one)
    one.tell(told.adopted({}))
    (said,) = one.hear(routing.interrupted())
    assert said.fault.error_class == "crashed"


def asked(story, routing, **settings):
    one = story(**settings)
    routing.routed(one, on_interrupt="ask")
    assert one.hear(routing.interrupted()) == []
    return one


def test_policy_ask_waits_for_a_person(story, routing):
    one = asked(story, routing)
    assert one.hear(TaskDecision(chain="c", task="t", attempt=9, decision="retry")) == []
    (said,) = one.hear(TaskDecision(chain="c", task="t", attempt=1, decision="retry"))
    assert (type(said), said.attempt) == (TaskRouted, 2)
    assert said.cause == one.facts[-1].id


@pytest.mark.parametrize("decision", ["fail", "accept"])
def test_a_person_may_end_it(story, decision, routing):
    (said,) = asked(story, routing).hear(TaskDecision(chain="c", task="t", attempt=1, decision=decision))
    assert said.fault == Fault(error_class="policy", message="Ended by decision.")


def test_a_cancel_is_a_decision(story, routing):
    one = asked(story, routing)
    (said,) = one.hear(TaskCancelRequested(chain="c", task="t"))
    assert said.status == "cancelled"
    one = story()
    routing.routed(one, on_interrupt="ask")
    one.tell(TaskCancelRequested(chain="c", task="t"))
    (said,) = one.hear(routing.interrupted())
    assert said.status == "cancelled"


def test_nobody_is_asked_about_an_attempt_that_may_not_be_repeated_anyway(story, routing):
    one = story(billed_attempts_max=1)
    routing.routed(one, on_interrupt="ask")
    (said,) = one.hear(routing.interrupted())
    assert said.fault.error_class == "exhausted"


def test_a_decision_nobody_asked_for_changes_nothing(story, routing):
    one = story()
    routing.routed(one)
    assert one.hear(TaskDecision(chain="c", task="t", attempt=1, decision="fail")) == []
    assert one.hear(TaskReady(chain="c", task="t")) == []
    assert one.state.tasks["c.t"].cause == ""


def test_a_submission_that_cannot_be_believed_ends_its_task(story):
    one = story()
    (said,) = one.hear(Quarantined("c", "t", 5, 9, "it lies"))
    assert (said.chain, said.task, said.cause) == ("c", "t", "seq-5")
    assert said.fault == Fault(error_class="quarantined", message="The submission cannot be believed: it lies")


def test_the_first_submission_counts(story, routing):
    one = story()
    first = one.tell(routing.task())
    (said,) = one.hear(routing.task(platform="cloud"))
    assert (said.cause, routing.names(said)[0]) == (first.id, "home")


def test_what_the_router_says_is_fenced_with_its_own_last_word(story, routing):
    one = story()
    said = one.tell(*one.hear(routing.task()))
    assert said.prev == 0
    (again,) = one.hear(routing.failed())
    assert again.prev == said.seq


def test_a_task_submitted_again_after_its_end_is_to_the_router_a_first_word(story, routing):
    one = story()
    routing.routed(one)
    one.tell(TaskCompleted(chain="c", task="t", platform="home", status="completed"))
    (said,) = one.hear(routing.task())
    assert said.prev == 0  # the log refuses that: it holds a router's word about this task


def test_facts_of_tasks_that_are_over_or_unknown_change_nothing(story, told, routing):
    one = story()
    before = msgspec.json.encode(one.state)
    for fact in (
        routing.failed(),
        routing.interrupted(),
        QuotaRefused(chain="c", task="t", fault=Fault(error_class="cancelled")),
    ):
        assert one.hear(fact) == []
    assert msgspec.json.encode(one.state) == before


def test_an_outcome_of_another_attempt_changes_nothing(story, routing):
    one = story()
    routing.routed(one)
    assert one.hear(routing.failed(attempt=7)) == []
    (said,) = one.hear(routing.failed())
    assert one.answer(routing.failed()) == [said]
    assert one.hear(routing.interrupted()) == [said], "the baton is here already"


def test_the_subjects_and_fence_of_what_it_says(story, routing):
    (said,) = story().hear(routing.task())
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
def test_law_attempts_rise_one_by_one_end_once_and_replay_to_the_same_state(
    told, outcomes, policy, attempts_max, billed_max, routing
):
    one = told.Story(router.ACTOR)
    one.tell(
        told.adopted(routing.TIERS, attempts_max=attempts_max, billed_attempts_max=billed_max), *told.reported(*routing.TIERS)
    )
    said = one.hear(routing.task(on_interrupt=policy))
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
