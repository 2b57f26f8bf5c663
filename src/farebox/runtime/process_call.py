"""Programs as platforms: started in a group of their own, both pipes drained at all times, ended whole whatever they do."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from farebox.core.platform import Done, End, Head, Probe, ProcessCall, ProgramAnswer, Read, Say, Verdict
from farebox.runtime import launcher, scratch
from farebox.runtime.intake import Intake
from farebox.runtime.pipes import Drain, Fill
from farebox.runtime.process_tree import MARK, Family, end_group, new_mark
from farebox.runtime.watch import Cut, Limits, Watch, until

ALLOWED = ("PATH", "HOME", "LANG", "TMPDIR")
"""What a program sees of our environment, with LC_* and the names its platform keeps."""
STDERR_TAIL_BYTES = 64 * 1024
LADDER = ((signal.SIGINT, 1.5), (signal.SIGTERM, 2.0))
"""How a program is asked to stop, and how long (s) it may take, before SIGKILL."""
DRAIN_S = 0.5
"""So long the pipes may stay open behind a program that has ended: a grandchild may hold them."""
REAP_S = 2.0
LAST_WORDS_S = 0.2
ANSWER_BYTES_MAX = 64 * 1024
"""So much is kept of what a program answers to a probe."""
TALKED_OUT_S = 5.0
"""So long a program may take to go when the talk with it is over."""


async def run(call: ProcessCall, intake: Intake, limits: Limits, cancelled: asyncio.Event, environ: Mapping[str, str]) -> End:
    """Run the program and return how it ended. Nothing that it started lives on, unless it ended by itself and hid."""
    environment = environment_of(call, environ)
    if cancelled.is_set():
        return End(cut="cancelled", sent=False)
    program = shutil.which(_placed(call), path=environment.get("PATH", os.defpath))
    if program is None:
        return End(cut="missing", detail=f"No program {call.argv[0]!r} on PATH.")
    try:
        with scratch.folder(call) as placed:
            environment = environment_of(placed, environ)
            running = Running(placed, program, environment, intake, Watch(limits))
            return await running.to_its_end(cancelled)
    except (OSError, ValueError) as error:
        return End(cut="missing", detail=f"{program} does not start: {error}")


async def ask(program: str, probe: Probe, environ: Mapping[str, str]) -> tuple[ProgramAnswer, ...]:
    """Ask an installed program what costs nothing, all questions at once; who does not answer in time is ended."""
    calls = (ProcessCall(argv=(program, *words), keep=probe.keep, environment=probe.environment) for words in probe.ask)
    return tuple(await asyncio.gather(*(_answer(call, probe.timeout_s, environ) for call in calls)))


async def _answer(call: ProcessCall, timeout_s: float, environ: Mapping[str, str]) -> ProgramAnswer:
    heard = _Heard()
    intake = Intake(heard, lambda _text: None)
    limits = Limits(timeout_s=timeout_s, first_byte_timeout_s=timeout_s, idle_timeout_s=timeout_s)
    end = await run(call, intake, limits, asyncio.Event(), environ)
    return ProgramAnswer(
        exit_code=None if end.cut else end.exit_code,
        out=bytes(heard.data[:ANSWER_BYTES_MAX]).decode("utf-8", "replace"),
        errors=end.stderr_tail[-ANSWER_BYTES_MAX:],
    )


class _Heard:
    """Keeps what a program says, unread."""

    def __init__(self) -> None:
        self.data = bytearray()

    def head(self, head: Head) -> list[Read]:
        raise AssertionError(f"a program has no headers: {head}")

    def feed(self, data: bytes) -> list[Read]:
        self.data += data
        return []

    def end(self, end: End) -> Verdict:
        raise AssertionError(f"nobody judges it: {end}")


def environment_of(call: ProcessCall, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the program: what is allowed, what its platform keeps and adds, and the mark of the call."""
    kept = {name: text for name, text in environ.items() if name in ALLOWED or name.startswith("LC_") or name in call.keep}
    return {**kept, **call.environment, MARK: new_mark()}


def _placed(call: ProcessCall) -> str:
    """Return the program's name; a relative path counts from the directory in which the program will run."""
    name = call.argv[0]
    return str(Path(call.directory, name)) if call.directory and os.sep in name else name


