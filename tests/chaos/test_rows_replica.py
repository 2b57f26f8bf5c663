"""Three servers, a bit flipped on one of the two that follow, and that one made the leader: the log says where it is broken."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import signal
import sys

import pytest

from farebox.core import events, subjects, wire
from farebox.core.errors import BusError, LogDamaged
from farebox.log.jetstream import JetStreamLog
from farebox.log.port import Entry, Fence

FACTS = 170
"""Two blocks on each server."""
FILLING = "x" * 60_000


class Trio:
    """The log of one account on three servers."""

    def __init__(self, cluster, login) -> None:
        self.nodes = {node.directory.name: node for node in cluster.nodes}
        self.login = {"url": login.url, "user": login.user, "password": login.password}
        self.account = "A" + login.user[1:]

    @contextlib.asynccontextmanager
    async def log(self):
        found = await JetStreamLog.connect(**self.login)
        try:
            yield found
        finally:
            await found.close()

    async def state(self) -> dict:
        """Who leads the stream and how the others stand; asked again while nobody does."""
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(BusError):
                    async with self.log() as log:
                        info = await log._streams.info("FAREBOX")
                        if info["cluster"].get("leader"):
                            return info
                await asyncio.sleep(0.2)

    async def whole(self) -> None:
        """Until both followers have all that the leader has."""
        async with asyncio.timeout(30):
            while not all(one["current"] and not one.get("lag") for one in (await self.state())["cluster"]["replicas"]):
                await asyncio.sleep(0.2)

    async def lead(self, name: str) -> None:
        """Step down until `name` leads; a choice takes 4 to 9 s, and may fall on the third."""
        async with asyncio.timeout(90):
            while (leader := (await self.state())["cluster"]["leader"]) != name:
                await self.whole()  # whoever just came to lead gives it only to one of whom he knows that
                async with self.log() as log:
                    with contextlib.suppress(BusError):
                        await log._streams._api("STREAM.LEADER.STEPDOWN.FAREBOX", {"placement": {"preferred": name}})
                await self._changed(leader)

    async def _changed(self, leader: str) -> None:
        """Until another one leads; he may be chosen again himself."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(6):
                while (await self.state())["cluster"]["leader"] == leader:
                    await asyncio.sleep(0.1)

    async def down(self, name: str, *, clean: bool = False) -> None:
        node = self.nodes[name]
        if clean:
            node.signal(signal.SIGTERM)
            await asyncio.to_thread(node.process.wait, 20)
        node.kill()

    async def up(self, name: str) -> None:
        await asyncio.to_thread(self.nodes[name].start)
        await self.whole()

    def folder(self, name: str):
        return self.nodes[name].directory / "js" / "jetstream" / self.account / "streams" / "FAREBOX"

    def blocks(self, name: str):
        return sorted((self.folder(name) / "msgs").glob("*.blk"), key=lambda path: int(path.stem))


def filling(number: int) -> Entry:
    name = f"filling-{number:04d}"
    fact = events.TaskSubmitted(id=name, chain=name, task=name, prompt=FILLING, platform="nobody")
    subject = subjects.subject_of("client", fact)
    return Entry(subject, wire.encode(fact), Fence(subject, 0))


async def command(scene, *arguments):
    """Run farebox to its end. Returns its exit code and its document."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "farebox", *arguments, "--json", *scene.options, "--store", str(scene.store),
        "--config", str(scene.folder / "farebox.toml"),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, env=scene._environ,
    )  # fmt: skip
    out, _ = await asyncio.wait_for(child.communicate(), 60)
    return child.returncode, json.loads(out)


async def bodies(trio):
    """All facts as they are read, up to the end that the leader knows."""
    found = []
    async with trio.log() as log:
        last = (await log.position()).last_seq
        async with contextlib.aclosing(log.follow(1)) as batches:
            async for batch in batches:
                found += [(fact.seq, fact.body) for fact in batch if fact.seq <= last]
                if batch[-1].seq >= last:
                    break
    return found


async def met(trio):
    """Read until a reading goes through the damaged server: where a reader is served the cluster decides."""
    async with asyncio.timeout(30):
        while True:
            try:
                await bodies(trio)
            except LogDamaged as damage:
                return damage


async def filled(scene, trio):
    """An engine's log on three servers, with two blocks on each."""
    scene.login, url = trio.login, trio.login["url"]
    scene.options = ["--server", url.replace("nats://", f"nats://{trio.login['user']}:{trio.login['password']}@", 1)]
    await scene.open(delay_ms=20)
    async with scene.joined() as bus:
        assert (await (await bus.submit("Replica: count the owls.", max_tokens=400)).result()).status == "completed"
    assert await scene.stop() == 0
    async with trio.log() as log:
        for start in range(0, FACTS, 34):
            await asyncio.gather(*(log.append([filling(number)]) for number in range(start, start + 34)))
    await trio.whole()
    return await bodies(trio)


def damage(trio, name):
    """Flip a bit in an old block of a server that is down."""
    block = trio.blocks(name)[0]
    body = bytearray(block.read_bytes())
    body[len(body) // 2] ^= 0x40
    block.write_bytes(body)


@pytest.mark.chaos
@pytest.mark.fault(12)
@pytest.mark.timeout(240)
@pytest.mark.parametrize("clean", [False, True], ids=["killed", "stopped"])
async def test_a_damaged_replica_that_leads_is_noticed_and_made_whole_from_the_others(scene, cluster, cluster_account, clean):
    trio = Trio(cluster, cluster_account)
    before = await filled(scene, trio)
    state = (await trio.state())["cluster"]
    good, bad = state["leader"], state["replicas"][0]["name"]
    await trio.down(bad, clean=clean)
    damage(trio, bad)
    await trio.up(bad)
    await trio.lead(bad)
    gone = await gone_now(trio)
    assert (gone > 0) is not clean, "after a clean stop the server's own counters still say that all is there"
    if gone:
        code, told = await command(scene, "up")
        assert (code, told["error"]["code"]) == (8, "FB801"), told
        assert f"{gone} of the facts 1 to" in told["error"]["message"]
        code, told = await command(scene, "audit", "verify")
        assert (code, told["ok"], told["faults"][0]["code"]) == (8, False, "FB801"), told
        first = told["faults"][0]["seq"]
        assert str(first) in told["faults"][0]["text"]
        assert first in {seq for seq, _ in before}
    else:
        # A reading is served by any of the three, so some are whole; the one through the damaged server names the place.
        assert "the facts between are gone" in str(await met(trio))
    await trio.lead(good)
    await trio.down(bad)
    shutil.rmtree(trio.nodes[bad].directory / "js")
    await trio.up(bad)
    await trio.lead(bad)
    assert await bodies(trio) == before
    assert await gone_now(trio) == 0
    code, told = await command(scene, "audit", "verify")
    assert (code, told["ok"], told["facts"]) == (0, True, len(before))
    await scene.up()
    assert (await scene.run_cli("status", "--limit", "1"))["engine"]["trouble"] is None


async def gone_now(trio):
    async with trio.log() as log:
        return (await log.position()).gone
