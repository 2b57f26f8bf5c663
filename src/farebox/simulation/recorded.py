"""The laws held against a log that real processes wrote: what was acknowledged to them, and the books of their provider.

A simulated world knows everything; here there are the log, what each process noted of its acknowledgements, and the lines that
the provider wrote for itself. Each law names its invariant, as in laws.py.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Protocol, cast

from msgspec import Struct

from farebox.core.digest import mark
from farebox.core.events import CostRecorded, SettingsAdopted, TaskCompleted, TaskStarted, TaskSubmitted
from farebox.core.settings import PlatformSettings, restore
from farebox.core.trail import id_of
from farebox.log.port import Stored
from farebox.simulation import laws
from farebox.simulation.history import History

ALONE: tuple[laws.Law, ...] = (
    laws.sequences_are_contiguous,
    laws.only_clients_write_garbage,
    laws.a_task_ends_at_most_once,
    laws.the_baton_has_one_holder,
    laws.attempts_rise,
    laws.nothing_is_retried_in_silence,
    laws.no_limit_is_passed,
    laws.causes_and_fences_are_true,
    laws.ids_are_unique,
    laws.a_charge_is_recorded_once_for_an_end,
    laws.late_results_belong_to_interrupted_attempts,
    laws.nothing_is_handed_on_unfinished,
)
"""Laws that need the log only."""


class Line(Protocol):
    """A line of a provider's books, as rehearsal/books.py writes it."""

    @property
    def mark(self) -> str:
        """What stands for the text that was asked."""
        ...

    @property
    def charged(self) -> bool:
        """Whether it wants money for it."""
        ...

    @property
    def usd(self) -> str | None:
        """How much, US dollars; None without a price."""
        ...


class _Settings(Struct):
    """The settings of the log's end, in the shape in which laws look for them."""

    platforms: Mapping[str, PlatformSettings]


class _World(Struct):
    settings: _Settings


def broken(stored: Sequence[Stored], lines: Sequence[Line], acked: Mapping[int, str], *, ended: bool = True) -> list[str]:
    """Return what is wrong with a log. `lines` are the provider's books, `acked` the ids by acknowledged sequence.

    With `ended` every task must have come to its end, and each charge and each slot with it.
    """
    history = History(stored)
    world = cast("Any", _World(_Settings(_platforms(history))))
    found = [f"{law.__name__}: {wrong}" for law in ALONE for wrong in law(world, history)]
    found += [f"what_was_acknowledged_stands: {wrong}" for wrong in what_was_acknowledged_stands(stored, acked)]
    found += [f"calls_are_ordered: {wrong}" for wrong in calls_are_ordered(history, lines)]
    if ended:
        found += [f"every_task_has_ended: {wrong}" for wrong in every_task_has_ended(history)]
        found += [f"every_slot_is_free_again: {wrong}" for wrong in laws.every_slot_is_free_again(world, history)]
        found += [f"the_bill_is_the_books: {wrong}" for wrong in the_bill_is_the_books(history, lines)]
    return found


def what_was_acknowledged_stands(stored: Sequence[Stored], acked: Mapping[int, str]) -> Iterator[str]:
    """I1: each acknowledged fact is readable at its sequence, with its id."""
    found = {one.seq: id_of(one.body) for one in stored}
    for seq, fact_id in acked.items():
        if found.get(seq) != fact_id:
            yield f"{fact_id} was acknowledged at {seq}, there stands {found.get(seq)}"


def calls_are_ordered(history: History, lines: Sequence[Line]) -> Iterator[str]:
    """I4: no more paid calls than starts; a second one only where policy `retry` ordered it. Being turned away is no call."""
    started = Counter(fact.key for fact in history.of(TaskStarted))
    tasks = _tasks(history)
    for one, count in Counter(line.mark for line in lines if line.charged).items():
        keys = tasks.get(one, [])
        if count > sum(started[task.key] for task in keys):
            yield f"{one}: {count} paid calls, {[(task.key, started[task.key]) for task in keys]} starts"
        if count > len(keys) and any(task.on_interrupt == "fail" for task in keys):
            yield f"{one}: paid {count} times, though its policy is fail"


def every_task_has_ended(history: History) -> Iterator[str]:
    """I9."""
    ended = {fact.key for fact in history.of(TaskCompleted)}
    yield from (f"{fact.key} has no end" for fact in history.of(TaskSubmitted) if fact.key not in ended)


def the_bill_is_the_books(history: History, lines: Sequence[Line]) -> Iterator[str]:
    """I5: what the provider charged is what is booked, to the digit, or stands there as possibly charged."""
    billed: defaultdict[str, Decimal] = defaultdict(Decimal)
    for line in lines:
        billed[line.mark] += Decimal(line.usd or 0) if line.charged else 0
    known: defaultdict[str, Decimal] = defaultdict(Decimal)
    possible: defaultdict[str, Decimal] = defaultdict(Decimal)
    marks = {task.key: one for one, tasks in _tasks(history).items() for task in tasks}
    for cost in {(fact.key, fact.attempt): fact for fact in history.of(CostRecorded)}.values():
        (possible if cost.status == "possible" else known)[marks[cost.key]] += Decimal(cost.paid_usd or 0)
    for one in sorted({*billed, *known}):
        if not known[one] <= billed[one] <= known[one] + possible[one]:
            yield f"{one}: the books say {billed[one]}, booked are {known[one]} and perhaps {possible[one]}"


def _tasks(history: History) -> dict[str, list[TaskSubmitted]]:
    """Return the tasks by the mark of their text, under which the provider knows them."""
    found: dict[str, list[TaskSubmitted]] = {}
    for task in {fact.key: fact for fact in history.of(TaskSubmitted)}.values():
        found.setdefault(mark(task.prompt, task.system), []).append(task)
    return found


def _platforms(history: History) -> Mapping[str, PlatformSettings]:
    adopted = list(history.of(SettingsAdopted))
    return restore(adopted[-1].settings).platforms if adopted else {}
