"""What tasks will use is learned from what tasks used: bounded, robust, the same from the same facts."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.core import estimates
from farebox.core.estimates import Estimator
from farebox.core.events import TaskSubmitted
from farebox.core.terms import FileInput, Ref
from farebox.core.tokens import estimate, of_task

KEY = estimates.model_key("openai", "m")


def learned(*pairs, key=KEY):
    one = Estimator()
    for estimated, reported in pairs:
        estimates.learn_input(one, key, estimated, reported)
    return one


def test_what_nobody_knows_is_estimated_as_it_stands():
    assert estimates.input_tokens(Estimator(), KEY, 100) == 100
    assert estimates.input_tokens(learned((100, 200)), "another/m", 100) == 100
    assert estimates.input_tokens(Estimator(), KEY, -1) == 0


def test_a_model_that_counts_more_is_estimated_higher():
    one = learned(*[(1000, 1300)] * 20)
    assert estimates.input_tokens(one, KEY, 1000) == 1300
    assert estimates.input_tokens(one, KEY, 0) == 0


def test_one_wild_report_does_little_and_no_report_passes_the_bounds():
    one = learned(*[(1000, 1000)] * 20, (1000, 10**9))
    assert estimates.input_tokens(one, KEY, 1000) < 1100
    one = learned(*[(1000, 10**9)] * 200)
    assert estimates.input_tokens(one, KEY, 1000) == 8000
    one = learned(*[(1000, 1)] * 200)
    assert estimates.input_tokens(one, KEY, 1000) == 250


def test_a_report_of_nothing_teaches_nothing():
    assert learned((0, 5), (5, 0)) == Estimator()


def test_what_a_program_adds_to_short_texts_is_added_to_long_ones_not_multiplied():
    one = learned(*[(50, 400)] * 50)
    assert 390 <= estimates.input_tokens(one, KEY, 50) <= 400
    assert 100_000 < estimates.input_tokens(one, KEY, 100_000) < 101_000


def test_what_was_learned_from_long_texts_holds_for_short_ones():
    one = learned(*[(100_000, 150_000)] * 20)
    assert estimates.input_tokens(one, KEY, 1000) == 1500


def test_answers_are_as_long_as_those_before_once_there_were_enough():
    one = Estimator()
    assert estimates.output_tokens(one, "review", KEY) == estimates.DEFAULTS["review"]
    for _ in range(estimates.ENOUGH_OF_TYPE):
        estimates.learn_output(one, "review", KEY, 100)
    low, typical, high = estimates.output_tokens(one, "review", "another/m")
    assert 64 <= low <= typical <= high <= 128
    assert estimates.output_tokens(one, "general", KEY) == estimates.DEFAULTS["general"]


def test_a_model_that_says_more_than_others_has_estimates_of_its_own():
    one = Estimator()
    for _ in range(estimates.ENOUGH_OF_MODEL):
        estimates.learn_output(one, "general", KEY, 5000)
        estimates.learn_output(one, "general", "short/m", 10)
    assert estimates.output_tokens(one, "general", KEY).low >= 4096
    assert estimates.output_tokens(one, "general", "short/m").high <= 16


def test_what_is_long_ago_counts_less():
    one = Estimator()
    for reported in (10, 4000):
        for _ in range(300):
            estimates.learn_output(one, "general", KEY, reported)
    assert estimates.output_tokens(one, "general", KEY).typical >= 2048
    assert sum(one.outputs["general"]) <= estimates.SAMPLES_MAX


def test_answers_of_nothing_and_of_absurd_length_have_a_place_too():
    one = Estimator()
    for reported in (0, -1, 10**12):
        for _ in range(8):
            estimates.learn_output(one, "general", KEY, reported)
    assert estimates.output_tokens(one, "general", KEY).low == 0
    assert estimates.output_tokens(one, "general", KEY).high < 2**21


def test_only_so_many_models_are_remembered():
    one = Estimator()
    for number in range(estimates.KEYS_MAX + 5):
        estimates.learn_input(one, f"p/m{number}", 10, 10)
        estimates.learn_output(one, "general", f"p/m{number}", 10)
    assert len(one.ratios) == len(one.outputs) == estimates.KEYS_MAX
    assert "p/m0" not in one.ratios


REPORTS = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**9), st.integers(0, 10**7)), max_size=60)


@given(reports=REPORTS, asked=st.integers(0, 10**7))
def test_law_the_same_facts_make_the_same_estimator_and_it_survives_a_snapshot(reports, asked):
    ones = [Estimator(), Estimator()]
    for estimated, reported, written in reports:
        for one in ones:
            estimates.learn_input(one, KEY, estimated, reported)
            estimates.learn_output(one, "general", KEY, written)
        ones[1] = msgspec.json.decode(msgspec.json.encode(ones[1]), type=Estimator)
    assert ones[0] == ones[1]
    tokens = estimates.input_tokens(ones[0], KEY, asked)
    assert tokens == estimates.input_tokens(ones[1], KEY, asked)
    assert min(asked, 1) <= tokens <= max(8 * asked, asked + 8 * 2**19)
    low, typical, high = estimates.output_tokens(ones[0], "general", KEY)
    assert 0 <= low <= typical <= high


def test_a_task_is_as_long_as_all_that_is_read_for_it():
    task = TaskSubmitted(chain="c", task="t", prompt="Read this. " * 100)
    assert of_task(task) == estimate(task.prompt)
    ref = Ref(ref="a" * 64, sha256="a" * 64, bytes=35_000)
    more = msgspec.structs.replace(
        task,
        system="Be brief.",
        context={"key": "value"},
        context_ref=ref,
        files=(FileInput(name="a.txt", content="ж" * 700), FileInput(name="b.txt", ref=ref)),
    )
    assert 20_000 + 400 <= of_task(more) - of_task(task) < 20_000 + 500
    assert of_task(TaskSubmitted(chain="c", task="t", prompt="\ud800" * 7)) > 0


@pytest.mark.parametrize(("told", "believed"), [(None, 100), (99, 99), (250, 250), (50, 50), (49, 50), (0, 50)])
def test_what_a_client_counted_is_believed_down_to_half_of_what_the_rule_says(told, believed):
    task = TaskSubmitted(chain="c", task="t", prompt="x" * 350, input_tokens=told)
    assert of_task(task) == believed
