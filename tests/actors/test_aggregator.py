"""The aggregator: a batch is done when its last task has ended and its last charge is booked, not before, and once."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors import aggregator
from farebox.core import subjects
from farebox.core.events import (
    AttemptFailed,
    AttemptInterrupted,
    BatchCompleted,
    BatchSubmitted,
    CostRecorded,
    LateResult,
    PlatformSum,
    TaskCompleted,
)
from farebox.core.terms import Fault, Usage


@pytest.fixture
def story(told):
    def tell(count=1):
        one = told.Story(aggregator.ACTOR)
        one.tell(BatchSubmitted(batch="b", id="batch", count=count))
        return one

    return tell


def ended(line=1, status="completed", charged="known", platform="p", attempt=1, **fields):
    return TaskCompleted(
        chain="b", task=f"b-{line}", batch="b", status=status, charged=charged, platform=platform, attempt=attempt, **fields
    )


def ended_by_router(line=1, status="failed", attempt=2):
    """Return an end that no charge follows: no adapter said it."""
    return TaskCompleted(chain="b", task=f"b-{line}", batch="b", status=status, attempt=attempt)


def cost(line=1, attempt=1, status="priced", platform="p", **fields):
    return CostRecorded(
        **{
            "chain": "b",
            "task": f"b-{line}",
            "batch": "b",
            "attempt": attempt,
            "status": status,
            "platform": platform,
            **fields,
        }
    )


def interrupted(line=1, attempt=1, charged="possible"):
    fault = Fault(error_class="crashed")
    return AttemptInterrupted(
        chain="b", task=f"b-{line}", batch="b", attempt=attempt, platform="p", charged=charged, fault=fault
    )


def test_a_batch_is_done_with_its_last_charge(story):
    one = story()
    usage = Usage(input_tokens=3, output_tokens=4)
    assert one.hear(ended(usage=usage, duration_ms=50)) == []
    (said,) = one.hear(cost(paid_usd="0.5"))
    assert said == BatchCompleted(
        batch="b", cause="batch", count=1, completed=1, paid_usd="0.5", input_tokens=3, output_tokens=4, duration_ms=50,
        as_of_seq=3,
        platforms={"p": PlatformSum(tasks=1, completed=1, paid_usd="0.5", input_tokens=3, output_tokens=4, duration_ms=50)},
    )  # fmt: skip
    one.tell(said)
    assert one.answer(one.facts[-2]) == []
    assert not one.state.batches


def test_a_batch_is_done_with_its_last_end_where_nothing_can_have_cost_anything(story):
    one = story(2)
    assert one.hear(ended_by_router(1, "cancelled")) == []
    fault = Fault(error_class="network")
    one.tell(AttemptFailed(chain="b", task="b-2", batch="b", attempt=1, platform="p", fault=fault))
    (said,) = one.hear(ended_by_router(2))
    assert (said.count, said.failed, said.cancelled, said.paid_usd) == (2, 1, 1, None)
    assert list(said.platforms) == ["p"]


def test_attempts_that_failed_are_waited_for_and_counted_too(story):
    one = story()
    fault = Fault(error_class="refused")
    one.tell(AttemptFailed(chain="b", task="b-1", batch="b", attempt=1, platform="p", charged="known", fault=fault))
    assert one.hear(ended(platform="q", attempt=2)) == []
    assert one.hear(cost(attempt=2, platform="q", paid_usd="1")) == []
    (said,) = one.hear(cost(attempt=1, paid_usd="0.25"))
    assert said.paid_usd == "1.25"
    assert {name: (one.tasks, one.paid_usd) for name, one in said.platforms.items()} == {"p": (0, "0.25"), "q": (1, "1")}


def test_possible_costs_unpriced_work_and_plan_value_stay_apart(story):
    one = story(3)
    one.tell(interrupted(1), ended(1, attempt=2), ended(2), ended(3))
    one.tell(cost(1, 1, "possible", paid_usd="9"), cost(1, 2, paid_usd="0", plan_value_usd="2"), cost(2, status="unpriced"))
    (said,) = one.hear(cost(3, paid_usd="1"))
    assert (said.paid_usd, said.plan_value_usd, said.possible_usd, said.unpriced) == ("1", "2", "9", 1)
    assert said.platforms["p"].paid_usd == "1"


def test_a_later_charge_of_the_same_attempt_supersedes_and_never_adds(story):
    one = story(2)
    one.tell(interrupted(1), ended_by_router(1), cost(1, 1, "possible", paid_usd="9"))
    one.tell(LateResult(chain="b", task="b-1", batch="b", attempt=1, platform="p", charged="known"), cost(1, 1, paid_usd="3"))
    (said,) = one.hear(ended_by_router(2))
    assert (said.paid_usd, said.possible_usd) == ("3", None)


def test_a_late_result_before_its_charge_keeps_the_batch_waiting(story):
    one = story()
    late = LateResult(chain="b", task="b-1", batch="b", attempt=1, platform="p", charged="known")
    one.tell(interrupted(1), late)
    assert one.hear(ended_by_router()) == []
    assert len(one.hear(cost(1, 1))) == 1


def test_a_charge_nobody_waits_for_is_only_booked(story):
    one = story()
    one.tell(interrupted(charged="none"), cost(paid_usd="0"))
    (said,) = one.hear(ended_by_router())
    assert said.paid_usd == "0"


def test_sums_are_as_of_the_last_fact_that_is_in_them(story):
    one = story()
    heard = one.tell(ended())
    one.tell(cost(paid_usd="1"))  # folded before anybody asks about the end
    (said,) = one.answer(heard)
    assert (said.as_of_seq, said.paid_usd) == (3, "1")


def test_a_task_that_ends_twice_counts_once(story):
    one = story(2)
    one.tell(ended_by_router(status="completed"))
    assert one.hear(ended_by_router(status="failed")) == []
    (said,) = one.hear(ended_by_router(2))
    assert (said.count, said.completed, said.failed) == (2, 1, 1)


def test_tasks_of_no_batch_and_of_one_nobody_knows_are_nobodys(story):
    one = story()
    for batch in ("", "other"):
        fields = {"chain": "x", "task": "x", "batch": batch, "platform": "p"}
        assert one.hear(TaskCompleted(**fields, status="completed")) == []
        assert one.hear(CostRecorded(**fields)) == []
    assert list(one.state.batches) == ["b"]


def test_what_comes_after_the_end_of_a_batch_is_nobodys(story):
    one = story()
    one.tell(*one.hear(ended_by_router()))
    assert one.hear(cost(paid_usd="1")) == []
    one.tell(LateResult(chain="b", task="b-1", batch="b", attempt=1, platform="p", charged="known"))
    assert not one.state.batches


def test_it_decides_one_batch_after_the_other():
    assert aggregator.by_batch(ended()) == ("", "b")
    assert aggregator.ACTOR.key is aggregator.by_batch


def test_the_subject_and_fence_of_what_it_says():
    said = BatchCompleted(batch="b")
    assert subjects.subject_of("aggregator", said) == "farebox.log.aggregator.batch_completed.-.b.-"
    assert subjects.fence_filter("aggregator", said) == "farebox.log.aggregator.batch_completed.-.b.-"


line = st.tuples(st.lists(st.sampled_from(["none", "possible", "known"]), max_size=2), st.sampled_from(["router", "known"]))


@settings(max_examples=80, deadline=None)
@given(lines=st.lists(line, min_size=1, max_size=4), order=st.randoms(use_true_random=False))
def test_law_said_once_with_everything_in_whatever_order_the_charges_come(told, lines, order):
    one = told.Story(aggregator.ACTOR)
    one.tell(BatchSubmitted(batch="b", id="batch", count=len(lines)))
    queues = []
    for number, (attempts, last) in enumerate(lines, 1):
        facts = [interrupted(number, attempt, charged) for attempt, charged in enumerate(attempts, 1)]
        attempt = len(attempts) + 1
        facts.append(ended_by_router(number, attempt=attempt) if last == "router" else ended(number, attempt=attempt))
        queues.append(facts)
    due, said = [], []
    while queues or due:
        source = order.choice([*queues, due]) if due else order.choice(queues)
        fact = source.pop(0)
        queues = [queue for queue in queues if queue]
        if not isinstance(fact, CostRecorded) and fact.chargeable:
            status = "possible" if fact.charged == "possible" else "priced"
            due.append(cost(int(fact.task[2:]), fact.attempt, status, paid_usd="1"))
        heard = one.tell(fact)
        if type(heard) in aggregator.ACTOR.heard():
            said += one.all_said(heard)
    (batch,) = said
    known = sum(last == "known" for _, last in lines) + sum(charged == "known" for attempts, _ in lines for charged in attempts)
    assert (batch.count, batch.paid_usd) == (len(lines), str(known) if known else None)
    assert batch.as_of_seq == len(one.facts) - 1
    assert told.same(one.state, one.replayed())
