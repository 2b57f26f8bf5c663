"""The matrix of faults keeps its word: each row has a test that bears its number, or says why it has none."""

import re
import sys
from pathlib import Path

import pytest

MARK = re.compile(r"pytest\.mark\.fault\(([\d, ]+)\)")
TESTS = Path(__file__).parent.parent


@pytest.fixture
def rows():
    return sys.modules["fault_matrix"].ROWS


def proven():
    marks = (found for path in sorted(TESTS.rglob("test_*.py")) for found in MARK.findall(path.read_text()))
    return {int(number) for mark in marks for number in mark.split(",")}


def test_the_matrix_has_seventy_five_rows(rows):
    assert list(rows) == list(range(1, 76))


def test_each_row_has_a_test_or_a_reason_and_none_has_both(rows):
    reasons = {number for number, row in rows.items() if row.reason}
    assert sorted(set(rows) - proven() - reasons) == []
    assert sorted(reasons & proven()) == []
    assert sorted(proven() - set(rows)) == []


def test_the_table_says_of_each_row_what_was_seen(request, rows):
    table = request.config.pluginmanager.get_plugin("fault_table")
    fresh = type(table)(request.config)
    fresh.seen[5] += [("passed", "tests/a.py::one"), ("passed", "tests/a.py::two")]
    fresh.seen[7] += [("passed", "tests/a.py::one"), ("failed", "tests/b.py::three")]
    fresh.seen[6] += [("skipped", "no loop devices here")]
    assert fresh.said(rows[5]) == "held (2 tests)"
    assert fresh.said(rows[7]) == "FAILED: b.py::three"
    assert fresh.said(rows[6]) == "skipped: no loop devices here"
    assert fresh.said(rows[1]) == "not run"
    assert fresh.said(rows[53]).startswith("not injected: ")
    assert fresh.lines()[-1].startswith("1 of 75 held")
