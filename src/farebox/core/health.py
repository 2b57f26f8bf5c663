"""How a platform has been doing lately, folded from the log: recent errors, latency, and a breaker that spares it after five.

The breaker opens after five failures of the provider in a row, for 30 s, then twice as long each time, 10 min at most. After
that one task at a time may find out whether it is over: any answer closes it, another failure opens it again. All times are
stream time (ms since 1970).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec
from msgspec import Struct

from farebox.core.events import AttemptFailed, AttemptInterrupted, TaskCompleted
from farebox.core.terms import ErrorClass

FAILURES: frozenset[ErrorClass] = frozenset({"server_error", "network", "stalled", "timeout", "crashed"})
"""What a provider does wrong."""
ANSWERS: frozenset[ErrorClass] = frozenset(
    {"rate_limited", "quota_exhausted", "context_too_long", "refused", "truncated", "invalid"}
)
"""What only a provider that works says."""
IN_A_ROW = 5
OPEN_MS, OPEN_MS_MAX = 30_000, 600_000
PROBE_MS = 600_000
"""A probe that has not ended by then is no longer waited for."""
NEXT_MS = 10_000
"""While one task tries a platform, the others look again after so long."""
ERROR_WEIGHT = LATENCY_WEIGHT = 0.2
NONE_AT_ALL = 0.001
"""Fewer errors than this are none."""

Outcome = Literal["answered", "failed", "said_no", "unknown"]


class Health(Struct, frozen=True, gc=False, omit_defaults=True):
    """One platform. `errors` is the recent share of failures (0 to 1), `until_ms` when an open breaker lets a probe through.

    `probe` is the task that may find out, asked since `probe_ms`; `turns` counts how often the breaker opened in a row.
    """

    errors: float = 0.0
    latency_ms: float = 0.0
    in_a_row: int = 0
    turns: int = 0
    until_ms: int = 0
    probe: str = ""
    probe_ms: int = 0

    @property
    def points(self) -> int:
        """1000 without recent failures, falling to 0."""
        return round(1000 * (1 - self.errors))

    @property
    def state(self) -> Literal["closed", "open"]:
        """Whether the platform is spared; half-open is an open one whose time has come."""
        return "open" if self.until_ms else "closed"


HEALTHY = Health()


def outcome(ended: TaskCompleted | AttemptFailed | AttemptInterrupted) -> Outcome:
    """Return what the end of an attempt says about its platform. Who lost his adapter was not failed by the provider."""
    if isinstance(ended, AttemptInterrupted) and ended.reason in {"crash", "fenced"}:
        return "unknown"
    if ended.fault is None:
        return "answered"
    if ended.fault.error_class in FAILURES:
        return "failed"
    return "said_no" if ended.fault.error_class in ANSWERS else "unknown"


def after(health: Health, what: Outcome, *, duration_ms: int, at_ms: int, task: str = "") -> Health:
    """Return the health after an attempt of `task` that took `duration_ms` and ended at `at_ms`."""
    match what:
        case "answered":
            errors = health.errors * (1 - ERROR_WEIGHT)
            return Health(0.0 if errors < NONE_AT_ALL else errors, _latency(health, duration_ms))
        case "said_no":
            return Health(health.errors, health.latency_ms)
        case "failed":
            return _failed(health, at_ms, task)
        case _:
            return released(health, task)


def _failed(health: Health, at_ms: int, task: str) -> Health:
    errors = health.errors + (1 - health.errors) * ERROR_WEIGHT
    bare = msgspec.structs.replace(health, errors=errors, in_a_row=health.in_a_row + 1)
    if bare.in_a_row < IN_A_ROW or at_ms < health.until_ms:
        return bare  # What ends while it is open began before, and says nothing new.
    if health.until_ms and health.probe not in {"", task}:
        return bare  # The probe decides.
    wait_ms = min(OPEN_MS * 2 ** min(health.turns, 10), OPEN_MS_MAX)
    return msgspec.structs.replace(bare, turns=health.turns + 1, until_ms=at_ms + wait_ms, probe="", probe_ms=0)


def _latency(health: Health, duration_ms: int) -> float:
    if not health.latency_ms:
        return float(duration_ms)
    return health.latency_ms + LATENCY_WEIGHT * (duration_ms - health.latency_ms)


def claimed(health: Health, task: str, at_ms: int) -> Health:
    """Return the health with `task` as the one that may find out whether an open breaker may close, if nobody else is."""
    if not health.until_ms or (health.probe and at_ms - health.probe_ms < PROBE_MS):
        return health
    return msgspec.structs.replace(health, probe=task, probe_ms=max(at_ms, health.until_ms))


def released(health: Health, task: str) -> Health:
    """Return the health without `task` as its probe."""
    return msgspec.structs.replace(health, probe="", probe_ms=0) if task and health.probe == task else health


def not_before_ms(health: Health, task: str, at_ms: int) -> int:
    """Return when `task`, routed at `at_ms`, may start there; 0 for at once."""
    if not health.until_ms:
        return 0
    if health.probe == task:
        return health.until_ms if health.until_ms > at_ms else 0
    return max(health.until_ms, at_ms) + NEXT_MS


def latency_ms(health: Health) -> int:
    """Return about how long an answer takes, to two digits: facts need no more, and a steady platform looks steady."""
    whole = round(health.latency_ms)
    step = 10 ** max(len(str(whole)) - 2, 0)
    return whole // step * step


def of(healths: Mapping[str, Health], platform: str) -> Health:
    """Return the health of a platform; one that nobody has used is healthy."""
    return healths.get(platform, HEALTHY)
