"""The caller with real programs: those that behave, and those that fork, flood, hang, ignore signals or hide."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from farebox.core.settings import PlatformSettings
from farebox.runtime import process_call
from farebox.runtime.process_tree import MARK
from farebox.runtime.watch import Watch


def command(*argv, **more):
    return PlatformSettings(kind="command", argv=argv, **more)


def shell(script, **more):
    return command("sh", "-c", script, **more)


def python(script, **more):
    return command(sys.executable, "-S", "-c", script, **more)


def is_gone(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def test_the_prompt_goes_in_and_the_answer_comes_out(call):
    pieces = []
    called = await call(command("cat"), prompt="Grüße, 世界 🦊", on_piece=pieces.append)
    assert (called.verdict.ok, called.text, "".join(pieces)) == (True, "Grüße, 世界 🦊", "Grüße, 世界 🦊")
    assert [(record.status, record.error_class) for record in called.calls] == [(0, "")]


async def test_a_prompt_of_ten_megabytes_goes_in_whole(call):
    called = await call(command("wc", "-c"), prompt="x" * 10_000_000)
    assert called.text.strip() == "10000000"


async def test_a_program_that_does_not_read_its_prompt_is_no_problem(call):
    called = await call(shell("echo fine"), prompt="x" * 1_000_000)
    assert (called.verdict.ok, called.text) == (True, "fine")


@pytest.mark.fault(50)
async def test_a_program_that_asks_a_question_finds_its_input_closed(call):
    called = await call(shell('cat >/dev/null; read answer </dev/stdin || echo "nobody answers"'))
    assert called.text == "nobody answers"


async def test_characters_cut_by_a_pipe_are_put_together_again(call):
    script = "import os,time\nfor byte in '世界 🦊'.encode(): os.write(1, bytes([byte])); time.sleep(.005)"
    called = await call(python(script))
    assert called.text == "世界 🦊"


@pytest.mark.fault(49)
async def test_garbage_is_text_with_marks_and_does_not_break_anything(call):
    called = await call(python("import sys; sys.stdout.buffer.write(b'\\xff\\xfe\\x00ok')"))
    assert called.text == "\ufffd\ufffd\x00ok"


@pytest.mark.parametrize(
    ("of", "error_class", "words"),
    [
        (command("no-such-program-anywhere"), "unavailable", "No program 'no-such-program-anywhere'"),
        (command("cat", options={"directory": "/no/such/place"}), "unavailable", "does not start"),
        (command("./relative", options={"directory": "/tmp"}), "unavailable", "No program"),
        (shell("echo broken >&2; exit 3"), "crashed", "exit code 3. broken"),
        (shell("kill -9 $$"), "crashed", "signal 9"),
        (shell("true"), "invalid", "wrote nothing"),
    ],
)
async def test_what_goes_wrong_has_its_class_and_its_words(call, of, error_class, words):
    called = await call(of)
    assert called.verdict.fault is not None
    assert called.verdict.fault.error_class == error_class
    assert words in called.verdict.fault.message


async def test_a_file_that_cannot_be_executed_says_so(call, tmp_path):
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF nonsense")
    program.chmod(0o755)
    called = await call(command(str(program)))
    assert called.verdict.fault is not None
    assert "exit code 126" in called.verdict.fault.message


async def test_a_missing_program_costs_nothing_and_leaves_no_record(call):
    called = await call(command("no-such-program-anywhere"))
    assert (called.verdict.charged, called.calls) == ("none", ())


async def test_a_cancel_before_the_start_starts_nothing(call, tmp_path):
    cancelled = asyncio.Event()
    cancelled.set()
    called = await call(shell(f"touch {tmp_path}/started"), cancelled=cancelled)
    assert called.verdict.fault is not None
    assert (called.verdict.fault.error_class, called.verdict.charged) == ("cancelled", "none")
    assert not list(tmp_path.iterdir())


async def test_the_environment_is_an_allowlist(call):
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": "/h",
        "LANG": "C",
        "LC_ALL": "C",
        "TMPDIR": "/t",
        "NATS_PASSWORD": "secret",
        "OPENAI_API_KEY": "sk-1",
        "MY_KEY": "kept-value",
        "EXTRA": "e",
    }
    called = await call(command("env", key_env="MY_KEY", options={"keep": "EXTRA"}), environ=environ)
    seen = dict(line.split("=", 1) for line in called.text.splitlines())
    assert seen.pop(MARK)
    assert {name for name in seen if not name.startswith("_")} == {
        "PATH",
        "HOME",
        "LANG",
        "LC_ALL",
        "TMPDIR",
        "MY_KEY",
        "EXTRA",
    }


async def test_a_key_that_a_program_repeats_is_struck_out_of_the_fault(call):
    called = await call(shell('echo "bad key $KEY" >&2; exit 1', key_env="KEY"), environ={**os.environ, "KEY": "sk-secret-1"})
    assert called.verdict.fault is not None
    assert "bad key [key]" in called.verdict.fault.message


async def test_no_descriptor_of_ours_is_inherited(call, tmp_path):
    with (tmp_path / "ours").open("w") as ours:
        os.set_inheritable(ours.fileno(), True)
        called = await call(shell("ls -l /proc/self/fd"))
    assert "ours" not in called.text


async def test_a_program_runs_in_its_directory_in_a_session_of_its_own_with_usual_signals(call, tmp_path):
    script = "import os, json; print(json.dumps([os.getcwd(), os.getsid(0) == os.getpgrp(), os.getsid(0)]))"
    called = await call(python(script, options={"directory": str(tmp_path)}))
    directory, own, session = json.loads(called.text)
    assert (directory, own) == (str(tmp_path), True)
    assert session != os.getsid(0)
    pipes = await call(shell("grep SigIgn /proc/self/status"))
    assert int(pipes.text.split()[1], 16) & (1 << (signal.SIGPIPE - 1)) == 0


async def test_a_relative_program_is_found_in_its_directory(call, tmp_path):
    program = tmp_path / "run"
    program.write_text("#!/bin/sh\necho here\n")
    program.chmod(0o755)
    assert (await call(command("./run", options={"directory": str(tmp_path)}))).text == "here"


@pytest.mark.fault(49)
async def test_a_flood_is_capped_and_its_source_ended(call):
    called = await call(shell("head -c 100000000 /dev/zero; sleep 600"))
    assert called.verdict.fault is not None
    assert called.verdict.fault.error_class == "invalid"
    assert "wrote too much" in called.verdict.fault.message
    assert len(called.text) <= 16 * 1024 * 1024 + 64 * 1024


async def test_much_on_standard_error_does_not_block_the_answer(call):
    called = await call(shell("head -c 20000000 /dev/zero >&2; echo fine"))
    assert (called.verdict.ok, called.text) == (True, "fine")


async def test_the_end_of_standard_error_is_kept(call):
    called = await call(shell("head -c 300000 /dev/zero | tr '\\0' x >&2; echo last words >&2; exit 1"))
    assert called.verdict.fault is not None
    assert called.verdict.fault.message.endswith("last words")


@pytest.mark.fault(47)
async def test_a_grandchild_that_holds_the_pipes_does_not_hold_us(call):
    called = await call(shell("echo fine; sleep 600 & echo $! >&2; exit 0"))
    assert (called.verdict.ok, called.text) == (True, "fine")


@pytest.mark.fault(46)
async def test_the_whole_group_ends_with_a_cancel_and_the_text_stays(soon, cancel_after_first_piece, signals):
    called = await cancel_after_first_piece(shell("sleep 600 & echo $!; wait"))
    assert called.verdict.fault is not None
    assert (called.verdict.fault.error_class, called.verdict.charged) == ("cancelled", "possible")
    assert signals == ASKED_ONCE
    await soon(lambda: is_gone(int(called.text)))


@pytest.mark.fault(46)
async def test_a_child_that_left_the_group_is_found(soon, cancel_after_first_piece, signals):
    called = await cancel_after_first_piece(shell('setsid sh -c "echo \\$\\$; exec sleep 600" & wait'))
    assert signals == ASKED_ONCE
    await soon(lambda: is_gone(int(called.text)))


@pytest.mark.fault(46)
async def test_a_child_that_left_group_and_family_is_found_by_its_mark(soon, cancel_after_first_piece):
    called = await cancel_after_first_piece(shell('(setsid sh -c "sleep 0.2; echo \\$\\$; exec sleep 600" &) ; sleep 600'))
    await soon(lambda: is_gone(int(called.text)))


async def test_a_child_that_dropped_its_mark_is_found_by_its_family(soon, cancel_after_first_piece):
    called = await cancel_after_first_piece(shell('env -i /usr/bin/setsid /bin/sh -c "echo \\$\\$; exec /bin/sleep 30" & wait'))
    await soon(lambda: is_gone(int(called.text)))


HIDES = "env -i /usr/bin/setsid /bin/sh -c '/usr/bin/setsid /bin/sh -c \"echo \\$\\$; exec /bin/sleep 30\" & exit 0'"
"""Leaves group, session, family (its parents end) and mark (an empty environment), and says its process id."""
ASKED_ONCE = ["SIGINT", "SIGCONT", "SIGKILL"]
"""It ends when it is asked for the first time; the last signal is for whoever is left of its group."""
ASKED_TWICE = ["SIGINT", "SIGCONT", "SIGTERM", "SIGCONT", "SIGKILL"]
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has subreapers")


@LINUX
@pytest.mark.fault(46)
async def test_a_child_that_left_everything_ends_with_a_cancel(soon, cancel_after_first_piece, signals):
    called = await cancel_after_first_piece(shell(f"{HIDES}; sleep 600"))
    assert signals == ASKED_ONCE
    await soon(lambda: is_gone(int(called.text)))


@LINUX
@pytest.mark.fault(46)
async def test_a_program_that_is_asked_to_stop_leaves_nobody_behind_who_hides(soon, cancel_after_first_piece, signals):
    hides = HIDES.replace("'", "'\\''")
    script = f"trap '{hides}; sleep 0.2; exit 0' INT; echo begun; while :; do sleep 0.05; done"
    called = await cancel_after_first_piece(shell(script))
    assert signals == ASKED_ONCE
    begun, pid = called.text.split()
    assert begun == "begun"
    await soon(lambda: is_gone(int(pid)))


@LINUX
async def test_what_a_program_left_running_on_purpose_outlives_its_good_end(call):
    called = await call(shell(f"{HIDES}; sleep 0.3"))
    assert called.verdict.ok
    left = psutil.Process(int(called.text))
    assert left.is_running()
    left.kill()


async def test_a_program_that_ends_on_sigint_says_its_last_words(cancel_after_first_piece, signals):
    script = "trap 'echo partial; exit 0' INT; echo begun; while :; do sleep 0.05; done"
    called = await cancel_after_first_piece(shell(script))
    assert (called.text, signals) == ("begun\npartial", ASKED_ONCE)


def test_who_is_asked_to_stop_has_time_for_it():
    assert [number for number, _ in process_call.LADDER] == [signal.SIGINT, signal.SIGTERM]
    assert all(wait_s > 1 for _, wait_s in process_call.LADDER)


async def test_a_program_that_ignores_sigint_gets_sigterm(cancel_after_first_piece, signals, monkeypatch):
    monkeypatch.setattr(process_call, "LADDER", ((signal.SIGINT, 0.05), (signal.SIGTERM, 25)))
    script = "trap '' INT; trap 'echo term; exit 0' TERM; echo begun; while :; do sleep 0.05; done"
    called = await cancel_after_first_piece(shell(script))
    assert (called.text, signals) == ("begun\nterm", ASKED_TWICE)


async def test_a_program_that_ignores_everything_is_killed(cancel_after_first_piece, signals, monkeypatch):
    monkeypatch.setattr(process_call, "LADDER", ((signal.SIGINT, 0.05), (signal.SIGTERM, 0.05)))
    called = await cancel_after_first_piece(shell("trap '' INT TERM; echo $$; while :; do sleep 0.05; done"))
    assert signals == ASKED_TWICE
    assert is_gone(int(called.text))


async def test_a_stopped_program_is_ended_too(cancel_after_first_piece, signals):
    called = await cancel_after_first_piece(shell("echo $$; kill -STOP $$; sleep 600"))
    assert signals == ASKED_ONCE
    assert is_gone(int(called.text))


@pytest.mark.parametrize(
    ("script", "limits", "error_class", "text"),
    [
        ("sleep 30", {"first_byte_timeout_s": 0.2}, "stalled", ""),
        ("echo a; sleep 30", {"idle_timeout_s": 0.2}, "stalled", "a"),
        ("while :; do echo a; sleep 0.05; done", {"timeout_s": 0.3}, "timeout", "a"),
    ],
)
@pytest.mark.usefixtures("from_first_byte")
async def test_each_clock_cuts_for_itself_and_keeps_the_text(call, script, limits, error_class, text):
    called = await call(shell(script), **limits)
    assert called.verdict.fault is not None
    assert called.verdict.fault.error_class == error_class
    assert called.text[:1] == text


async def test_signs_of_life_on_standard_error_count(call, tmp_path, monkeypatch):
    """The program goes on only when its first sign of life was noted."""
    monkeypatch.setattr(Watch, "touch", lambda _watch: (tmp_path / "noted").touch())
    called = await call(shell(f"echo . >&2; while [ ! -e {tmp_path}/noted ]; do sleep 0.01; done; echo fine"))
    assert (called.verdict.ok, called.text) == (True, "fine")


async def test_the_end_of_the_asyncio_task_kills_everything_at_once(call, soon, signals):
    pieces = []
    running = asyncio.ensure_future(
        call(shell("trap '' INT TERM; sleep 30 & echo $$ $!; wait; sleep 30"), on_piece=pieces.append)
    )
    await soon(lambda: pieces)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert signals == ["SIGKILL"]
    for pid in "".join(pieces).split():
        await soon(lambda pid=pid: is_gone(int(pid)))


async def test_many_programs_run_at_once(call, tmp_path):
    """Each ends only when all of them have begun."""
    all_begun = f"set -- {tmp_path}/*; while [ $# -lt 20 ]; do sleep 0.05; set -- {tmp_path}/*; done"
    results = await asyncio.gather(*(call(shell(f"touch {tmp_path}/{n}; {all_begun}; echo {n}")) for n in range(20)))
    assert [called.text for called in results] == [str(number) for number in range(20)]


async def test_no_descriptor_and_no_zombie_is_left_behind(call):
    await call(command("cat"))
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(2):
        await call(shell("echo a; sleep 30 &"))
        await call(shell("sleep 30"), first_byte_timeout_s=0.05)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before
    assert [child for child in psutil.Process().children() if child.status() == psutil.STATUS_ZOMBIE] == []
