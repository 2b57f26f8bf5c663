"""Programs that write faster than anybody reads, or for ever: they cost no memory, starve nobody, and the clocks end them."""

import asyncio
import os
import sys
import time

import pytest
from msgspec import Struct

from actors.platforms.command import COMMAND
from farebox.core import wire
from farebox.core.events import TaskStarted, TaskSubmitted
from farebox.core.platform import Ask
from farebox.core.settings import PlatformSettings
from farebox.log.memory import MemoryLog, MemoryStore
from farebox.runtime import attempt_call, intake
from farebox.runtime.attempt_call import AttemptCall
from farebox.runtime.pipes import REST_BYTES_MAX, Drain

LAG_S = 0.25
"""No turn of the loop may take longer while others flood; it is some milliseconds on a machine with nothing else to do."""
FOR_EVER = "import os\nblock = b'y\\n' * 32768\nwhile True: os.write({to}, block)"
TICKS = "for i in range(8):\n print(i, flush=True); time.sleep(.1)"


def python(script):
    return PlatformSettings(kind="command", argv=(sys.executable, "-S", "-c", f"import time\n{script}"))


def endless(to):
    return python(FOR_EVER.format(to=to))


class Lag(Struct):
    """How late (s) the loop was at the worst."""

    worst_s: float = 0.0

    async def watch(self):
        while True:
            at_s = time.monotonic()
            await asyncio.sleep(0.005)
            self.worst_s = max(self.worst_s, time.monotonic() - at_s - 0.005)


@pytest.fixture
async def lag():
    found = Lag()
    watching = asyncio.ensure_future(found.watch())
    yield found
    watching.cancel()


@pytest.mark.fault(48)
async def test_a_hundred_megabytes_on_standard_error_lose_no_answer(call, lag):
    called = await call(python("import os\nfor _ in range(1600): os.write(2, b'x' * 65536)\nprint('a good answer')"))
    assert (called.verdict.ok, called.text, called.verdict.fault) == (True, "a good answer", None)
    assert lag.worst_s < LAG_S


@pytest.mark.fault(48)
async def test_who_talks_on_standard_error_for_ever_is_ended_by_the_clock(call, lag):
    called = await call(endless(2), timeout_s=1)
    assert called.verdict.fault is not None
    assert called.verdict.fault.error_class == "timeout"
    assert called.duration_ms < 2000
    assert lag.worst_s < LAG_S


@pytest.mark.fault(42)
async def test_who_answers_for_ever_is_ended_by_size_or_clock_and_keeps_its_text(call, lag):
    called = await call(endless(1), timeout_s=5)
    assert called.verdict.fault is not None
    assert called.verdict.fault.error_class in {"invalid", "timeout"}
    assert intake.TEXT_CHARS_MAX // 8 < len(called.text) <= intake.TEXT_CHARS_MAX + 65536
    assert called.duration_ms < 6000
    assert lag.worst_s < LAG_S


async def test_floods_starve_nobody_and_all_of_them_end_in_time(call, lag):
    gaps_s, last_s = [], [0.0]

    def on_piece(_text):
        now_s = time.monotonic()
        gaps_s.append(now_s - last_s[0])
        last_s[0] = now_s

    begun_s = time.monotonic()
    drip = PlatformSettings(kind="command", argv=("sh", "-c", "while :; do echo y; done"))
    floods = [asyncio.ensure_future(call(of, timeout_s=3)) for of in (endless(1), endless(2), endless(1), endless(2), drip)]
    ticked = await call(python(TICKS), on_piece=on_piece)
    ended = await asyncio.gather(*floods)
    assert time.monotonic() - begun_s < 4
    assert (ticked.verdict.ok, ticked.text.split()) == (True, [*"01234567"])
    assert max(gaps_s[1:]) < 1
    assert all(one.verdict.fault.error_class in {"timeout", "invalid"} for one in ended)
    assert lag.worst_s < LAG_S


async def test_text_may_be_wrapped_but_not_be_too_long(call, monkeypatch):
    monkeypatch.setattr(intake, "TEXT_CHARS_MAX", 1000)
    called = await call(python("print('x' * 1001, flush=True)\ntime.sleep(9)"))
    assert called.verdict.fault is not None
    assert (called.verdict.fault.error_class, called.duration_ms < 5000) == ("invalid", True)
    assert "wrote too much" in called.verdict.fault.message


