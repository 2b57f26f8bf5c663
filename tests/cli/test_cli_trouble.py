"""What a command says while something is wrong: once, and once when it is over."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from farebox import api
from farebox.cli import answer_shown, status, trouble
from farebox.cli.options import Common
from farebox.core.errors import NotReachable
from farebox.core.subjects import API
from farebox.log.memory import Fate, MemoryLog

FULL = {"code": "FB113", "message": "The disk of the store is full.", "hint": "Make room there."}
OTHER = {"code": "FB102", "message": "The store is not usable.", "hint": ""}


async def engine(store, *told):
    """Serve what an engine says about itself, one after the other, the last one for ever; `asked` counts."""
    log = MemoryLog(store)
    left = list(told)
    asked = []

    async def info(_body):
        asked.append(1)
        return msgspec.json.encode({"schema": "farebox.info/1", "trouble": left.pop(0) if len(left) > 1 else left[0]})

    await log.serve(f"{API}.info", info)
    return log, asked


@pytest.mark.parametrize(
    ("told", "lines"),
    [
        ([None, None], []),
        (
            [FULL, FULL, None],
            ["FB113 The disk of the store is full. Make room there.", "There is room again; the work goes on."],
        ),
        ([OTHER, None], ["FB102 The store is not usable.", "That is over; the work goes on."]),
    ],
)
async def test_a_trouble_is_said_once_and_its_end_once(store, capsys, monkeypatch, told, lines):
    monkeypatch.setattr(trouble, "FIRST_S", 0)
    monkeypatch.setattr(trouble, "AGAIN_S", 0.001)
    log, asked = await engine(store, *told)
    async with trouble.troubles_said(Common(), log):
        while len(asked) < len(told) + 2:
            await asyncio.sleep(0.001)
    assert capsys.readouterr().err.splitlines() == lines


async def test_what_waits_for_a_decision_is_said_once_and_only_of_ones_own(store, capsys, monkeypatch):
    monkeypatch.setattr(trouble, "FIRST_S", 0)
    monkeypatch.setattr(trouble, "AGAIN_S", 0.001)
    log, asked = MemoryLog(store), []

    async def info(_body):
        asked.append(1)
        return msgspec.json.encode({"schema": "farebox.info/1", "trouble": None, "decisions": ["other", "b", "b-2", "bb"]})

    await log.serve(f"{API}.info", info)
    async with trouble.troubles_said(Common(), log, "b"):
        while len(asked) < 8:
            await asyncio.sleep(0.001)
    assert capsys.readouterr().err.splitlines() == [
        f"Task {task} was interrupted and waits for your decision. See: farebox status {task}" for task in ("b", "b-2")
    ]


async def test_nobody_who_answers_is_nothing_that_waits(store):
    assert await api.waiting(MemoryLog(store)) == []


async def test_who_is_answered_soon_does_not_ask(store):
    log, asked = await engine(store, FULL)
    async with trouble.troubles_said(Common(), log):
        await asyncio.sleep(0)
    assert asked == []


async def test_an_engine_that_does_not_answer_says_nothing_about_itself(store, capsys, monkeypatch):
    monkeypatch.setattr(trouble, "FIRST_S", 0)
    monkeypatch.setattr(trouble, "AGAIN_S", 0.001)
    nobody = MemoryLog(store)
    with pytest.raises(NotReachable):
        await api.trouble(nobody)
    async with trouble.troubles_said(Common(), nobody):
        await asyncio.sleep(0.02)
    assert capsys.readouterr().err == ""


def test_a_task_that_the_log_has_not_taken_yet_is_told_from_one_that_waits(cli, store, monkeypatch):
    monkeypatch.setattr(answer_shown, "SILENCE_S", 0.02)
    left = [Fate.LOST] * 3
    store._fate = lambda _: left.pop() if left else Fate.ARRIVES
    ran = cli("submit", "hello", "--no-stream")
    assert ran.code == 0
    assert " · the log has not taken it yet" in ran.err


def test_status_says_what_is_wrong():
    told = status.engine({"version": "1", "pid": 2, "trouble": FULL})
    assert told[1] == "FB113 The disk of the store is full. Make room there."
    assert len(status.engine({"version": "1", "pid": 2, "trouble": None})) == 1
