"""Three servers, one of them killed: writing and reading go on, and nothing that was acknowledged is lost."""

import asyncio

import pytest

from farebox.core.errors import AppendBusy, AppendRefused, AppendUnknown
from farebox.log.jetstream import JetStreamLog
from farebox.log.streams import Sizes

pytestmark = pytest.mark.slow  # choosing a leader takes 4 to 8 s


@pytest.fixture
async def trio(cluster, cluster_account):
    opened = []

    async def open_one():
        log = await JetStreamLog.connect(cluster_account.url, user=cluster_account.user, password=cluster_account.password)
        opened.append(log)
        return log

    await (await open_one()).prepare("always", ["openai"], 3, sizes=Sizes(log_bytes=64 << 20, blob_bytes=64 << 20))
    yield open_one
    for log in opened:
        await log.close()
    for node in cluster.nodes:
        if node.process is None:
            node.start()


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
    async with asyncio.timeout(25):
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
