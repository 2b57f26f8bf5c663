"""The desk: the engine's questions to the views, answered as plain JSON. Views are written here too, by one writer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import msgspec

from farebox.core.errors import BadInput
from farebox.core.results import Result
from farebox.core.terms import Ref
from farebox.log.port import Stored
from farebox.views import questions
from farebox.views.ledger import Checkpoint, Ledger

Json = dict[str, Any]
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
BLOBS = {"output": "output_ref", "partial_output": "partial_ref"}


class Desk:
    """The views of one store. Questions are safe from any thread; `ingest`, `begin` and `forget` belong to one."""

    def __init__(self, path: Path | str) -> None:
        self._ledger = Ledger.open(path)
        self.notices = self._ledger.notices

    @property
    def checkpoint(self) -> Checkpoint:
        """Which log the views hold and how much of it."""
        return self._ledger.checkpoint

    def begin(self, created: str) -> int:
        """Get ready for the log `created`; return the first sequence wanted."""
        return self._ledger.begin(created)

    def ingest(self, batch: Sequence[Stored]) -> int:
        """Add facts in log order. Raises BusError when the file cannot be written."""
        return self._ledger.ingest(batch)

    def put_aside(self, fact: Stored, reason: str) -> None:
        """Go past the next fact without it. Raises BusError when the file cannot be written."""
        self._ledger.put_aside(fact, reason)

    def forget(self) -> None:
        """Begin anew with the same log."""
        self._ledger.forget(self._ledger.checkpoint.created)

    def digest(self) -> str:
        """Return the sha256 over the canonical rows of every view."""
        return self._ledger.digest()

    def close(self) -> None:
        """Let go of the file."""
        self._ledger.close()

    def counts(self) -> Json:
        """Return the rows of each view."""
        return dict(questions.counts(self._ledger)["views"])

    def result(self, chain: str, task: str) -> Json | None:
        """Return the result document of a task, with references to texts that are too large; empty chain: any."""
        place = (chain, task) if chain else questions.find(self._ledger, task)
        found = questions.result(self._ledger, *place) if place else None
        if found is None or place is None:
            return None
        return _document(found, questions.blobs(self._ledger, *place))

    def tasks(self, *, state: str = "", platform: str = "", limit: int = 20) -> list[Json]:
        """Return the newest tasks, newest first."""
        rows = questions.tasks(self._ledger, state=cast("Any", state), platform=platform, limit=limit)
        return msgspec.to_builtins(rows)

    def unfinished(self) -> int:
        """Return how many tasks have not ended."""
        return questions.unfinished(self._ledger)

    def task_card(self, task: str) -> Json | None:
        """Return all about one task, None when nobody knows it. The beginning of an id is enough where it is unique."""
        place = questions.find(self._ledger, task)
        card = questions.task_card(self._ledger, *place) if place else None
        return None if card is None else msgspec.to_builtins(card)

    def facts_of(self, task: str) -> list[int]:
        """Return the sequences of a task's facts. The beginning of its id is enough where it is unique."""
        place = questions.find(self._ledger, task)
        return questions.facts_of(self._ledger, *place) if place else []

    def quarantined(self) -> list[Json]:
        """Return what no view could read, the latest first: `newer` may be read one day, `ended` stopped nothing."""
        return questions.quarantined(self._ledger)

    def reservations(self, seqs: list[int]) -> list[Json]:
        """Return of which task each of these reservations was, and whether its attempt has ended."""
        return questions.reservations(self._ledger, seqs) if seqs else []

    def attempts_of(self, names: list[str]) -> dict[str, Json]:
        """Return attempts by their names (`<chain>.<task>.<attempt>`)."""
        return msgspec.to_builtins(questions.attempts_of(self._ledger, names)) if names else {}

    def costs(self, by: Sequence[str], *, since: str | None = None, until: str | None = None) -> Json:
        """Return what was spent, by one key. Raises BadInput for a key or a moment that does not read."""
        key = cast("questions.By", by[0] if len(by) == 1 else "")
        if key not in questions.BY:
            raise BadInput(
                f"Costs cannot be grouped by {','.join(by)[:60]!r}.", hint=f"Choose one of: {', '.join(questions.BY)}."
            )
        since_ms, until_ms = moment_ms(since, 0), moment_ms(until, questions.FOREVER_MS)
        found: Json = msgspec.to_builtins(questions.costs(self._ledger, key, since_ms=since_ms, until_ms=until_ms))
        for row in found["rows"]:
            row[key] = row["key"]
        return found

    def batch(self, batch: str) -> Json | None:
        """Return the state of a batch, None when nobody knows it."""
        found = questions.batch(self._ledger, batch)
        return None if found is None else msgspec.to_builtins(found)

    def results(self, batch: str, *, after: int = 0) -> list[Json]:
        """Return results of a batch in the order of their ends, each with its sequence."""
        found = questions.results(self._ledger, batch, after=after)
        return [{"seq": seq, **_document(result, refs)} for seq, result, refs in found]


def _document(result: Result, refs: Mapping[str, Ref]) -> Json:
    return msgspec.to_builtins(result) | {BLOBS[name]: msgspec.to_builtins(ref) for name, ref in refs.items()}


def moment_ms(text: str | None, default: int) -> int:
    """Return ms since 1970 of `2026-11-21`, `2026-11-21T10:00` (UTC unless it says more) or `7d` (ago). Raises BadInput."""
    if not text:
        return default
    unit = UNITS.get(text[-1:])
    try:
        if unit and text[:-1].isdigit():
            moment = datetime.now(UTC) - timedelta(**{unit: int(text[:-1])})
        else:
            moment = datetime.fromisoformat(text)
            moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
        return int(moment.timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        raise BadInput(f"{text[:40]!r} is no moment.", hint="Write 7d, 12h, 2026-11-21 or 2026-11-21T10:00.") from error
