"""A real server with all its users, for tests that log in as each of them."""

import asyncio
import json
from contextlib import AsyncExitStack

import nats
import pytest
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NoAnswer
from nats.js.api import ConsumerConfig

from farebox.runtime.embedded import EmbeddedServer
from farebox.runtime.store import Store

PLATFORMS = ("openai", "ollama")
BLOBS = "OBJ_farebox-blobs"
LOG_CONFIG = {
    "name": "FAREBOX",
    "subjects": ["farebox.log.>"],
    "retention": "limits",
    "storage": "file",
    "discard": "new",
    "num_replicas": 1,
    "allow_direct": True,
    "allow_atomic": True,
    "deny_delete": True,
    "deny_purge": True,
    "max_bytes": 2**30,
    "republish": {"src": "farebox.log.>", "dest": "farebox.stored.log.>"},
}
LIVE_CONFIG = {
    "name": "FAREBOX_LIVE",
    "subjects": ["farebox.live.>"],
    "retention": "limits",
    "storage": "file",
    "num_replicas": 1,
    "max_bytes": 2**20,
    "republish": {"src": "farebox.live.>", "dest": "farebox.stored.live.>"},
}
BLOB_CONFIG = {
    "name": BLOBS,
    "subjects": ["$O.farebox-blobs.C.>", "$O.farebox-blobs.M.>"],
    "retention": "limits",
    "storage": "file",
    "num_replicas": 1,
    "allow_direct": True,
    "max_bytes": 2**20,
}


class Bus:
    """A running server with its streams, and one connection for each user that is asked for."""

    log_config = LOG_CONFIG

    def __init__(self, server, stack):
        self.server = server
        self._stack = stack
        self._links = {}
        self.refused = []

    async def user(self, name):
        if name not in self._links:
            login = self.server.login(name)
            self._links[name] = await nats.connect(
                login.url,
                nkeys_seed_str=login.password,
                inbox_prefix=login.inbox_prefix,
                error_cb=self._note,
                allow_reconnect=False,
            )
            self._stack.push_async_callback(self._links[name].close)
        return self._links[name]

    async def _note(self, error):
        self.refused.append(str(error))

    async def ask(self, name, subject, body=b"", **headers):
        link = await self.user(name)
        return await link.request(subject, body, timeout=25, headers=headers or None)

    async def say(self, name, subject, body=b"fact", **headers):
        return json.loads((await self.ask(name, subject, body, **headers)).data)

    async def refuses(self, name, *subjects):
        link = await self.user(name)
        for subject in subjects:
            with pytest.raises((NoAnswer, NoRespondersError)):
                await link.request(subject, b"", timeout=0.03)

    async def refuses_to_hear(self, name, *subjects):
        link = await self.user(name)
        for subject in subjects:
            before = len(self.refused)
            await link.subscribe(subject)
            async with asyncio.timeout(100):
                while len(self.refused) == before:
                    await link.flush()
            assert "subscription" in self.refused[-1], subject

    async def hear(self, name, subject):
        heard = asyncio.Queue()

        async def on(message):
            heard.put_nowait(message)

        link = await self.user(name)
        await link.subscribe(subject, cb=on)
        await link.flush()
        return heard

    async def pull(self, name, consumer):
        link = await self.user(name)
        inbox = link.new_inbox()
        handed = await self.hear(name, inbox)
        wanted = json.dumps({"batch": 10, "expires": 2 * 10**9}).encode()
        await link.publish(f"$JS.API.CONSUMER.MSG.NEXT.FAREBOX.{consumer}", wanted, reply=inbox)
        return await asyncio.wait_for(handed.get(), 100)

    async def state(self):
        return (await (await self.user("init")).jetstream().stream_info("FAREBOX")).state


async def raise_streams(link):
    js = link.jetstream()
    for config in (LOG_CONFIG, LIVE_CONFIG, BLOB_CONFIG):
        answer = await link.request(f"$JS.API.STREAM.CREATE.{config['name']}", json.dumps(config).encode())
        assert "error" not in json.loads(answer.data), answer.data
    for platform in PLATFORMS:
        chosen = f"farebox.log.quota.reserved.{platform}.>"
        await js.add_consumer("FAREBOX", ConsumerConfig(durable_name=f"adapter-{platform}", filter_subject=chosen))


@pytest.fixture
async def server(tmp_path):
    """A server with its users and nothing in it."""
    store = Store(tmp_path / "store")
    store.open()
    server = EmbeddedServer(store, PLATFORMS)
    await server.start()
    yield server
    await server.stop()
    store.close()


@pytest.fixture
async def bus(server):
    """The same with its streams, and a connection for each user that is asked for."""
    async with AsyncExitStack() as stack:
        bus = Bus(server, stack)
        await raise_streams(await bus.user("init"))
        yield bus
