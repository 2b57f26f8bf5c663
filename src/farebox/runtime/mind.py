"""One actor's mind: folds the log in order, asks `decide`, keeps the fences. Sans-IO: follower and simulation drive it.

At pace "task" a decision waits for its own fact to come back before the same task is decided again, so the state only ever
holds what the log says. At pace "writer" a second state runs ahead of the log with what is on its way; a refusal throws
it away.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from farebox.core import ids, subjects, wire
from farebox.core.actor import Actor, Parked, Quarantined, Wake
from farebox.core.events import Fact
from farebox.log.port import Entry, Fence

FENCES_MAX = 100_000
"""Last sequences remembered; a forgotten one is learned again from the refusal it causes."""
AHEAD_MAX = 500
"""Facts of one append of a whole writer (a batch holds at most 1000)."""
REASON_CHARS = 1000
KNOWN = frozenset({subjects.Guard.OWN_FIRST, subjects.Guard.ROUTER})
"""Guards of which the actor itself says, in `prev`, what the fence expects: the first word, or its own last one."""

Heard = Fact | Quarantined | Parked | Wake
Key = tuple[str, str]


class Decision(Struct):
    """Facts that stand or fall together, and what they answer. `seq` is how far the log was read when they were decided."""

    heard: tuple[Heard, ...]
    facts: tuple[Fact, ...]
    key: Key
    seq: int = 0


class Broken(Struct, frozen=True):
    """What an actor could not decide about, and why: it broke, or it said what no log can hold."""

    heard: Fact | Quarantined | Parked
    reason: str


class Mind:
    """The bookkeeping of one follower actor over one log. A `mute` one only folds.

    `broken` holds by sequence what stays undecided, `parked` the tasks of which a later farebox said what this one cannot read.
    """

    def __init__(self, actor: Actor[Any], secret: bytes, state: Any = None, seq: int = 0, *, mute: bool = False) -> None:
        self.actor = actor
        self.state = actor.new() if state is None else state
        self.seq = seq
        self._secret = secret
        self._mute = mute
        self.broken: dict[int, Broken] = {}
        self.parked: dict[Key, int] = {}
        self._heard_kinds = frozenset[type]() if mute else actor.heard()
        self._folded_kinds = actor.folded()
        self._said_kinds = actor.said()
        self._last: dict[str, int] = {}
        self._pending: dict[Key, deque[Heard]] = {}
        self._ready: dict[Key, None] = {}
        self._busy: dict[Key, Decision] = {}
        self._waits: dict[Key, int] = {}
        self._live = False
        self._solo = actor.pace == "writer"
        self._ahead: Any = copy.deepcopy(self.state) if self._solo else self.state
        self._ahead_ids: set[str] = set()
        self._woken = False

    def hear(self, fact: Fact | Quarantined | Parked, writer: str) -> None:
        """Fold one fact of the log, in order; what the actor hears waits for `decisions`."""
        assert fact.seq > self.seq, "facts come in log order, each once"
        self.seq = fact.seq
        own = fact if isinstance(fact, Fact) and writer == self.actor.name else None
        if isinstance(fact, Parked):
            self.parked.setdefault(fact.key, fact.seq)
        if type(fact) in self._folded_kinds:
            self.state = self.actor.evolve(self.state, fact)
            if self._solo and not (own and own.id in self._ahead_ids):
                self._ahead = self.actor.evolve(self._ahead, fact)
        if own:
            self._note_own(own, writer)
        if type(fact) in self._heard_kinds and (self._live or not self._solo):
            self._queue(self._key(fact), fact)
        if self._waits:
            self._unblock(fact.seq)

    def concerns(self, kind: type, writer: str) -> bool:
        """Say whether such a fact has to be heard (what is no fact of the log always has); `skip` passes over all others."""
        own = writer == self.actor.name
        return own or not issubclass(kind, Fact) or kind in self._folded_kinds or kind in self._heard_kinds

    def skip(self, seq: int) -> None:
        """Pass over facts up to `seq` that do not concern this mind, or that nobody can read."""
        if seq > self.seq:
            self.seq = seq
            self._unblock(seq)

    def go_live(self, at_ms: int) -> None:
        """The past is folded: from now on decisions count. A whole writer decides from its state, so it is simply woken."""
        self._live = True
        self.wake(at_ms)

    def wake(self, at_ms: int) -> None:
        """The moment that `due` asked for (or the first moment of all) has come. `at_ms` is stream time."""
        if Wake in self._heard_kinds and not self._woken:
            self._woken = True
            self._queue(("", ""), Wake(at_ms))

    def due(self) -> int | None:
        """Return when (stream time, ms) the actor wants to be woken."""
        return self.actor.due(self._ahead) if self.actor.due and not self._woken and not self._mute else None

    def decisions(self) -> Iterator[Decision]:
        """Yield what is to be appended now. Each must come back through `stored`, `refused` or `unknown`."""
        if not self._live:
            return
        if self._solo:
            yield from self._decide_ahead()
            return
        while self._ready:
            key = next(iter(self._ready))
            del self._ready[key]
            decision = self._decide_key(key)
            if decision is not None:
                yield decision

    def entries(self, decision: Decision, last: int | None = None) -> list[Entry]:
        """Return the entries of a decision, each with its fence. `last` overrides what the first fence expects.

        Where all facts share one filter, only the first is fenced: it guards the whole batch.
        """
        entries: list[Entry] = []
        fenced: set[str] = set()
        for fact in decision.facts:
            guard = subjects.fence_filter(self.actor.name, fact)
            subject = subjects.subject_of(self.actor.name, fact)
            expected = self._expected(fact, guard) if last is None else last
            body = wire.encode(msgspec.structs.replace(fact, prev=expected))
            fence = None if guard is None or guard in fenced else Fence(guard, expected)
            entries.append(Entry(subject, body, fence))
            if guard is not None:
                fenced.add(guard)
        return entries

    def stored(self, decision: Decision, seqs: Sequence[int]) -> None:
        """The facts are in the log. At pace "task" the key stays busy until they come back in order."""
        for fact, seq in zip(decision.facts, seqs, strict=True):
            guard = subjects.fence_filter(self.actor.name, fact)
            if guard is not None:
                self._note(guard, seq)
        if self._solo or all(seq <= self.seq for seq in seqs):
            self._free(decision)

    def refused(self, decision: Decision, last_seq: int | None) -> None:
        """A fence refused: somebody wrote first. Read on to `last_seq`, then decide anew.

        If all of that had been read before, and the actor itself said what the fence expects, then it asks about what was
        over long ago and forgotten: there is nothing to decide.
        """
        for fact in decision.facts:
            guard = subjects.fence_filter(self.actor.name, fact)
            if guard is not None and last_seq is not None:
                self._last[guard] = last_seq
        if last_seq is not None and last_seq <= decision.seq and all(map(self._knows, decision.facts)):
            self._free(decision)
            return
        self._retry(decision, self.seq + 1 if last_seq is None else last_seq)

    def unknown(self, decision: Decision) -> None:
        """No answer: decide anew under the same fence. If it was stored, the fence refuses and the log tells.

        A whole writer first reads what it had stored before: the fence counts that already, the state does not yet.
        """
        guards = [subjects.fence_filter(self.actor.name, fact) for fact in decision.facts]
        self._retry(decision, max((self._last.get(guard, 0) for guard in guards if guard), default=0))

    def unsayable(self, decision: Decision, reason: str) -> None:
        """What was decided cannot be stored, whoever tries: it stays undecided, and the next fact of its key is looked at."""
        for heard in decision.heard:
            self._leave(heard, reason)
        self._free(decision)

    def retry(self, seq: int) -> None:
        """Decide anew about what stayed undecided. Raises KeyError when nothing of that sequence did."""
        heard = self.broken.pop(seq).heard
        self._queue(self._key(heard), heard)

    @property
    def whole(self) -> bool:
        """Whether all that was heard is decided: only then a state may be kept in place of the facts that led to it."""
        return not self.broken and not self.parked and not self._mute

    @property
    def idle(self) -> bool:
        """Whether nothing is waiting to be decided and nothing is on its way."""
        return not self._busy and not any(self._pending.values())

    def _decide_key(self, key: Key) -> Decision | None:
        if key in self._busy or key in self._waits:
            return None
        pending = self._pending.get(key)
        while pending:
            heard = pending.popleft()
            if self.parked and not isinstance(heard, Wake) and heard.key in self.parked:
                continue
            try:
                facts = self._stamped(heard, self.actor.decide(self.state, heard))
            except Exception as error:
                # Left undecided; whoever catches it may go on with the others.
                self._leave(heard, f"{type(error).__name__}: {error}")
                self._mark(key)
                raise
            if facts:
                decision = self._busy[key] = Decision((heard,), facts, key, self.seq)
                return decision
        self._pending.pop(key, None)
        return None

    def _decide_ahead(self) -> Iterator[Decision]:
        """Decide all that waits against the state that runs ahead: one append in flight for the whole writer."""
        key = ("", "")
        pending = self._pending.get(key)
        if not pending or self._busy or self._waits:
            return
        heard: list[Heard] = []
        facts: list[Fact] = []
        while pending and len(facts) < AHEAD_MAX:
            one = pending[0]
            try:
                stamped = self._stamped(one, self.actor.decide(self._ahead, one))
            except Exception:
                if not facts:
                    raise
                break  # What is folded into the state must be said first; then the same breaks again.
            if not stamped:
                heard.append(pending.popleft())
                self._woken = self._woken and not isinstance(one, Wake)
                continue
            # Who has more to say than one append holds is asked again after it.
            for fact in stamped:
                self._ahead = self.actor.evolve(self._ahead, fact)
            facts += stamped
        if facts:
            decision = Decision(tuple(heard), tuple(facts), key)
            self._ahead_ids.update(fact.id for fact in facts)
            self._busy[key] = decision
            yield decision

    def _stamped(self, heard: Heard, facts: Sequence[Fact]) -> tuple[Fact, ...]:
        """Give each fact its cause and its id; its place counts among the facts of one answer."""
        stamped: list[Fact] = []
        for place, fact in enumerate(facts):
            assert type(fact) in self._said_kinds, f"{self.actor.name} may not say {type(fact).__name__}"
            cause = fact.cause or getattr(heard, "id", "")
            # Clients choose the ids of their facts, so a cause alone may not be unique; the task and the attempt are.
            about = f"{fact.chain}.{fact.task}.{fact.attempt}.{fact.batch}\n{cause}"
            fact_id = ids.of_fact(self._secret, self.actor.name, about, type(fact).__name__, place)
            stamped.append(msgspec.structs.replace(fact, cause=cause, id=fact_id))
        return tuple(stamped)

    def _queue(self, key: Key, heard: Heard) -> None:
        self._pending.setdefault(key, deque()).append(heard)
        self._mark(key)

    def _mark(self, key: Key) -> None:
        if self._pending.get(key) and key not in self._busy and key not in self._waits:
            self._ready[key] = None

    def _key(self, fact: Heard) -> Key:
        if self._solo or isinstance(fact, Wake):
            return ("", "")
        if self.actor.key is not None and isinstance(fact, Fact):
            return self.actor.key(fact)
        return fact.key

    def _note_own(self, fact: Fact, writer: str) -> None:
        """An own fact came back: its fence moves, its key is free, what it answered is answered."""
        guard = subjects.fence_filter(writer, fact)
        if guard is not None:
            self._note(guard, fact.seq)
        self._ahead_ids.discard(fact.id)
        key = self._key(fact)
        decision = self._busy.get(key)
        if not self._solo and decision is not None and fact.id == decision.facts[-1].id:
            del self._busy[key]
        pending = self._pending.get(key)
        if pending and not self._solo and any(getattr(heard, "id", None) == fact.cause for heard in pending):
            self._pending[key] = deque(heard for heard in pending if getattr(heard, "id", None) != fact.cause)
        self._mark(key)

    def _leave(self, heard: Heard, reason: str) -> None:
        if not isinstance(heard, Wake):
            self.broken[heard.seq] = Broken(heard, reason[:REASON_CHARS])

    def _free(self, decision: Decision) -> None:
        if self._busy.get(decision.key) is decision:
            del self._busy[decision.key]
        self._mark(decision.key)

    def _note(self, guard: str, seq: int) -> None:
        self._last[guard] = max(seq, self._last.pop(guard, 0))
        if len(self._last) > FENCES_MAX:
            for old in list(self._last)[: FENCES_MAX // 2]:
                del self._last[old]

    def _expected(self, fact: Fact, guard: str | None) -> int:
        if guard is None:
            return 0
        return fact.prev if self._knows(fact) else self._last.get(guard, 0)

    def _knows(self, fact: Fact) -> bool:
        return subjects.row_of(self.actor.name, fact).guard in KNOWN

    def _retry(self, decision: Decision, read_to: int) -> None:
        """Take back what was guessed and put what was heard first in line again, for when the log is read to `read_to`."""
        self._free(decision)
        pending = self._pending.setdefault(decision.key, deque())
        pending.extendleft(reversed(decision.heard))
        self._woken = self._woken or any(isinstance(heard, Wake) for heard in decision.heard)
        if self._solo:
            self._ahead = copy.deepcopy(self.state)
            self._ahead_ids.clear()
        if read_to > self.seq:
            self._waits[decision.key] = read_to
            self._ready.pop(decision.key, None)
        self._mark(decision.key)

    def _unblock(self, seq: int) -> None:
        for key in [key for key, wait_for in self._waits.items() if wait_for <= seq]:
            del self._waits[key]
            self._mark(key)


def writer_of(subject: str) -> str:
    """Return the writer's token of a subject of the log."""
    return subject.split(".", 3)[2]


Now = Callable[[], int]
"""Stream time as it is known here (ms since 1970)."""
