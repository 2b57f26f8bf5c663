"""The board: who waits is woken when a task is settled, and nobody waits for what the board does not know."""

import asyncio

from farebox.core import events as e
from farebox.core.terms import Fault
from farebox.runtime.board import Board

TASK = {"chain": "c1", "task": "t1"}
LANE = TASK | {"platform": "p1", "attempt": 1, "model": "m1"}


def ended(board: Board) -> None:
    board.hear(e.TaskStarted(**LANE, seq=2))
    board.hear(e.TaskCompleted(**LANE, status="completed", charged="known", output="hi", seq=3))


async def test_a_task_is_settled_with_its_charge_not_with_its_end() -> None:
    board = Board()
    board.hear(e.TaskSubmitted(**TASK, seq=1))
    waiting = asyncio.create_task(board.settled("c1", "t1", 5))
    ended(board)
    await asyncio.sleep(0)
    assert not waiting.done()
    assert board.result("c1", "t1") is None
    board.hear(e.CostRecorded(**LANE, status="priced", paid_usd="0.5", seq=4))
    assert await waiting
    told = board.result("c1", "t1")
    assert told is not None
    assert (told["output"], told["cost"]["paid_usd"]) == ("hi", "0.5")


async def test_a_task_that_was_submitted_before_the_board_began_is_the_ledgers() -> None:
    board = Board()
    ended(board)
    assert not await board.settled("c1", "t1", 0)
    assert board.result("c1", "t1") is None


async def test_a_caller_that_asks_before_the_submission_is_read_is_told_all_the_same() -> None:
    board = Board()
    waiting = asyncio.create_task(board.settled("c1", "t1", 5))
    await asyncio.sleep(0)
    board.hear(e.TaskSubmitted(**TASK, seq=1))
    board.hear(e.TaskCompleted(**TASK, status="failed", fault=Fault(error_class="unavailable", message="nobody"), seq=2))
    assert await waiting
    told = board.result("c1", "t1")
    assert told is not None
    assert (told["cost"]["status"], told["error"]["class"]) == ("none", "unavailable")


def test_a_task_that_was_given_up_took_as_long_as_its_last_attempt() -> None:
    board = Board()
    board.hear(e.TaskSubmitted(**TASK, seq=1))
    for attempt, duration_ms in ((1, 900), (2, 2500)):
        lost = e.AttemptFailed(
            **LANE | {"attempt": attempt}, fault=Fault(error_class="stalled"), duration_ms=duration_ms, seq=2
        )
        board.hear(lost)
    board.hear(e.TaskCompleted(**TASK, status="failed", fault=Fault(error_class="exhausted", message="no more"), seq=4))
    told = board.result("c1", "t1")
    assert told is not None
    assert (told["platform"], told["duration_s"]) == (LANE["platform"], 2.5)


def test_a_sum_that_leaves_out_what_nobody_can_bound_is_no_at_most() -> None:
    board = Board()
    board.hear(e.TaskSubmitted(**TASK, seq=1))
    ended(board)
    board.hear(e.CostRecorded(**LANE, status="possible", paid_usd="0.5", seq=4))
    board.hear(e.CostRecorded(**LANE | {"attempt": 2}, status="possible", seq=5))
    told = board.result("c1", "t1")
    assert told is not None
    assert (told["cost"]["status"], told["cost"]["possible_usd"]) == ("possible", None)


async def test_a_wait_ends_at_its_time_and_leaves_nothing_behind() -> None:
    board = Board()
    board.hear(e.TaskSubmitted(**TASK, seq=1))
    assert not await board.settled("c1", "t1", 0.01)
    assert not board._waiting


def test_the_oldest_of_too_many_ended_tasks_goes() -> None:
    board = Board(kept_max=1)
    for number in ("1", "2"):
        place = {"chain": "c1", "task": f"t{number}"}
        board.hear(e.TaskSubmitted(**place, seq=1))
        board.hear(e.TaskCompleted(**place, status="cancelled", seq=2))
    assert board.result("c1", "t1") is None
    assert board.result("c1", "t2") is not None


async def test_what_the_board_cannot_fold_is_the_ledgers_and_nobody_waits_for_it(caplog) -> None:
    board = Board()
    board.hear(e.TaskSubmitted(**TASK, seq=1))
    waiting = asyncio.create_task(board.settled("c1", "t1", 5))
    await asyncio.sleep(0)
    board._rows["c1", "t1"].tries = None  # type: ignore[assignment]  # so that folding breaks
    board.hear(e.TaskStarted(**LANE, seq=2))
    assert not await waiting
    assert board.known("c1", "t1") is None
    assert "fact 2 cannot be shown from memory" in caplog.text
    ended(board)
    assert board.result("c1", "t1") is None
