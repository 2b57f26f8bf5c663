"""How many calls a platform takes at once: fewer after a refusal for rate or when it slows down, then slowly more. Pure."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from farebox.core.events import AttemptFailed, AttemptInterrupted, TaskCompleted

LATELY = 8
"""The last so many successes are compared with the `BEFORE` ones before them."""
BEFORE = 64
SLOWER = 2
"""Who takes more than so many times as long as before is given less."""
TOO_MANY = 429


class Pace(Struct, frozen=True):
    """The pace of one platform. `calls` at once, 0.0 for as many as its limit allows; `cut_seq` is when it was last cut.

    `durations_ms` are those of its last successes, the oldest first.
    """

    calls: float = 0.0
    cut_seq: int = 0
    durations_ms: tuple[int, ...] = ()


UNHURRIED = Pace()


def slots(pace: Pace, limit: int) -> int:
    """Return how many calls may run at once."""
    return min(limit, int(pace.calls)) if pace.calls else limit


def after(pace: Pace, ended: TaskCompleted | AttemptFailed | AttemptInterrupted, granted_seq: int, limit: int) -> Pace:
    """Return the pace after an attempt that was granted at `granted_seq` has ended.

    Attempts of before the last cut tell what is known already, so they do not cut again.
    """
    fault = ended.fault
    if (fault is not None and fault.error_class == "rate_limited") or any(call.status == TOO_MANY for call in ended.calls):
        if granted_seq <= pace.cut_seq:
            return pace
        return msgspec.structs.replace(pace, calls=max(1.0, (pace.calls or float(limit)) / 2), cut_seq=ended.seq)
    if not isinstance(ended, TaskCompleted) or ended.status != "completed":
        return pace
    calls = pace.calls + 1 / pace.calls if pace.calls else 0.0
    durations_ms = (*pace.durations_ms, ended.duration_ms)
    if len(durations_ms) == LATELY + BEFORE:
        lately_ms, before_ms = sum(durations_ms[BEFORE:]) / LATELY, sum(durations_ms[:BEFORE]) / BEFORE
        slower = lately_ms > SLOWER * before_ms
        calls = max(1.0, (calls or float(limit)) - 1) if slower else calls
        durations_ms = durations_ms[BEFORE:] if slower else durations_ms[1:]
    return msgspec.structs.replace(pace, calls=0.0 if calls >= limit else calls, durations_ms=durations_ms)
