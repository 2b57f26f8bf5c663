"""A lane over a memory log whose reservations are written by hand, and whole engines over any log; everything else is real."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import pytest

from farebox.config import platform_kinds
from farebox.core import events, subjects, wire
from farebox.core.errors import BadFact, NotReachable
from farebox.core.platform import CallEnded, InlineCall, PlatformKind, Verdict
from farebox.core.pricing import PriceList
from farebox.core.settings import PlatformSettings, Settings
from farebox.core.terms import Fault, Usage
from farebox.engines import actors
from farebox.log.jetstream import JetStreamLog
from farebox.log.memory import Fate, MemoryLog, MemoryStore
from farebox.log.port import Entry, Fence
from farebox.log.streams import Sizes
from farebox.rehearsal.faults import Faults
from farebox.rehearsal.server import StandIn
from farebox.runtime import caller, lane, worker
from farebox.runtime.committer import Committer
from farebox.runtime.engine import Engine
from farebox.runtime.spool import Spool
from farebox.runtime.worker import Worker
from farebox.views.desk import Desk

SECRET = b"s" * 32
KINDS = {kind.name: kind for kind in platform_kinds()}
INLINE = PlatformSettings(kind="rehearsal", billing="rehearsal", options={"wire": "inline"})
(ADAPTER,) = (actor for actor in actors() if actor.perform is not None)
SMALL = Sizes(log_bytes=256 << 20, blob_bytes=64 << 20, live_bytes=16 << 20, dead_bytes=16 << 20)


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    """Pauses before a second try are for production."""
    for module in (lane, worker):
        monkeypatch.setattr(module, "PAUSE_S", 0.02)
    monkeypatch.setattr("farebox.runtime.follower.PAUSE_S", 0.02)
    monkeypatch.setattr(worker, "AGAIN_S", 0.02)
    monkeypatch.setattr("farebox.runtime.service.PAUSE_S", 0.02)


class Fates:
    """What becomes of appends: `next` for the coming ones in turn, `of` (token of a subject -> fates) for certain facts."""

    def __init__(self) -> None:
        self.of: dict[str, list[Fate]] = {}
        self.down = False
        self.appends: list[tuple[str, ...]] = []

    def __call__(self, entries) -> Fate:
        tokens = tuple(entry.subject.split(".")[3] for entry in entries)
        self.appends.append(tokens)
        if self.down:
            return Fate.LOST
        for token in tokens:
            if waiting := self.of.get(token):
                return waiting.pop(0)
        return Fate.ARRIVES


class Deaf(MemoryLog):
    """A log that cannot be read `deaf` times."""

    deaf = 0

    def _listen(self):
        if self.deaf:
            self.deaf -= 1
            raise NotReachable("away")

    async def last(self, subject):
        self._listen()
        return await super().last(subject)

    async def get_blob(self, ref):
        self._listen()
        return await super().get_blob(ref)

    async def put_blob(self, body):
        self._listen()
        return await super().put_blob(body)


class Tape:
    """A memory log's store with questions about what stands in it."""

    ENDS = events.TaskCompleted | events.AttemptFailed | events.AttemptInterrupted

    def __init__(self, **options) -> None:
        self.fates = Fates()
        self.store = MemoryStore(fate=self.fates, **options)

    def log(self) -> MemoryLog:
        return MemoryLog(self.store)

    def deaf_log(self) -> Deaf:
        return Deaf(self.store)

    def said(self, kind=events.Fact, **fields) -> list:
        found = [fact for one in self.store.facts if (fact := _read(one)) is not None]
        return [
            fact
            for fact in found
            if isinstance(fact, kind) and all(getattr(fact, name) == value for name, value in fields.items())
        ]

    def count(self, token) -> int:
        return sum(one.subject.split(".", 4)[3] == token for one in self.store.facts)

    def names(self, **fields) -> list[str]:
        return [type(fact).__name__ for fact in self.said(**fields)]

    def say(self, writer, fact, *, body=None):
        subject = subjects.subject_of(writer, fact)
        (seq,) = self.store.append([Entry(subject, wire.encode(fact) if body is None else body, None)])
        return msgspec.structs.replace(fact, seq=seq)

    async def until(self, condition, timeout_s=100):
        """Wait until `condition()` is true; it is looked at after each fact."""
        news = asyncio.Event()
        stop = self.store.watch(news.set)
        try:
            async with asyncio.timeout(timeout_s):
                while not (found := condition()):
                    news.clear()
                    await news.wait()
        finally:
            stop()
        return found

    async def end_of(self, task="t1", timeout_s=100):
        return (await self.until(lambda: self.said(self.ENDS, task=task), timeout_s))[-1]

    async def idle(self, worker):
        """Until the durable of a worker holds nothing that is not acked."""
        durable = self.store.durable(f"adapter-{worker.platform}")
        async with asyncio.timeout(100):
            while durable._held or durable._seen < len(self.store.facts) or worker._tasks:
                await asyncio.sleep(0.01)

    def submit(self, task="t1", **fields):
        return self.say(
            "client", events.TaskSubmitted(**{"id": task, "chain": "c1", "task": task, "prompt": "Hello.", **fields})
        )

    def reserve(self, task="t1", *, attempt=1, platform="rehearsal", submitted=None, **fields):
        """Write a submission, unless one is given, and a reservation as quota would."""
        submitted = submitted or self.submit(task)
        reserved = events.QuotaReserved(
            id=f"r{attempt}-{task}", chain="c1", task=task, attempt=attempt, platform=platform, billing="rehearsal",
            submission_sha256=wire.submission_sha256(msgspec.structs.replace(submitted, seq=0, at_ms=0)),
            **{"timeout_s": 20.0, **fields},
        )  # fmt: skip
        return self.say("quota", reserved)


