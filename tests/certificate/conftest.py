"""A log written by hand, fact by fact, that a certificate is asked about."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from zoneinfo import ZoneInfo

import msgspec
import pytest

from farebox.certificate.fold import Fold
from farebox.certificate.report import Certificate
from farebox.core.events import (
    Fact,
    QuotaLearned,
    QuotaReserved,
    QuotaSettled,
    SettingsAdopted,
    TaskRouted,
)
from farebox.core.quotas import BudgetSettings, QuotaSettings
from farebox.core.settings import PlatformSettings, Settings, canonical
from farebox.core.terms import Allowance, Billing, Candidate, Take

NOON_MS = 1_774_000_000_000


class Book:
    """Writes facts with sequence and time. Grants name what is right unless they are told otherwise."""

    def __init__(self, **quotas: QuotaSettings) -> None:
        self.facts: list[Fact] = []
        self.now_ms = NOON_MS
        self.settings = Settings(platforms={"p": PlatformSettings(kind="compatible", limit=5)}, quotas=quotas)
        self.adopt()

    def say(self, fact: Fact) -> int:
        seq = len(self.facts) + 1
        self.facts.append(msgspec.structs.replace(fact, seq=seq, at_ms=self.now_ms))
        return seq

    def adopt(self, **changes: object) -> int:
        self.settings = msgspec.structs.replace(self.settings, **changes)
        plain, sha256 = canonical(self.settings)
        return self.say(SettingsAdopted(settings=plain, sha256=sha256))

    def limit(self, name: str, limit: int) -> int:
        entry = msgspec.structs.replace(self.settings.quotas[name], limit=limit)
        return self.adopt(quotas={**self.settings.quotas, name: entry})

    def budget(self, name: str, **said: object) -> int:
        return self.adopt(budgets={name: BudgetSettings(**said)})  # type: ignore[arg-type]  # what a test says

    def at(self, text: str, zone: str = "Europe/Berlin", fold: int = 0) -> None:
        moment = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold)
        self.now_ms = round(moment.timestamp() * 1000)

    def route(self, task: str, bound: str | None = None, attempt: int = 1, **allowance: object) -> int:
        one = Candidate(platform="p", input_tokens_max=60, output_tokens_max=40, bound_usd=bound)
        allowed = Allowance(**allowance)  # type: ignore[arg-type]  # what a test says
        return self.say(TaskRouted(chain="c", task=task, attempt=attempt, candidates=(one,), allowance=allowed))

    def grant(
        self, task: str, *takes: Take, in_use: int = 1, as_of: int | None = None, attempt: int = 1, routed: bool = True,
        limit: int = 5, billing: Billing = "metered", bound: str | None = None,
    ) -> int:  # fmt: skip
        if routed:
            self.route(task, bound, attempt)
        return self.say(
            QuotaReserved(
                chain="c", task=task, attempt=attempt, platform="p", in_use=in_use, limit=limit, takes=takes, billing=billing,
                as_of=len(self.facts) if as_of is None else as_of,
            )
        )  # fmt: skip

    def settle(self, task: str, *takes: Take, attempt: int = 1, expired: bool = False) -> int:
        return self.say(QuotaSettled(chain="c", task=task, attempt=attempt, platform="p", takes=takes, expired=expired))

    def learn(self, **said: object) -> int:
        return self.say(QuotaLearned(platform="p", **said))  # type: ignore[arg-type]  # what a test says

    def certificate(self) -> Certificate:
        fold = Fold()
        for fact in self.facts:
            fold.take(fact)
        return fold.certificate(facts=len(self.facts), first=1, last=len(self.facts), digest="")

    def kinds(self) -> list[tuple[int, str]]:
        return [(breach.seq, breach.kind) for breach in self.certificate().breaches]


@pytest.fixture
def book() -> Callable[..., Book]:
    """Begins a log whose one platform `p` has five slots and these quotas."""
    return Book


@pytest.fixture
def of() -> Callable[..., Take]:
    """Takes a part of a quota: its name, the use with it, the limit, and the amount."""

    def take(quota: str, used: object, limit: object, amount: object = 1) -> Take:
        known = None if limit is None else str(limit)
        return Take(quota=quota, amount=str(amount), used=str(used), limit=known, source="configured")

    return take
