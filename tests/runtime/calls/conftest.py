"""How the tests of calls make one: the platform's own request and reader, times that are short, and patience with limits."""

import asyncio
import os
import signal
import time

import pytest

from actors.platforms import PLATFORMS
from farebox.core.events import TaskSubmitted
from farebox.core.platform import Ask
from farebox.runtime import caller, http_call, process_call
from farebox.runtime.watch import Watch

KINDS = {kind.name: kind for kind in PLATFORMS}
PATIENT_S = 25
"""What nobody waits for in vain comes long before, however busy the machine is."""
PROMPT = "Sparrows count the ships every morning. Nobody knows why they would do that. The harbour master has asked them."


@pytest.fixture(autouse=True)
async def connections():
    yield
    await caller.close()


@pytest.fixture
def call():
    async def make(of, *, environ=None, cancelled=None, prompt=PROMPT, on_piece=None, **limits):
        ask = Ask(platform="p", settings=of, model="", prompt=prompt, task=TaskSubmitted())
        kind = KINDS[of.kind]
        times = {"timeout_s": PATIENT_S, "first_byte_timeout_s": PATIENT_S, "idle_timeout_s": PATIENT_S, **limits}
        return await caller.call(
            kind.ask(ask),
            kind.reader(ask),
            on_piece=on_piece or (lambda _text: None),
            cancelled=cancelled or asyncio.Event(),
            environ=os.environ if environ is None else environ,
            **times,
        )

    return make


@pytest.fixture
def cancel_after_first_piece(call):
    """Cancel when the first text is there; return what came."""

    async def make(of):
        cancelled = asyncio.Event()
        return await call(of, cancelled=cancelled, on_piece=lambda _text: cancelled.set())

    return make


@pytest.fixture
def signals(monkeypatch):
    """Return the signals that programs are ended with, in their order; who is asked to stop has all the time to do so."""
    sent, send = [], process_call.end_group

    def noted(group, with_signal=signal.SIGKILL):
        sent.append(with_signal.name)
        send(group, with_signal)

    monkeypatch.setattr(process_call, "end_group", noted)
    monkeypatch.setattr(process_call, "LADDER", tuple((number, PATIENT_S) for number, _ in process_call.LADDER))
    return sent


@pytest.fixture
def waits(monkeypatch):
    """Return how long (s) was to be waited before each further try, as it was said."""
    said, wait_s = [], http_call._wait_s

    def noted(state):
        said.append(wait_s(state))
        return said[-1]

    monkeypatch.setattr(http_call, "_wait_s", noted)
    return said


@pytest.fixture
def from_first_byte(monkeypatch):
    """The time of a whole call begins with its first byte: however slowly a program starts, it has said something before.

    Returns the watches, so that a test may say itself when a first byte is overdue.
    """
    watches = []
    touch = Watch.touch

    def began(watch):
        if watch._on_time == "first_byte":
            watch._end_s = time.monotonic() + watch._limits.timeout_s
        touch(watch)

    init, remaining_s = Watch.__init__, Watch.remaining_s

    def patient(watch, limits):
        init(watch, limits)
        watch._end_s += PATIENT_S
        watches.append(watch)

    monkeypatch.setattr(Watch, "__init__", patient)
    monkeypatch.setattr(Watch, "touch", began)
    monkeypatch.setattr(Watch, "remaining_s", lambda watch: min(remaining_s(watch), 0.02))
    return watches


@pytest.fixture
def soon():
    async def wait(condition, wait_s=PATIENT_S):
        async with asyncio.timeout(wait_s):
            while not condition():
                await asyncio.sleep(0.005)

    return wait
