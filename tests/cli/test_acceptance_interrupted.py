"""An engine that is killed alone while a program works for it: who dies, who is ended at the next start, who is asked then."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGINT, signal.SIG_IGN)
sys.stdin.read()
ignore = "signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.signal(signal.SIGHUP, signal.SIG_IGN)"
hidden = f"import signal, time; {ignore}; time.sleep(120)"
child = subprocess.Popen([sys.executable, "-c", hidden], start_new_session=True, stdin=subprocess.DEVNULL,
                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
with open("pids.new", "w") as file:
    file.write(f"{os.getpid()} {child.pid}")
os.rename("pids.new", "pids")
print("Half an answer", flush=True)
time.sleep(120)
"""


@pytest.fixture
def farebox(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FAREBOX", "NATS"))}
    environment |= {"HOME": str(tmp_path), "FAREBOX_HOME": str(tmp_path / "store")}
    (tmp_path / "stubborn.py").write_text(STUBBORN)
    (work := tmp_path / "work").mkdir()  # not the folder that holds the store: no program is started there
    argv = json.dumps([sys.executable, str(tmp_path / "stubborn.py")])
    (tmp_path / "farebox.toml").write_text(
        f'[platforms.stubborn]\nkind = "command"\nbilling = "metered"\nargv = {argv}\noptions = {{directory = "{work}"}}\n'
    )

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "farebox", *arguments],
            capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=60, check=False,
        )  # fmt: skip

    yield run
    run("down")


def wait_for(condition, timeout_s=25):
    until_s = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < until_s, "it did not come to pass"
        time.sleep(0.05)
    return found


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.slow
@pytest.mark.timeout(120)  # 15 processes one after the other: 44 to 81 s beside ten busy ones on two cores
@pytest.mark.fault(52)
def test_a_killed_engine_leaves_no_program_behind_and_a_person_decides_what_becomes_of_its_task(farebox, tmp_path):
    ready = json.loads(farebox("up", "--detach", "--json").stdout)
    task = farebox("submit", "Think for long.", "--platform", "stubborn", "--no-fallback", "--detach").stdout.strip()
    wait_for((tmp_path / "work" / "pids").exists)
    program, hidden = map(int, (tmp_path / "work" / "pids").read_text().split())
    # Looked at before the kill: from then on any engine that starts on this machine, of another test too, may end it.
    assert (os.getsid(hidden), is_gone(hidden)) == (hidden, False), "a session of its own hides it from the kernel's help"
    os.kill(ready["pid"], signal.SIGKILL)
    wait_for(lambda: is_gone(program))  # the kernel ends it with its parent, whatever it ignores

    assert farebox("up", "--detach").returncode == 0
    wait_for(lambda: is_gone(hidden))  # by this start, or by that of any other engine on the machine

    def asked():
        found = json.loads(farebox("status", "--json").stdout)
        return found if found["decisions"] else None

    (question,) = wait_for(asked)["decisions"]
    assert (question["task_id"], question["error_class"], question["partial_output"]) == (task, "crashed", False)
    told = f"task {task} waits for your decision: attempt 1 on stubborn was interrupted (crashed: The adapter stopped"
    for shown in (farebox("status").stdout, farebox("status", task).stdout):
        assert told in shown
        assert f"and may have cost an unknown amount. Type: farebox decide {task} retry|fail" in shown
    assert told in farebox("status", task).stdout

    refused = farebox("decide", task, "accept")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert refused.stderr.startswith(f"FB414 Attempt 1 of task {task} left no text")
    decided = farebox("decide", task, "fail", "--json")
    assert decided.returncode == 0
    assert {"schema": "farebox.decided/1", "task_id": task, "status": "failed"}.items() <= json.loads(decided.stdout).items()
    again = farebox("decide", task, "retry")
    assert (again.returncode, again.stderr) == (
        2, f"FB412 Attempt 1 of task {task} was decided already: fail. See: farebox status {task}\n",
    )  # fmt: skip
    assert farebox("dead").stdout == "Nothing is stopped.\n"
