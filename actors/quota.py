"""Quota: gives each routed task the first candidate that has room; the rest wait in line. Pure. The only writer of grants.

Nobody waits while capacity he may use is free; nothing is granted beyond a limit. One fact a decision: it is asked again
until it has nothing to say. What it says follows from its state and the time alone, never from which fact is asked about:
several facts may be folded before the first of them is decided.

windows.py knows when windows turn, rules.py what the settings say, uses.py what is used, holds.py how a hold ends, lines.py
who waits, room.py whether there is room, turns.py whose turn it is, pace.py how many at once, words.py what people are told.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop

import msgspec

from actors import holds, lines, room, turns, words
from actors.capacity import SLACK, Hold, Quota, Waiting
from actors.rules import bounds_of, told
from actors.standings import shown
from farebox.core.actor import Actor, Parked, Stored, Wake
from farebox.core.events import (
    AttemptFailed,
    AttemptInterrupted,
    CostRecorded,
    Fact,
    QuotaDeferred,
    QuotaLearned,
    QuotaRefused,
    QuotaReserved,
    QuotaSettled,
    QuotaWarned,
    SettingsAdopted,
    TaskCancelRequested,
    TaskCompleted,
    TaskRouted,
    TaskStarted,
)
from farebox.core.settings import restore, unread
from farebox.core.terms import Fault

CANCELS_MAX = 10_000
"""Cancels of tasks that have not ended (or are not known yet) that are remembered; the oldest go first."""
NEVER_MS = 2**53

Heard = (
    TaskRouted | TaskCompleted | AttemptFailed | AttemptInterrupted | TaskCancelRequested | SettingsAdopted | CostRecorded
    | QuotaLearned | Wake
)  # fmt: skip
Said = QuotaReserved | QuotaDeferred | QuotaRefused | QuotaSettled | QuotaWarned


def decide(state: Quota, heard: Heard) -> Sequence[QuotaReserved | QuotaDeferred | QuotaRefused | QuotaSettled | QuotaWarned]:
    """Settle what ended, refuse what has no hope, then give away what is free: the first of these, one fact."""
    said = _first(state, heard)
    return [] if said is None else [said]


def _first(state: Quota, heard: Heard) -> Said | None:
    for ended in state.ended.values():
        return holds.settlement(ended)
    _ready(state)
    state.now_ms = max(state.now_ms, heard.at_ms)
    said = holds.overdue(state) or _refuse(state) or (_warn(state) if state.watched else None)
    if said is None:
        lines.come_due(state)
        said = turns.next_one(state) or _defer(state, heard)
    return said


def _ready(state: Quota) -> None:
    """Put those who wait into line where the state was read from a snapshot."""
    if not state.lined:
        state.lined = True
        lines.line_up_all(state)


def _refuse(state: Quota) -> QuotaRefused | None:
    for name in state.unwanted:
        waiting = state.waiting[name]
        fault = Fault(error_class="unavailable", message="None of its platforms is in use any more.")
        if waiting.cancelled:
            fault = Fault(error_class="cancelled", message="Cancelled while waiting.")
        return turns.refused(waiting, fault)
    return None


def _warn(state: Quota) -> QuotaWarned | None:
    """Say once in a window that a quota passed its warning line."""
    while state.watched:
        quota, platform = next(iter(state.watched.items()))
        warned = None if state.warned.get(quota, 0) > state.now_ms else _warned(state, quota, platform)
        if warned is not None:
            return warned
        del state.watched[quota]
    return None


def _warned(state: Quota, quota: str, platform: str) -> QuotaWarned | None:
    tally = state.uses.tallies.get(quota)
    limit = None if tally is None else state.limit(quota)
    platform = platform or next(iter(sorted(state.limits)), "")
    unit = quota.rpartition("/")[2]
    if tally is None or not limit or not platform or unit == "calls":
        return None
    used, _ = state.uses.use(quota, state.now_ms)
    if used * 100 < limit * state.settings.warn_at_percent:
        return None
    return QuotaWarned(
        platform=platform, quota=quota, window=tally.window.name, unit=unit, used=told(used), limit=told(limit),  # type: ignore[arg-type]  # the last part of its name is its unit
        resets_at_ms=state.uses.turn_ms(quota, state.now_ms), evidence=words.evidence(state, quota),
    )  # fmt: skip


def _defer(state: Quota, heard: Heard) -> QuotaDeferred | None:
    """Say until when a task waits for somebody's clock; a wait for a slot needs no word."""
    if not isinstance(heard, TaskRouted):
        return None
    name = f"{heard.chain}.{heard.task}"
    waiting = state.waiting.get(name)
    if waiting is None or waiting.seq != heard.seq or waiting.deferred:
        return None
    found = turns.standings(state, name) if state.uses.tallies else []
    if not found:
        found = [
            turns.Standing(c.not_before_ms, c.platform, None) for c in waiting.candidates if c.not_before_ms > state.now_ms
        ]
    return turns.deferred(waiting, found) if found else None