class Pipe:
    """A pipe whose other end the test holds."""

    def __init__(self):
        ours, self.theirs = os.pipe()
        self.file = os.fdopen(ours, "rb", buffering=0)
        self.read = []
        self.held = None
        self.drain = Drain(self.file, self.on_data)

    def on_data(self, data):
        self.read.append(data)
        return self.held

    @property
    def bytes_read(self):
        return sum(map(len, self.read))


async def test_nothing_is_read_while_what_came_is_not_worked_off(soon):
    pipe = Pipe()
    pipe.held = asyncio.get_running_loop().create_future()
    os.write(pipe.theirs, b"first")
    await soon(lambda: pipe.read)
    os.write(pipe.theirs, b"second")
    await asyncio.sleep(0.1)
    assert pipe.read == [b"first"]
    pipe.held.set_result(None)
    await soon(lambda: pipe.read == [b"first", b"second"])
    os.close(pipe.theirs)
    await asyncio.wait_for(pipe.drain.closed, 1)


async def test_what_was_held_back_is_read_at_the_end_and_nothing_is_read_later(soon):
    pipe = Pipe()
    pipe.held = asyncio.get_running_loop().create_future()
    os.write(pipe.theirs, b"first")
    await soon(lambda: pipe.read)
    os.write(pipe.theirs, b"last words")
    pipe.drain.finish()
    pipe.drain.finish()
    assert (pipe.read, pipe.drain.closed.done(), pipe.file.closed) == ([b"first", b"last words"], True, True)
    pipe.held.set_result(None)
    await asyncio.sleep(0)
    os.close(pipe.theirs)


async def test_the_end_of_a_pipe_that_somebody_else_keeps_filling_is_bounded(tmp_path):
    flood = tmp_path / "flood"
    flood.write_bytes(b"x" * (2 * REST_BYTES_MAX))
    pipe = Pipe()
    with flood.open("rb") as endless_file:
        os.dup2(endless_file.fileno(), pipe.file.fileno())
        pipe.drain.finish()
    assert REST_BYTES_MAX <= pipe.bytes_read < 2 * REST_BYTES_MAX
    os.close(pipe.theirs)


async def test_a_pipe_that_is_closed_in_its_pause_stays_closed():
    pipe = Pipe()
    pipe.drain._on_data = lambda _data: time.sleep(0.01)
    os.write(pipe.theirs, b"x")
    while pipe.drain._pause is None:
        await asyncio.sleep(0)
    pipe.drain.close()
    pipe.drain.close()
    assert pipe.drain._pause is None
    assert pipe.drain not in Drain._floods
    os.close(pipe.theirs)


class SlowLog(MemoryLog):
    """A memory log that takes live text only when it is let."""

    def __init__(self, store):
        super().__init__(store)
        self.let = asyncio.Event()
        self.waiting = self.said = 0

    async def publish(self, subject, body):
        self.waiting += len(body)
        await self.let.wait()
        self.waiting -= len(body)
        self.said += len(wire.decode(subject, body).text)


def attempt(log, settings):
    started = TaskStarted(id="s1", chain="c", task="t", attempt=1, platform="p", seq=7, timeout_s=10)
    return AttemptCall(log, COMMAND, settings, os.environ, started)


async def test_a_bus_that_takes_no_live_text_holds_the_program_back(soon):
    log = SlowLog(MemoryStore())
    flood = python("import os\nfor _ in range(40): os.write(1, b'x' * 65536)")
    ask = Ask(platform="p", settings=flood, model="", prompt="", task=TaskSubmitted())
    made = asyncio.ensure_future(attempt(log, flood).make(ask, asyncio.Event(), asyncio.Event()))
    await soon(lambda: log.waiting > attempt_call.AHEAD_CHARS)
    await asyncio.sleep(0.2)
    assert log.waiting < 2 * attempt_call.AHEAD_CHARS + 65536
    log.let.set()
    outcome = await made
    assert (outcome.verdict.ok, len(outcome.text), log.said) == (True, 40 * 65536, 40 * 65536)
