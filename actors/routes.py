"""What the router knows: settings and prices, how platforms have been doing, and each task that has not ended. Pure."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from farebox.core.estimates import Estimator
from farebox.core.events import AttemptInterrupted, PlatformReported
from farebox.core.health import Health
from farebox.core.policies import NO_POLICY, PolicySettings, policy_for
from farebox.core.pricing import PriceList, interned
from farebox.core.settings import PlatformSettings, Settings
from farebox.core.terms import Constraints, ErrorClass, Fault, OnInterrupt, Rejected, TaskType

NO_CONSTRAINTS = Constraints()
MEMO_MAX = 1_000
"""Answers to "who may do such a task at all" that are kept; clients choose what is asked."""


class Failure(Struct, frozen=True):
    """What one platform answered to this task so far. `told`: it said itself when it may be asked again."""

    platform: str
    error_class: ErrorClass
    message: str
    tries: int
    not_before_ms: int
    told: bool = False

    @property
    def is_of_quota(self) -> bool:
        """Whether the platform was in order and said that its capacity is used up."""
        return self.error_class in {"rate_limited", "quota_exhausted"}


class Known(Struct, frozen=True):
    """One task as the router needs it. `cause` is the fact that gave the router the baton; empty while it has not.

    `asking` is the interrupted attempt that a person has to decide about, `accepted` the one whose text he took for the answer.
    `said_seq` is the router's own last fact of the task: what it says next is fenced with it. So a task that ended long ago
    and is submitted once more (by a client that does not fence) is not begun again: to a router that forgot it, it would be
    the first word, and the log knows better. `tokens` is how many it will read by the rule of thumb alone.
    """

    cause: str
    submission_sha256: str
    at_ms: int
    said_seq: int = 0
    batch: str = ""
    traceparent: str = ""
    hint: str = ""
    fallback: bool = True
    model: str = ""
    priority: int = 0
    timeout_s: float = 300.0
    on_interrupt: OnInterrupt | None = None
    directory: str = ""
    unsupported: str = ""
    attempt: int = 0
    billed: int = 0
    lanes: dict[str, int] = {}
    failures: dict[str, Failure] = {}
    cancelled: bool = False
    ended: Fault | None = None
    asking: AttemptInterrupted | None = None
    accepted: AttemptInterrupted | None = None
    policy: OnInterrupt = "retry"
    type: TaskType = "general"
    tags: dict[str, str] = {}
    max_tokens: int | None = None
    tokens: int = 0
    constraints: Constraints = NO_CONSTRAINTS


Open = tuple[tuple[int, str, PlatformSettings, str], ...]
"""Platforms that may do a task as far as they themselves go: place in the settings, name, section, model."""


class Router(Struct, dict=True):
    """What the log says about platforms and about tasks that have not ended. `sticky`: where chains last succeeded."""

    settings: Settings = msgspec.field(default_factory=Settings)
    reports: dict[str, PlatformReported] = msgspec.field(default_factory=dict[str, PlatformReported])
    tasks: dict[str, Known] = msgspec.field(default_factory=dict[str, Known])
    cancels: dict[str, bool] = msgspec.field(default_factory=dict[str, bool])
    unread: bool = False
    prices: PriceList = PriceList()
    estimator: Estimator = msgspec.field(default_factory=Estimator)
    health: dict[str, Health] = msgspec.field(default_factory=dict[str, Health])
    sticky: dict[str, str] = msgspec.field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        """Begin without answers: they follow from settings and reports, so they are no part of the value."""
        self.prices = interned(self.prices)
        self.memo: dict[Any, tuple[Open, tuple[Rejected, ...]]] = {}

    def forget(self) -> None:
        """Drop the answers: settings or reports changed."""
        self.memo.clear()


def chain_of(name: str) -> str:
    """Return the chain of a task that is known as <chain>.<task>."""
    return name.partition(".")[0]


def policy_of(settings: Settings, known: Known, chain: str) -> tuple[str, PolicySettings]:
    """Return the name and the policy for a task; none when none fits."""
    if not settings.policies:
        return "", NO_POLICY
    return policy_for(settings.policies, known.type, known.tags, chain)


def model_of(state: Router, known: Known, platform: str, section: PlatformSettings) -> str:
    """Return the model that would do the task there: the one asked for, the section's own, or the first that was found."""
    if known.model or section.model:
        return known.model or section.model
    report = state.reports.get(platform)
    models = section.models or (report.models if report else ())
    return models[0] if models else ""
