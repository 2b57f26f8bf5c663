"""How the tests of calls make one: the platform's own request and reader, times that are short, and patience with limits."""

import asyncio
import os
import time

import pytest

from actors.platforms import PLATFORMS
from farebox.core.events import TaskSubmitted
from farebox.core.platform import Ask
from farebox.runtime import caller

KINDS = {kind.name: kind for kind in PLATFORMS}
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
        times = {"timeout_s": 20, "first_byte_timeout_s": 10, "idle_timeout_s": 10, **limits}
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
    """Cancel when the first text is there; return what came and how long (s) the end took."""

    async def make(of):
        cancelled, at_s = asyncio.Event(), []

        def on_piece(_text):
            at_s.append(time.monotonic())
            cancelled.set()

        called = await call(of, cancelled=cancelled, on_piece=on_piece)
        return called, time.monotonic() - at_s[0]

    return make


@pytest.fixture
def soon():
    async def wait(condition, wait_s=3.0):
        end_s = time.monotonic() + wait_s
        while not condition():
            assert time.monotonic() < end_s, "it never came true"
            await asyncio.sleep(0.005)

    return wait
