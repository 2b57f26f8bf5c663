"""The command line as processes, with a real server: up, submit, costs with and without an engine, down."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def farebox(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FAREBOX", "NATS"))}
    environment |= {"HOME": str(tmp_path), "FAREBOX_HOME": str(tmp_path / "store")}
    command = [sys.executable, "-m", "farebox"]

    def run(*arguments: str, wait_s: float = 60) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *arguments], capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=wait_s, check=False
        )

    run.start = lambda *arguments: subprocess.Popen(
        [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path
    )
    yield run
    run("down")


def test_the_life_of_an_engine(farebox, tmp_path):
    ready = json.loads(farebox("up", "--detach", "--json").stdout)
    assert (ready["schema"], ready["store"]) == ("farebox.up/1", str(tmp_path / "store"))
    assert ready["bus"].startswith("nats://127.0.0.1:")
    assert oct(Path(ready["credentials"]).stat().st_mode)[-3:] == "600"

    again = farebox("up")
    assert (again.returncode, again.stdout) == (3, "")
    assert again.stderr.startswith("FB104 ")

    answer = farebox("submit", "hello world", "--platform", "rehearsal", "--json")
    result = json.loads(answer.stdout)
    assert (answer.returncode, result["status"], result["billing"]) == (0, "completed", "rehearsal")

    status = json.loads(farebox("status", "--json").stdout)
    assert status["engine"]["bus"] == ready["bus"]
    assert f"task {result['task_id']} · completed" in farebox("status", result["task_id"]).stdout

    early = farebox("down", "--wait", "-1")
    assert (early.returncode, early.stderr) == (2, "FB401 --wait is -1; it must be 0 or more seconds.\n")
    assert farebox("down").stdout == "stopped; 0 tasks go on with the next start\n"
    assert farebox("down").returncode == 4

    costs = farebox("costs", "--json")
    assert "No engine runs: reading the log of" in costs.stderr
    assert json.loads(costs.stdout)["rows"][0]["tasks"] == 1

    detached = farebox("submit", "x", "--detach")
    assert (detached.returncode, detached.stderr[:5]) == (4, "FB101")


def test_an_engine_here_stops_in_order_on_a_signal(farebox):
    engine = farebox.start("up", "--json", "--durability", "100ms")
    ready = json.loads(engine.stdout.readline())
    assert ready["durability"] == "100ms"
    engine.send_signal(signal.SIGTERM)
    out, err = engine.communicate(timeout=25)
    assert (engine.returncode, out) == (0, "")
    assert err.splitlines()[-1] == "stopped"


def test_a_detached_engine_that_cannot_start_says_why(farebox, tmp_path):
    (tmp_path / "farebox.toml").write_text("[engine]\nattempts_max = 0\n")
    ran = farebox("up", "--detach")
    assert ran.returncode == 3
    assert "engine.attempts_max: Expected int >= 1" in ran.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--only", "rooter"], "There is no actor 'rooter'. Did you mean \"router\"?"),
        (["--only", "router"], "An actor alone needs a bus. NATS_NKEY=NAME.nk farebox up --only NAME --server"),
        (["--only", "router", "--without", "cost"], "--only and --without exclude each other."),
    ],
)
def test_an_actor_alone_that_cannot_run_is_one_line(farebox, options, words):
    ran = farebox("up", *options)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert words in ran.stderr
    assert ran.stderr.count("\n") == 1


def test_a_server_that_is_not_there_is_one_line(farebox):
    for command in (["up", "--detach"], ["status"], ["submit", "hello"]):
        ran = farebox(*command, "--server", "nats://127.0.0.1:9")
        assert (ran.returncode, ran.stdout) == (4, "")
        assert ran.stderr.startswith("FB101 ")
        assert ran.stderr.count("\n") == 1