def due(state: Quota) -> int | None:
    """Return when (stream time, ms) something may be over: a wait that was asked for, a window that is full, a hold's time."""
    _ready(state)
    while state.later:
        _, seq, name, _ = state.later[0]
        waiting = state.waiting.get(name)
        if waiting is not None and waiting.seq == seq:
            break
        heappop(state.later)
    moments = [state.later[0][0]] if state.later else []
    ends_ms = holds.next_deadline_ms(state)
    moments += [] if ends_ms is None else [ends_ms]
    room_ms = turns.next_due_ms(state) if state.blocked or state.asleep else None
    moments += [] if room_ms is None else [room_ms]
    return min(moments, default=None)


def evolve(
    state: Quota,
    fact: SettingsAdopted
    | TaskRouted
    | TaskCancelRequested
    | TaskStarted
    | TaskCompleted
    | AttemptFailed
    | AttemptInterrupted
    | CostRecorded
    | QuotaLearned
    | QuotaReserved
    | QuotaDeferred
    | QuotaRefused
    | QuotaSettled
    | QuotaWarned
    | Stored
    | Parked,
) -> Quota:
    """Fold one fact."""
    match fact:
        case QuotaWarned():
            state.warned[fact.quota] = NEVER_MS if fact.resets_at_ms is None else fact.resets_at_ms
            state.watched.pop(fact.quota, None)
        case SettingsAdopted():
            _ready(state)
            state.adopt(restore(fact.settings), unread=bool(unread(fact.settings)))
            lines.line_up_all(state)
        case QuotaLearned():
            _ready(state)
            room.learn(state, fact)
        case Stored():
            if isinstance(fact.fact, QuotaReserved):
                holds.stored(state, _name(fact.fact), fact.fact)
            elif isinstance(fact.fact, QuotaSettled) and fact.fact.expired:
                holds.expire(state, _name(fact.fact), fact.fact)
            elif isinstance(fact.fact, QuotaSettled):
                holds.close(state, _name(fact.fact), fact.fact)
        case _:
            _of_task(state, _name(fact), fact)
    _read_to(state, fact.fact if isinstance(fact, Stored) else fact)
    return state


def _read_to(state: Quota, fact: Fact | Parked) -> None:
    """Note how far the log was read, and its clock; what rolled off by then is forgotten."""
    if fact.seq > state.seq:  # noqa: PLR1730 - asked of every fact of the log
        state.seq = fact.seq
    if fact.at_ms > state.clock_ms:
        state.clock_ms = fact.at_ms
        state.now_ms = max(state.now_ms, fact.at_ms)
        state.uses.prune(fact.at_ms)


def _of_task(state: Quota, name: str, fact: OfTask) -> None:  # noqa: C901 - one line for each kind
    match fact:
        case TaskRouted():
            _ready(state)
            for quota, bound in bounds_of(fact.allowance, fact.chain, fact.batch):
                state.bounds[quota] = min(bound, state.bounds.get(quota, bound))
            lines.join(state, fact, cancelled=name in state.cancels)
        case TaskCancelRequested():
            _cancel(state, name)
        case TaskStarted():
            holds.started(state, name, fact)
        case TaskCompleted():
            state.cancels.pop(name, None)
            lines.leave(state, name)
            holds.release(state, name, fact)
        case AttemptFailed() | AttemptInterrupted():
            holds.release(state, name, fact)
        case CostRecorded():
            if state.booked:
                holds.billed(state, name, fact)
        case QuotaReserved():
            waiting = state.waiting.get(name)
            lines.leave(state, name)
            holds.hold(state, name, fact, 0 if waiting is None else waiting.turn)
        case QuotaDeferred():
            lines.once_deferred(state, name, fact.routed_seq, fact.quota)
        case QuotaRefused() | Parked():
            lines.leave(state, name)
        case QuotaSettled():  # pragma: no branch - there is no other kind
            holds.settle(state, name, fact)


OfTask = (
    TaskRouted | TaskCancelRequested | TaskStarted | TaskCompleted | AttemptFailed | AttemptInterrupted | CostRecorded
    | QuotaReserved | QuotaDeferred | QuotaRefused | QuotaSettled | Parked
)  # fmt: skip


def _cancel(state: Quota, name: str) -> None:
    waiting = state.waiting.get(name)
    if waiting is not None:
        state.waiting[name] = msgspec.structs.replace(waiting, cancelled=True)
        state.unwanted[name] = None
    state.cancels[name] = True
    while len(state.cancels) > CANCELS_MAX:
        del state.cancels[next(iter(state.cancels))]


def _name(fact: OfTask) -> str:
    return f"{fact.chain}.{fact.task}"


def held(state: Quota) -> list[tuple[str, str, str]]:
    """Return whose slots are in use, and of which platform."""
    names = ((hold.platform, *name.split(".")) for name, hold in state.holds.items())
    return [(platform, chain, task) for platform, chain, task in names]


ACTOR = Actor(name="quota", new=Quota, decide=decide, evolve=evolve, due=due, held=held, shown=shown, pace="writer", version=3)

__all__ = ["ACTOR", "CANCELS_MAX", "SLACK", "Hold", "Quota", "Waiting", "decide", "due", "evolve", "held"]
