"""Three servers, one of them killed: writing and reading go on, and nothing that was acknowledged is lost."""

import asyncio

import pytest

from farebox.core.errors import AppendBusy, AppendRefused, AppendUnknown

pytestmark = pytest.mark.slow  # choosing a leader takes 4 to 8 s


async def store(log, fact):
    """Append as a worker does: unknown is read back, busy is tried again, refused by our own earlier write is success."""
    own = fact.subject
    while True:
        try:
            return (await log.append([fact]))[0]
        except (AppendBusy, AppendUnknown):
            await asyncio.sleep(0.05)
        except AppendRefused:
            found = await log.last(own)
            if found is not None:
                assert found.body == fact.body
                return found.seq


async def test_the_log_goes_on_when_its_leader_is_killed(cluster, trio, entry, reading):
    log = await trio()
    reader = reading(log)
    leader = (await log._streams.info("FAREBOX"))["cluster"]["leader"]
    subjects = [f"router.routed.-.c.t{n}" for n in range(120)]
    seqs = []
    async with asyncio.timeout(100):
        for place, own in enumerate(subjects):
            if place == 40:
                next(node for node in cluster.nodes if node.directory.name == leader).kill()
            seqs.append(await store(log, entry(own, b"%d" % place, own, 0)))
        facts = await reader.until(120, 20)
    assert len(set(seqs)) == 120
    assert [fact.seq for fact in facts] == list(range(1, len(facts) + 1))
    by_seq = {fact.seq: fact for fact in facts}
    for place, seq in enumerate(seqs):
        assert by_seq[seq].body == b"%d" % place


async def test_a_reading_goes_on_when_the_server_that_held_its_consumer_is_killed(cluster, trio, entry, reading):
    log = await trio()
    reader = reading(log)
    await store(log, entry("router.routed.-.c.t0", b"0", "router.routed.-.c.t0", 0))
    await reader.until(1)
    (following,) = log._followings
    held = await log._streams._api(f"CONSUMER.INFO.FAREBOX.{following.consumer}", {})
    next(node for node in cluster.nodes if node.directory.name == held["cluster"]["leader"]).kill()
    async with asyncio.timeout(100):
        await store(log, entry("router.routed.-.c.t1", b"1", "router.routed.-.c.t1", 0))
    facts = await reader.until(2, 25)
    assert [fact.body for fact in facts] == [b"0", b"1"]


async def test_a_log_made_on_a_cluster_is_kept_on_three_of_its_servers(trio):
    log = await trio()
    assert (await log._streams.info("FAREBOX"))["config"]["num_replicas"] == 3
