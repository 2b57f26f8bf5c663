"""The worker: one platform's adapter at work, one of as many competing ones as you like. actors/adapter.py says what to do.

What the runtime promises, here and in follower.py, committer.py, mind.py (each number has its own test):

1. Followers meet facts in log order; workers meet each reserved task at least once. A poison fact stops its task, not others.
2. All facts of one decision are appended together or not at all.
3. Every append that guards anything carries its fence; quota has one append in flight.
4. A publish has three outcomes: stored, refused, unknown. Unknown is resolved by reading back.
5. "Have I done this?" is answered from the log, never from a consumer's position. Acks come last and may be lost.
6. Effects happen only for facts already in the log, and only after an fsynced "sending" mark in the spool.
7. Under load many decisions share one commit.
8. Nothing polls.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from farebox.core import ids, subjects, wire
from farebox.core.actor import Actor
from farebox.core.errors import AppendRefused, BadFact, BusError
from farebox.core.events import Fact, QuotaReserved, TaskStarted, TaskSubmitted
from farebox.core.platform import CallEnded, PlatformKind
from farebox.core.settings import PlatformSettings
from farebox.core.terms import FileInput
from farebox.log.port import Delivery, Entry, Fence, Log, Stored, Subscription
from farebox.runtime.attempt_call import AttemptCall
from farebox.runtime.committer import Committer
from farebox.runtime.spool import Spool

log_ = logging.getLogger("farebox.worker")

HEARTBEAT_S = 10.0
"""A third of the consumer's ack wait (30 s): who works says so in time."""
PAUSE_S = 0.5
"""Pause before an append or a reading whose outcome is unknown is tried again."""
BREAK_OFF_S = 10.0
"""How long a stop waits for calls that were broken off to be recorded."""
LANE_TOKENS = ("started", "completed", "failed", "interrupted")


@dataclass
class Running:
    """An attempt in this worker's hands. `number` tells apart how often this life of the worker took one into them."""

    number: int
    deliveries: list[Delivery]
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)


