"""The worlds in which every log must behave alike: memory, one real server, three real servers.

On three servers the laws marked EVERYWHERE run with every commit, all of them with `-m slow`.
"""

from __future__ import annotations

import asyncio
import dataclasses
from contextlib import AsyncExitStack, aclosing

import pytest

from farebox.core.errors import AppendBusy, LogUnfit, NotReachable
from farebox.log.jetstream import JetStreamLog
from farebox.log.memory import MemoryLog, MemoryStore
from farebox.log.port import Entry, Fence
from farebox.log.streams import Sizes

SMALL = Sizes(log_bytes=256 << 20, blob_bytes=64 << 20, live_bytes=16 << 20, dead_bytes=16 << 20)
ACK_WAIT_S = 0.3
FORMING_WAIT_S = 20


class World:
    """Opens logs: each is one process's connection to the same log."""

    def __init__(self, kind, stack, connect):
        self.kind = kind
        self.ack_wait_s = ACK_WAIT_S
        self._stack = stack
        self._connect = connect

    async def open(self):
        log = await self._connect()
        self._stack.push_async_callback(log.close)
        if self.kind == "cluster":
            log.append = patient(log.append)
        return log


def patient(append):
    """Ask again where three servers are choosing a leader: on a busy machine they do so at any time. Nothing was stored."""

    async def again(*given, **named):
        while True:
            try:
                return await append(*given, **named)
            except AppendBusy:
                await asyncio.sleep(0.1)

    return again


@pytest.fixture(params=["memory", "server", pytest.param("cluster", marks=pytest.mark.slow)])
async def world(request):
    async with AsyncExitStack() as stack:
        if request.param == "memory":
            store = MemoryStore(ack_wait_s=ACK_WAIT_S)

            async def connect():
                return MemoryLog(store)

        else:
            login = request.getfixturevalue("account" if request.param == "server" else "cluster_account")
            await prepared(login, replicas=1 if request.param == "server" else 3)

            async def connect():
                return await JetStreamLog.connect(login.url, user=login.user, password=login.password)

        yield World(request.param, stack, connect)


async def prepared(login, *, replicas=1, **options):
    """Make the streams, as init does; a cluster that is just forming is waited for."""
    log = await JetStreamLog.connect(login.url, user=login.user, password=login.password)
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + FORMING_WAIT_S
    try:
        while True:
            try:
                return await log.prepare(
                    "always", ["openai", "ollama"], replicas, ack_wait_s=ACK_WAIT_S, sizes=SMALL, **options
                )
            except (AppendBusy, LogUnfit, NotReachable):
                if replicas == 1 or loop.time() > deadline_s:
                    raise
                await asyncio.sleep(0.1)
    finally:
        await log.close()


@pytest.fixture
async def log(world):
    return await world.open()


@pytest.fixture
async def opened(own_server):
    """Open logs on a server of one's own that may be killed; the streams are there."""
    login = own_server.login(0)
    await prepared(dataclasses.replace(login, user="", password=""))
    async with AsyncExitStack() as stack:

        async def open_one(**options):
            log = await JetStreamLog.connect(own_server.url, **options)
            stack.push_async_callback(log.close)
            return log

        yield open_one


@pytest.fixture
async def trio(cluster, cluster_account):
    """Open logs on three servers, any of which may be killed; all run again afterwards. Nobody says how many replicas."""
    await prepared(cluster_account, replicas=0)
    async with AsyncExitStack() as stack:

        async def open_one():
            log = await JetStreamLog.connect(cluster_account.url, user=cluster_account.user, password=cluster_account.password)
            stack.push_async_callback(log.close)
            return log

        yield open_one
    for node in cluster.nodes:
        if node.process is None:
            node.start()


def entry(subject, body=b"{}", fence=None, last=0):
    """One entry of the log; the subject is short for `farebox.log.<subject>`."""
    guard = Fence(f"farebox.log.{fence}", last) if fence else None
    return Entry(f"farebox.log.{subject}", body, guard)


class Reader:
    """Follows a log in the background and remembers what it read."""

    def __init__(self, log, start=1, only="farebox.log.>"):
        self.facts = []
        self._news = asyncio.Condition()
        self._task = asyncio.ensure_future(self._read(log, start, only))

    async def _read(self, log, start, only):
        async with aclosing(log.follow(start, only)) as batches:
            async for facts in batches:
                async with self._news:
                    self.facts.extend(facts)
                    self._news.notify_all()

    async def until(self, count, wait_s=100):
        async def enough():
            async with self._news:
                await self._news.wait_for(lambda: len(self.facts) >= count)

        waiting = asyncio.ensure_future(enough())
        try:
            async with asyncio.timeout(wait_s):
                await asyncio.wait({waiting, self._task}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if self._task.done():
            await self._task
        assert len(self.facts) >= count, f"{len(self.facts)} of {count}"
        return self.facts

    async def end(self):
        return await self._task

    async def stop(self):
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


@pytest.fixture
async def reading():
    """Make readers that end with the test."""
    readers = []

    def read(*args, **options):
        readers.append(Reader(*args, **options))
        return readers[-1]

    yield read
    for reader in readers:
        await reader.stop()


@pytest.fixture(name="entry")
def entry_fixture():
    return entry
