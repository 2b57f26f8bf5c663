"""Router: how tasks come back to it, and how it ends them."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import filters, router
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
from farebox.core.settings import LONG_S
from farebox.core.terms import Fault, Ref

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


@pytest.mark.fault(40)
def test_three_tries_are_enough_but_being_rate_limited_is_no_try(story, routing):
    one = story({"home": {"billing": "free"}}, attempts_max=50)
    routing.routed(one)
    for attempt in range(1, 6):
        (said,) = one.hear(routing.failed(attempt, error_class="rate_limited"))
        one.tell(said)
    for attempt in range(6, 6 + filters.TRIES_MAX):
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
    assert one.hear(routing.interrupted(platform="agent")) == []
    assert [fact.platform for fact in router.asks(one.state)] == ["agent"]


def test_a_long_attempt_is_not_repeated_unasked(story, routing):
    one = story()
    assert routing.routed(one, timeout_s=LONG_S).on_interrupt == "ask"
    assert one.hear(routing.interrupted()) == []


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
    assert one.hear(decision("retry", attempt=9)) == []
    (said,) = one.hear(decision("retry"))
    assert (type(said), said.attempt) == (TaskRouted, 2)
    assert said.cause == one.facts[-1].id


def decision(word, attempt=1):
    return TaskDecision(chain="c", task="t", attempt=attempt, decision=word)


def test_a_person_may_end_it(story, routing):
    (said,) = asked(story, routing).hear(decision("fail"))
    assert (said.status, said.fault) == ("failed", Fault(error_class="policy", message="Ended by decision."))


def test_a_person_may_take_the_partial_output_for_the_answer(story, routing):
    one = story()
    routed = routing.routed(one, on_interrupt="ask", batch="b")
    half = msgspec.structs.replace(routing.interrupted(), partial_output="half an ans", duration_ms=1200)
    assert one.hear(half) == []
    (said,) = one.hear(decision("accept"))
    assert (said.status, said.fault, said.output, said.finish_reason) == ("completed", None, "half an ans", "accepted")
    assert (said.attempt, said.batch, said.prev, said.duration_ms) == (1, "b", routed.seq, 1200)
    assert not said.chargeable  # what it may have cost was booked with the attempt


def test_a_partial_output_that_is_too_large_for_a_fact_is_accepted_by_its_reference(story, routing):
    one = story()
    routing.routed(one, on_interrupt="ask")
    ref = Ref(ref="a" * 64, sha256="a" * 64, bytes=300_000)
    one.hear(msgspec.structs.replace(routing.interrupted(), partial_ref=ref))
    (said,) = one.hear(decision("accept"))
    assert (said.status, said.output, said.output_ref) == ("completed", "", ref)


def test_where_nothing_was_answered_there_is_nothing_to_accept(story, routing):
    (said,) = asked(story, routing).hear(decision("accept"))
    assert (said.status, said.fault.error_class) == ("failed", "policy")
    assert said.fault.message == "There was no partial output that could be accepted."


@pytest.mark.parametrize(("first", "then"), [("retry", "fail"), ("fail", "retry"), ("accept", "retry")])
def test_of_two_decisions_the_first_counts(story, routing, first, then):
    one = asked(story, routing)
    heard = one.tell(decision(first))
    late = one.tell(decision(then))
    (said,) = one.answer(heard)
    (again,) = one.answer(late)
    assert said == again
    assert isinstance(said, TaskRouted) == (first == "retry")
    assert said.cause == heard.id
    one.tell(said)
    assert one.answer(late) == []


def test_who_waits_for_a_person_is_named_until_he_is_answered(story, routing, told):
    one = asked(story, routing)
    assert [(fact.key, fact.attempt) for fact in router.asks(one.state)] == [(("c", "t"), 1)]
    assert told.same(one.state, one.replayed())
    one.tell(decision("retry"))
    assert router.asks(one.state) == []


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


def test_settings_of_a_later_farebox_leave_the_task_to_it_and_break_nothing(story, told, routing):
    one = story()
    adopted = told.adopted(routing.TIERS)
    adopted.settings["platforms"]["home"]["budget_usd"] = "5"
    one.tell(adopted)
    (said,) = one.hear(routing.task("a"))
    assert routing.names(said) == ["plan", "cloud"], "who is understood whole is used"
    adopted.settings["later"] = True
    one.tell(adopted)
    waiting = one.tell(routing.task("b"))
    assert one.answer(waiting) == []
    (end,) = one.hear(TaskCancelRequested(chain="c", task="b"))
    assert end.status == "cancelled"
    one.tell(routing.task("d"))
    again = one.facts[-1]
    one.tell(told.adopted(routing.TIERS))
    (said,) = one.answer(again)
    assert routing.names(said)[0] == "home"
