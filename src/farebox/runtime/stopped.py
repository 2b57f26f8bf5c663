"""What one mind stopped at: what it left undecided, what it could not take in, and what keeps the whole actor from deciding.

A mind that stopped somewhere goes on with all else. Nothing here is kept: it follows from the log, so a start finds it again.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from farebox.core.actor import Parked, Quarantined, Wake
from farebox.core.events import Fact
from farebox.core.ids import NONE

REASON_CHARS = 1000

Heard = Fact | Quarantined | Parked | Wake
Key = tuple[str, str]


class Broken(Struct, frozen=True):
    """What an actor could not decide about or take in, and why: it broke, or it said what no log can hold."""

    heard: Fact | Quarantined | Parked
    reason: str


class Halt(Struct, frozen=True):
    """Why an actor decides about nothing any more. `seq` is the fact it stopped at, `read` how far it had read by then."""

    seq: int
    reason: str
    read: int = 0


class Unchained(Struct, frozen=True):
    """A fact that follows one which is not there: its task stops. Made by the reader, never logged."""

    fact: Fact
    subject: str
    reason: str

    @property
    def seq(self) -> int:
        """Where it stands."""
        return self.fact.seq

    @property
    def parked(self) -> Parked:
        """What the minds hear in its place."""
        return Parked(self.fact.chain, self.fact.task, self.fact.seq, self.fact.at_ms, self.reason)


class Stopped:
    """The bookkeeping. By sequence: `broken` is undecided, `unfolded` was not taken in; `parked` are tasks left to others.

    `news` are lines for the engine's log, each with its fact; whoever says them takes them away.
    """

    def __init__(self) -> None:
        self.broken: dict[int, Broken] = {}
        self.unfolded: dict[int, Broken] = {}
        self.parked: dict[Key, int] = {}
        self.stuck: Halt | None = None
        self.news: list[tuple[int, str]] = []
        self._halts: dict[str, Halt] = {}
        self._keys: set[Key] = set()
        self._lacks = False

    def leave(self, heard: Heard, reason: str) -> None:
        """Keep what stays undecided; a wake comes again by itself."""
        if not isinstance(heard, Wake):
            self.broken[heard.seq] = Broken(heard, reason[:REASON_CHARS])

    def unfold(self, fact: Fact | Quarantined | Parked, key: Key, reason: str) -> None:
        """A fact was not taken in: nothing is decided about its key any more."""
        self._lacks = True
        self._keys.add(key)
        self.unfolded[fact.seq] = Broken(fact, reason[:REASON_CHARS])
        self.news.append((fact.seq, f"cannot be taken in, its task stops: {reason}"))

    def halt(self, fact: Fact | Quarantined | Parked, reason: str, *, lasting: bool) -> None:
        """A fact was not taken in that concerns every task. Unless `lasting`, the next of its kind stands in its place."""
        self._lacks = True
        self.news.append((fact.seq, f"cannot be taken in, so nothing is decided any more: {reason}"))
        self._halts.setdefault(f"{fact.seq}" if lasting else _kind_of(fact), Halt(fact.seq, reason[:REASON_CHARS], fact.seq))

    def lift(self, fact: Fact | Quarantined | Parked) -> None:
        """A fact was taken in; it stands in the place of the one before of its kind, if that one stopped everything."""
        if self._halts:
            self._halts.pop(_kind_of(fact), None)

    def stick(self, seq: int, reason: str, read: int) -> bool:
        """A whole writer cannot decide from what it knows; what it reads next may mend it. Returns whether that is news."""
        news = self.stuck is None or self.stuck.reason != reason[:REASON_CHARS]
        self.stuck = Halt(seq, reason[:REASON_CHARS], read)
        return news

    def loosen(self, seq: int) -> bool:
        """Let a stuck writer try again. Returns whether it is stuck at `seq`."""
        if self.stuck is None or self.stuck.seq != seq:
            return False
        self.stuck = Halt(seq, self.stuck.reason, -1)
        return True

    def concerns(self, heard: Heard, key: Key) -> bool:
        """Whether nothing may be decided about what was heard: its task is parked, or was not taken in whole."""
        if not self.parked and not self._keys:
            return False
        return key in self._keys or (not isinstance(heard, Wake) and heard.key in self.parked)

    @property
    def halted(self) -> bool:
        """Whether nothing at all may be decided."""
        return bool(self._halts)

    @property
    def whole(self) -> bool:
        """Whether the state holds all of the log that was read, and all of it is answered."""
        return not (self.broken or self.parked or self.stuck or self._halts or self._lacks)

    def halts(self) -> Iterator[Halt]:
        """Yield what keeps the whole actor from deciding."""
        yield from self._halts.values()
        if self.stuck is not None:
            yield self.stuck


def _kind_of(fact: Fact | Quarantined | Parked) -> str:
    return f"{type(fact).__name__} {getattr(fact, 'platform', NONE)}"


def told(error: Exception) -> str:
    """Return what broke an actor, in a line."""
    return f"{type(error).__name__}: {error}"
