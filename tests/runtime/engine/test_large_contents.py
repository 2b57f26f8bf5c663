"""Contents that are small as text and large as JSON, from a client through a real bus to their answer."""

import pytest

from farebox.client import Client
from farebox.core import events, wire
from farebox.core.digest import digest

SMALL = {"metadata": {"k": "\x01" * 10_000}, "system": "\x02" * 60_000}


@pytest.fixture
async def log(server_log):
    found = await server_log(["rehearsal"])
    yield found
    await found.close()


@pytest.mark.parametrize("size", [100_000, 170_000, 250_000, 900_000])
async def test_a_prompt_of_control_characters_arrives_whatever_it_is_as_json(log, engines, size):
    await engines.make(log)
    prompt = "\x01" * size
    handle = await Client(log).submit(prompt, **SMALL)
    result = await handle.result()
    assert (result.status, result.output) == ("completed", digest(prompt, SMALL["system"]))
    stands = await log.last(f"farebox.log.client.submitted.-.{handle.chain_id}.{handle.task_id}")
    assert len(stands.body) <= wire.BODY_BYTES_MAX
    fact = wire.decode(stands.subject, stands.body)
    assert isinstance(fact, events.TaskSubmitted)
    assert fact.bytes == size