class Worker:
    """The adapter of one lane. `settings` are those of this machine: they may know an address that the log does not."""

    def __init__(
        self, log: Log, committer: Committer, spool: Spool, adapter: Actor[Any], kind: PlatformKind, platform: str,
        settings: PlatformSettings, *, secret: bytes, boot: str, environ: Mapping[str, str],
    ) -> None:  # fmt: skip
        self._log = log
        self._committer = committer
        self._spool = spool
        self._adapter = adapter
        self._kind = kind
        self.platform = platform
        self._settings = settings
        self._secret = secret
        self._boot = boot
        self._environ = environ
        self._running: dict[str, Running] = {}
        self._taken = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._subscriptions: list[Subscription] = []
        self._heartbeat: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()

    async def start(self) -> None:
        """Begin to hear cancels and reservations."""
        cancels = f"{subjects.LOG}.client.cancel_requested.>"
        self._subscriptions.append(await self._log.listen(cancels, self._on_cancel))
        self._subscriptions.append(await self._log.consume(f"adapter-{self.platform}", self._on_delivery))
        self._heartbeat = asyncio.ensure_future(self._beat())

    async def stop(self, grace_s: float = 0.0) -> int:
        """Take nothing new, let what runs finish for `grace_s`, then break it off. Returns how many were broken off."""
        for subscription in self._subscriptions:
            await subscription.close()
        if self._tasks and grace_s:
            await asyncio.wait(self._tasks, timeout=grace_s)
        broken = len(self._tasks)
        self._stopping.set()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=BREAK_OFF_S)
        # Who still waits for the log now has its outcome in the spool: the next start goes on from there.
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._heartbeat is not None:
            self._heartbeat.cancel()
            await asyncio.gather(self._heartbeat, return_exceptions=True)
        return broken

    @property
    def running(self) -> int:
        """How many attempts are in this worker's hands."""
        return len(self._running)

    def _on_delivery(self, delivery: Delivery) -> None:
        task = asyncio.ensure_future(self._take(delivery))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _on_cancel(self, subject: str, _body: bytes) -> None:
        try:
            address = subjects.parse(subject)
        except BadFact:
            return
        for name, running in self._running.items():
            if name.startswith(f"{address.chain}.{address.task}."):
                running.cancelled.set()

    async def _take(self, delivery: Delivery) -> None:
        """Carry one reservation to its end. A fact that cannot be read, or that breaks the adapter, stops only itself."""
        stored = delivery.stored
        try:
            reserved = wire.decode(stored.subject, stored.body, stored.seq, stored.at_ms)
        except BadFact as bad:
            await delivery.term(f"not a reservation: {bad}")
            return
        assert isinstance(reserved, QuotaReserved), "the durable's filter lets only reservations through"
        name = f"{reserved.chain}.{reserved.task}.{reserved.attempt}"
        running = self._running.get(name)
        if running is not None:
            running.deliveries.append(delivery)
            return
        self._taken += 1
        running = self._running[name] = Running(self._taken, [delivery])
        try:
            await self._carry(reserved, running, first=delivery.tries == 1)
            for one in running.deliveries:
                await one.ack()
        except BusError as error:
            log_.warning("%s %s: %s; it will be handed out again", self.platform, name, error)
        except BadFact as bad:
            log_.warning("%s %s: %s; nobody can carry it", self.platform, name, bad)
            await delivery.term(str(bad))
        finally:
            del self._running[name]

    async def _carry(self, reserved: QuotaReserved, running: Running, *, first: bool) -> None:
        """Ask the adapter until it has nothing more to say. The first time it trusts the reservation's view of the lane."""
        state = await self._load(reserved, whole=not first)
        expected = reserved.lane_seq if first else state.lane_seq
        while True:
            if state.cancelled:
                running.cancelled.set()
            said = self._decide(state, reserved, running)
            if said is None:
                return
            try:
                seq = await self._append(said, expected)
            except AppendRefused:
                state = await self._load(reserved, whole=True)
                expected = state.lane_seq
                continue
            if not isinstance(said, TaskStarted):
                self._forget(reserved, state)
                return
            started = msgspec.structs.replace(said, seq=seq, prev=expected)
            state = self._adapter.evolve(state, started)
            outcome = await self._call(state, started, running)
            await self._record(reserved, state, outcome, running.number)
            return

    def _decide(self, state: Any, reserved: QuotaReserved, running: Running) -> Fact | None:
        """Return the next fact: from the spool if an outcome waits there, else what the adapter says to the reservation."""
        started: TaskStarted | None = state.started
        heard: QuotaReserved | CallEnded = reserved
        if started is not None and started.attempt == reserved.attempt:
            key = _key(self.platform, started)
            state.never_sent = started.adapter == self._spool.owner and key not in self._spool.sending
            heard = self._spool.outcomes.get(key, reserved)
        said = self._adapter.decide(state, heard)
        return self._stamped(said[0], running.number) if said else None

    def _stamped(self, fact: Fact, number: int) -> Fact:
        # The boot is part of the id: two lives of an adapter may see two different outcomes of one attempt. The number is,
        # because a reservation may come again, as if for the first time: what was started then is not what is started now.
        fact_id = ids.of_fact(self._secret, f"adapter.{self._boot}", fact.cause, type(fact).__name__, number)
        if isinstance(fact, TaskStarted):
            return msgspec.structs.replace(fact, id=fact_id, adapter=self._spool.owner, boot=self._boot)
        return msgspec.structs.replace(fact, id=fact_id)

    async def _append(self, fact: Fact, expected: int) -> int:
        """Append one fact under the lane's fence. An unknown outcome is read back, never guessed."""
        writer = "late" if type(fact).__name__ == "LateResult" else "adapter"
        guard = subjects.fence_filter(writer, fact)
        subject = subjects.subject_of(writer, fact)
        fence = None if guard is None else Fence(guard, expected)
        entry = Entry(subject, wire.encode(msgspec.structs.replace(fact, prev=expected if guard else 0)), fence)
        while True:
            try:
                (seq,) = await self._committer.append([entry], fact.key)
            except AppendRefused:
                mine = await self._mine(subject, fact)
                if mine is None:
                    raise
                return mine
            except BusError as error:
                log_.warning("%s: %s; reading back", self.platform, error)
                await asyncio.sleep(PAUSE_S)
                mine = await self._mine(subject, fact)
                if mine is not None:
                    return mine
            else:
                return seq

    async def _mine(self, subject: str, fact: Fact) -> int | None:
        """Return the sequence of `fact` if it is what stands on its subject; wait while the log cannot be asked."""
        while True:
            try:
                last = await self._log.last(subject)
            except BusError:
                await asyncio.sleep(PAUSE_S)
                continue
            found = wire.decode(last.subject, last.body, last.seq, last.at_ms) if last else None
            return found.seq if found is not None and found.id == fact.id else None

    async def _load(self, reserved: QuotaReserved, *, whole: bool) -> Any:
        """Fold what the log says about the attempt: submission and cancel, and the lane's facts when they may exist."""
        chain, task = reserved.key
        wanted = [
            subjects.exact(reserved.submitted_by, "submitted", chain, task),
            subjects.exact("client", "cancel_requested", chain, task),
        ]
        if whole:
            wanted += [subjects.exact("adapter", token, chain, task, self.platform) for token in LANE_TOKENS]
        found = await asyncio.gather(*(self._log.last(subject) for subject in wanted))
        facts = [fact for stored in found if stored is not None and (fact := _read(stored)) is not None]
        state = self._adapter.new()
        for fact in [reserved, *sorted(facts, key=lambda fact: fact.seq)]:
            state = self._adapter.evolve(state, fact)
        return state

    async def _call(self, state: Any, started: TaskStarted, running: Running) -> CallEnded:
        """Make the one call of the attempt, after the mark in the spool; keep its outcome there before anything else."""
        key = _key(self.platform, started)
        assert self._adapter.perform is not None, "the adapter says what to perform"
        call = AttemptCall(self._log, self._kind, self._settings, self._environ, started)
        try:
            whole = msgspec.structs.replace(state, submitted=await self._whole(state.submitted))
            ask = self._adapter.perform(whole, started, self._settings)
            await self._spool.mark_sending(key)
        except (OSError, BusError, UnicodeDecodeError, msgspec.DecodeError) as error:
            return call.unsent(f"Not sent: {error}")
        outcome, learned = await call.make(ask, running.cancelled, self._stopping)
        try:
            await self._spool.keep(key, outcome)
        except OSError as error:
            log_.error("the spool did not take a paid answer (%s); it goes to the log from memory", error)
        for place, fact in enumerate(learned):
            await self._say_learned(msgspec.structs.replace(fact, cause=started.id), place)
        return outcome

    async def _whole(self, task: TaskSubmitted) -> TaskSubmitted:
        """Fetch what the submission keeps in the object store."""
        changes: dict[str, Any] = {}
        if task.prompt_ref is not None:
            changes["prompt"] = (await self._log.get_blob(task.prompt_ref)).decode()
        if task.context_ref is not None:
            changes["context"] = msgspec.json.decode(await self._log.get_blob(task.context_ref))
        files = [
            file if file.ref is None else FileInput(name=file.name, content=(await self._log.get_blob(file.ref)).decode())
            for file in task.files
        ]
        return msgspec.structs.replace(task, files=tuple(files), **changes)

    async def _say_learned(self, fact: Fact, place: int) -> None:
        stamped = self._stamped(fact, place)
        entry = Entry(subjects.subject_of("adapter", stamped), wire.encode(stamped), None)
        try:
            await self._committer.append([entry], (self.platform, "learned"))
        except BusError as error:
            log_.warning("%s: what was learned about quota is lost: %s", self.platform, error)

    async def _record(self, reserved: QuotaReserved, state: Any, outcome: CallEnded, number: int) -> None:
        """Append how the attempt ended; where the lane went on without us, as a late result."""
        expected = state.lane_seq
        while True:
            said = self._adapter.decide(state, outcome)
            if not said:
                break
            try:
                await self._append(self._stamped(said[0], number), expected)
                break
            except AppendRefused:
                state = await self._load_patiently(reserved)
                expected = state.lane_seq
        self._spool.forget(f"{self.platform}.{reserved.chain}.{reserved.task}.{outcome.epoch}")

    async def _load_patiently(self, reserved: QuotaReserved) -> Any:
        while True:
            try:
                return await self._load(reserved, whole=True)
            except BusError as error:
                log_.warning("%s: %s; reading again", self.platform, error)
                await asyncio.sleep(PAUSE_S)

    def _forget(self, reserved: QuotaReserved, state: Any) -> None:
        started: TaskStarted | None = state.started
        if started is not None and started.attempt == reserved.attempt:
            self._spool.forget(_key(self.platform, started))

    async def _beat(self) -> None:
        """Tell the log that we still work, and look for cancels that a lost connection kept from us."""
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            for name, running in list(self._running.items()):
                try:
                    for delivery in running.deliveries:
                        await delivery.progress()
                    chain, task, _ = name.split(".")
                    if await self._log.last(subjects.exact("client", "cancel_requested", chain, task)) is not None:
                        running.cancelled.set()
                except BusError as error:
                    log_.warning("%s: no heartbeat: %s", self.platform, error)


def _read(stored: Stored) -> Fact | None:
    """Return a fact read back. What a client wrote and nobody can read counts as never said: it must not stop the task."""
    try:
        return wire.decode(stored.subject, stored.body, stored.seq, stored.at_ms)
    except BadFact:
        if subjects.parse(stored.subject).writer == "adapter":
            raise
        return None


def _key(platform: str, started: TaskStarted) -> str:
    return f"{platform}.{started.chain}.{started.task}.{started.seq}"
