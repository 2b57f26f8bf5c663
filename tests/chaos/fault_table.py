"""The plugin behind `@pytest.mark.fault(5)`: what a test proves of the matrix (fault_matrix.py), and the table at the end.

`-m chaos` selects every test that bears a number, also those of the default suite, so that one command prints the whole table.
"""

from __future__ import annotations

import importlib.util
import sys
import textwrap
from collections import defaultdict
from pathlib import Path

import pytest

PROPERTY = "faults"
WIDTHS = (3, 34, 38, 40, 30)
HEADS = ("#", "fault", "injected how", "expected", "seen")


def _matrix():
    spec = importlib.util.spec_from_file_location("fault_matrix", Path(__file__).with_name("fault_matrix.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.ROWS


ROWS = _matrix()


def numbers(item: pytest.Item) -> tuple[int, ...]:
    """The rows that a test proves."""
    return tuple(number for mark in item.iter_markers("fault") for number in mark.args)


class FaultTable:
    """Collects what tests with a number came to; prints it where `-m chaos` asked for all of them."""

    def __init__(self, config: pytest.Config) -> None:
        self.asked = config.option.markexpr == "chaos"
        self.seen: dict[int, list[tuple[str, str]]] = defaultdict(list)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            if found := numbers(item):
                item.user_properties.append((PROPERTY, list(found)))
                if self.asked:
                    item.add_marker("chaos")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call" and report.passed:
            return
        for number in dict(report.user_properties).get(PROPERTY, ()):
            why = report.longrepr[2] if report.skipped and isinstance(report.longrepr, tuple) else report.nodeid
            self.seen[number].append((report.outcome, why))

    def pytest_terminal_summary(self, terminalreporter) -> None:
        if not self.asked:
            return
        terminalreporter.section("faults")
        for line in self.lines():
            terminalreporter.write_line(line)

    def lines(self) -> list[str]:
        """The table, ready to print."""
        shown = [*_cells(HEADS), "-" * (sum(WIDTHS) + 2 * len(WIDTHS))]
        for row in ROWS.values():
            shown += _cells((str(row.number), row.fault, row.injected, row.expected, self.said(row)))
        passed = sum(bool(told) and all(how == "passed" for how, _ in told) for told in self.seen.values())
        return [*shown, f"{passed} of {len(ROWS)} held, {sum(bool(row.reason) for row in ROWS.values())} not injected."]

    def said(self, row) -> str:
        """What was seen of a row."""
        told = self.seen[row.number]
        if failed := [where for how, where in told if how == "failed"]:
            return f"FAILED: {failed[0].rpartition('/')[2]}"
        if not told:
            return f"not injected: {row.reason}" if row.reason else "not run"
        if skipped := [why for how, why in told if how == "skipped"]:
            return f"skipped: {skipped[0]}"
        return f"held ({len(told)} test{'s' if len(told) > 1 else ''})"


def _cells(texts) -> list[str]:
    columns = [textwrap.wrap(text, width) or [""] for text, width in zip(texts, WIDTHS, strict=True)]
    height = max(map(len, columns))
    padded = zip(*(column + [""] * (height - len(column)) for column in columns), strict=True)
    return ["  ".join(f"{part:{width}}" for part, width in zip(line, WIDTHS, strict=True)).rstrip() for line in padded]
