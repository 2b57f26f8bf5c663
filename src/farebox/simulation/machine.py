"""A machine: a disk that survives crashes, and on it the process that runs the real follower, committer and workers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

import msgspec

from farebox.core.actor import Actor
from farebox.core.events import TaskStarted
from farebox.core.platform import CallEnded, PlatformKind, Verdict
from farebox.core.settings import PlatformSettings
from farebox.core.terms import Fault
from farebox.runtime.clock import StreamClock
from farebox.runtime.committer import Committer
from farebox.runtime.follower import Follower
from farebox.runtime.hands import Running
from farebox.runtime.journal import Journal
from farebox.runtime.learning import Learning
from farebox.runtime.mind import Mind
from farebox.runtime.reserve import Promise, Reserve
from farebox.runtime.spool import Spool
from farebox.runtime.worker import Worker
from farebox.simulation.loop import Process
from farebox.simulation.network import Connection, Network
from farebox.simulation.provider import Provider

SECRET = b"one key for all engines of a store"


class Disk:
    """What outlives a process: the spool's journal and snapshots of minds. `kept` is every outcome that ever was on it."""

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.sending: set[str] = set()
        self.outcomes: dict[str, CallEnded] = {}
        self.kept: list[CallEnded] = []
        self.snapshots: dict[str, tuple[bytes, int]] = {}


class DiskSpool(Spool):
    """The spool's promise without its files: what was awaited is on the disk, what was only forgotten may come back."""

    def __init__(self, disk: Disk, network: Network) -> None:
        self.owner = disk.owner
        self._journal = Journal()
        self.sending, self.outcomes = self._journal.sending, self._journal.outcomes
        self.sending |= disk.sending
        self.outcomes |= disk.outcomes
        self._full = False
        self._reserve = Reserve(lambda: None)
        self._disk = disk
        self._network = network

    async def mark_sending(self, key: str, promise: Promise | None = None) -> None:  # noqa: ARG002 - there is room, until a write tells
        """Note on disk that the call is about to leave."""
        await self._sync()
        self._disk.sending.add(key)
        await asyncio.sleep(self._network.random.random() * 0.004)
        self.sending.add(key)

    async def keep(self, key: str, outcome: CallEnded, promise: Promise | None = None) -> None:  # noqa: ARG002
        """Keep how the call ended."""
        self.outcomes[key] = outcome
        await self._sync()
        self._disk.outcomes[key] = outcome
        self._disk.kept.append(outcome)
        await asyncio.sleep(self._network.random.random() * 0.004)

    async def keep_unclaimed(self, key: str) -> bool:
        """Note that the log knows nothing of it; the next life finds that out again."""
        return key in self.outcomes

    def forget(self, key: str) -> None:
        """Forget soon; a crash before that brings it back."""
        self._journal.forget(key)
        asyncio.get_running_loop().call_later(self._network.random.random() * 0.1, self._forget_on_disk, key)

    def _forget_on_disk(self, key: str) -> None:
        self._disk.sending.discard(key)
        self._disk.outcomes.pop(key, None)

    async def _sync(self) -> None:
        await asyncio.sleep(self._network.random.random() * 0.004)
        if self._network.happens(self._network.chances.disk_full):
            raise OSError(28, "No space left on device")


class LoopClock(StreamClock):
    """Stream time in a world: the loop's, which is the store's too."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._loop = loop

    def saw(self, at_ms: int) -> None:
        """There is only one clock here."""

    def now_ms(self) -> int:
        """Return stream time, ms since 1970."""
        return round(self._loop.time() * 1000)


class SimulatedWorker(Worker):
    """The real worker with a provider of this world at the end of its call."""

    provider: Provider

    async def _call(
        self,
        state: Any,
        started: TaskStarted,
        running: Running,
        learning: Learning,  # noqa: ARG002  this provider tells no quota
    ) -> CallEnded:
        key = f"{self.platform}.{started.chain}.{started.task}.{started.seq}"
        assert self._adapter.perform is not None, "the adapter says what to perform"
        self._adapter.perform(state, started, self._settings)
        try:
            await self._spool.mark_sending(key)
        except OSError as error:
            fault = Fault(error_class="damaged", message=str(error))
            verdict = Verdict(ok=False, fault=fault, charged="none")
            return CallEnded(epoch=started.seq, cause=started.id, attempt=started.attempt, verdict=verdict)
        outcome = await self.provider.ask(started, running.cancelled)
        with contextlib.suppress(OSError):  # as in the real one: then it goes to the log from memory
            await self._spool.keep(key, outcome)
        return outcome


class Machine:
    """One process and its disk. `lanes` are the platforms whose adapters it runs; `follows`: whether the other actors too."""

    def __init__(
        self, name: str, network: Network, provider: Provider, actors: Sequence[Actor[Any]], kind: PlatformKind,
        *, follows: bool, lanes: dict[str, PlatformSettings],
    ) -> None:  # fmt: skip
        self.process = Process(name)
        self.disk = Disk(name)
        self.minds: list[Mind] = []
        self.follower: Follower | None = None
        self._network = network
        self._provider = provider
        self._actors = actors
        self._kind = kind
        self._follows = follows
        self._lanes = lanes
        self._connection = Connection(network)
        self._tasks: list[asyncio.Task[None]] = []

    def crash(self) -> None:
        """Lose everything but the disk."""
        self.process.die()
        self._connection.drop()
        self.minds = []
        self.follower = None

    async def live(self) -> None:
        """One life: fold the past, then follow and work, as the engine does."""
        self._connection = connection = Connection(self._network)
        committer = Committer(connection, self._durability())
        if self._follows:
            await self._follow(connection, committer)
        spool = DiskSpool(self.disk, self._network)
        (adapter,) = (actor for actor in self._actors if actor.perform is not None)
        for platform, settings in self._lanes.items():
            worker = SimulatedWorker(
                connection, committer, spool, adapter, self._kind, platform, settings,
                secret=SECRET, boot=f"{self.process.name}.{self.process.life}", environ={},
            )  # fmt: skip
            worker.provider = self._provider
            await worker.start()

    async def _follow(self, connection: Connection, committer: Committer) -> None:
        self.minds = [self._mind(actor) for actor in self._actors if actor.perform is None]
        loop = asyncio.get_running_loop()
        self.follower = Follower(connection, self.minds, committer, LoopClock(loop), durability=self._durability())
        self._tasks = [loop.create_task(self.follower.run()), loop.create_task(self._take_snapshots())]
        await self.follower.live.wait()

    def _mind(self, actor: Actor[Any]) -> Mind:
        kept = self.disk.snapshots.get(actor.name)
        if kept is None:
            return Mind(actor, SECRET)
        body, seq = kept
        fresh: object = actor.new()
        return Mind(actor, SECRET, msgspec.json.decode(body, type=type(fresh)), seq)

    async def _take_snapshots(self) -> None:
        """At idle moments, as a clean stop does."""
        while True:
            await asyncio.sleep(30 * self._network.random.random())
            for mind in self.minds:
                if mind.idle and self._network.happens(self._network.chances.snapshot):
                    self.disk.snapshots[mind.actor.name] = (msgspec.json.encode(mind.state), mind.seq)

    def _durability(self) -> str:
        return self._network.random.choice(("always", "100ms"))
