"""The small parts of the core: errors, results, tokens, waits, events."""

import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.core import errors, tokens
from farebox.core.events import FACTS, AttemptFailed, LateResult, TaskCompleted, TaskStarted
from farebox.core.platform import CallEnded, End, Verdict
from farebox.core.results import Result
from farebox.core.retry_after import WAIT_MAX_MS, date_ms, retry_after_ms
from farebox.core.terms import Fault


def all_errors():
    kinds = [kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, errors.FareboxError)]
    assert len(kinds) > 10
    return kinds


def test_every_error_stands_in_the_tree_and_has_a_code_and_an_exit_code():
    for kind in all_errors():
        assert kind.__name__ in errors.__doc__
        assert kind.code.startswith("FB")
        assert kind.exit_code > 0
        assert kind.__doc__


def test_an_error_is_one_line_with_what_to_type():
    error = errors.BadInput("No.", hint="Say yes.", code="FB499")
    assert (str(error), error.message, error.hint, error.code) == ("No. Say yes.", "No.", "Say yes.", "FB499")
    assert str(errors.BadInput("No.")) == "No."
    assert errors.BadInput.code == "FB401"
    assert errors.AppendRefused("x", last_seq=4).last_seq == 4
    assert errors.AppendRefused("x").last_seq is None


def test_a_result_is_ok_only_when_it_completed():
    assert Result(task_id="t", chain_id="c", status="completed").ok
    assert not Result(task_id="t", chain_id="c").ok


@given(st.text())
def test_tokens_are_guessed_from_the_size_and_never_below_a_quarter_of_the_characters(text):
    assert tokens.estimate(text) >= len(text) / 4
    assert tokens.estimate(text + "x") >= tokens.estimate(text)
    assert tokens.estimate("") == 0


def test_a_wait_is_read_in_milliseconds_seconds_or_as_a_date():
    later = {"retry-after": "Sun, 06 Nov 1994 08:49:40 GMT"}
    now = {"date": "Sun, 06 Nov 1994 08:49:37 GMT"}
    assert retry_after_ms({"retry-after-ms": "1500.4", "retry-after": "9"}) == 1500
    assert retry_after_ms({"retry-after": "2.5"}) == 2500
    assert retry_after_ms({**later, **now}) == 3000
    assert retry_after_ms({"retry-after": now["date"], "date": later["retry-after"]}) == 0
    assert retry_after_ms(later) is None
    assert retry_after_ms({**now, "retry-after": "soon"}) is None
    assert retry_after_ms({}) is None


def test_absurd_waits_are_cut():
    assert retry_after_ms({"retry-after": "999999999999"}) == WAIT_MAX_MS
    assert retry_after_ms({"retry-after-ms": "999999999999"}) == WAIT_MAX_MS
    assert retry_after_ms({"retry-after": "-1"}) is None


@pytest.mark.parametrize(
    "text", ["", "Sun, 06 Foo 1994 08:49:37 GMT", "Sun, 31 Feb 1994 08:49:37 GMT", "Sun, 06 Nov 1994 25:49:37 GMT"]
)
def test_a_date_that_is_none_is_none(text):
    assert date_ms(text) is None


def test_a_leap_second_is_a_moment_too():
    assert date_ms("Sun, 06 Nov 1994 08:49:60 GMT") == date_ms("Sun, 06 Nov 1994 08:49:59 GMT")


def test_what_may_have_cost_something_gets_a_charge():
    fault = Fault(error_class="network")
    assert not AttemptFailed(platform="p", attempt=1, fault=fault).chargeable
    assert AttemptFailed(platform="p", attempt=1, fault=fault, charged="possible").chargeable
    assert LateResult(platform="p", charged="known").chargeable
    assert TaskCompleted(platform="p", attempt=1, status="completed").chargeable
    assert not TaskCompleted(status="cancelled").chargeable


def test_every_fact_is_frozen_and_explains_itself():
    for kind in FACTS:
        assert kind.__doc__
        assert kind.__struct_config__.frozen
        assert kind.__struct_config__.tag == kind.__name__
    with pytest.raises(AttributeError):
        TaskStarted(platform="p").platform = "q"


def test_only_what_surely_never_left_counts_as_unsent():
    assert not End().surely_unsent
    assert not End(cut="network").surely_unsent
    assert End(cut="network", sent=False).surely_unsent
    assert End(cut="missing").surely_unsent


def test_a_call_that_ended_carries_its_attempt():
    ended = CallEnded(epoch=3, cause="s", attempt=1, verdict=Verdict(ok=True))
    assert (ended.text, ended.text_ref, ended.calls) == ("", None, ())