def _read(stored):
    try:
        return wire.decode(stored.subject, stored.body, stored.seq, stored.at_ms)
    except BadFact:
        return None


@pytest.fixture
def tape():
    return Tape()


@pytest.fixture(params=["memory", "server"])
async def opened(request, tape):
    """Open logs over one store, in memory or on a real server."""
    if request.param == "memory":
        yield tape.log
        return
    log = await request.getfixturevalue("server_log")(["rehearsal"])
    yield lambda: log
    await log.close()


@pytest.fixture
def make_tape():
    return Tape


@pytest.fixture
def reading():
    """Make a platform's reader of inline calls whose verdict is given."""

    class Reading:
        def __init__(self, verdict, learned=()):
            self._verdict, self._learned = verdict, learned

        def head(self, _head):
            return []

        def feed(self, data):
            from farebox.core.platform import Piece

            return [*self._learned, Piece(data.decode("utf-8", "surrogatepass"))]

        def end(self, _end):
            return self._verdict

    return Reading


@pytest.fixture
def kind_of(reading):
    """Make a platform that answers in place: with chunks and a verdict, or by breaking."""

    def make(*chunks, verdict=None, learned=(), ask=None):
        good = Verdict(ok=True, usage=Usage(input_tokens=1, output_tokens=1), charged="known", finish_reason="stop")
        return PlatformKind(
            name="rehearsal",
            ask=ask or (lambda _ask: InlineCall(chunks=chunks)),
            reader=lambda _ask: reading(verdict or good, learned),
            probe=KINDS["rehearsal"].probe,
            read_probe=KINDS["rehearsal"].read_probe,
            check=KINDS["rehearsal"].check,
            defaults={},
        )

    return make


@pytest.fixture
async def workers(tmp_path):
    """Make workers over a tape; each `home` is a machine's disk, each call of `make` a life on it."""
    made: list[tuple[Worker, Spool]] = []

    class Workers:
        async def make(self, tape, *, home="one", kind=None, settings=INLINE, platform="rehearsal", spool=None, log=None):
            log = log or tape.log()
            spool = spool or Spool(tmp_path / home / "journal")
            found = Worker(
                log, Committer(log), spool, ADAPTER, kind or KINDS["rehearsal"], platform, settings,
                secret=SECRET, boot=secrets.token_hex(3), environ={},
            )  # fmt: skip
            made.append((found, spool))
            await found.start()
            return found

        async def crash(self, found):
            """End it as kill -9 does, as far as the log and the disk can see."""
            for subscription in found._subscriptions:
                await subscription.close()
            found._heartbeat.cancel()
            for task in list(found._tasks):
                task.cancel()
            await asyncio.gather(*found._tasks, found._heartbeat, return_exceptions=True)

    yield Workers()
    for found, spool in made:
        await found.stop()
        await spool.close()
    await caller.close()


@pytest.fixture
async def stand_in():
    """Make providers that listen on the loopback; the result has the settings that reach them."""
    async with AsyncExitStack() as stack:

        async def make(*, faults=None, attempts_max=1_000_000, **options):
            provider = StandIn(faults=Faults(faults, attempts_max=attempts_max), **options)
            await stack.enter_async_context(provider)
            return provider, PlatformSettings(kind="rehearsal", billing="rehearsal", url=provider.url, model="rehearsal-small")

        yield make
        await caller.close()


@pytest.fixture
async def engines(tmp_path):
    """Make engines over a log, with the real actors and views; each folder is a store."""
    made: list[Engine] = []

    class Engines:
        async def make(self, log, platforms=None, *, folder="store", kinds=None, start=True, all_actors=None, **settings):
            place = Path(tmp_path / folder)
            place.mkdir(exist_ok=True)
            (place / "views").mkdir(exist_ok=True)
            found = Engine(
                log, Settings(platforms={"rehearsal": INLINE} if platforms is None else platforms, **settings),
                actors=all_actors or actors(), kinds={**KINDS, **(kinds or {})}, prices=PriceList(list_id="none"),
                views=Desk(place / "views" / "ledger.duckdb"), folder=place, secret=SECRET, about={"version": "test"},
                environ={},
            )  # fmt: skip
            made.append(found)
            if start:
                await found.start()
            return found

        async def stop(self, found, grace_s=0.0):
            made.remove(found)
            return await found.stop(grace_s)

    yield Engines()
    for found in made:
        await found.stop(0.0)
    await caller.close()


@pytest.fixture
def server_log(account):
    """Open logs over a fresh account of the shared server, with all streams made."""

    async def opened(platforms=("rehearsal",), **options):
        log = await JetStreamLog.connect(account.url, user=account.user, password=account.password)
        await log.prepare("always", list(platforms), sizes=SMALL, **options)
        return log

    return opened


@pytest.fixture
def ended():
    """Make outcomes as a spool keeps them."""

    def make(epoch, cause="x", text="said", *, ok=True, charged="known"):
        fault = None if ok else Fault(error_class="network", message="cut")
        usage = Usage(input_tokens=3, output_tokens=4) if charged == "known" else None
        return CallEnded(
            epoch=epoch, cause=cause, attempt=1, verdict=Verdict(ok=ok, usage=usage, charged=charged, fault=fault), text=text
        )

    return make


@pytest.fixture
def fenced():
    """Make an entry that must be the first on its subject."""

    def make(subject, body=b"{}", last=0):
        return Entry(subject, body, Fence(subject, last))

    return make
