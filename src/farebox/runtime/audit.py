"""The audit: reads the whole log and says what is not as it must be, each thing with its sequence. It changes nothing.

Facts are judged as they pass, so the memory it takes is 16 bytes a fact. What the server cannot give out ends the reading: what
comes after a hole proves nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import msgspec
from msgspec import Struct

from farebox.core import wire
from farebox.core.chains import Chains
from farebox.core.errors import BadFact, LogDamaged
from farebox.core.events import CostRecorded, Fact, LateResult, TaskCompleted
from farebox.core.terms import Ref
from farebox.core.trail import BEGIN, Mark, id_of, step
from farebox.log.gaps import PUT_BACK
from farebox.log.port import Log, Position, Stored

FENCES_KEPT = 1_000_000
SILENCE_S = 5.0
"""After so long without a fact that must be there, it is asked for by its sequence."""
FAULTS_MAX = 1000
BLOBS_AT_ONCE = 4
BUCKETS = 256
Keep = Callable[[Ref, bytes], None]


class Fault(Struct, frozen=True):
    """What is wrong, and where (0: nowhere in particular)."""

    seq: int
    code: str
    text: str


class Report(Struct, frozen=True):
    """What an audit found. `mark` is the end of what was read; `faults` are in the order of their sequences."""

    facts: int
    first: int
    mark: Mark
    blobs: int
    faults: tuple[Fault, ...]

    @property
    def good_to(self) -> int:
        """The last sequence before the first fault."""
        return self.faults[0].seq - 1 if self.faults else self.mark.seq


class Once:
    """Names that must stand once each: 16 bytes a name, two different ones taken for the same once in 10^11 years of facts."""

    def __init__(self) -> None:
        self._hashes = [array("Q") for _ in range(BUCKETS)]
        self._seqs = [array("Q") for _ in range(BUCKETS)]

    def add(self, name: str, seq: int) -> None:
        """Note a name."""
        digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=9).digest()
        self._hashes[digest[0]].append(int.from_bytes(digest[1:]))
        self._seqs[digest[0]].append(seq)

    def doubles(self) -> Iterator[tuple[int, int]]:
        """Yield the sequences of a name that stands again, with that where it stood first."""
        for hashes, seqs in zip(self._hashes, self._seqs, strict=True):
            if len(set(hashes)) == len(hashes):
                continue
            first: dict[int, int] = {}
            for name, seq in zip(hashes, seqs, strict=True):
                if name in first:
                    yield seq, first[name]
                first.setdefault(name, seq)


class Audit:
    """Judges facts in log order. `trail` holds the digests that were written down when the log was read before."""

    def __init__(self, first: int, trail: Mapping[int, str], begin: Mark | None = None) -> None:
        self.next = first
        self.digest = self.before = BEGIN if begin is None else bytes.fromhex(begin.digest)
        self.last: Stored | None = None
        self.faults: list[Fault] = []
        self.refs: dict[str, tuple[Ref, int]] = {}
        self._trail: Mapping[int, str] = trail if begin is not None or first == 1 else {}
        self._proven = first - 1
        self._chains = Chains(first - 1, FENCES_KEPT)
        self._ids = Once()
        self._ends = Once()

    def read(self, batch: Sequence[Stored]) -> None:
        """Take facts."""
        for stored in batch:
            self.before = self.digest
            self.digest = step(self.digest, stored.seq, stored.at_ms, stored.subject, stored.body)
            self._compare(stored.seq)
            self._judge(stored)
        self.last, self.next = batch[-1], batch[-1].seq + 1

    def close(self) -> None:
        """Say what only shows when all was read."""
        for seq, first in self._ids.doubles():
            self._blame(seq, "FB807", f"has the id of fact {first}")
        for seq, first in self._ends.doubles():
            self._blame(seq, "FB807", f"ends the task that fact {first} had ended")
        self.faults.sort(key=lambda fault: fault.seq)

    def _compare(self, seq: int) -> None:
        known = self._trail.get(seq)
        if known is None:
            return
        if known == self.digest.hex():
            self._proven = seq
        elif not any(fault.code == "FB807" for fault in self.faults):
            self._blame(self._proven + 1, "FB807", f"or one after it, up to {seq}, is not what it was when it was read before")

    def _judge(self, stored: Stored) -> None:
        try:
            fact = wire.decode(stored.subject, stored.body, stored.seq, stored.at_ms)
        except BadFact as bad:
            self._chains.skip(stored.seq, stored.subject)
            self._blame(stored.seq, bad.code, f"is not believed: {bad.message}")
            return
        writer = stored.subject.split(".", 3)[2]
        try:
            self._chains.check(fact, stored.subject)
        except BadFact as bad:
            self._blame(stored.seq, bad.code, f"does not follow: {bad.message}")
        self._note(fact, writer)

    def _note(self, fact: Fact, writer: str) -> None:
        # Late results are not fenced: money is booked rather twice seen than never, so they and their charges may stand twice.
        twice = isinstance(fact, LateResult) or (isinstance(fact, CostRecorded) and fact.late)
        if writer != "client" and not twice:
            self._ids.add(fact.id, fact.seq)
        if isinstance(fact, TaskCompleted):
            self._ends.add(f"{fact.chain}.{fact.task}", fact.seq)
        for ref in refs_of(fact):
            self.refs.setdefault(ref.sha256, (ref, fact.seq))

    def _blame(self, seq: int, code: str, text: str) -> None:
        if len(self.faults) < FAULTS_MAX:
            self.faults.append(Fault(seq, code, f"Fact {seq} {text}".rstrip(".") + "."))


def refs_of(fact: Any) -> Iterator[Ref]:
    """Yield the references to large contents in a fact."""
    for name in fact.__struct_fields__:
        value = getattr(fact, name)
        if isinstance(value, Ref):
            yield value
        elif isinstance(value, tuple):
            for one in value:  # pyright: ignore[reportUnknownVariableType]
                if isinstance(one, msgspec.Struct):
                    yield from refs_of(one)


async def audit(
    log: Log, position: Position, *, trail: Mapping[int, str] | None = None, first: int = 1, last: int | None = None,
    begin: Mark | None = None, keep: Keep | None = None,
) -> Report:  # fmt: skip
    """Read the log from `first` to `last` (else to its end) and judge it. Raises BusError when it cannot be reached.

    The digest goes on from `begin`, else it begins anew with `first`. `keep` gets each large content that was found good.
    """
    first = first if begin is None else begin.seq + 1
    start = max(first, position.first_seq, 1)
    until = position.last_seq if last is None else min(last, position.last_seq)
    judge = Audit(start, trail or {}, begin)
    if first <= 1 < position.first_seq:
        judge.faults.append(Fault(1, "FB808", f"Fact 1 and all up to {position.first_seq - 1} are gone."))
    try:
        await _read(log, judge, until)
    except LogDamaged as damage:
        judge.faults.append(Fault(judge.next, damage.code, damage.message))
    _count(judge, position, start, until)
    await _check_blobs(log, judge, keep)
    judge.close()
    found = judge.last
    mark = begin or Mark(position.created)
    if found is not None:
        mark = Mark(position.created, found.seq, id_of(found.body), judge.before.hex(), judge.digest.hex())
    return Report(judge.next - start, start, mark, len(judge.refs), tuple(judge.faults))


def _count(judge: Audit, position: Position, first: int, last: int) -> None:
    """Blame what the server that leads lacks, though all was read: in a cluster a reading may be served by another one."""
    missing = position.gone_first
    if first <= missing <= last and not any(fault.code == LogDamaged.code for fault in judge.faults):
        text = (
            f"Fact {missing} is gone on the server that leads the log, one of {position.gone}; another one still has it. "
            "Let that one lead, and empty the store of this one: docs/guides/operate.md."
        )
        judge.faults.append(Fault(missing, LogDamaged.code, text))


async def _read(log: Log, judge: Audit, until: int) -> None:
    if judge.next > until:
        return
    async with aclosing(log.follow(judge.next)) as batches:
        while judge.next <= until:
            coming = asyncio.ensure_future(anext(batches))
            while not (await asyncio.wait({coming}, timeout=SILENCE_S))[0]:
                if await log.at(judge.next) is None:
                    coming.cancel()
                    await asyncio.gather(coming, return_exceptions=True)
                    raise LogDamaged(f"Fact {judge.next} cannot be read, though the log ends at {until}.", hint=PUT_BACK)
            judge.read([stored for stored in coming.result() if stored.seq <= until])


async def _check_blobs(log: Log, judge: Audit, keep: Keep | None) -> None:
    """Fetch each large content once and hold it against its hash."""
    waiting = list(judge.refs.values())

    async def check() -> None:
        while waiting:
            ref, seq = waiting.pop()
            try:
                body = await log.get_blob(ref)
                if keep is not None:
                    await asyncio.to_thread(keep, ref, body)
            except LogDamaged as damage:
                judge.faults.append(Fault(seq, damage.code, f"Fact {seq} names a content: {damage.message}"))

    await asyncio.gather(*(check() for _ in range(BLOBS_AT_ONCE)))
