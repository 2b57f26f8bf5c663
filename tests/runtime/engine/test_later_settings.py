"""Two engines of different ages over one log: the older one neither breaks over settings it does not know nor guesses."""

import asyncio
import logging

import pytest

from farebox.core import events
from farebox.core.settings import canonical
from farebox.log.port import Position


@pytest.mark.fault(72)
async def test_an_older_engine_leaves_what_it_does_not_understand_to_a_later_one(tape, engines, caplog):
    log = tape.log()
    first = await engines.make(log)
    plain, _ = canonical(first.settings)
    later = {**plain, "budget_usd": "5"}
    adopted = tape.say("engine", events.SettingsAdopted(id="later", settings=later, sha256="1" * 64))
    with caplog.at_level(logging.WARNING, "farebox.engine"):
        tape.submit("t1")
        position: Position = await log.position()
        async with asyncio.timeout(100):
            while any(mind.seq < position.last_seq or not mind.idle for mind in first.minds):
                await asyncio.sleep(0.01)
    assert f"FB803 settings adopted at {adopted.seq} need a later farebox: engine: " in caplog.text
    assert "budget_usd" in caplog.text
    assert tape.names(task="t1") == ["TaskSubmitted"], "neither routed under half of the settings nor ended"
    await engines.stop(first)
    await engines.make(log)  # its own settings are in force again, and what was left waits for nobody
    assert (await tape.end_of("t1")).status == "completed"
