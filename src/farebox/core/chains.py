"""Chains: each fenced fact says in `prev` what it was written on top of; whoever reads all facts can tell whether that is so.

The server has checked it when it stored the fact. A `prev` that was never seen means that facts of this task are gone, or that
somebody wrote without a fence and said what is not true.
"""

from __future__ import annotations

from msgspec import Struct

from farebox.core import subjects
from farebox.core.errors import BadFact, BrokenChain
from farebox.core.events import Fact
from farebox.core.subjects import Guard

KEPT_MAX = 50_000
"""Fences whose last fact is remembered; about 200 bytes each."""
FREE = frozenset({"client", "engine"})
"""Writers that need not say what they knew; what they say they knew must have been there."""


class _End(Struct, gc=False):
    """The last fact below a fence, and what it was written on top of."""

    seq: int
    prev: int


class Chains:
    """What stands last below each fence, as far as it was read. Up to `since` nothing is known, so nothing is doubted."""

    def __init__(self, since: int = 0, kept_max: int = KEPT_MAX) -> None:
        self._since = since
        self._kept_max = kept_max
        self._ends: dict[str, _End] = {}

    def check(self, fact: Fact, writer: str) -> None:
        """Take the next fact in log order. Raises BrokenChain if it follows one that its fence never had.

        What follows a broken fact of a task is broken too. All of quota is one chain, so there only the fact itself counts.
        """
        guard = subjects.fence_filter(writer, fact)
        if guard is None:
            return
        end = self._ends.get(guard)
        holds = self._holds(fact, writer, end)
        if holds or guard == _QUOTA:
            self._keep(guard, _End(fact.seq, fact.prev))
        if not holds:
            known = f"fact {end.seq}" if end is not None else "none"
            raise BrokenChain(
                f"{type(fact).__name__} was written on top of fact {fact.prev}, but the last one below {guard} is {known}."
            )

    def checked[Kind: Fact](self, fact: Kind, writer: str) -> Kind:
        """Return the fact once `check` has passed it."""
        self.check(fact, writer)
        return fact

    def skip(self, seq: int, subject: str) -> None:
        """Pass over a fact that nobody can read: the next one below its fence follows it all the same."""
        try:
            guard = _guard_of(subject)
        except BadFact:
            return
        if guard is not None:
            end = self._ends.get(guard)
            self._keep(guard, _End(seq, end.seq if end is not None else 0))

    def _holds(self, fact: Fact, writer: str, end: _End | None) -> bool:
        if end is None:
            return fact.prev <= self._since
        if writer in FREE:
            return fact.prev <= end.seq
        # Facts that were stored together share what they were written on top of.
        return fact.prev in {end.seq, end.prev}

    def _keep(self, guard: str, end: _End) -> None:
        self._ends.pop(guard, None)
        self._ends[guard] = end
        if len(self._ends) > self._kept_max:
            for old in list(self._ends)[: self._kept_max // 2]:
                self._since = max(self._since, self._ends.pop(old).seq)


_QUOTA = f"{subjects.LOG}.quota.>"


def _guard_of(subject: str) -> str | None:
    """Return the filter of the fence of whatever stands on this subject. Raises BadFact when it is none of ours."""
    place = subjects.parse(subject)
    row = subjects.BY_TOKEN.get((place.writer, place.token))
    match None if row is None else row.guard:
        case Guard.OWN_FIRST | Guard.OWN_LAST:
            return subject
        case Guard.ROUTER:
            return f"{subjects.LOG}.router.*.*.{place.chain}.{place.task}"
        case Guard.QUOTA:
            return _QUOTA
        case Guard.LANE:
            return f"{subjects.LOG}.adapter.*.{place.lane}.{place.chain}.{place.task}"
        case Guard.HANDOFF:
            return f"{subjects.LOG}.handoff.created.*.{place.chain}.{place.task}"
        case _:
            return None
