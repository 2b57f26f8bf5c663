"""A log read back as facts, as the laws look at it. Decoded again, independently of those who wrote it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from farebox.core import subjects, wire
from farebox.core.actor import Quarantined
from farebox.core.errors import BadFact
from farebox.core.events import Fact
from farebox.log.port import Stored


class History:
    """All facts of a log with their writers; what nobody can read is counted apart."""

    def __init__(self, stored: Sequence[Stored]) -> None:
        self.stored = stored
        self.facts: list[tuple[str, Fact]] = []
        self.heard: list[tuple[str, Fact | Quarantined]] = []
        self.unread: list[Stored] = []
        for one in stored:
            self._read(one)

    def of(self, *kinds: type[Fact], writer: str = "") -> Iterator[Any]:
        """Yield the facts of some kinds, in order."""
        for name, fact in self.facts:
            if isinstance(fact, kinds) and writer in {"", name}:
                yield fact

    def tasks(self) -> dict[tuple[str, str], list[tuple[str, Fact]]]:
        """Return the facts of each task, in order."""
        tasks: dict[tuple[str, str], list[tuple[str, Fact]]] = {}
        for writer, fact in self.facts:
            if fact.task != "-":
                tasks.setdefault(fact.key, []).append((writer, fact))
        return tasks

    def _read(self, one: Stored) -> None:
        address = subjects.parse(one.subject)
        try:
            fact = wire.decode(one.subject, one.body, one.seq, one.at_ms)
        except BadFact as bad:
            self.unread.append(one)
            if address.token == "submitted":
                self.heard.append((address.writer, Quarantined(address.chain, address.task, one.seq, one.at_ms, str(bad))))
            return
        self.facts.append((address.writer, fact))
        self.heard.append((address.writer, fact))
