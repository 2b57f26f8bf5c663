"""The baton rule, checked on every schedule: cancel x zombie x retry x two engines, breadth first, for one task.

What an engine knows is the part of the log that it has read; what it says next follows from there, by the real actors, and is
appended under the real fences to a log that may have gone on. So any engine that has read any part may speak at any time: that
is two engines, and more than two. A worker may stand still between any two steps for as long as it takes the others to do
everything else: that is the zombie. Reached states are kept by value; logs are kept once, as a tree.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterator
from typing import Any, Literal

import msgspec
from msgspec import Struct

from farebox.core import subjects
from farebox.core.actor import Actor, Wake
from farebox.core.events import (
    AttemptFailed,
    AttemptInterrupted,
    Fact,
    PlatformReported,
    QuotaReserved,
    QuotaSettled,
    SettingsAdopted,
    TaskCancelRequested,
    TaskCompleted,
    TaskStarted,
    TaskSubmitted,
)
from farebox.core.platform import CallEnded, Verdict
from farebox.core.settings import PlatformSettings, Settings, canonical
from farebox.core.terms import Fault, OnInterrupt
from farebox.log.names import matches
from farebox.simulation.laws import MOVES

SOON = Wake(at_ms=300_000)
"""Behind every wait of a few attempts, and before the deadline of a hold."""
ANSWERS: dict[str, Verdict] = {
    "answered": Verdict(ok=True, charged="known"),
    "failed": Verdict(ok=False, fault=Fault(error_class="server_error"), charged="none"),
    "cut": Verdict(ok=False, fault=Fault(error_class="stalled"), charged="possible"),
}
type Phase = Literal["idle", "holds", "started", "marked", "called", "kept"]


class Bounds(Struct, frozen=True):
    """How much may happen. `handed_twice` counts deliveries to one worker while another has the reservation, or had it."""

    workers: int = 2
    platforms: tuple[str, ...] = ("alpha",)
    crashes: int = 1
    handed_twice: int = 1
    cancels: int = 1
    attempts: int = 2
    policy: OnInterrupt = "retry"
    answers: tuple[str, ...] = ("answered", "cut")


class Hand(Struct, frozen=True):
    """A worker. `read` is the log it loaded (-1: it trusts the reservation); the rest survives on its disk."""

    phase: Phase = "idle"
    reserved: int = 0
    read: int = -1
    epoch: int = 0
    answer: str = ""
    lives: int = 0
    marks: frozenset[int] = frozenset()
    kept: frozenset[tuple[int, str]] = frozenset()


class State(Struct, frozen=True):
    """Everything at one moment. Logs are numbers of the tree; `called` are the epochs for which a provider was asked."""

    log: int
    hands: tuple[Hand, ...]
    called: frozenset[int] = frozenset()
    acked: frozenset[int] = frozenset()
    crashes: int = 0
    handed: int = 0
    cancels: int = 0


class Violation(AssertionError):
    """A schedule that breaks the rule, with the log it made."""


class Report(Struct, frozen=True):
    """What was explored: `ends` counts logs at rest."""

    states: int
    steps: int
    logs: int
    ends: int


class Node(Struct):
    """A log: the one before and one fact more, with the subject it stands on. `holder` has the baton after it."""

    before: int
    subject: str
    fact: Fact
    length: int
    holder: str


class Model:
    """All schedules of one task within bounds."""

    def __init__(self, actors: list[Actor[Any]], bounds: Bounds) -> None:
        self.bounds = bounds
        self._actors = {actor.name: actor for actor in actors}
        self._folded = {actor.name: actor.folded() for actor in actors}
        self._nodes: list[Node] = []
        self._children: dict[tuple[int, str, bytes], int] = {}
        self._folds: dict[tuple[str, int], Any] = {}
        self._says: dict[int, list[tuple[str, Fact]]] = {}
        self._lasts: dict[tuple[int, str], int] = {}
        self._first = -1
        self._paths: dict[int, tuple[int, ...]] = {-1: ()}

    def explore(self) -> Report:
        """Visit every reachable state. Raises Violation at the first one that breaks the rule."""
        start = self._start()
        seen = {start}
        queue = deque([start])
        steps = ends = 0
        while queue:
            state = queue.popleft()
            last = True
            for after in self._next(state):
                last = False
                steps += 1
                if after not in seen:
                    seen.add(after)
                    queue.append(after)
            if last:
                ends += 1
                self._check_rest(state)
        return Report(states=len(seen), steps=steps, logs=len(self._nodes), ends=ends)

    def _start(self) -> State:
        platforms = {name: PlatformSettings(kind="rehearsal", limit=1, billing="plan") for name in self.bounds.platforms}
        settings = Settings(platforms=platforms, attempts_max=self.bounds.attempts, billed_attempts_max=self.bounds.attempts)
        plain, sha256 = canonical(settings)
        log = self._append(-1, "engine", SettingsAdopted(settings=plain, sha256=sha256, id="settings"))
        for name in platforms:
            log = self._append(log, "adapter", PlatformReported(platform=name, available=True, id=f"report-{name}"))
        submitted = TaskSubmitted(chain="c", task="t", id="submitted", prompt="?", on_interrupt=self.bounds.policy)
        log = self._append(log, "client", submitted)
        self._first = log
        return State(log=log, hands=(Hand(),) * self.bounds.workers)

    def _next(self, state: State) -> Iterator[State]:
        yield from self._engines_step(state)
        for place, hand in enumerate(state.hands):
            yield from self._hand_step(state, place, hand)
            if hand.phase != "idle" and state.crashes < self.bounds.crashes:
                crashed = Hand(lives=hand.lives + 1, marks=hand.marks, kept=hand.kept)
                yield _change(_with(state, place, crashed), crashes=state.crashes + 1)
        if state.cancels < self.bounds.cancels:
            cancel = TaskCancelRequested(chain="c", task="t", id=f"cancel{state.cancels}")
            yield _change(state, log=self._append(state.log, "client", cancel), cancels=state.cancels + 1)

    def _engines_step(self, state: State) -> Iterator[State]:
        """Somebody who has read up to some place says what follows from there."""
        for read in self._paths[state.log]:
            for writer, fact in self._said(read):
                log = self._fenced(state.log, writer, fact, fact.prev)
                if log is not None:
                    yield _change(state, log=log)

    def _said(self, read: int) -> list[tuple[str, Fact]]:
        """Return what router and quota say when they have read so far."""
        if read not in self._says:
            self._says[read] = list(self._saying(read)) if read >= self._first else []
        return self._says[read]

    def _saying(self, read: int) -> Iterator[tuple[str, Fact]]:
        for writer, heard in (("router", self._nodes[self._first].fact), ("quota", SOON)):
            said = self._actors[writer].decide(self._fold(writer, read), heard)
            for fact in said[:1]:
                prev = fact.prev if writer == "router" else self._last(read, "farebox.log.quota.>")
                yield writer, msgspec.structs.replace(fact, id=f"{type(fact).__name__}-{fact.cause}-{fact.attempt}", prev=prev)

    def _hand_step(self, state: State, place: int, hand: Hand) -> Iterator[State]:
        match hand.phase:
            case "idle":
                yield from self._take(state, place, hand)
            case "holds":
                yield from self._begin(state, place, hand)
            case "started":
                yield _with(state, place, _change(hand, phase="marked", marks=hand.marks | {hand.epoch}))
            case "marked":
                self._check_call(state, hand)
                called = _change(state, called=state.called | {hand.epoch})
                for answer in self.bounds.answers:
                    yield _with(called, place, _change(hand, phase="called", answer=answer))
            case "called":
                yield _with(state, place, _change(hand, phase="kept", kept=hand.kept | {(hand.epoch, hand.answer)}))
            case "kept":
                yield from self._record(state, place, hand)

    def _take(self, state: State, place: int, hand: Hand) -> Iterator[State]:
        """A reservation comes: the first time trusting, later reading. While another has it, only so often."""
        for number in self._paths[state.log]:
            node = self._nodes[number]
            if not isinstance(node.fact, QuotaReserved):
                continue
            held = any(other.phase != "idle" and other.reserved == node.length for other in state.hands)
            extra = held or node.length in state.acked
            if extra and state.handed >= self.bounds.handed_twice:
                continue
            taken = _change(hand, phase="holds", reserved=node.length)
            handed = state.handed + extra
            yield _change(_with(state, place, _change(taken, read=self._loaded(state.log))), handed=handed)
            if not extra:
                yield _with(state, place, _change(taken, read=-1))

    def _begin(self, state: State, place: int, hand: Hand) -> Iterator[State]:
        """Decide from what was loaded, append under the fence; refused: load again."""
        reserved = self._fact(state.log, hand.reserved, QuotaReserved)
        known = self._attempt(reserved, hand)
        if known.started is not None and known.started.attempt == reserved.attempt:
            epoch = known.started.seq
            known.never_sent = known.started.adapter == f"w{place}" and epoch not in hand.marks
            kept = dict(hand.kept).get(epoch)
            if kept is not None:
                yield _with(state, place, _change(hand, phase="kept", epoch=epoch, answer=kept))
                return
        said = self._actors["adapter"].decide(known, reserved)
        if not said:
            yield self._done(state, place, hand)
            return
        expected = reserved.lane_seq if hand.read < 0 else known.lane_seq
        fact = msgspec.structs.replace(
            said[0], id=f"{type(said[0]).__name__}-{said[0].cause}-w{place}.{hand.lives}", prev=expected
        )
        if isinstance(fact, TaskStarted):
            fact = msgspec.structs.replace(fact, adapter=f"w{place}")
        log = self._fenced(state.log, "adapter", fact, expected)
        if log is None:
            if hand.read != self._loaded(state.log):
                yield _with(state, place, _change(hand, read=self._loaded(state.log)))
        elif isinstance(fact, TaskStarted):
            started = _change(hand, phase="started", epoch=self._nodes[log].length)
            yield _with(_change(state, log=log), place, started)
        else:
            yield self._done(_change(state, log=log), place, hand)

    def _record(self, state: State, place: int, hand: Hand) -> Iterator[State]:
        """Record the outcome: as an ending where the lane waited for it, else as a late result."""
        reserved = self._fact(state.log, hand.reserved, QuotaReserved)
        started = self._fact(state.log, hand.epoch, TaskStarted)
        # What was known when the call began, or all that can be read now.
        for read in {state.log, -1}:
            known = self._attempt(reserved, _change(hand, read=read))
            if read < 0:
                known.started, known.ended = started, None
            outcome = CallEnded(epoch=hand.epoch, cause=started.id, attempt=started.attempt, verdict=ANSWERS[hand.answer])
            said = self._actors["adapter"].decide(known, outcome)
            if not said:
                yield self._done(state, place, hand)
                continue
            fact = msgspec.structs.replace(said[0], id=f"{type(said[0]).__name__}-{started.id}", prev=known.lane_seq)
            writer = "late" if type(fact).__name__ == "LateResult" else "adapter"
            log = self._fenced(state.log, writer, fact, known.lane_seq)
            if log is not None:
                yield self._done(_change(state, log=log), place, hand)

    def _done(self, state: State, place: int, hand: Hand) -> State:
        kept = frozenset(one for one in hand.kept if one[0] != hand.epoch)
        idle = Hand(lives=hand.lives, marks=hand.marks - {hand.epoch}, kept=kept)
        return _with(_change(state, acked=state.acked | {hand.reserved}), place, idle)

    def _loaded(self, log: int) -> int:
        """Return the shortest log that tells a worker the same: what others said between makes no difference to him."""
        while log > self._first and self._nodes[log].subject.split(".")[2] not in {"adapter", "client"}:
            log = self._nodes[log].before
        return log

    def _attempt(self, reserved: QuotaReserved, hand: Hand) -> Any:
        """Fold what a worker loads: submission, cancel, and its lane where it reads that too."""
        adapter = self._actors["adapter"]
        known = adapter.evolve(adapter.new(), reserved)
        lane = subjects.lane_filter(reserved.platform, "c", "t")
        for number in self._paths[hand.read if hand.read >= 0 else self._first]:
            node = self._nodes[number]
            if isinstance(node.fact, TaskSubmitted | TaskCancelRequested) or matches(lane, node.subject):
                known = adapter.evolve(known, node.fact)
        return known

    def _check_call(self, state: State, hand: Hand) -> None:
        """A call answers a start that nobody called for, and every earlier call was ended in the log before that start."""
        if hand.epoch in state.called:
            raise Violation(f"epoch {hand.epoch} is called twice\n{self._told(state.log)}")
        endings = [fact for fact in self._facts(state.log) if isinstance(fact, AttemptFailed | AttemptInterrupted)]
        for epoch in state.called:
            if epoch < hand.epoch and not any(fact.epoch == epoch and fact.seq < hand.epoch for fact in endings):
                raise Violation(f"epoch {hand.epoch} is called, {epoch} was not ended\n{self._told(state.log)}")

    def _check_rest(self, state: State) -> None:
        """Where nothing more can happen, the task has ended and its slot is free."""
        facts = list(self._facts(state.log))
        if sum(isinstance(fact, TaskCompleted) for fact in facts) != 1:
            raise Violation(f"a deadlock\n{self._told(state.log)}\n{state}")
        reserved = sum(isinstance(fact, QuotaReserved) for fact in facts)
        if reserved != sum(isinstance(fact, QuotaSettled) for fact in facts):
            raise Violation(f"a slot is never free again\n{self._told(state.log)}")

    def _held_after(self, log: int, writer: str, fact: Fact) -> str:
        """Return who has the baton after `fact`. It must be said by who had it before."""
        holder = "router" if log < 0 else self._nodes[log].holder
        says = MOVES.get(type(fact))
        if says is None:
            return holder
        lane = getattr(fact, "platform", "-")
        if holder != (f"adapter.{lane}" if writer == "adapter" else writer):
            raise Violation(f"{writer} says {type(fact).__name__} while {holder} holds the baton\n{self._told(log)}")
        return says.format(lane=lane)

    def _fenced(self, log: int, writer: str, fact: Fact, expected: int) -> int | None:
        guard = subjects.fence_filter(writer, fact)
        if guard is not None and self._last(log, guard) != expected:
            return None
        return self._append(log, writer, fact)

    def _append(self, log: int, writer: str, fact: Fact) -> int:
        subject = subjects.subject_of(writer, fact)
        body = msgspec.json.encode(fact)
        number = self._children.get((log, subject, body))
        if number is None:
            length = 1 if log < 0 else self._nodes[log].length + 1
            number = len(self._nodes)
            told = msgspec.structs.replace(fact, seq=length, at_ms=length)
            self._nodes.append(Node(log, subject, told, length, self._held_after(log, writer, fact)))
            self._paths[number] = (*self._paths[log], number)
            self._children[log, subject, body] = number
        return number

    def _fold(self, writer: str, log: int) -> Any:
        state = self._folds.get((writer, log))
        if state is None:
            actor = self._actors[writer]
            state = actor.new() if log < 0 else self._fold(writer, self._nodes[log].before)
            if log >= 0 and type(self._nodes[log].fact) in self._folded[writer]:
                state = actor.evolve(copy.deepcopy(state), self._nodes[log].fact)
            self._folds[writer, log] = state
        return state

    def _last(self, log: int, guard: str) -> int:
        found = self._lasts.get((log, guard))
        if found is None:
            node = self._nodes[log]
            found = node.length if matches(guard, node.subject) else 0 if node.before < 0 else self._last(node.before, guard)
            self._lasts[log, guard] = found
        return found

    def _facts(self, log: int) -> Iterator[Fact]:
        return (self._nodes[number].fact for number in self._paths[log])

    def _fact[Kind: Fact](self, log: int, length: int, kind: type[Kind]) -> Kind:
        fact = self._nodes[self._paths[log][length - 1]].fact
        assert isinstance(fact, kind), "the log holds what was stored there"
        return fact

    def _told(self, log: int) -> str:
        return "\n".join(f"{node.length} {node.subject}" for node in map(self._nodes.__getitem__, self._paths[log]))


def _change[Value: Struct](value: Value, **changes: Any) -> Value:
    return msgspec.structs.replace(value, **changes)


def _with(state: State, place: int, hand: Hand) -> State:
    return _change(state, hands=(*state.hands[:place], hand, *state.hands[place + 1 :]))
