"""Programs that write faster than anybody reads, or for ever: they cost no memory, starve nobody, and the clocks end them."""

import asyncio
import os
import sys
import time

import pytest

from actors.platforms.command import COMMAND
from farebox.core import wire
from farebox.core.events import TaskStarted, TaskSubmitted
from farebox.core.platform import Ask
from farebox.core.settings import PlatformSettings
from farebox.log.memory import MemoryLog, MemoryStore
from farebox.runtime import attempt_call, intake, pipes
from farebox.runtime.attempt_call import AttemptCall
from farebox.runtime.pipes import READ_BYTES, REST_BYTES_MAX, Drain

FOR_EVER = "import os\nblock = b'y\\n' * 32768\nwhile True: os.write({to}, block)"
TICKS = "for i in range(8):\n print(i, flush=True); time.sleep(.03)"


def python(script):
    return PlatformSettings(kind="command", argv=(sys.executable, "-S", "-c", f"import time\n{script}"))


def endless(to):
    return python(FOR_EVER.format(to=to))


class Turns:
    """What the pipes read in each turn of the loop: what one turn does is all that anybody else has to wait for."""

    def __init__(self, ready):
        self._ready = ready
        self._now = {}
        self.count = self.bytes_read = self.worst_reads = self.worst_bytes = 0

    def turn(self, drain):
        """One pipe is ready, and is read."""
        if not self._now:
            asyncio.get_running_loop().call_soon(self._next)
        take, took = drain._on_data, self._now.setdefault(drain, [])
        drain._on_data = lambda data: (took.append(len(data)), take(data))[1]
        try:
            self._ready(drain)
        finally:
            drain._on_data = take

    def _next(self):
        self.count += 1
        for took in self._now.values():
            self.bytes_read += sum(took)
            self.worst_reads = max(self.worst_reads, len(took))
            self.worst_bytes = max(self.worst_bytes, *took, 0)
        self._now = {}

    @property
    def are_short(self):
        """Whether no pipe was read more than once, or more than it holds, before the loop went round."""
        return self.count > 1 and self.worst_reads == 1 and self.worst_bytes <= READ_BYTES


@pytest.fixture
def turns(monkeypatch):
    found = Turns(Drain._ready)

    def ready(drain):
        found.turn(drain)

    monkeypatch.setattr(Drain, "_ready", ready)
    return found


@pytest.mark.fault(48)
async def test_a_hundred_megabytes_on_standard_error_lose_no_answer(call, turns):
    called = await call(python("import os\nfor _ in range(1600): os.write(2, b'x' * 65536)\nprint('a good answer')"))
    assert (called.verdict.ok, called.text, called.verdict.fault) == (True, "a good answer", None)
    assert (turns.are_short, turns.bytes_read >= 1600 * 65536 - REST_BYTES_MAX) == (True, True)


@pytest.mark.fault(48)
async def test_who_talks_on_standard_error_for_ever_is_ended_by_the_clock(call, turns):
    called = await call(endless(2), timeout_s=0.5)
    assert called.verdict.fault is not None
    assert called.verdict.fault.error_class == "timeout"
    assert turns.are_short


@pytest.mark.fault(42)
async def test_who_answers_for_ever_is_ended_by_size_and_keeps_its_text(call, turns):
    called = await call(endless(1))
    assert called.verdict.fault is not None
    assert called.verdict.fault.error_class == "invalid"
    assert intake.TEXT_CHARS_MAX < len(called.text) <= intake.TEXT_CHARS_MAX + REST_BYTES_MAX + READ_BYTES
    assert turns.are_short


async def test_floods_starve_nobody_and_all_of_them_end(call, turns, soon):
    """Somebody says eight words while others flood: who floods on standard error floods until he is told to stop."""
    cancelled = asyncio.Event()
    drip = PlatformSettings(kind="command", argv=("sh", "-c", "while :; do echo y; done"))
    of = (endless(1), endless(2), endless(1), endless(2), drip)
    floods = [asyncio.ensure_future(call(flood, cancelled=cancelled)) for flood in of]
    await soon(lambda: turns.bytes_read > 5 * READ_BYTES)
    before = turns.bytes_read
    ticked = await call(python(TICKS))
    assert (ticked.verdict.ok, ticked.text.split()) == (True, [*"01234567"])
    assert turns.bytes_read > before
    assert not any(floods[place].done() for place in (1, 3))
    cancelled.set()
    ended = await asyncio.gather(*floods)
    assert {one.verdict.fault.error_class for one in ended} <= {"cancelled", "invalid"}
    assert {ended[place].verdict.fault.error_class for place in (1, 3)} == {"cancelled"}
    assert turns.are_short


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self):
        self.now_s = 1000.0

    def monotonic(self):
        return self.now_s


@pytest.mark.parametrize("count", [1, 2, 5])
async def test_floods_together_take_a_quarter_of_the_loop(count, monkeypatch):
    """Each is read as soon as it may be, and each reading takes 2 ms: the rest of the time is left to others."""
    clock, made = Clock(), [Pipe() for _ in range(count)]
    monkeypatch.setattr(pipes, "time", clock)
    due_s, begun_s, busy_s = dict.fromkeys(made, clock.now_s), clock.now_s, 0.0
    while clock.now_s < begun_s + 20:
        pipe = min(due_s, key=due_s.__getitem__)
        clock.now_s = at_s = max(clock.now_s, due_s[pipe])
        clock.now_s += 0.002
        busy_s += 0.002
        due_s[pipe] = clock.now_s + max(pipe.drain._paid_off_in_s(at_s), 0.0)
    share = busy_s / (clock.now_s - begun_s)
    assert 0.9 * pipes.SHARE < share < 1.1 * pipes.SHARE
    for pipe in made:
        pipe.drain.close()
        os.close(pipe.theirs)


async def test_text_may_be_wrapped_but_not_be_too_long(call, monkeypatch):
    monkeypatch.setattr(intake, "TEXT_CHARS_MAX", 1000)
    called = await call(python("print('x' * 1001, flush=True)\ntime.sleep(600)"))
    assert called.verdict.fault is not None
    assert called.verdict.fault.error_class == "invalid"
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
    await asyncio.wait_for(pipe.drain.closed, 100)


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
    started = TaskStarted(id="s1", chain="c", task="t", attempt=1, platform="p", seq=7, timeout_s=25)
    return AttemptCall(log, COMMAND, settings, os.environ, started)


async def test_a_bus_that_takes_no_live_text_holds_the_program_back(soon):
    log = SlowLog(MemoryStore())
    flood = python("import os\nfor _ in range(12): os.write(1, b'x' * 65536)")
    ask = Ask(platform="p", settings=flood, model="", prompt="", task=TaskSubmitted())
    made = asyncio.ensure_future(attempt(log, flood).make(ask, asyncio.Event(), asyncio.Event()))
    await soon(lambda: log.waiting > attempt_call.AHEAD_CHARS)
    await asyncio.sleep(0.2)
    assert log.waiting < 2 * attempt_call.AHEAD_CHARS + 65536
    log.let.set()
    outcome = await made
    assert (outcome.verdict.ok, len(outcome.text), log.said) == (True, 12 * 65536, 12 * 65536)
