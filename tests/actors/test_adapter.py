"""The adapter: one attempt from intent to outcome, and what becomes of it when somebody else was faster."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import adapter
from farebox.core import subjects
from farebox.core.events import (
    AttemptFailed,
    AttemptInterrupted,
    LateResult,
    QuotaReserved,
    TaskCancelRequested,
    TaskCompleted,
    TaskStarted,
    TaskSubmitted,
)
from farebox.core.platform import CallEnded, Verdict
from farebox.core.settings import PlatformSettings
from farebox.core.terms import CallRecord, Fault, FileInput, Ref, Usage
from farebox.core.wire import submission_sha256

SUBMITTED = TaskSubmitted(chain="c", task="t", id="sub", prompt="hello", batch="b")
USAGE = Usage(input_tokens=3, output_tokens=4)


def reserved(attempt=1, seq=10, **fields):
    return QuotaReserved(
        **{
            "chain": "c", "task": "t", "id": f"res{attempt}", "attempt": attempt, "seq": seq, "platform": "p", "model": "m",
            "billing": "plan", "batch": "b", "traceparent": "00-x", "timeout_s": 7.0, "on_interrupt": "fail",
            "submission_sha256": submission_sha256(SUBMITTED), **fields,
        }
    )  # fmt: skip


def started(attempt=1, seq=20, **fields):
    return TaskStarted(
        chain="c", task="t", id=f"start{attempt}", attempt=attempt, seq=seq, platform="p", model="m", billing="plan", **fields
    )


def state(*facts):
    known = adapter.Attempt()
    for fact in facts:
        known = adapter.evolve(known, fact)
    return known


def call(verdict, epoch=20, attempt=1, **fields):
    return CallEnded(epoch=epoch, cause=f"start{attempt}", attempt=attempt, verdict=verdict, **fields)


def no(error_class, charged="none", **fields):
    return Verdict(ok=False, fault=Fault(error_class=error_class, message="no"), charged=charged, **fields)


YES = Verdict(ok=True, usage=USAGE, charged="known")


def test_a_reservation_is_answered_with_the_intent_to_start():
    (said,) = adapter.decide(state(reserved(), SUBMITTED), reserved())
    assert said == TaskStarted(
        chain="c", task="t", cause="res1", attempt=1, batch="b", traceparent="00-x", platform="p", model="m", billing="plan",
        timeout_s=7.0, on_interrupt="fail", input_tokens_estimate=said.input_tokens_estimate,
    )  # fmt: skip


@pytest.mark.parametrize(("asked", "bounded"), [(None, 50), (20, 20)])
def test_an_answer_under_a_budget_is_bounded_unless_its_task_says_how_long_it_may_be(asked, bounded):
    submitted = msgspec.structs.replace(SUBMITTED, max_tokens=asked)
    held = reserved(submission_sha256=submission_sha256(submitted), output_tokens_max=50)
    before = state(held, submitted)
    (said,) = adapter.decide(before, held)
    assert adapter.perform(before, said, PlatformSettings(kind="rehearsal")).task.max_tokens == bounded


def test_a_cancelled_task_ends_before_it_starts_and_costs_nothing():
    (said,) = adapter.decide(state(reserved(), SUBMITTED, TaskCancelRequested(chain="c", task="t")), reserved())
    assert (type(said), said.status, said.charged, said.cause) == (TaskCompleted, "cancelled", "none", "res1")


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ((), "The submission is not in the log."),
        ((msgspec.structs.replace(SUBMITTED, prompt="other"),), "The submission is not the one that was routed."),
    ],
)
def test_a_submission_that_is_not_the_routed_one_is_not_sent(known, message):
    (said,) = adapter.decide(state(reserved(), *known), reserved())
    assert (type(said), said.charged) == (AttemptFailed, "none")
    assert said.fault == Fault(error_class="damaged", message=message)


def test_an_attempt_that_ended_is_not_begun_again():
    for ending in (
        TaskCompleted(chain="c", task="t", attempt=1, seq=21, platform="p", status="completed"),
        AttemptFailed(chain="c", task="t", attempt=2, seq=21, platform="p", fault=Fault(error_class="network")),
    ):
        assert list(adapter.decide(state(reserved(), SUBMITTED, started(), ending), reserved())) == []


def test_an_older_reservation_says_nothing_once_a_newer_attempt_has_started():
    assert list(adapter.decide(state(reserved(), SUBMITTED, started(2)), reserved(1))) == []


def test_a_newer_attempt_starts_after_an_older_one_ended():
    ending = AttemptFailed(chain="c", task="t", attempt=1, seq=21, platform="p", fault=Fault(error_class="network"))
    known = state(reserved(2), SUBMITTED, started(), ending)
    (said,) = adapter.decide(known, reserved(2))
    assert (type(said), said.attempt) == (TaskStarted, 2)
    assert known.lane_seq == 21


def test_what_another_left_behind_is_booked_as_possibly_charged():
    known = state(reserved(), SUBMITTED, started())
    (said,) = adapter.decide(known, reserved())
    assert (type(said), said.reason, said.charged, said.epoch) == (AttemptInterrupted, "crash", "possible", 20)
    assert (said.cause, known.lane_seq) == ("start1", 20)


def test_what_was_certainly_never_sent_cost_nothing():
    known = state(reserved(), SUBMITTED, started())
    known.never_sent = True
    (said,) = adapter.decide(known, reserved())
    assert said.charged == "none"


def test_an_answer_completes_the_task_with_all_that_is_known_of_it():
    verdict = Verdict(
        ok=True, usage=USAGE, charged="known", model="m-2", finish_reason="stop", provider_usd="0.5", files_created=("a",)
    )
    known = state(reserved(), SUBMITTED, started(batch="b", traceparent="00-x"))
    (said,) = adapter.decide(known, call(verdict, text="hi", duration_ms=9, calls=(CallRecord(status=200),)))
    assert said == TaskCompleted(
        chain="c", task="t", cause="start1", epoch=20, attempt=1, batch="b", traceparent="00-x", platform="p", model="m-2",
        billing="plan", charged="known", usage=USAGE, provider_usd="0.5", duration_ms=9, calls=(CallRecord(status=200),),
        status="completed", output="hi", finish_reason="stop", files_created=("a",),
    )  # fmt: skip


def test_what_a_program_did_to_files_stands_in_each_end_of_the_task():
    files = {"files_created": ("a",), "files_changed": ("b",), "files_more": True, "worktree": "/w", "base_commit": "c0"}
    for verdict in (Verdict(ok=True, **files), no("cancelled", **files), no("timeout", **files)):
        (said,) = adapter.decide(state(reserved(), SUBMITTED, started()), call(verdict))
        assert isinstance(said, TaskCompleted)
        assert {name: getattr(said, name) for name in files} == files
    (failed,) = adapter.decide(state(reserved(), SUBMITTED, started()), call(no("crashed", **files)))
    assert (type(failed), failed.worktree, failed.base_commit) == (AttemptFailed, "/w", "c0")


def test_an_attempt_in_a_worktree_says_so_before_it_begins():
    submitted = msgspec.structs.replace(SUBMITTED, directory="/p", worktree=True)
    of = reserved(2, submission_sha256=submission_sha256(submitted))
    (said,) = adapter.decide(state(of, submitted), of)
    assert (type(said), said.worktree) == (TaskStarted, "t-2")


def test_the_worktree_of_an_attempt_whose_adapter_is_gone_is_told():
    known = state(reserved(), SUBMITTED, started(worktree="/w/t-1"))
    (said,) = adapter.decide(known, reserved())
    assert (said.worktree, said.fault.message.endswith("What it did stands in its worktree /w/t-1.")) == ("/w/t-1", True)
    known.never_sent = True
    (said,) = adapter.decide(known, reserved())
    assert (said.worktree, "worktree" in said.fault.message) == ("", False)


def test_a_large_answer_travels_by_reference():
    ref = Ref(ref="a" * 64, sha256="a" * 64, bytes=9)
    (said,) = adapter.decide(state(reserved(), SUBMITTED, started()), call(YES, text_ref=ref))
    assert (said.output, said.output_ref) == ("", ref)


@pytest.mark.parametrize(
    ("verdict", "kind", "status"),
    [
        (no("rate_limited", retry_after_ms=5), AttemptFailed, None),
        (no("refused", "known"), AttemptFailed, None),
        (no("stalled", "possible"), AttemptInterrupted, None),
        (no("cancelled", "possible"), TaskCompleted, "cancelled"),
        (no("timeout", "possible"), TaskCompleted, "failed"),
        (Verdict(ok=False), AttemptFailed, None),
    ],
)
def test_each_kind_of_trouble_has_its_fact_and_keeps_what_had_come(verdict, kind, status):
    (said,) = adapter.decide(state(reserved(), SUBMITTED, started()), call(verdict, text="half"))
    assert (type(said), getattr(said, "status", None)) == (kind, status)
    assert (said.partial_output, said.charged) == ("half", verdict.charged)
    assert said.fault is not None
    assert getattr(said, "retry_after_ms", None) == verdict.retry_after_ms


def test_a_verdict_without_a_reason_says_so():
    (said,) = adapter.decide(state(reserved(), SUBMITTED, started()), call(Verdict(ok=False)))
    assert said.fault == Fault(error_class="invalid", message="The platform gave no reason.")


def interruption(seq=30, reason="crash", epoch=20, attempt=1):
    return AttemptInterrupted(
        chain="c", task="t", cause="start1", attempt=attempt, seq=seq, epoch=epoch, platform="p", reason=reason,
        charged="possible", fault=Fault(error_class="crashed"),
    )  # fmt: skip


def test_a_paid_answer_that_comes_after_a_takeover_is_a_late_result():
    known = state(reserved(), SUBMITTED, started(), interruption())
    (said,) = adapter.decide(known, call(YES, text="late"))
    assert said == LateResult(
        chain="c", task="t", cause="start1", epoch=20, attempt=1, batch="b", traceparent="00-x", platform="p", model="m",
        billing="plan", charged="known", usage=USAGE, output="late",
    )  # fmt: skip


def test_an_unpaid_outcome_after_a_takeover_changes_nothing():
    known = state(reserved(), SUBMITTED, started(), interruption())
    assert list(adapter.decide(known, call(no("network")))) == []


def test_an_own_ending_that_is_in_the_log_already_is_not_said_again():
    for ending in (
        TaskCompleted(chain="c", task="t", cause="start1", attempt=1, seq=21, epoch=20, platform="p", status="completed"),
        interruption(seq=21, reason="stall"),
    ):
        assert list(adapter.decide(state(reserved(), SUBMITTED, started(), ending), call(YES))) == []


def test_a_late_answer_bears_its_own_attempt_while_a_newer_one_runs():
    known = state(reserved(2), SUBMITTED, started(2, seq=40), interruption())
    (said,) = adapter.decide(known, call(YES))
    assert (type(said), said.attempt, said.epoch) == (LateResult, 1, 20)


def test_a_late_answer_does_not_end_a_task_that_was_cancelled_before_its_next_start():
    cancelled = TaskCompleted(chain="c", task="t", cause="res2", attempt=2, seq=41, platform="p", status="cancelled")
    (said,) = adapter.decide(state(reserved(), SUBMITTED, started(), interruption(), cancelled), call(YES))
    assert type(said) is LateResult


def test_an_older_ending_of_the_lane_does_not_make_a_new_answer_late():
    known = state(reserved(2), SUBMITTED, interruption(), started(2, seq=40))
    (said,) = adapter.decide(known, call(YES, epoch=40, attempt=2))
    assert (type(said), said.epoch) == (TaskCompleted, 40)


def test_a_paid_answer_whose_start_is_lost_is_still_booked():
    (said,) = adapter.decide(state(reserved(), SUBMITTED), call(YES))
    assert (type(said), said.epoch, said.charged) == (LateResult, 20, "known")


def test_a_paid_answer_found_on_a_disk_without_its_reservation_is_still_booked():
    (said,) = adapter.decide(state(started(2, seq=40)), call(YES))
    assert (type(said), said.epoch, said.attempt, said.billing) == (LateResult, 20, 1, "plan")
    assert list(adapter.decide(state(), call(YES))) == []


def test_a_late_result_changes_nothing_in_the_lane():
    known = state(reserved(), started())
    assert adapter.evolve(known, LateResult(chain="c", task="t", platform="p", seq=99)).lane_seq == 20


def test_what_is_asked_is_the_prompt_with_context_and_files_as_marked_data():
    task = msgspec.structs.replace(
        SUBMITTED, system="be brief", context={"k": [1]},
        files=(FileInput(name='a"<&\n.txt', content="text"), FileInput(name="kept elsewhere")),
    )  # fmt: skip
    settings = PlatformSettings(kind="test")
    ask = adapter.perform(state(reserved(), task), started(), settings)
    assert (ask.platform, ask.model, ask.system, ask.settings, ask.task) == ("p", "m", "be brief", settings, task)
    assert ask.prompt == (
        'hello\n\n<context format="json">\n{\n "k": [\n  1\n ]\n}\n</context>\n\n'
        '<file name="a&quot;&lt;&amp; .txt">\ntext\n</file>'
    )


def test_the_subjects_and_fences_of_what_it_says():
    (said,) = adapter.decide(state(reserved(), SUBMITTED), reserved())
    assert subjects.subject_of("adapter", said) == "farebox.log.adapter.started.p.c.t"
    assert subjects.fence_filter("adapter", said) == "farebox.log.adapter.*.p.c.t"
    late = LateResult(chain="c", task="t", platform="p")
    assert subjects.subject_of("late", late) == "farebox.log.late.result.p.c.t"
    assert subjects.fence_filter("late", late) is None


@given(
    verdict=st.sampled_from([YES, no("network"), no("stalled", "possible"), no("refused", "known"), no("timeout", "possible")]),
    ended_by=st.sampled_from(["nobody", "takeover", "myself", "next attempt"]),
)
def test_law_a_paid_outcome_is_always_said_once_and_no_other_twice(verdict, ended_by):
    known = state(reserved(), SUBMITTED, started())
    (mine,) = adapter.decide(known, call(verdict))
    before = {
        "nobody": [],
        "takeover": [interruption()],
        "myself": [msgspec.structs.replace(mine, seq=30)],
        "next attempt": [interruption(), started(2, seq=40)],
    }[ended_by]
    known = state(reserved(), SUBMITTED, started(), *before)
    said = list(adapter.decide(known, call(verdict)))
    expected = {"nobody": [type(mine)], "myself": []}.get(ended_by, [LateResult] if verdict.charged != "none" else [])
    assert [type(fact) for fact in said] == expected
    for fact in said:
        assert list(
            adapter.decide(adapter.evolve(known, msgspec.structs.replace(fact, seq=50)), reserved())
        ) == [] or isinstance(fact, LateResult)
