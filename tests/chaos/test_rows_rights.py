"""Rights taken away while an engine runs: it says within seconds who may not say what, and goes on when they are given back."""

from __future__ import annotations

import asyncio
import signal

import pytest

DENIED_S = 5.0
RESERVE = '"farebox.log.quota.reserved.*.*.*", '


async def reloaded(scene, text):
    """Put new rights beside the server and let it read them."""
    log = scene.store / "nats.log"
    before = log.read_text().count("Reloaded server configuration")
    (scene.store / "users.conf").write_text(text)
    scene.server().send_signal(signal.SIGHUP)
    async with asyncio.timeout(5):
        while log.read_text().count("Reloaded server configuration") == before:
            await asyncio.sleep(0.02)


async def told_by_status(scene):
    async with asyncio.timeout(DENIED_S):
        while (trouble := (await scene.run_cli("status"))["engine"]["trouble"]) is None:
            pass
    return trouble


async def of_the_end(handle):
    async with asyncio.timeout(15):
        return (await handle.result()).status


@pytest.mark.chaos
@pytest.mark.fault(74)
@pytest.mark.timeout(60)
async def test_a_subject_taken_from_a_running_engine_is_named_at_once_and_given_back_all_goes_on(scene):
    await scene.open(delay_ms=50)
    rights = (scene.store / "users.conf").read_text()
    less = rights.replace(RESERVE, "", 1)
    assert less != rights, "what stands there first is the engine's, who lives in the account of the log"
    async with scene.joined() as bus:
        assert await of_the_end(await bus.submit("Before: count the owls.", max_tokens=400)) == "completed"
        await reloaded(scene, less)
        handle = await bus.submit("Denied: count the owls.", max_tokens=400)
        trouble = await told_by_status(scene)
        assert trouble["code"] == "FB103"
        for said in (trouble["message"], (scene.folder / "engine.log").read_text()):
            assert f"denies the user engine: publish to farebox.log.quota.reserved.far.{handle.chain_id}." in said
        assert scene.calls() == 1, "what may not be reserved is not called"
        assert (scene.folder / "engine.log").read_text().count("denies the user engine") == 1, "said once, not at each try"
        await reloaded(scene, rights)
        assert await of_the_end(handle) == "completed"
        assert (await scene.run_cli("status"))["engine"]["trouble"] is None
    await scene.verify(2)
    assert scene.calls() == 2
    assert await scene.stop() == 0
