"""What is missing sends a task on to the next candidate, with the reason in the log; without a next one it ends honestly."""

import asyncio

import pytest

from farebox.client import Client
from farebox.core import events
from farebox.core.settings import PlatformSettings

INLINE = PlatformSettings(kind="rehearsal", billing="rehearsal", tier=9, options={"wire": "inline"})
PLAN = PlatformSettings(kind="claude-code", billing="plan", argv=("no-such-claude",))
NO_KEY = PlatformSettings(kind="anthropic", url="http://127.0.0.1:9", key_env="ANTHROPIC_API_KEY", model="claude-sonnet-4-5")
OFF = PlatformSettings(kind="antigravity", billing="plan", enabled=False)
PLATFORMS = {"claude-code": PLAN, "anthropic": NO_KEY, "antigravity": OFF}
REASONS = {"claude-code": "no program", "anthropic": "ANTHROPIC_API_KEY is not set", "antigravity": "disabled"}


def reasons(tape):
    (routed,) = tape.said(events.TaskRouted)
    return {one.platform: one.reason for one in routed.rejected}


@pytest.mark.parametrize("named", [{}, {"platform": "claude-code"}])
async def test_missing_programs_and_keys_pass_the_task_on_with_their_reasons(tape, engines, named):
    await engines.make(tape.log(), {**PLATFORMS, "last": INLINE})
    async with asyncio.timeout(100):
        result = await (await Client(tape.log()).submit("Hello.", **named)).result()
    assert (result.status, result.platform) == ("completed", "last")
    told = reasons(tape)
    assert {name: text for name, text in REASONS.items() if text not in told[name]} == {}


async def test_without_a_next_candidate_the_reasons_are_the_answer(tape, engines):
    await engines.make(tape.log(), {**PLATFORMS, "last": INLINE})
    async with asyncio.timeout(100):
        result = await (await Client(tape.log()).submit("Hello.", platform="claude-code", fallback=False)).result()
    assert (result.status, result.error.error_class, result.cost.status) == ("failed", "unavailable", "none")
    assert "claude-code: not available: no program 'no-such-claude' on PATH" in result.error.message
    assert not tape.said(events.TaskRouted)
    assert not tape.said(events.TaskStarted)
