"""Who dies with whom: a program with its engine, and what outlives both at the next start."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys

import psutil
import pytest

from farebox.core.platform import ProcessCall
from farebox.core.settings import PlatformSettings
from farebox.runtime import launcher
from farebox.runtime.process_call import environment_of
from farebox.runtime.process_tree import MARK, _is_orphan, end_orphans, new_mark


def is_gone(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def start_launcher(*argv, parent=None):
    line = [sys.executable, "-I", "-S", launcher.__file__, str(parent or os.getpid()), *argv]
    return subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)


def test_the_launcher_becomes_the_program():
    done = start_launcher("/bin/echo", "echo", "hello")
    assert (done.returncode, done.stdout) == (0, "hello\n")


def test_the_launcher_does_not_start_for_a_parent_that_is_gone():
    assert start_launcher("/bin/echo", "echo", "hello", parent=1).returncode == -signal.SIGKILL


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_the_launcher_ends_as_its_program_did(number):
    assert start_launcher("/bin/sh", "sh", "-c", "exit 7").returncode == 7
    assert start_launcher("/bin/sh", "sh", "-c", f"kill -{number:d} $$").returncode == -number


def test_the_launcher_says_what_it_cannot_start():
    done = start_launcher("/no/such/program", "x")
    assert (done.returncode, done.stderr) == (126, "/no/such/program: No such file or directory\n")


LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has subreapers")
KILLED_ENGINE = """
import asyncio, os, sys
from farebox.core.platform import ProcessCall
from farebox.runtime import caller
class Reader:
    def head(self, head): return []
    def feed(self, data): print(data.decode(), end="", flush=True); return []
    def end(self, end): raise AssertionError
asyncio.run(caller.call(ProcessCall(argv=("sh", "-c", sys.argv[1])), Reader(), timeout_s=60, first_byte_timeout_s=60,
    idle_timeout_s=60, on_piece=print, cancelled=asyncio.Event(), environ=os.environ))
