"""How the real command lines are run: installed, in a home of their own, with a cleared environment, against a local server."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from actors.platforms import PLATFORMS
from farebox.core.events import TaskSubmitted
from farebox.core.platform import Ask
from farebox.runtime import caller
from tests.live_cli import programs

KINDS = {kind.name: kind for kind in PLATFORMS}


@pytest.fixture(scope="session")
def cli_path():
    """Return the path of `claude`, `gemini` or `codex`, installed if need be."""
    return programs.path


@pytest.fixture
def environ(tmp_path, cli_path):
    """Return the whole environment for a program: fresh HOME and TMPDIR, PATH with its folder first, nothing else."""

    def make(program: str, **variables: str) -> dict[str, str]:
        home, temporary = tmp_path / "home", tmp_path / "tmp"
        home.mkdir(exist_ok=True)
        temporary.mkdir(exist_ok=True)
        path = f"{cli_path(program).parent}{os.pathsep}{os.environ['PATH']}"
        return {"HOME": str(home), "TMPDIR": str(temporary), "PATH": path, "LANG": "C.UTF-8", **variables}

    return make


@pytest.fixture
def run():
    """Run one task the whole way: the kind's request, the real caller, the real program, the kind's reader."""

    async def make(of, environ, *, prompt="What does the fox do?", system="", cancelled=None, on_piece=None, **limits):
        ask = Ask(platform="p", settings=of, model="", prompt=prompt, system=system, task=TaskSubmitted())
        kind = KINDS[of.kind]
        times = {"timeout_s": 60, "first_byte_timeout_s": 30, "idle_timeout_s": 30, **limits}
        return await caller.call(
            kind.ask(ask),
            kind.reader(ask),
            on_piece=on_piece or (lambda _text: None),
            cancelled=cancelled or asyncio.Event(),
            environ=environ,
            **times,
        )

    return make


@pytest.fixture
def soon():
    """Wait until something is so."""

    async def wait(condition, wait_s=5.0):
        end_s = time.monotonic() + wait_s
        while not condition():
            assert time.monotonic() < end_s, "it never came true"
            await asyncio.sleep(0.005)

    return wait
