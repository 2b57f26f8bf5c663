"""Programs that are talked with, that have a folder of their own, or that are asked what they are."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from farebox.core.events import PlatformReported
from farebox.core.platform import Done, Piece, PlatformKind, Probe, ProcessCall, Say, Verdict
from farebox.core.settings import PlatformSettings
from farebox.runtime import caller, process_call

TALK = """
import json, sys
for line in sys.stdin:
    word = json.loads(line)
    if word == "stop":
        print(json.dumps("stopped"), flush=True)
    elif word != "wait":
        print(json.dumps(word * 2), flush=True)
print("gone", file=sys.stderr)
"""


class Parrot:
    """Says its lines one after the other, each when the last one was answered."""

    def __init__(self, *lines, stops=True):
        self._lines = list(lines)
        self._stops = stops
        self._rest = b""
        self.heard = []

    def feed(self, data):
        said = []
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self.heard.append(json.loads(line))
            said += [Piece(self.heard[-1]), Say(json.dumps(self._lines.pop(0)).encode() + b"\n") if self._lines else Done()]
        return said

    def head(self, head):
        raise AssertionError(head)

    def interrupt(self):
        return b'"stop"\n' if self._stops else b""

    def end(self, end):
        return Verdict(ok=not end.cut and end.exit_code == 0, text=f"{end.cut} {end.exit_code} {end.stderr_tail.strip()}")


async def talk(reader, *, script=TALK, first=b'"a"\n', cancelled=None, on_piece=lambda _text: None):
    return await caller.call(
        ProcessCall(argv=(sys.executable, "-S", "-c", script), stdin=first, talks=True),
        reader, timeout_s=25, first_byte_timeout_s=25, idle_timeout_s=25, on_piece=on_piece,
        cancelled=cancelled or asyncio.Event(), environ=os.environ,
    )  # fmt: skip


async def test_what_a_program_says_is_answered_until_the_talk_is_over():
    reader = Parrot("b", "c")
    called = await talk(reader)
    assert (reader.heard, called.verdict.ok, called.text) == (["aa", "bb", "cc"], True, " 0 gone")


async def test_a_program_that_does_not_go_when_the_talk_is_over_is_ended(monkeypatch):
    monkeypatch.setattr("farebox.runtime.process_call.TALKED_OUT_S", 0.2)
    called = await talk(Parrot(), script=TALK + "\nimport time; time.sleep(600)")
    assert called.text == " -9 gone"


async def test_who_is_talked_with_is_asked_to_stop_in_its_own_words():
    cancelled, reader = asyncio.Event(), Parrot("wait")
    called = await talk(reader, cancelled=cancelled, on_piece=lambda _text: cancelled.set())
    assert (reader.heard, called.text) == (["aa", "stopped"], "cancelled 0 gone")


async def test_who_cannot_be_asked_to_stop_gets_a_signal():
    cancelled = asyncio.Event()
    called = await talk(Parrot("wait", stops=False), cancelled=cancelled, on_piece=lambda _text: cancelled.set())
    assert called.text.startswith("cancelled -2")


async def test_a_reader_that_breaks_when_it_should_interrupt_does_not_keep_the_program_alive():
    class Broken(Parrot):
        def interrupt(self):
            raise RuntimeError("broken")

    cancelled = asyncio.Event()
    called = await talk(Broken("wait"), cancelled=cancelled, on_piece=lambda _text: cancelled.set())
    assert "broken" in called.verdict.fault.message


async def test_a_program_that_closes_its_input_may_still_be_spoken_to():
    called = await talk(Parrot("b"), script="import os; os.close(0); print('\"x\"', flush=True)", first=b"")
    assert called.verdict.ok


async def test_a_long_word_goes_in_whole():
    reader = Parrot("b" * 300_000)
    await talk(reader)
    assert reader.heard[1] == "b" * 600_000


def scratch_call(script, **files):
    return ProcessCall(
        argv=("sh", "-c", script), environment={"PLACE": "{scratch}"}, directory="{scratch}",
        scratch={name: text.encode() for name, text in files.items()},
    )  # fmt: skip


async def run(process_call, call):
    kind = PlatformKind(
        name="x",
        ask=lambda _ask: process_call,
        reader=lambda _ask: Whole(),
        probe=None,
        read_probe=None,
        check=None,
        defaults={},
    )  # type: ignore[arg-type]  only asked
    return await caller.call(
        kind.ask(None), kind.reader(None), timeout_s=25, first_byte_timeout_s=25, idle_timeout_s=25,
        on_piece=lambda _text: None, cancelled=asyncio.Event(), environ=os.environ,
    )  # fmt: skip


class Whole(Parrot):
    def feed(self, data):
        return [Piece(data.decode())]

    def end(self, end):
        return Verdict(ok=not end.cut, text=None if not end.cut else f"{end.cut}: {end.detail}")


async def test_a_call_may_have_a_folder_of_its_own_which_goes_with_it(call):
    called = await run(scratch_call("pwd; echo $PLACE; cat a; cat sub/b; stat -c %a .", a="one\n", **{"sub/b": "two\n"}), call)
    here, place, *rest = called.text.split()
    assert (here, rest) == (place, ["one", "two", "700"])
    assert not Path(place).exists()


async def test_a_file_outside_of_that_folder_is_refused(call):
    called = await run(scratch_call("true", **{"../x": "no"}), call)
    assert "lies outside" in called.text


async def test_folders_that_a_killed_engine_left_behind_are_removed(call, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    gone = await asyncio.create_subprocess_exec("true")
    await gone.wait()
    dead, alive, foreign = (tmp_path / f"farebox-call-{name}" for name in (f"{gone.pid}-a", f"{os.getpid()}-b", "x-c"))
    for left in (dead, alive, foreign):
        left.mkdir()
    await run(scratch_call("true"), call)
    assert [left.exists() for left in (dead, alive, foreign)] == [False, True, True]


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "agent"
    path.write_text('#!/bin/sh\ncase $1 in --version) echo 1.2.3;; slow) sleep 600;; *) echo "$KEPT" >&2; exit 3;; esac\n')
    path.chmod(0o755)
    (tmp_path / ".agent").mkdir()
    return path


async def test_an_installed_program_is_asked_what_it_is(program, tmp_path, monkeypatch):
    """Who answers has all the time he needs; who never does is not waited for."""
    answers, answer_of = [], process_call._answer
    monkeypatch.setattr(
        process_call, "_answer", lambda call, wait_s, environ: answer_of(call, wait_s if "slow" in call.argv else 25, environ)
    )
    kind = PlatformKind(
        name="agent", ask=None, reader=None, check=None, defaults={},
        probe=lambda _name, _settings: Probe(
            program=program.name, ask=(("--version",), ("status",), ("slow",)), keep=("KEPT",), paths=("~/.agent", "~/.none"),
            timeout_s=0.3,
        ),
        read_probe=lambda name, _settings, answer: answers.append(answer) or PlatformReported(platform=name),
    )  # type: ignore[arg-type]  only probed  # fmt: skip
    environ = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path), "KEPT": "kept"}
    await caller.probe(kind, "agent", PlatformSettings(kind="agent"), environ)
    (answer,) = answers
    assert [(said.exit_code, said.out.strip(), said.errors.strip()) for said in answer.said] == [
        (0, "1.2.3", ""), (3, "", "kept"), (None, "", ""),
    ]  # fmt: skip
    assert (answer.path, answer.found) == (str(program), ("~/.agent",))