"""


def killed_engine(script, before=lambda _pids: None):
    """Start a process that calls a program, kill it with SIGKILL, and return the pids that the program printed."""
    engine = subprocess.Popen([sys.executable, "-c", KILLED_ENGINE, script], stdout=subprocess.PIPE, text=True)
    assert engine.stdout is not None
    with engine.stdout:
        pids = [int(pid) for pid in engine.stdout.readline().split()]
        before(pids)
        engine.kill()
        engine.wait()
    return pids


@pytest.mark.fault(52)
async def test_a_program_ends_with_an_engine_that_is_killed(soon):
    (pid,) = killed_engine("echo $$; exec sleep 30")
    await soon(lambda: is_gone(pid))


HIDES = "env -i /usr/bin/setsid /bin/sh -c '/usr/bin/setsid /bin/sh -c \"echo \\$\\$; exec /bin/sleep 30\" & exit 0'"
"""Leaves group, session, family (its parents end) and mark (an empty environment), and says its process id."""
BEGETS = (
    "import os, time\nprint(os.getpid(), flush=True)\nwhile True:\n  if os.fork(): time.sleep(0.02); os._exit(0)\n  os.setsid()"
)
"""A process that is another one, in another session, fifty times a second."""


@LINUX
@pytest.mark.fault(46, 52)
@pytest.mark.parametrize("script", ["setsid sleep 30 & echo $!; wait", f"{HIDES}; sleep 30"], ids=["left", "left and hides"])
async def test_whatever_a_program_begot_ends_with_an_engine_that_is_killed(soon, script):
    (child,) = killed_engine(script)
    await soon(lambda: is_gone(child))


@LINUX
@pytest.mark.fault(46)
async def test_who_begets_others_while_he_is_ended_is_ended_all_the_same(soon, tmp_path):
    program = tmp_path / "begets.py"
    program.write_text(BEGETS)
    killed_engine(f"exec {sys.executable} -I -S {program}")
    await soon(lambda: not any(str(program) in line for line in command_lines()))


def command_lines():
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            yield " ".join(process.cmdline())


@LINUX
@pytest.mark.fault(52)
async def test_what_outlives_a_killed_engine_and_its_guardian_is_swept_at_the_next_start(soon):
    script = "setsid sleep 30 & echo $! $PPID; wait"
    child, guardian = killed_engine(script, before=lambda pids: os.kill(pids[1], signal.SIGKILL))
    await soon(lambda: is_gone(guardian))
    end_orphans()  # another engine that starts on this machine just now may have done it already
    await soon(lambda: is_gone(child))


@LINUX
async def test_a_guardian_is_not_killed_before_its_work_is_done(soon):
    """Stopped, it cannot see its engine die. Whoever sweeps wakes it: we, or another engine that starts here at the moment."""
    script = f"printf '%s ' $PPID; {HIDES}; sleep 30"
    guardian, hidden = killed_engine(script, before=lambda pids: os.kill(pids[0], signal.SIGSTOP))
    await soon(lambda: end_orphans() >= 0 and is_gone(guardian) and is_gone(hidden))


@pytest.mark.fault(52)
async def test_a_process_id_that_somebody_else_had_before_hides_nobody(soon):
    """psutil keeps who had it: seen once, as on a machine whose process ids go round, an orphan would never be signalled."""
    engine = subprocess.Popen(["/bin/true"])
    mark = f"{engine.pid}.{psutil.Process(engine.pid).create_time():.2f}.a"
    engine.wait()
    child = subprocess.Popen(["/bin/sleep", "30"], env={MARK: mark})
    try:
        (seen,) = (process for process in psutil.process_iter() if process.pid == child.pid)
        seen._create_time = 1.0
        seen._ident = (child.pid, 1.0)
        end_orphans()
        await soon(lambda: child.poll() is not None)
    finally:
        child.kill()
        child.wait()


async def test_programs_of_a_living_engine_are_not_swept(call, soon):
    pieces = []
    cancelled = asyncio.Event()
    running = asyncio.ensure_future(
        call(
            PlatformSettings(kind="command", argv=("sh", "-c", "echo begun; sleep 30")),
            on_piece=pieces.append,
            cancelled=cancelled,
        )
    )
    await soon(lambda: pieces)
    end_orphans()
    ours = psutil.Process().children(recursive=True)
    assert ours
    assert not any(map(_is_orphan, ours))
    assert not running.done()
    cancelled.set()
    await running


def test_a_mark_names_its_owner_and_is_never_the_same_twice():
    marks = {environment_of(ProcessCall(argv=("x",)), {})[MARK] for _ in range(3)}
    assert len(marks) == 3
    assert all(mark.startswith(f"{os.getpid()}.") for mark in [*marks, new_mark()])


@pytest.mark.fault(52)
async def test_an_engine_that_was_killed_and_that_nobody_reaped_is_gone_all_the_same(soon):
    engine = subprocess.Popen(["/bin/sleep", "30"])
    mark = f"{engine.pid}.{psutil.Process(engine.pid).create_time():.2f}.a"
    child = subprocess.Popen(["/bin/sleep", "30"], env={MARK: mark})
    try:
        await soon(lambda: psutil.Process(child.pid).environ().get(MARK) == mark)
        engine.kill()
        await soon(lambda: psutil.Process(engine.pid).status() == psutil.STATUS_ZOMBIE)
        end_orphans()
        await soon(lambda: is_gone(child.pid))
    finally:
        child.kill()
        child.wait()
        engine.wait()


@pytest.mark.parametrize(("mark", "swept"), [("nonsense", 0), ("x.y.z", 0), ("99999999999999999999.1.a", 1)])
async def test_only_a_mark_whose_owner_is_gone_is_swept(soon, mark, swept):
    child = subprocess.Popen(["/bin/sleep", "30"], env={MARK: mark})
    try:
        await soon(lambda: psutil.Process(child.pid).environ().get(MARK) == mark)
        assert end_orphans() == swept
    finally:
        child.kill()
        child.wait()
