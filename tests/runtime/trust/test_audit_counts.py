"""The audit of a log on several servers: a reading that was served whole does not hide what the leader lacks."""

from __future__ import annotations

import msgspec

from farebox.core import events, subjects, wire
from farebox.log.memory import MemoryLog, MemoryStore
from farebox.log.port import Entry
from farebox.runtime.audit import audit


async def test_what_the_leader_lacks_is_named_though_another_server_was_read():
    log = MemoryLog(MemoryStore())
    for name in ("one", "two", "three"):
        fact = events.TaskSubmitted(id=name, chain=name, task=name, prompt="Count the owls.")
        await log.append([Entry(subjects.subject_of("client", fact), wire.encode(fact))])
    position = await log.position()
    assert (await audit(log, position)).faults == ()
    lacking = msgspec.structs.replace(position, gone=2, gone_first=2)
    (fault,) = (await audit(log, lacking)).faults
    assert (fault.seq, fault.code) == (2, "FB801")
    assert "Fact 2 is gone on the server that leads the log, one of 2" in fault.text
    assert (await audit(log, lacking, first=3)).faults == ()
    await log.close()
