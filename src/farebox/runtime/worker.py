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
from collections.abc import Coroutine, Mapping
from typing import Any

import msgspec

from farebox.core import ids, subjects, wire
from farebox.core.actor import Actor
from farebox.core.errors import AccessDenied, AppendRefused, BadFact, BusError, LogDamaged
from farebox.core.events import Fact, QuotaReserved, TaskStarted
from farebox.core.platform import CallEnded, PlatformKind
from farebox.core.settings import PlatformSettings
from farebox.log.names import ACK_WAIT_S
from farebox.log.port import Delivery, Log, Subscription
from farebox.runtime import workplace
from farebox.runtime.attempt_call import AttemptCall, blamed
from farebox.runtime.committer import Committer
from farebox.runtime.hands import Hands, Running
from farebox.runtime.lane import PAUSE_S, Lane, Recent, is_anothers, key_of, name_of, not_used, set_aside
from farebox.runtime.learning import Learning
from farebox.runtime.lost import LostStarts
from farebox.runtime.spool import Spool

log_ = logging.getLogger("farebox.worker")

HEARTBEAT_S = 10.0
"""A third of the consumer's ack wait (30 s): who works says so in time."""
AGAIN_S = 1.0
"""Pause before a reservation is handed out again that the log's absence kept from being carried."""
BROKEN_TRIES = 5
"""After so many times that a reservation broke the adapter its attempt is ended without it."""
BREAK_OFF_S = 10.0
"""How long a stop waits for calls that were broken off to be recorded."""


