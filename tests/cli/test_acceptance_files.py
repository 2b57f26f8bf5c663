"""Tasks that work on files, the whole way: allowed or not, in the user's directory, in a worktree, killed while they write."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

EDITOR = """
import os, pathlib, sys, time
prompt = sys.stdin.read()
with open("essay.txt", "a") as essay:
    essay.write("First half. ")
    essay.flush()
    if "slowly" in prompt and not os.path.exists(sys.argv[1]):
        pathlib.Path(sys.argv[1]).write_text(os.getcwd())
        time.sleep(120)
    essay.write("Second half.")
pathlib.Path("notes.md").write_text("noted")
print("Done.")
"""


def run_git(place, *words):
    own = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main")
    return subprocess.run(["git", *own, *words], cwd=place, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def project(tmp_path):
    (place := tmp_path / "src" / "project").mkdir(parents=True)
    (place / "essay.txt").write_text("Title. ")
    run_git(place, "init", "-q")
    run_git(place, "add", ".")
    run_git(place, "commit", "-q", "-m", "first")
    return place


@pytest.fixture
def farebox(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FAREBOX", "NATS"))}
    environment |= {"HOME": str(tmp_path), "FAREBOX_HOME": str(tmp_path / "store")}
    (tmp_path / "editor.py").write_text(EDITOR)
    argv = json.dumps([sys.executable, str(tmp_path / "editor.py"), str(tmp_path / "writing")])
    options = f'{{directories = "{tmp_path / "src"}", worktrees = "{tmp_path / "trees"}"}}'
    (tmp_path / "farebox.toml").write_text(
        "[engine]\ndiscover = false\n\n"
        f'[platforms.editor]\nkind = "command"\nbilling = "metered"\nargv = {argv}\noptions = {options}\n'
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


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_task_works_where_it_may_and_its_result_names_the_files(farebox, project):
    assert farebox("up", "--detach").returncode == 0
    ran = farebox("submit", "Write on.", "--directory", "src/project")
    assert (ran.returncode, ran.stdout) == (0, "Done.\n"), ran.stderr
    assert ran.stderr.endswith("created: notes.md\nchanged: essay.txt\n")
    assert (project / "essay.txt").read_text() == "Title. First half. Second half."

    refused = farebox("submit", "Write on.", "--directory", "/usr")
    assert refused.returncode == 1
    assert "editor: is not allowed to work in /usr" in refused.stderr
    assert 'To allow it, write in farebox.toml: [platforms.editor] options = {directories = "/usr"}' in refused.stderr
    missing = farebox("submit", "Write on.", "--directory", "nowhere")
    assert (missing.returncode, "There is no directory" in missing.stderr) == (2, True)

    run_git(project, "checkout", "-q", "--", ".")
    (project / "notes.md").unlink()
    found = json.loads(farebox("submit", "Write on.", "--directory", str(project), "--worktree", "--json").stdout)
    assert (found["files_created"], found["files_changed"], found["files_more"]) == (["notes.md"], ["essay.txt"], False)
    assert found["base_commit"] == run_git(project, "rev-parse", "HEAD").strip()
    assert (Path(found["worktree"]) / "notes.md").read_text() == "noted"
    assert run_git(project, "status", "--porcelain") == ""
    card = farebox("status", found["task_id"]).stdout
    assert f"  worktree: {found['worktree']}" in card
    assert "  files changed:\n    - essay.txt" in card


@pytest.mark.chaos
@pytest.mark.fault(51)
@pytest.mark.timeout(150)
def test_an_agent_killed_while_it_edits_leaves_the_users_tree_as_it_was_and_its_worktree_set_aside(farebox, tmp_path, project):
    ready = json.loads(farebox("up", "--detach", "--json").stdout)
    before = {one: one.read_bytes() for one in project.iterdir() if one.is_file()}
    task = farebox("submit", "Write slowly.", "--directory", str(project), "--worktree", "--detach").stdout.strip()
    first = wait_for(lambda: (tmp_path / "writing").exists() and (tmp_path / "writing").read_text())
    os.kill(ready["pid"], signal.SIGKILL)
    assert (Path(first) / "essay.txt").read_text() == "Title. First half. "

    assert farebox("up", "--detach").returncode == 0

    def asked():
        return json.loads(farebox("status", "--json").stdout)["decisions"]

    (question,) = wait_for(asked)
    assert (question["task_id"], question["error_class"]) == (task, "crashed")
    assert f"What it did stands in its worktree {first}." in farebox("status", task).stdout
    assert farebox("decide", task, "retry").returncode == 0

    def ended():
        found = json.loads(farebox("status", task, "--json").stdout)
        return found if found["result"]["status"] == "completed" else None

    found = wait_for(ended)
    second = found["result"]["worktree"]
    assert (found["result"]["files_created"], found["result"]["files_changed"]) == (["notes.md"], ["essay.txt"])
    assert [one["worktree"] for one in found["attempts"]] == [first, second]
    assert (Path(second) / "essay.txt").read_text() == "Title. First half. Second half."
    assert (Path(first) / "essay.txt").read_text() == "Title. First half. ", "set aside: the next attempt did not go on in it"
    assert {one: one.read_bytes() for one in project.iterdir() if one.is_file()} == before
    assert run_git(project, "status", "--porcelain") == ""
