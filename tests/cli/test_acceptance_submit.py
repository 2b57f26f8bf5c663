"""What scripts and impatient people may rely on: exit codes, and Ctrl-C at any moment."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import types

import pytest

from farebox import client
from farebox.cli import main, submitting
from farebox.cli.submitting import exit_code
from farebox.core.results import ErrorShown, Result


@pytest.mark.parametrize(
    ("status", "error_class", "code"),
    [("completed", "", 0), ("failed", "server_error", 1), ("failed", "timeout", 7), ("cancelled", "cancelled", 7)],
)
def test_time_that_is_over_is_told_apart_from_work_that_failed(status, error_class, code):
    error = ErrorShown(error_class=error_class, message="so it was") if error_class else None
    assert exit_code(Result(task_id="t", chain_id="c", status=status, error=error)) == code


def test_ctrl_c_while_the_task_is_on_its_way_cancels_it_like_one_that_runs(cli, store, monkeypatch):
    say = client.say_submission
    signalled = asyncio.Event()

    async def say_and_be_interrupted(log, fact):
        stored = await say(log, fact)
        os.kill(os.getpid(), signal.SIGINT)
        asyncio.get_running_loop().call_later(0.05, signalled.set)
        await signalled.wait()
        return stored

    monkeypatch.setattr(client, "say_submission", say_and_be_interrupted)
    ran = cli("submit", "slow one", "--json")
    assert signalled.is_set()
    assert (ran.code, ran.json["status"]) == (130, "cancelled")
    assert f"Cancelling task {ran.json['task_id']}" in ran.err


def test_ctrl_c_does_not_wait_for_a_bus_that_takes_no_cancel(cli, store, monkeypatch):
    async def unanswered(*_):
        await asyncio.Event().wait()

    say = client.say_submission

    async def say_and_be_interrupted(log, fact):
        stored = await say(log, fact)
        os.kill(os.getpid(), signal.SIGINT)
        return stored

    monkeypatch.setattr(submitting, "CANCEL_WAIT_S", 0.1)
    monkeypatch.setattr(client, "say_submission", say_and_be_interrupted)
    monkeypatch.setattr(client, "say_cancel", unanswered)
    ran = cli("submit", "slow one", "--json")
    assert ran.code == 130
    assert f"it may go on. See: farebox status {ran.json['task_id']}" in ran.err
    assert "nothing charged" not in ran.err


class Loading(types.ModuleType):
    """A module that is still loading when Ctrl-C comes."""

    def __getattr__(self, name: str) -> object:
        raise KeyboardInterrupt


def test_ctrl_c_while_the_program_still_loads_leaves_no_trace(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "farebox.cli.app", Loading("farebox.cli.app"))
    assert main(["submit", "hello"]) == 130
    assert capsys.readouterr().err == ""