class Worker:
    """The adapter of one lane. `settings` are those of this machine: they may know an address that the log does not."""

    def __init__(
        self, log: Log, committer: Committer, spool: Spool, adapter: Actor[Any], kind: PlatformKind, platform: str,
        settings: PlatformSettings, *, secret: bytes, boot: str, environ: Mapping[str, str], recent: Recent | None = None,
    ) -> None:  # fmt: skip
        self._log = log
        self._committer = committer
        self._spool = spool
        self._adapter = adapter
        self._kind = kind
        self.platform = platform
        self._settings = settings
        self._lane = Lane(log, committer, adapter, platform, recent)
        self._lost = LostStarts(platform, self._lane, spool)
        self._secret = secret
        self._boot = boot
        self._environ = environ
        self._hands = Hands()
        self._tasks: set[asyncio.Task[None]] = set()
        self._subscriptions: list[Subscription] = []
        self._heartbeat: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()

    async def start(self) -> None:
        """Begin to hear cancels and reservations, and go on with what the last life of this store left in the spool."""
        self._subscriptions.append(await self._log.listen(f"{subjects.LOG}.client.cancel_requested.>", self._on_cancel))
        for key in await self._lost.look():
            self._spawn(self._recover(key))
        self._subscriptions.append(await self._log.consume(f"adapter-{self.platform}", self._on_delivery))
        self._heartbeat = asyncio.ensure_future(self._beat())

    def take_up(self, chain: str, task: str) -> None:
        """Go on with what was reserved before this start: the log would hand it out again only after the ack wait."""
        self._spawn(self._take_up(chain, task))

    async def _take_up(self, chain: str, task: str) -> None:
        try:
            reserved = await self._lane.reserved(chain, task)
            if reserved is not None:
                await self._resume(reserved)
        except (BusError, BadFact) as error:
            log_.info("%s %s.%s waits to be handed out again: %s", self.platform, chain, task, error)

    async def retire(self, chain: str, task: str) -> None:
        """End a reservation of a platform that nobody uses any more; what another one began he ends himself."""
        reserved = await self._lane.reserved(chain, task)
        if reserved is None:
            return
        state = await self._lane.load(reserved, whole=True)
        started: TaskStarted | None = state.started
        if started is not None and started.attempt == reserved.attempt:
            if started.adapter == self._spool.owner:
                await self._resume(reserved)
        elif state.ended is None or state.ended.attempt < reserved.attempt:
            try:
                await self._lane.append(self._stamped(not_used(reserved), self._hands.next_number()), state.lane_seq)
            except AppendRefused:
                log_.info("%s %s was begun after all", self.platform, name_of(reserved))

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
        return len(self._hands.running)

    def _on_delivery(self, delivery: Delivery) -> None:
        self._spawn(self._take(delivery))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _on_cancel(self, subject: str, _body: bytes) -> None:
        try:
            address = subjects.parse(subject)
        except BadFact:
            return
        self._hands.cancel(address.chain, address.task)

    async def _take(self, delivery: Delivery) -> None:
        """Carry one reservation to its end. A fact that cannot be read, or that breaks the adapter, stops only itself."""
        stored = delivery.stored
        try:
            reserved = wire.decode(stored.subject, stored.body, stored.seq, stored.at_ms)
        except BadFact as bad:
            await set_aside([delivery], bad)
            return
        assert isinstance(reserved, QuotaReserved), "the durable's filter lets only reservations through"
        name = name_of(reserved)
        running = self._hands.running.get(name)
        if running is not None:
            running.deliveries.append(delivery)
            return
        running = self._hands.hold(name, delivery)
        try:
            first = delivery.tries == 1
            again_s = await self._carry(reserved, running, whole=not first, patient=first)
            for one in running.deliveries:
                await (one.ack() if again_s is None else one.nak(again_s))
        except BusError as error:
            log_.warning("%s %s: %s; it will be handed out again", self.platform, name, error)
            for one in running.deliveries:
                await one.nak(AGAIN_S)
        except BadFact as bad:
            log_.warning("%s %s: %s; it is set aside", self.platform, name, bad)
            await set_aside(running.deliveries, bad)
        except Exception as error:  # an adapter may be anybody's code; after the ack wait the task is handed out again
            log_.exception("%s %s broke the adapter", self.platform, name)
            if delivery.tries >= BROKEN_TRIES:
                await self._give_up(reserved, delivery, f"The adapter broke over it {delivery.tries} times: {error!r}")
        finally:
            self._hands.let_go(name)

    async def _give_up(self, reserved: QuotaReserved, delivery: Delivery, why: str) -> None:
        """End an attempt that nobody can carry, without its adapter; the dead stream keeps the reason."""
        try:
            end, expected = await self._lane.given_up(reserved, why)
            if end is not None:
                await self._lane.append(self._stamped(end, self._hands.next_number()), expected)
        except (BusError, BadFact) as error:
            log_.warning("%s %s cannot be given up yet: %s", self.platform, name_of(reserved), error)
        else:
            await delivery.term(why)

    async def _recover(self, key: str) -> None:
        """End at once what an earlier life of this store had begun: the log would hand it out only after the ack wait."""
        _, chain, task, epoch = key.split(".")
        try:
            reserved = await self._lane.reserved(chain, task)
            state = None if reserved is None else await self._lane.load(reserved, whole=True)
            if self._lost.finds(key, state and state.started) or reserved is None or state is None:
                await self._lost.keep_unclaimed(key)
                if reserved is not None:
                    await self._resume(reserved)
            elif (outcome := self._spool.outcomes.get(key)) is not None:
                # Not by way of the reservation: the lane may go on meanwhile, and then this answer is late.
                async with self._hands.holding(f"{chain}.{task}.{outcome.attempt}") as running:
                    if (kept := self._spool.outcomes.get(key)) is not None:
                        await self._record(reserved, state, kept, running.number)
            elif state.started.seq == int(epoch) and state.started.attempt == reserved.attempt:
                await self._resume(reserved)
            else:
                self._spool.forget(key)
        except (AccessDenied, LogDamaged, BadFact) as error:
            log_.warning("%s %s waits to be handed out again: %s", self.platform, key, error)
        except BusError as error:
            # Another worker may have taken over and acked: then nothing would ever bring a kept answer here again.
            log_.info("%s %s: %s; trying again", self.platform, key, error)
            await asyncio.sleep(PAUSE_S)
            if not self._stopping.is_set():
                self._spawn(self._recover(key))

    async def _resume(self, reserved: QuotaReserved) -> None:
        async with self._hands.holding(name_of(reserved)) as running:
            await self._carry(reserved, running, whole=True, patient=True)

    async def _carry(self, reserved: QuotaReserved, running: Running, *, whole: bool, patient: bool) -> float | None:
        """Ask the adapter until it has nothing more to say. Unless `whole` it trusts the reservation's view of the lane.

        Returns after how long (s) the reservation shall be handed out again: at once where the worker stops and nothing was
        begun; after an ack wait where another adapter began it, if `patient`. None when all is said.
        """
        state = await self._lane.load(reserved, whole=whole)
        expected = state.lane_seq if whole else reserved.lane_seq
        while True:
            if patient and is_anothers(state, reserved, self._spool.owner):
                return ACK_WAIT_S
            state.cancelled = state.cancelled or self._hands.is_cancelled(reserved.chain, reserved.task)
            if state.cancelled:
                running.cancelled.set()
            said = await self._decide(state, reserved, running)
            if said is None:
                self._forget(reserved, state)
                return None
            if isinstance(said, TaskStarted) and self._stopping.is_set():
                return 0.0
            if isinstance(said, TaskStarted) and not await self._has_room(running):
                continue
            try:
                seq = await self._lane.append(said, expected)
            except AppendRefused:
                state = await self._lane.load(reserved, whole=True)
                expected = state.lane_seq
                continue
            if not isinstance(said, TaskStarted):
                self._forget(reserved, state)
                return None
            started = msgspec.structs.replace(said, seq=seq, prev=expected)
            state = self._adapter.evolve(state, started)
            learning = Learning(self._committer, started, self._stamped)
            try:
                outcome = await self._call(state, started, running, learning)
                await self._record(reserved, state, outcome, running.number)
                await learning.over()
            finally:
                learning.drop()
            return None

    async def _has_room(self, running: Running) -> bool:
        """Whether the answer is promised its room on the disk; if not at once, it was waited for, and much may have changed."""
        running.promise = running.promise or self._spool.promise()
        if running.promise is None:
            await self._spool.wait_for_room(running.cancelled, self._stopping)
        return running.promise is not None

    async def _decide(self, state: Any, reserved: QuotaReserved, running: Running) -> Fact | None:
        """Return the next fact: from the spool if an outcome waits there, else what the adapter says to the reservation."""
        started: TaskStarted | None = state.started
        heard: QuotaReserved | CallEnded = reserved
        if started is not None and started.attempt == reserved.attempt:
            key = key_of(self.platform, started)
            state.never_sent = started.adapter == self._spool.owner and key not in self._spool.sending
            outcome = self._spool.outcomes.get(key)
            heard = reserved if outcome is None else await self._lane.light(outcome)
        said = self._adapter.decide(state, heard)
        return self._stamped(said[0], running.number) if said else None

    def _stamped[Said: Fact](self, fact: Said, number: int) -> Said:
        # With the boot, because two lives of an adapter may see two outcomes; with the number, as reservations come again.
        fact_id = ids.of_fact(self._secret, f"adapter.{self._boot}", fact.cause, type(fact).__name__, number)
        if isinstance(fact, TaskStarted):
            tree = workplace.planned(fact.worktree, fact_id, self._settings) if fact.worktree else ""
            return msgspec.structs.replace(fact, id=fact_id, adapter=self._spool.owner, boot=self._boot, worktree=tree)
        return msgspec.structs.replace(fact, id=fact_id)

    async def _call(self, state: Any, started: TaskStarted, running: Running, learning: Learning) -> CallEnded:
        """Make the one call of the attempt, after the mark in the spool; keep its outcome there before anything else."""
        if (known := await self._lost.answer(started)) is not None:
            return known
        key = key_of(self.platform, started)
        assert self._adapter.perform is not None, "the adapter says what to perform"
        call = AttemptCall(self._log, self._kind, self._settings, self._environ, started, learning.hear)
        try:
            whole = msgspec.structs.replace(state, submitted=await self._lane.whole(state.submitted))
            ask = self._adapter.perform(whole, started, self._settings)
            if self._stopping.is_set():
                return call.unsent("The engine stopped before the call.", "crashed")
            if await self._lane.is_over(state.reserved):
                return call.unsent("Not sent: it was begun so late that its capacity had been given to others.", "crashed")
            await self._spool.mark_sending(key, running.promise)
        except OSError as error:
            return call.unsent(f"Not sent, the spool cannot be written: {error}", "crashed")
        except (BusError, UnicodeDecodeError, msgspec.DecodeError) as error:
            return call.unsent(f"Not sent: {error}")
        outcome = self._readable(state, await call.make(ask, running.cancelled, self._stopping))
        try:
            await self._spool.keep(key, outcome, running.promise)
        except OSError as error:
            log_.error("the spool did not take a paid answer (%s); it goes to the log from memory", error)
        return outcome

    def _readable(self, state: Any, outcome: CallEnded) -> CallEnded:
        """Return `outcome`, or one that says why nobody could read it: a platform may be anybody's code."""
        try:
            for fact in self._adapter.decide(state, msgspec.structs.replace(outcome, text="")):
                wire.decode(subjects.subject_of("adapter", fact), wire.encode(fact))
        except Exception as error:  # noqa: BLE001  whatever it is, the attempt must get its end
            log_.error("%s gave what no fact can hold: %r", self.platform, error)
            return blamed(outcome, f"The platform's outcome cannot be recorded: {error}")
        return outcome

    async def _record(self, reserved: QuotaReserved, state: Any, outcome: CallEnded, number: int) -> None:
        """Append how the attempt ended; where the lane went on without us, as a late result."""
        expected = state.lane_seq
        light = await self._lane.light(outcome)
        while said := self._adapter.decide(state, light):
            try:
                await self._lane.append(self._stamped(said[0], number), expected)
                break
            except AppendRefused:
                state = await self._lane.patiently(lambda: self._lane.load(reserved, whole=True))
                expected = state.lane_seq
        self._spool.forget(f"{self.platform}.{reserved.chain}.{reserved.task}.{outcome.epoch}")

    def _forget(self, reserved: QuotaReserved, state: Any) -> None:
        started: TaskStarted | None = state.started
        if started is not None and started.attempt == reserved.attempt:
            self._spool.forget(key_of(self.platform, started))

    async def _beat(self) -> None:
        """Tell the log that we still work, and look for cancels that a lost connection kept from us."""
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            for name, running in list(self._hands.running.items()):
                try:
                    for delivery in running.deliveries:
                        await delivery.progress()
                    chain, task, _ = name.split(".")
                    if await self._lane.cancelled(chain, task):
                        running.cancelled.set()
                except BusError as error:
                    log_.warning("%s: no heartbeat: %s", self.platform, error)
