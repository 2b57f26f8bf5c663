"""Recorded answers in detail: what they teach of limits, models, waits and figures (test_conformance.py reads them all)."""

import pytest


def test_a_stream_reads_like_the_whole_answer(recorded):
    streamed, whole = (recorded(f"compatible/{name}").read() for name in ("streamed", "ok"))
    assert streamed.verdict == whole.verdict
    assert (streamed.pieces, whole.pieces) == ("The quick brown fox.", "")
    assert streamed.learned == whole.learned


def test_headers_teach_limits_with_the_answers_own_clock(recorded):
    learned = recorded("compatible/ok").read([b"{}"]).learned
    noon_ms = 1_795_262_400_000
    assert [(fact.unit, fact.limit, fact.used, fact.resets_at_ms) for fact in learned] == [
        ("requests", 500, 1, noon_ms + 120),
        ("tokens", 30_000, 1_000, noon_ms + 360_000),
    ]


@pytest.mark.parametrize(("name", "wait_ms"), [("rate_limited", 19_500), ("overloaded", 90_000), ("server_error", None)])
def test_a_rejection_says_how_long_to_wait(recorded, name, wait_ms):
    assert recorded(f"compatible/{name}").read().verdict.retry_after_ms == wait_ms


@pytest.mark.fault(45)
def test_the_model_that_answered_is_named_and_not_the_one_that_was_asked_for(recorded):
    assert recorded("compatible/streamed").read().verdict.model == "gpt-5-mini-2026-08-07"
    assert recorded("rehearsal/streamed").read().verdict.model == "claude-sonnet-5-5-20260801"


def test_a_truncated_answer_counts_and_says_so(recorded):
    verdict = recorded("compatible/length").read().verdict
    assert (verdict.ok, verdict.finish_reason) == (True, "length")


def test_a_plan_tells_its_windows_in_percent(recorded):
    learned = recorded("rehearsal/streamed").read().learned
    assert [(fact.window_s, fact.unit, fact.used, fact.resets_at_ms) for fact in learned] == [
        (18_000, "percent", 93, 1_795_258_409_000),
        (604_800, "percent", 41, 1_795_800_000_000),
    ]


def test_paid_overage_of_a_plan_is_told_at_once(recorded):
    (learned,) = recorded("rehearsal/quota_exhausted").read().learned
    assert learned.evidence == "rate_limit_event rejected, paid overage, five_hour"
    assert (learned.used, learned.resets_at_ms) == (100, 1_795_258_409_000)


def test_a_figure_of_the_program_itself_is_kept_exactly_and_an_odd_one_dropped(recorded):
    names = ("ok", "odd_amount", "no_usage")
    assert {name: recorded(f"rehearsal/{name}").read().verdict.provider_usd for name in names} == {
        "ok": "0.0060375",
        "odd_amount": None,
        "no_usage": None,
    }


def test_no_message_of_a_fault_is_long_or_holds_control_characters(recorded):
    body = b'{"error":{"message":"' + b"\\u0007x" * 5000 + b'","type":"server_error"}}'
    verdict = recorded("compatible/server_error").read([body]).verdict
    assert verdict.fault is not None
    assert len(verdict.fault.message) == 1000
    assert "\x07" not in verdict.fault.message
