"""Ids: a shape that may stand in a subject and in a file name, and an order that is that of time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.core import ids
from farebox.core.errors import BadInput

GOOD = ["a", "0", "a-b_c", "x" * 63, "2026-11-21"]
BAD = ["", "-", "_a", "-a", "A", "a.b", "a*", ">", "a b", "../x", "a/b", "x" * 64, "a\n", "é", "🙂", "\x00", "x" * 10_000, "١"]


@pytest.mark.parametrize("text", GOOD)
def test_a_good_id_is_taken_as_it_is(text):
    assert ids.is_id(text)
    assert ids.check(text) == text


@pytest.mark.fault(30)
@pytest.mark.parametrize("text", BAD)
def test_a_bad_id_is_refused_with_the_rule(text):
    assert not ids.is_id(text)
    with pytest.raises(BadInput, match="is not usable") as refused:
        ids.check(text, "task")
    assert len(str(refused.value)) < 200
    assert "beginning with a letter or digit" in refused.value.hint


@given(st.integers(0, 2**45 - 1), st.integers(0, 2**45 - 1), st.binary(min_size=5, max_size=8))
def test_fresh_ids_sort_by_time(one_ms, other_ms, entropy):
    one, other = ids.new(one_ms, entropy), ids.new(other_ms, entropy)
    assert ids.is_id(one)
    assert len(one) == 17
    assert (one < other) == (one_ms < other_ms)


def test_the_random_part_is_all_of_the_five_bytes():
    assert len({ids.new(1, bytes([0, 0, 0, 0, n])) for n in range(256)}) == 256
    assert ids.new(1, b"\xff" * 5)[9:] == "z" * 8


def test_the_tasks_of_a_batch_have_the_same_ids_each_time():
    assert ids.of_line("b", 7) == "b-7"


def test_the_id_of_a_fact_follows_from_all_it_answers_and_from_a_key_that_only_the_store_has():
    base = (b"key", "router", "cause", "TaskRouted", 0)
    changed = [(b"other", *base[1:]), *[(*base[:n], "x", *base[n + 1 :]) for n in (1, 2, 3)], (*base[:4], 1)]
    found = {ids.of_fact(*arguments) for arguments in (base, *changed)}
    assert len(found) == 6
    assert ids.of_fact(*base) == ids.of_fact(*base)
    assert {len(one) for one in found} == {26}
