"""The follower: reads the log in order once for all actors of a process, lets each mind fold and decide, and appends.

A refused append means: read on, decide anew. No answer means the same under the same fence. Nothing is decided before the
past is folded.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

import msgspec

from farebox.core import subjects, wire
from farebox.core.actor import Parked, Quarantined
from farebox.core.chains import FREE, Chains
from farebox.core.errors import AppendRefused, BadFact, BrokenChain, BusError
from farebox.core.events import Fact
from farebox.core.ids import NONE
from farebox.log.port import Entry, Log, Stored
from farebox.runtime.clock import StreamClock
from farebox.runtime.committer import Committer
from farebox.runtime.mind import Decision, Mind
from farebox.runtime.stopped import Unchained

log_ = logging.getLogger("farebox.follower")

SINGLES_OF_A_WRITER = {"always": 5, "100ms": 8}
"""Pending facts up to which a whole writer's singles, one after the other, beat an atomic batch (measured on 2 cores)."""
PAUSE_S = 0.25
"""Pause before an append whose outcome is unknown is decided anew."""

DOUBTED_MAX = 1000
"""Facts out of their chain that are remembered, the first ones; the audit names all."""

UPGRADE = "Update this farebox: git pull && uv run farebox --version"

Tap = Callable[[Sequence[Stored]], None]
Ear = Callable[[Fact], None]


