"""A lane: one platform's attempts at one task in the log, written under its fence and read back by exact subjects."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from farebox.core import subjects, wire
from farebox.core.actor import Actor
from farebox.core.errors import AppendRefused, BadFact, BusError, LogDamaged
from farebox.core.events import (
    AttemptFailed,
    AttemptInterrupted,
    Fact,
    LateResult,
    QuotaReserved,
    QuotaSettled,
    TaskCancelRequested,
    TaskStarted,
    TaskSubmitted,
)
from farebox.core.platform import CallEnded
from farebox.core.terms import Fault, FileInput
from farebox.log.port import Delivery, Entry, Fence, Log, Stored
from farebox.runtime.committer import Committer

log_ = logging.getLogger("farebox.worker")

PAUSE_S = 0.5
"""Pause before an append or a reading whose outcome is unknown is tried again."""
PARKED_S = 600.0
"""Pause before a reservation is handed out again of whose task a later farebox said what this one cannot read."""
FRESH_MS = 60_000
"""So young a reservation is surely not given up; quota waits ten times as long."""
REASON_CHARS = 4000
TOKENS = ("started", "completed", "failed", "interrupted")


Recent = Callable[[str, str], tuple[TaskSubmitted, bool] | None]
"""What this process itself has read of a task: its submission, and whether somebody wants its end."""


class Lane:
    """Reads and writes for the adapter of one platform."""

    def __init__(
        self, log: Log, committer: Committer, adapter: Actor[Any], platform: str, recent: Recent | None = None
    ) -> None:
        self._log = log
        self._committer = committer
        self._adapter = adapter
        self._platform = platform
        self._recent = recent

    async def load(self, reserved: QuotaReserved, *, whole: bool) -> Any:
        """Fold what the log says about the attempt: submission and cancel, and the lane's facts when they may exist.

        Where the engine has read the submission itself, it is not asked for again. Raises what reading raises.
        """
        chain, task = reserved.key
        recent = self._recent(chain, task) if self._recent is not None and not whole else None
        if recent is not None:
            submitted, cancelled = recent
            state = self._adapter.evolve(self._adapter.evolve(self._adapter.new(), reserved), submitted)
            return self._adapter.evolve(state, TaskCancelRequested(chain=chain, task=task)) if cancelled else state
        wanted = [
            subjects.exact(reserved.submitted_by, "submitted", chain, task),
            subjects.exact("client", "cancel_requested", chain, task),
        ]
        if whole:
            wanted += [subjects.exact("adapter", token, chain, task, self._platform) for token in TOKENS]
        found = await asyncio.gather(*(self._log.last(subject) for subject in wanted))
        facts = [fact for stored in found if stored is not None and (fact := _read(stored)) is not None]
        state = self._adapter.new()
        for fact in [reserved, *sorted(facts, key=lambda fact: fact.seq)]:
            state = self._adapter.evolve(state, fact)
        return state

    async def reserved(self, chain: str, task: str) -> QuotaReserved | None:
        """Return the last reservation of the task in this lane. Raises what reading raises."""
        last = await self._log.last(subjects.exact("quota", "reserved", chain, task, self._platform))
        found = None if last is None else wire.decode(last.subject, last.body, last.seq, last.at_ms)
        assert found is None or isinstance(found, QuotaReserved), "the subject says what stands there"
        return found

    async def given_up(self, reserved: QuotaReserved, why: str) -> tuple[Fact | None, int]:
        """Return how an attempt ends that nobody can carry, and what its fence expects; None where it has ended.

        The adapter is not asked: it may be what breaks. Raises what reading raises.
        """
        chain, task = reserved.key
        wanted = (subjects.exact("adapter", token, chain, task, self._platform) for token in TOKENS)
        facts = [_read(stored) for stored in await asyncio.gather(*map(self._log.last, wanted)) if stored is not None]
        known = sorted((fact for fact in facts if fact is not None), key=lambda fact: fact.seq)
        if not known or known[-1].attempt < reserved.attempt:
            return _end_of(reserved, why), known[-1].seq if known else 0
        last = known[-1]
        return (_end_of(last, why) if isinstance(last, TaskStarted) else None), last.seq

    async def light(self, outcome: CallEnded) -> CallEnded:
        """Move a large text into the object store; the spool keeps it for as long as that takes."""
        if len(msgspec.json.encode(outcome.text)) <= wire.INLINE_BYTES_MAX:
            return outcome
        ref = await self.patiently(lambda: self._log.put_blob(outcome.text.encode()))
        return msgspec.structs.replace(outcome, text="", text_ref=ref)

    async def cancelled(self, chain: str, task: str) -> bool:
        """Say whether somebody asked for the end of the task. Raises what reading raises."""
        return await self._log.last(subjects.exact("client", "cancel_requested", chain, task)) is not None

    async def is_over(self, reserved: QuotaReserved) -> bool:
        """Whether quota gave the reservation up because nobody began it in time: then it must not be called any more.

        Asked after the start stands in the log. Quota gives up none that is younger than minutes, so only an old one is
        looked up, by the clock of this machine.
        """
        if abs(time.time() * 1000 - reserved.at_ms) < FRESH_MS:
            return False
        subject = subjects.exact("quota", "settled", *reserved.key, self._platform)
        last = await self.patiently(lambda: self._log.last(subject))
        found = None if last is None else wire.decode(last.subject, last.body, last.seq, last.at_ms)
        return isinstance(found, QuotaSettled) and found.expired and found.attempt == reserved.attempt

    async def append(self, fact: Fact, expected: int) -> int:
        """Append one fact under the lane's fence. An unknown outcome is read back, never guessed."""
        writer = "late" if isinstance(fact, LateResult) else "adapter"
        guard = subjects.fence_filter(writer, fact)
        subject = subjects.subject_of(writer, fact)
        fence = None if guard is None else Fence(guard, expected)
        entry = Entry(subject, wire.encode(msgspec.structs.replace(fact, prev=expected if guard else 0)), fence)
        while True:
            try:
                (seq,) = await self._committer.append([entry], fact.key)
            except AppendRefused:
                mine = await self.mine(subject, fact)
                if mine is None:
                    raise
                return mine
            except BusError as error:
                log_.warning("%s: %s; reading back", self._platform, error)
                await asyncio.sleep(PAUSE_S)
                mine = await self.mine(subject, fact)
                if mine is not None:
                    return mine
            else:
                return seq

    async def mine(self, subject: str, fact: Fact) -> int | None:
        """Return the sequence of `fact` if it is what stands on its subject."""
        last = await self.patiently(lambda: self._log.last(subject))
        found = wire.decode(last.subject, last.body, last.seq, last.at_ms) if last else None
        return found.seq if found is not None and found.id == fact.id else None

    async def whole(self, task: TaskSubmitted) -> TaskSubmitted:
        """Fetch what the submission keeps in the object store. Raises LogDamaged, UnicodeDecodeError, DecodeError."""
        changes: dict[str, Any] = {}
        if task.prompt_ref is not None:
            ref = task.prompt_ref
            changes["prompt"] = (await self.patiently(lambda: self._log.get_blob(ref))).decode()
        if task.context_ref is not None:
            ref = task.context_ref
            changes["context"] = msgspec.json.decode(await self.patiently(lambda: self._log.get_blob(ref)))
        files = [await self._file(file) for file in task.files]
        return msgspec.structs.replace(task, files=tuple(files), **changes)

    async def patiently[Answer](self, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        """Ask until the log answers. Raises LogDamaged: no waiting mends that."""
        while True:
            try:
                return await ask()
            except LogDamaged:
                raise
            except BusError as error:
                log_.warning("%s: %s; trying again", self._platform, error)
                await asyncio.sleep(PAUSE_S)

    async def _file(self, file: FileInput) -> FileInput:
        ref = file.ref
        if ref is None:
            return file
        return FileInput(name=file.name, content=(await self.patiently(lambda: self._log.get_blob(ref))).decode())


def not_used(reserved: QuotaReserved) -> AttemptFailed:
    """Return the end of a reservation of a platform that is not used any more: nothing was begun, others may have the task."""
    return AttemptFailed(
        chain=reserved.chain, task=reserved.task, cause=reserved.id, attempt=reserved.attempt, batch=reserved.batch,
        traceparent=reserved.traceparent, platform=reserved.platform, model=reserved.model, billing=reserved.billing,
        fault=Fault(error_class="unavailable", message=f"{reserved.platform} is not used any more."),
    )  # fmt: skip


def _end_of(held: QuotaReserved | TaskStarted, why: str) -> AttemptFailed | AttemptInterrupted:
    """Return the end of an attempt that nobody can carry; what was started may have been charged."""
    told: dict[str, Any] = {
        name: getattr(held, name)
        for name in ("chain", "task", "attempt", "batch", "traceparent", "platform", "model", "billing")
    }
    fault = Fault(error_class="quarantined", message=why[:REASON_CHARS])
    if isinstance(held, TaskStarted):
        return AttemptInterrupted(**told, cause=held.id, epoch=held.seq, charged="possible", fault=fault)
    return AttemptFailed(**told, cause=held.id, fault=fault)


async def set_aside(deliveries: Sequence[Delivery], bad: BadFact) -> None:
    """Let go of a reservation that nobody here can read: for good, unless a later farebox wrote what it is about."""
    for one in deliveries:
        await (one.nak(PARKED_S) if isinstance(bad, wire.NewerFact) else one.term(str(bad)))


def is_anothers(state: Any, reserved: QuotaReserved, owner: str) -> bool:
    """Whether an adapter of another store than `owner` began this attempt and may still be at work."""
    started: TaskStarted | None = state.started
    if started is None or started.attempt != reserved.attempt or started.adapter == owner:
        return False
    return state.ended is None or state.ended.epoch < started.seq


def name_of(reserved: QuotaReserved) -> str:
    """Return what tells one attempt from another inside a worker."""
    return f"{reserved.chain}.{reserved.task}.{reserved.attempt}"


def key_of(platform: str, started: TaskStarted) -> str:
    """Return what the spool calls an attempt."""
    return f"{platform}.{started.chain}.{started.task}.{started.seq}"


def _read(stored: Stored) -> Fact | None:
    """Return a fact read back. What a client wrote and nobody can read counts as never said: it must not stop the task.

    Raises NewerFact: what a later farebox said is not for this one to pass over.
    """
    try:
        return wire.decode(stored.subject, stored.body, stored.seq, stored.at_ms)
    except wire.NewerFact:
        raise
    except BadFact:
        if subjects.parse(stored.subject).writer == "adapter":
            raise
        return None