class Running:
    """One program that runs: its pipes, its exit, its family."""

    def __init__(self, call: ProcessCall, program: str, environment: dict[str, str], intake: Intake, watch: Watch) -> None:
        self._intake, self._watch = intake, watch
        self._mark = environment[MARK]
        self._overflow = ""
        self._errors = bytearray()
        self._abandoned = False
        self._loop = asyncio.get_running_loop()
        self._exited: asyncio.Future[None] = self._loop.create_future()
        self._process = _start(call, program, environment)
        stdin, stdout, stderr = self._process.stdin, self._process.stdout, self._process.stderr
        assert stdin is not None, "started with three pipes"
        assert stdout is not None, "started with three pipes"
        assert stderr is not None, "started with three pipes"
        self._hurry: asyncio.TimerHandle | None = None
        fill = Fill(stdin, call.stdin, stays_open=call.talks)
        self._pipes = (fill, Drain(stdout, self._on_out), Drain(stderr, self._on_err))
        if call.talks:
            intake.on_said = self._on_said
        threading.Thread(target=self._await_exit, name=f"reaper-{self._process.pid}", daemon=True).start()

    async def to_its_end(self, cancelled: asyncio.Event) -> End:
        """Wait for the end under the clocks, then leave nothing behind; killed at once when asyncio cancels this."""
        family = Family(self._process.pid, self._mark)
        cut: Cut = "cancelled"
        try:
            cut = await until(self._exited, self._watch, cancelled)
            if cut:
                family.remember()
                await self._ask_to_stop()
            else:
                await self._drained(DRAIN_S)
        finally:
            end_group(self._process.pid)
            if cut or self._overflow:
                family.end()
            await self._let_go()
        return self._end(cut)

    def _end(self, cut: Cut) -> End:
        tail = bytes(self._errors[-STDERR_TAIL_BYTES:]).decode("utf-8", "replace")
        overflow = self._overflow if not cut else ""
        return End(
            exit_code=self._process.returncode,
            stderr_tail=tail,
            cut="overflow" if overflow else cut,
            detail=overflow,
        )

    async def _ask_to_stop(self) -> None:
        """Ask the group more and more firmly; whoever asks for the end of a program may lose its last words, not its text."""
        if words := self._intake.interrupt():
            self._pipes[0].say(words)
            await asyncio.wait({self._exited}, timeout=LADDER[0][1])
            if self._exited.done():
                return
        for with_signal, wait_s in LADDER:
            end_group(self._process.pid, with_signal)
            end_group(self._process.pid, signal.SIGCONT)  # A stopped one hears nothing.
            await asyncio.wait({self._exited}, timeout=wait_s)
            if self._exited.done():
                return

    def _on_said(self, said: Say | Done) -> None:
        """Write what the reader wants said; after its last word the program has some seconds to go."""
        fill = self._pipes[0]
        if isinstance(said, Say):
            fill.say(said.data)
            return
        fill.finish()
        if self._hurry is None:
            self._hurry = self._loop.call_later(TALKED_OUT_S, end_group, self._process.pid)

    async def _drained(self, wait_s: float) -> None:
        _, out, err = self._pipes
        await asyncio.wait({out.closed, err.closed}, timeout=wait_s)

    async def _let_go(self) -> None:
        """Read what is left, close the pipes and reap; nobody can make this wait long."""
        try:
            await asyncio.wait({self._exited}, timeout=REAP_S)
            await self._drained(LAST_WORDS_S)
        finally:
            if self._hurry is not None:
                self._hurry.cancel()
            fill, out, err = self._pipes
            fill.close()
            out.finish()
            err.finish()
            self._abandoned = not self._exited.done()
            if not self._abandoned:
                self._process.wait()

    def _await_exit(self) -> None:
        """Wait in a thread until the program has ended; it is reaped later, so that its group's id is not given away."""
        os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        try:
            self._loop.call_soon_threadsafe(self._note_exit)
        except RuntimeError:  # The loop is closed.
            self._abandoned = True
        if self._abandoned:
            self._process.wait()

    def _note_exit(self) -> None:
        if not self._exited.done():
            self._exited.set_result(None)

    def _on_out(self, data: bytes) -> asyncio.Future[None] | None:
        self._watch.touch()
        if self._overflow:
            return None
        if not self._intake.feed(data):
            self._overflow = "The program wrote too much on standard output."
            end_group(self._process.pid)
        return self._intake.held

    def _on_err(self, data: bytes) -> None:
        """Keep the end of it. Much of it is no fault: only the clocks end a program that talks there."""
        self._watch.touch()
        self._errors += data
        if len(self._errors) > 2 * STDERR_TAIL_BYTES:
            del self._errors[:-STDERR_TAIL_BYTES]


def _start(call: ProcessCall, program: str, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start the program in its own session, so that its whole group can be ended. Raises OSError, ValueError."""
    absolute = os.path.abspath(program)  # noqa: PTH100  links stay: a program may look at its own name
    return subprocess.Popen(  # noqa: S603  the user's own program, no shell
        [sys.executable, "-I", "-S", launcher.__file__, str(os.getpid()), absolute, *call.argv],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        cwd=call.directory or None,
        env=environment,
        start_new_session=True,
        close_fds=True,
    )