class Follower:
    """Drives minds over one log. `taps` see every fact as stored, in order (the views), `ears` as read (the board)."""

    def __init__(
        self, log: Log, minds: Sequence[Mind], committer: Committer, clock: StreamClock, *, taps: Sequence[Tap] = (),
        taps_from: int | None = None, ears: Sequence[Ear] = (), durability: str = "always",
    ) -> None:  # fmt: skip
        self._log = log
        self._minds = minds
        self._committer = committer
        self._clock = clock
        self._taps = taps
        self._ears = ears
        self._concerns: dict[tuple[type, str], list[Mind]] = {}
        self._taps_from = taps_from
        self._singles_max = SINGLES_OF_A_WRITER[durability]
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._broken: asyncio.Future[None] | None = None
        self.live = asyncio.Event()
        self._last_ms = 0
        self.seq = 0
        self.quarantined = 0
        self.doubted: dict[int, Unchained] = {}
        self._chains = Chains()

    async def run(self) -> None:
        """Follow the log without end. Raises LogDamaged at a hole; what breaks an actor stops that actor, or one task of it."""
        broken = self._broken = asyncio.get_running_loop().create_future()
        following = asyncio.ensure_future(self._follow())
        try:
            await asyncio.wait({following, broken}, return_when=asyncio.FIRST_COMPLETED)
            (following if following.done() else broken).result()
        finally:
            broken.cancel()
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    async def _follow(self) -> None:
        position = await self._log.position()
        starts = [mind.seq + 1 for mind in self._minds]
        starts += [self._taps_from] if self._taps_from is not None else []
        start = max(min(starts, default=1), position.first_seq, 1)
        self.seq = start - 1
        self._chains = Chains(self.seq)
        if self.seq >= position.last_seq:
            self._go_live()
        async for batch in self._log.follow(start):
            self._fold(batch)
            if not self.live.is_set() and self.seq >= position.last_seq:
                self._go_live()
            elif self.live.is_set():
                self._clock.saw(batch[-1].at_ms)
                self._pump()

    async def close(self) -> None:
        """Decide nothing any more and wait for what is on its way."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _fold(self, batch: Sequence[Stored]) -> None:
        for stored in batch:
            self.seq = stored.seq
            fact = self._read(stored)
            if fact is None:
                continue
            writer = stored.subject.split(".", 3)[2]
            for mind in self._concerned(type(fact), writer):
                if fact.seq > mind.seq:
                    mind.hear(fact, writer)
                    if mind.stopped.news:
                        self._tell(mind)
            if isinstance(fact, Fact):
                for ear in self._ears:
                    ear(fact)
        for mind in self._minds:
            mind.skip(self.seq)
        self._last_ms = batch[-1].at_ms
        for tap in self._taps:
            tap(batch)

    def _concerned(self, kind: type, writer: str) -> Sequence[Mind]:
        """Return who has to hear such a fact: most facts are the business of two of the minds."""
        found = self._concerns.get((kind, writer))
        if found is None:
            found = self._concerns[kind, writer] = [mind for mind in self._minds if mind.concerns(kind, writer)]
        return found

    @staticmethod
    def _tell(mind: Mind) -> None:
        """Say in the engine's log what an actor could not take in; `farebox dead` says it from then on."""
        for seq, text in mind.stopped.news:
            log_.error("%s: fact %d %s", mind.actor.name, seq, text)
        mind.stopped.news.clear()

    def _read(self, stored: Stored) -> Fact | Quarantined | Parked | Unchained | None:
        """Return the fact; a liar or garbage is quarantined before any decide, and a task it would have begun is ended.

        What a later farebox wrote, or what follows a fact that is not there, parks its task. Raises NewerFact where that is
        not enough.
        """
        try:
            fact = wire.decode(stored.subject, stored.body, stored.seq, stored.at_ms)
        except wire.NewerFact as newer:
            self._chains.skip(stored.seq, stored.subject)
            log_.warning("parked at fact %d on %s: %s", stored.seq, stored.subject, newer)
            return self._parked(stored, newer)
        except BadFact as bad:
            self._chains.skip(stored.seq, stored.subject)
            self.quarantined += 1
            log_.warning("quarantined fact %d on %s: %s", stored.seq, stored.subject, bad)
            return _quarantined(stored, str(bad))
        try:
            return self._chains.checked(fact, stored.subject)
        except BrokenChain as broken:
            return self._unchained(stored, Unchained(fact, stored.subject, broken.message))

    def _unchained(self, stored: Stored, found: Unchained) -> Quarantined | Unchained | None:
        """A fact follows one that is not there: its task stops, and a task that it would have begun is ended.

        What a client says without having seen what it says it saw is passed over: so nobody can stop another's task.
        """
        self.quarantined += 1
        log_.warning("%s fact %d on %s: %s", BrokenChain.code, stored.seq, stored.subject, found.reason)
        if len(self.doubted) < DOUBTED_MAX:
            self.doubted[stored.seq] = found
        if found.fact.task == NONE or stored.subject.startswith(FREE):
            return _quarantined(stored, found.reason)
        return found

    def _parked(self, stored: Stored, newer: wire.NewerFact) -> Parked | None:
        """Park the task of a fact that a later farebox wrote. Raises NewerFact for what an actor guards as a whole.

        Who counts slots cannot go on counting beside somebody whose words he cannot read.
        """
        try:
            address = subjects.parse(stored.subject)
        except BadFact:
            return None
        if any(mind.actor.pace == "writer" and mind.actor.name == address.writer for mind in self._minds):
            raise wire.NewerFact(f"Fact {stored.seq} is of a later farebox: {newer.message}", hint=UPGRADE) from newer
        if address.task == NONE:
            return None
        return Parked(address.chain, address.task, stored.seq, stored.at_ms, newer.message)

    def retry(self, seq: int) -> bool:
        """Decide anew about a fact that stayed undecided. Returns whether there was one."""
        found = [mind for mind in self._minds if mind.retry(seq)]
        for mind in found:
            self._pump_mind(mind)
        self._set_timer()
        return bool(found)

    def _go_live(self) -> None:
        if self._last_ms > self._clock.now_ms():
            self._clock.saw(self._last_ms)
        for mind in self._minds:
            mind.go_live(self._clock.now_ms())
        self.live.set()
        self._pump()

    def _pump(self) -> None:
        for mind in self._minds:
            self._pump_mind(mind)
        self._set_timer()

    def _pump_mind(self, mind: Mind) -> None:
        while not self._closed:
            try:
                self._append_all(mind)
            except Exception:
                if mind.actor.pace == "writer":
                    log_.exception("%s broke and decides about nothing until it can", mind.actor.name)
                    return
                log_.exception("%s broke over a fact of one task; it stays undecided", mind.actor.name)
            else:
                return

    def _append_all(self, mind: Mind) -> None:
        for decision in mind.decisions():
            if mind.actor.pace == "writer":
                # The fence is what was known when it was decided: what is read before the task runs must refuse it.
                self._spawn_writer(mind, decision, mind.entries(decision))
            else:
                future = self._committer.append(mind.entries(decision), decision.key)
                future.add_done_callback(lambda done, d=decision, m=mind: self._answered(m, d, done))

    def end(self, error: BaseException) -> None:
        """End `run` with an error: what is read is not to be believed, so nothing is decided any more."""
        self._closed = True
        if self._broken is not None and not self._broken.done():
            self._broken.set_exception(error)

    def _answered(self, mind: Mind, decision: Decision, done: asyncio.Future[tuple[int, ...]]) -> None:
        error = done.exception()
        if error is None:
            mind.stored(decision, done.result())
        elif isinstance(error, AppendRefused):
            mind.refused(decision, error.last_seq)
        elif isinstance(error, BusError):
            log_.warning("%s: %s; deciding again", mind.actor.name, error)
            asyncio.get_running_loop().call_later(PAUSE_S, self._again, mind, decision)
            return
        else:
            self._unsayable(mind, decision, error)
        self._pump_mind(mind)
        self._set_timer()

    @staticmethod
    def _unsayable(mind: Mind, decision: Decision, error: BaseException) -> None:
        if mind.unsayable(decision, f"What was decided cannot be stored: {error}"):
            log_.error("%s said what cannot be stored, its task stays where it is: %s", mind.actor.name, error)

    def _again(self, mind: Mind, decision: Decision) -> None:
        mind.unknown(decision)
        self._pump_mind(mind)
        self._set_timer()

    def _spawn_writer(self, mind: Mind, decision: Decision, entries: Sequence[Entry]) -> None:
        task = asyncio.ensure_future(self._append_writer(mind, decision, entries))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _append_writer(self, mind: Mind, decision: Decision, entries: Sequence[Entry]) -> None:
        """One append in flight for the whole writer: few facts one after the other, many as one batch."""
        try:
            seqs = await self._append_in_order(mind, decision, entries)
        except AppendRefused as refused:
            mind.refused(decision, refused.last_seq)
        except BusError as error:
            log_.warning("%s: %s; deciding again", mind.actor.name, error)
            await asyncio.sleep(PAUSE_S)
            mind.unknown(decision)
        except Exception as error:  # noqa: BLE001 - it stops this writer, not the engine
            self._unsayable(mind, decision, error)
        else:
            mind.stored(decision, seqs)
        self._pump_mind(mind)
        self._set_timer()

    async def _append_in_order(self, mind: Mind, decision: Decision, entries: Sequence[Entry]) -> tuple[int, ...]:
        if len(decision.facts) > self._singles_max:
            return await self._log.append(entries)
        seqs: list[int] = []
        for fact in decision.facts:
            single = msgspec.structs.replace(decision, facts=(fact,))
            (seq,) = await self._log.append(mind.entries(single, last=seqs[-1]) if seqs else entries[:1])
            seqs.append(seq)
        return tuple(seqs)

    def _set_timer(self) -> None:
        """Wake each mind that wants it at the moment it wants it."""
        due = min((moment for mind in self._minds if (moment := mind.due()) is not None), default=None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if due is not None and not self._closed:
            delay_s = max(0.0, (due - self._clock.now_ms()) / 1000)
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._wake)

    def _wake(self) -> None:
        self._timer = None
        now_ms = self._clock.now_ms()
        for mind in self._minds:
            due = mind.due()
            if due is not None and due <= now_ms + 1:
                mind.wake(max(due, now_ms))
                self._pump_mind(mind)
        self._set_timer()


def _quarantined(stored: Stored, reason: str) -> Quarantined | None:
    try:
        address = subjects.parse(stored.subject)
    except BadFact:
        return None
    if address.token != "submitted":
        return None
    return Quarantined(address.chain, address.task, stored.seq, stored.at_ms, reason)
