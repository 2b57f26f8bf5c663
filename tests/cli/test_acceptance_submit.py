"""Exit codes of submit as scripts may rely on them."""

from __future__ import annotations

import pytest

from farebox.cli.submit import exit_code
from farebox.core.results import ErrorShown, Result


@pytest.mark.parametrize(
    ("status", "error_class", "code"),
    [("completed", "", 0), ("failed", "server_error", 1), ("failed", "timeout", 7), ("cancelled", "cancelled", 7)],
)
def test_time_that_is_over_is_told_apart_from_work_that_failed(status, error_class, code):
    error = ErrorShown(error_class=error_class, message="so it was") if error_class else None
    assert exit_code(Result(task_id="t", chain_id="c", status=status, error=error)) == code
