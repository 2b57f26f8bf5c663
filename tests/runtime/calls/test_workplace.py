"""Programs that work on files: in the user's directory or in a worktree of their own, with real git and real programs."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from actors.platforms.command import COMMAND
from farebox.core.events import TaskStarted, TaskSubmitted
from farebox.core.platform import Ask, Verdict
from farebox.core.settings import PlatformSettings
from farebox.log.memory import MemoryLog, MemoryStore
from farebox.runtime import file_watch, secrecy, workplace
from farebox.runtime.attempt_call import AttemptCall
from farebox.runtime.file_watch import FileWatch, Touched
from farebox.runtime.git import GitFailed, git

EDITS = """
import os
open("new.txt", "w").write("new")
open("kept.txt", "a").write("more")
os.remove("gone.txt")
os.makedirs("build", exist_ok=True)
open("build/out.o", "w").write("ignored")
print("edited in", os.getcwd())
"""


def run_git(place, *words):
    own = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main")
    return subprocess.run(["git", *own, *words], cwd=place, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def repository(tmp_path):
    place = tmp_path / "project"
    (place / "sub").mkdir(parents=True)
    for name in ("kept.txt", "gone.txt", "same.txt", "sub/deep.txt"):
        (place / name).write_text(name)
    (place / ".gitignore").write_text("build/\n")
    run_git(place, "init", "-q")
    run_git(place, "add", ".")
    run_git(place, "commit", "-q", "-m", "first")
    (place / "same.txt").write_text("changed by the user before")
    return place


@pytest.fixture
def work(tmp_path):
    """Run a program as an attempt of a task that works on files; returns its outcome."""

    async def make(script, directory, *, worktree=False, allowed=None, stopping=None, cancelled=None, number=1):
        options = {"worktrees": str(tmp_path / "trees")}
        options |= {"directories": str(tmp_path if allowed is None else allowed)}
        of = PlatformSettings(kind="command", billing="free", argv=(sys.executable, "-c", script), options=options)
        tree = workplace.planned(f"t-{number}", "0123456789abcdef", of) if worktree else ""
        started = TaskStarted(id="s", chain="c", task="t", attempt=number, platform="p", seq=7, timeout_s=20, worktree=tree)
        task = TaskSubmitted(directory=str(directory), worktree=worktree)
        ask = Ask(platform="p", settings=of, model="", prompt="Edit.", task=task)
        call = AttemptCall(MemoryLog(MemoryStore()), COMMAND, of, os.environ, started)
        return await call.make(ask, cancelled or asyncio.Event(), stopping or asyncio.Event())

    return make


def snapshot(place):
    return {
        str(one.relative_to(place)): one.read_bytes() for one in place.rglob("*") if one.is_file() and ".git/" not in str(one)
    }


async def test_a_program_works_in_the_directory_and_what_it_did_to_files_is_told(work, repository):
    outcome = await work(EDITS, repository)
    assert (outcome.verdict.ok, outcome.text) == (True, f"edited in {repository}")
    assert outcome.verdict.files_created == ("new.txt",)
    assert outcome.verdict.files_changed == ("gone.txt", "kept.txt")
    assert (outcome.verdict.files_more, outcome.verdict.worktree) == (False, "")


async def test_without_git_all_files_count(work, tmp_path):
    (place := tmp_path / "plain").mkdir()
    for name in ("kept.txt", "gone.txt"):
        (place / name).write_text(name)
    verdict = (await work(EDITS, place)).verdict
    assert (verdict.files_created, verdict.files_changed) == (("build/out.o", "new.txt"), ("gone.txt", "kept.txt"))


async def test_what_a_failed_program_did_to_files_is_told_too(work, repository):
    verdict = (await work(f"{EDITS}\nraise SystemExit(3)", repository)).verdict
    assert (verdict.ok, verdict.files_created) == (False, ("new.txt",))


async def test_in_a_worktree_the_users_tree_stays_as_it_is(work, repository, tmp_path):
    before, commit = snapshot(repository), run_git(repository, "rev-parse", "HEAD").strip()
    verdict = (await work(EDITS, repository, worktree=True)).verdict
    tree = Path(verdict.worktree)
    assert (tree.parent, verdict.base_commit) == (tmp_path / "trees", commit)
    assert (verdict.files_created, verdict.files_changed) == (("new.txt",), ("gone.txt", "kept.txt"))
    assert (tree / "same.txt").read_text() == "same.txt", "as it was committed"
    assert snapshot(repository) == before
    assert run_git(repository, "status", "--porcelain") == " M same.txt\n"
    assert "new.txt" in run_git(tree, "status", "--porcelain")


async def test_a_directory_inside_a_repository_is_worked_in_at_the_same_place_of_the_worktree(work, repository):
    outcome = await work("open('x', 'w').close(); import os; print(os.getcwd())", repository / "sub", worktree=True)
    assert outcome.text == f"{outcome.verdict.worktree}/sub"
    assert outcome.verdict.files_created == ("x",)


async def test_a_worktree_in_which_nothing_was_left_is_removed(work, repository):
    verdict = (await work("print('only read')", repository, worktree=True)).verdict
    assert (verdict.ok, verdict.worktree, verdict.base_commit) == (True, "", "")
    assert len(run_git(repository, "worktree", "list").splitlines()) == 1


@pytest.mark.parametrize(
    "script",
    [
        "import os; os.mkdir('build'); open('build/x', 'w').close()",
        "import subprocess; subprocess.run([*'git -c user.name=t -c user.email=t@e commit -q --allow-empty -m x'.split()])",
        "import os; os.remove('.git')",
    ],
)
async def test_a_worktree_with_ignored_files_or_a_commit_or_broken_stays(work, repository, script):
    verdict = (await work(f"{script}\nprint('done')", repository, worktree=True)).verdict
    assert (verdict.ok, Path(verdict.worktree).is_dir()) == (True, True)


async def test_a_worktree_of_a_call_that_was_broken_off_stays_with_what_was_written(work, repository, soon, tmp_path):
    stopping = asyncio.Event()
    script = "import time; open('half.txt', 'w').write('half'); time.sleep(600)"
    made = asyncio.ensure_future(work(script, repository, worktree=True, stopping=stopping))
    await soon(lambda: list((tmp_path / "trees").glob("*/half.txt")))
    stopping.set()
    verdict = (await made).verdict
    assert (verdict.fault.error_class, verdict.files_created) == ("crashed", ("half.txt",))
    assert (Path(verdict.worktree) / "half.txt").exists()


async def test_each_attempt_has_a_worktree_of_its_own(work, repository):
    first = (await work(EDITS, repository, worktree=True)).verdict
    second = (await work(EDITS, repository, worktree=True, number=2)).verdict
    assert first.worktree != second.worktree
    assert second.files_created == ("new.txt",)


async def test_hooks_of_the_repository_do_not_run(work, repository, tmp_path):
    hook = repository / ".git" / "hooks" / "post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/hooked\n")
    hook.chmod(0o755)
    run_git(repository, "config", "core.fsmonitor", f"touch {tmp_path}/monitored; false")
    assert (await work(EDITS, repository, worktree=True)).verdict.ok
    assert not (tmp_path / "hooked").exists()
    assert not (tmp_path / "monitored").exists()


@pytest.mark.parametrize("worktree", [False, True])
async def test_a_link_does_not_lead_out_of_what_is_allowed(work, tmp_path, repository, worktree):
    (allowed := tmp_path / "allowed").mkdir()
    (allowed / "link").symlink_to(repository)
    outcome = await work(EDITS, allowed / "link", allowed=allowed, worktree=worktree)
    assert outcome.verdict.fault.message == f"p is not allowed to work in {repository}."
    assert (outcome.verdict.charged, (repository / "new.txt").exists()) == ("none", False)


async def test_a_right_through_a_link_holds_where_the_link_leads(work, tmp_path, repository):
    (tmp_path / "link").symlink_to(repository)
    assert (await work(EDITS, repository, allowed=tmp_path / "link")).verdict.ok


@pytest.mark.parametrize(
    ("name", "worktree", "words"),
    [
        ("nowhere", False, "There is no directory"),
        ("plain", True, "not a git repository"),
        ("empty", True, "No worktree of"),
        ("taken", True, "already exists"),
    ],
)
async def test_a_place_that_cannot_be_worked_in_is_said_and_nothing_runs(work, tmp_path, repository, name, worktree, words):
    (tmp_path / "plain").mkdir()
    run_git(tmp_path, "init", "-q", "empty")
    if name == "taken":
        (tmp_path / "trees" / "t-1-89abcdef" / "x").mkdir(parents=True)
    outcome = await work(EDITS, repository if name == "taken" else tmp_path / name, worktree=worktree)
    assert words in outcome.verdict.fault.message
    assert (outcome.verdict.fault.error_class, outcome.verdict.charged) == ("invalid", "none")


async def test_nothing_works_where_a_store_lies(work, repository, tmp_path):
    for store, words in ((repository / "store", "Nothing works in"), (tmp_path / "trees" / "store", "No worktree in")):
        secrecy.keep_out_of(store)
        try:
            outcome = await work(EDITS, repository, worktree=True)
        finally:
            secrecy.let_go_of(store)
        assert words in outcome.verdict.fault.message


async def test_the_directory_of_an_agents_section_is_watched_and_that_of_another_program_is_not():
    task = TaskSubmitted()
    agent = PlatformSettings(kind="codex", billing="plan", options={"directory": "/p"})
    program = PlatformSettings(kind="command", argv=("x",), options={"directory": "/p"})
    asks = [Ask(platform="p", settings=of, model="", prompt="", task=task) for of in (agent, program)]
    assert [workplace.works_on_files(ask) for ask in asks] == [True, False]
    assert workplace.Workplace(asks[0], TaskStarted(platform="p"), os.environ)._where() == "/p"


def test_worktrees_stand_beside_the_users_data_unless_told():
    of = PlatformSettings(kind="command", argv=("x",))
    assert workplace.planned("t-1", "0123456789abcdef", of).endswith("/farebox-worktrees/t-1-89abcdef")


async def watched(place, change):
    watch = FileWatch(str(place), os.environ)
    await watch.begin()
    change()
    return await watch.end()


@pytest.mark.parametrize("bound", ["ENTRIES_MAX", "LOOK_S"])
async def test_too_many_files_or_too_long_a_look_and_the_lists_are_not_whole(tmp_path, monkeypatch, bound):
    for number in range(4):
        (tmp_path / f"{number}").touch()
    os.utime(tmp_path / "3", (1, 1))
    monkeypatch.setattr(file_watch, bound, 2 if bound == "ENTRIES_MAX" else -1)

    def change():
        monkeypatch.setattr(file_watch, bound, 50)
        (tmp_path / "2").write_text("now")

    touched = await watched(tmp_path, change)
    assert (touched.created, touched.more, bool(touched)) == ((), True, True)
    assert "2" in touched.changed
    assert "3" not in touched.changed


async def test_where_git_does_not_answer_any_more_what_it_ignored_is_not_taken_for_new(repository):
    (repository / "build").mkdir()
    (repository / "build" / "old.o").touch()
    os.utime(repository / "build" / "old.o", (1, 1))

    def change():
        (repository / ".git").rename(repository / "away")
        (repository / "new.txt").touch()

    touched = await watched(repository, change)
    assert ("new.txt" in touched.changed, "build/old.o" in touched.changed) == (True, False)
    assert (touched.created, touched.more) == ((), True)


async def test_long_lists_are_cut_and_said_to_be(tmp_path, monkeypatch):
    monkeypatch.setattr(file_watch, "NAMES_MAX", 3)
    touched = await watched(tmp_path, lambda: [(tmp_path / f"{number}").touch() for number in range(5)])
    assert (touched.created, touched.more) == (("0", "1", "2"), True)


async def test_a_folder_that_may_not_be_read_and_a_name_that_is_no_text_break_nothing(tmp_path):
    def change():
        (tmp_path / "a").mkdir(mode=0o000)
        Path(os.fsdecode(bytes(tmp_path) + b"/\xff")).touch()
        os.mkfifo(tmp_path / "pipe")

    touched = await watched(tmp_path, change)
    (tmp_path / "a").chmod(0o700)
    assert touched == Touched(created=("?",))
    assert await watched(tmp_path / "missing", lambda: None) == Touched()


def test_names_that_only_the_program_told_stand_beside_those_that_were_found():
    verdict = Verdict(ok=True, files_created=("/p/a", "/p/b", "/elsewhere/c", "d"))
    told = Touched(("a",), ("b",)).told(verdict, "/p")
    assert (told.files_created, told.files_changed) == (("/elsewhere/c", "a", "d"), ("b",))


def test_git_that_is_not_there_or_says_too_much_or_takes_too_long_is_a_failure(repository, monkeypatch, tmp_path):
    slow = tmp_path / "bin" / "git"
    slow.parent.mkdir()
    slow.write_text("#!/bin/sh\nexec /bin/sleep 30\n")
    slow.chmod(0o755)
    with pytest.raises(GitFailed, match="no git on PATH"):
        git(str(repository), "status", environ={"PATH": "/nowhere"})
    with pytest.raises(GitFailed, match="ended with -9, after at most 0 s"):
        git(str(repository), "status", environ={"PATH": str(slow.parent)}, timeout_s=0)
    monkeypatch.setattr("farebox.runtime.git.BYTES_MAX", 3)
    with pytest.raises(GitFailed, match="said too much"):
        git(str(repository), "ls-files", environ=os.environ)
