"""One actor's mind: folds the log in order, asks `decide`, keeps the fences. Sans-IO: follower and simulation drive it.

At pace "task" a decision waits for its own fact to come back before the same task is decided again, so the state only ever
holds what the log says. At pace "writer" a second state runs ahead of the log with what is on its way; a refusal throws
it away.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from farebox.core import ids, subjects, wire
from farebox.core.actor import Actor, Parked, Quarantined, Wake
from farebox.core.events import Fact
from farebox.log.port import Entry, Fence
from farebox.runtime.folding import Folding
from farebox.runtime.stopped import Heard, Key, Stopped, Unchained, told

FENCES_MAX = 100_000
"""Last sequences remembered; a forgotten one is learned again from the refusal it causes."""
AHEAD_MAX = 500
"""Facts of one append of a whole writer (a batch holds at most 1000)."""
KNOWN = frozenset({subjects.Guard.OWN_FIRST, subjects.Guard.ROUTER})
"""Guards of which the actor itself says, in `prev`, what the fence expects: the first word, or its own last one."""


class Decision(Struct):
    """Facts that stand or fall together, and what they answer. `seq` is how far the log was read when they were decided."""

    heard: tuple[Heard, ...]
    facts: tuple[Fact, ...]
    key: Key
    seq: int = 0


class Mind:
    """The bookkeeping of one follower actor over one log. A `mute` one only folds.

    What its actor breaks over stops one task, or the actor, and never who drives it (runtime/stopped.py).
    """

    def __init__(self, actor: Actor[Any], secret: bytes, state: Any = None, seq: int = 0, *, mute: bool = False) -> None:
        self.actor = actor
        self.seq = seq
        self._secret = secret
        self._mute = mute
        self.stopped = Stopped()
        self._folding = Folding(actor, state, self.stopped)
        self._heard_kinds = frozenset[type]() if mute else actor.heard()
        self._said_kinds = actor.said()
        self._last: dict[str, int] = {}
        self._pending: dict[Key, deque[Heard]] = {}
        self._ready: dict[Key, None] = {}
        self._busy: dict[Key, Decision] = {}
        self._waits: dict[Key, int] = {}
        self._live = False
        self._solo = actor.pace == "writer"
        self._woken = False

    def hear(self, fact: Fact | Quarantined | Parked | Unchained, writer: str) -> None:
        """Fold one fact of the log, in order; what the actor hears waits for `decisions`.

        What cannot be folded is kept in `stopped`. A fact out of its chain parks its task; what a whole writer granted by
        one counts all the same.
        """
        assert fact.seq > self.seq, "facts come in log order, each once"
        self.seq = fact.seq
        mine = writer == self.actor.name
        if isinstance(fact, Unchained):
            if mine and self._solo:
                self._folding.take(fact.fact, self._key(fact.fact), mine=True)
            fact = fact.parked
        own = fact if isinstance(fact, Fact) and mine else None
        if isinstance(fact, Parked):
            self.stopped.parked.setdefault(fact.key, fact.seq)
        self._folding.take(fact, self._key(fact), mine=own is not None)
        if own:
            self._note_own(own, writer)
        if type(fact) in self._heard_kinds and (self._live or not self._solo):
            self._queue(self._key(fact), fact)
        if self._waits:
            self._unblock(fact.seq)

    def concerns(self, kind: type, writer: str) -> bool:
        """Say whether such a fact has to be heard (what is no fact of the log always has); `skip` passes over all others."""
        own = writer == self.actor.name
        return own or not issubclass(kind, Fact) or self._folding.takes(kind) or kind in self._heard_kinds

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
        if self.actor.due is None or self._woken or self._mute or self.stopped.halted:
            return None
        try:
            return self.actor.due(self._folding.ahead)
        except Exception as error:  # noqa: BLE001 - it stops the actor, not the engine
            self.stopped.stick(self.seq, told(error), self.seq)
            return None

    def decisions(self) -> Iterator[Decision]:
        """Yield what is to be appended now. Each must come back through `stored`, `refused` or `unknown`."""
        if not self._live or self.stopped.halted:
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

    def unsayable(self, decision: Decision, reason: str) -> bool:
        """What was decided cannot be stored, whoever tries: it stays undecided, and the next fact of its key is looked at.

        A whole writer decides from its state, so it would say the same again: it is stuck. Returns whether that is news.
        """
        if self._solo:
            self.unknown(decision)
            return self.stopped.stick(self.seq, reason, self.seq)
        for heard in decision.heard:
            self.stopped.leave(heard, reason)
        self._free(decision)
        return True

    def retry(self, seq: int) -> bool:
        """Decide anew about what stayed undecided. Returns whether anything of that sequence did."""
        left = self.stopped.broken.pop(seq, None)
        if left is None:
            return self.stopped.loosen(seq)
        self._queue(self._key(left.heard), left.heard)
        return True

    def folds(self, fact: Fact) -> str:
        """Return why a fact cannot be folded now either, empty if it can; nothing is changed."""
        return self._folding.tried(fact)

    @property
    def state(self) -> Any:
        """What the log says, as far as it was read."""
        return self._folding.state

    @property
    def ahead(self) -> Any:
        """What the log will say once all that is on its way has come, if it does."""
        return self._folding.ahead

    @property
    def whole(self) -> bool:
        """Whether all that was heard is decided: only then a state may be kept in place of the facts that led to it."""
        return self.stopped.whole and not self._mute

    @property
    def idle(self) -> bool:
        """Whether nothing is waiting to be decided and nothing is on its way; who stopped waits for somebody else."""
        stands = self.stopped.halted or self.stopped.stuck is not None
        return not self._busy and (stands or not any(self._pending.values()))

    def _decide_key(self, key: Key) -> Decision | None:
        if key in self._busy or key in self._waits:
            return None
        pending = self._pending.get(key)
        while pending:
            heard = pending.popleft()
            if self.stopped.concerns(heard, key):
                continue
            try:
                facts = self._stamped(heard, self.actor.decide(self.state, heard))
            except Exception as error:
                # Left undecided; whoever catches it may go on with the others.
                self.stopped.leave(heard, told(error))
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
        if not pending or self._busy or self._waits or self._stands_still():
            return
        heard: list[Heard] = []
        facts: list[Fact] = []
        while pending and len(facts) < AHEAD_MAX:
            one = self._unless_stopped(pending[0])
            try:
                stamped = self._stamped(one, self.actor.decide(self._folding.ahead, one)) if one else ()
                self._folding.guess(stamped)
            except Exception as error:
                self._folding.guess_anew(facts)
                if facts:
                    break  # What is folded into the state must be said first; then the same breaks again.
                if self.stopped.stick(getattr(one, "seq", self.seq), told(error), self.seq):
                    raise
                return
            if not stamped:
                pending.popleft()
                heard += [one] if one else []
                self._woken = self._woken and not isinstance(one, Wake)
            # Who has more to say than one append holds is asked again after it.
            facts += stamped
        else:
            self.stopped.stuck = None
        if facts:
            decision = Decision(tuple(heard), tuple(facts), key)
            self._folding.guessed.update({fact.id: fact for fact in facts})
            self._busy[key] = decision
            yield decision

    def _unless_stopped(self, heard: Heard) -> Heard | None:
        """Return what to ask a whole writer about: of a task that stopped only that something happened."""
        if not self.stopped.concerns(heard, ("", "")):
            return heard
        return Wake(heard.at_ms) if Wake in self._heard_kinds else None

    def _stands_still(self) -> bool:
        """Whether a writer that is stuck has read nothing since: it would only break again."""
        return self.stopped.stuck is not None and self.seq <= self.stopped.stuck.read

    def _stamped(self, heard: Heard, facts: Sequence[Fact]) -> tuple[Fact, ...]:
        """Give each fact its cause and its id; its place counts among the facts of one answer."""
        stamped: list[Fact] = []
        for place, fact in enumerate(facts):
            assert type(fact) in self._said_kinds, f"{self.actor.name} may not say {type(fact).__name__}"
            cause = fact.cause or getattr(heard, "id", "")
            # Clients choose the ids of their facts, so a cause alone may not be unique; the task and the attempt are.
            # What is said about no task names the quota it is about.
            about = f"{fact.chain}.{fact.task}.{fact.attempt}.{fact.batch}\n{cause}{getattr(fact, 'quota', '')}"
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
        self._folding.guessed.pop(fact.id, None)
        key = self._key(fact)
        decision = self._busy.get(key)
        if not self._solo and decision is not None and fact.id == decision.facts[-1].id:
            del self._busy[key]
        pending = self._pending.get(key)
        if pending and not self._solo and any(getattr(heard, "id", None) == fact.cause for heard in pending):
            self._pending[key] = deque(heard for heard in pending if getattr(heard, "id", None) != fact.cause)
        self._mark(key)

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
            self._folding.guessed.clear()
            self._folding.guess_anew()
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
