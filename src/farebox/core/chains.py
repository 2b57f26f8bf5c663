"""Chains: each fenced fact says in `prev` what it was written on top of; whoever reads all facts can tell whether that is so.

The server has checked it when it stored the fact. A `prev` that was never seen means that facts of this task are gone, or that
somebody wrote without a fence and said what is not true.
"""

from __future__ import annotations

from farebox.core import subjects
from farebox.core.errors import BrokenChain
from farebox.core.events import Fact
from farebox.core.subjects import Guard

KEPT_MAX = 50_000
"""Fences whose last fact is remembered; about 200 bytes each."""
FREE = (f"{subjects.LOG}.client.", f"{subjects.LOG}.engine.")
"""Writers that need not say what they knew; what they say they knew must have been there."""


class Chains:
    """What stands last below each fence, as far as it was read. Up to `since` nothing is known, so nothing is doubted."""

    def __init__(self, since: int = 0, kept_max: int = KEPT_MAX) -> None:
        self._since = since
        self._kept_max = kept_max
        self._ends: dict[str, tuple[int, int]] = {}

    def check(self, fact: Fact, subject: str) -> None:
        """Take the next fact in log order, read from `subject`. Raises BrokenChain if it follows one its fence never had.

        What follows a broken fact of a task is broken too. All of quota is one chain, so there only the fact itself counts.
        """
        fence = _fence_of(subject)
        if not fence:
            return
        end = self._ends.get(fence)
        holds = self._holds(fact.prev, subject, end)
        if holds or fence == _QUOTA:
            self._keep(fence, (fact.seq, fact.prev))
        if not holds:
            known = f"fact {end[0]}" if end is not None else "none"
            raise BrokenChain(
                f"{type(fact).__name__} was written on top of fact {fact.prev}, but the last one of {fence} is {known}."
            )

    def checked[Kind: Fact](self, fact: Kind, subject: str) -> Kind:
        """Return the fact once `check` has passed it."""
        self.check(fact, subject)
        return fact

    def skip(self, seq: int, subject: str) -> None:
        """Pass over a fact that nobody can read: the next one below its fence follows it all the same."""
        fence = _fence_of(subject)
        if fence:
            self._keep(fence, (seq, self._ends.get(fence, (0, 0))[0]))

    def _holds(self, prev: int, subject: str, end: tuple[int, int] | None) -> bool:
        if end is None:
            return prev <= self._since
        # Facts that were stored together share what they were written on top of.
        return prev in end or (subject.startswith(FREE) and prev <= end[0])

    def _keep(self, fence: str, end: tuple[int, int]) -> None:
        self._ends.pop(fence, None)
        self._ends[fence] = end
        if len(self._ends) > self._kept_max:
            for old in list(self._ends)[: self._kept_max // 2]:
                self._since = max(self._since, self._ends.pop(old)[0])


_QUOTA = "quota"
_GUARDS = {f"{row.writer}.{row.token}": row.guard for row in subjects.TABLE}


def _fence_of(subject: str) -> str:
    """Return a name for the fence of whatever stands on this subject, empty where there is none.

    The subject was held against the fact before, so nothing is looked at twice: this is on the way of every fact.
    """
    tokens = subject.split(".", 5)
    if len(tokens) < 6:
        return ""
    match _GUARDS.get(f"{tokens[2]}.{tokens[3]}"):
        case Guard.QUOTA:
            return _QUOTA
        case Guard.ROUTER | Guard.HANDOFF:
            return f"{tokens[2]} {tokens[5]}"
        case Guard.LANE:
            return f"{tokens[4]} {tokens[5]}"
        case Guard.OWN_FIRST | Guard.OWN_LAST:
            return subject
        case _:
            return ""
