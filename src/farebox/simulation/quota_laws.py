"""What must hold of every grant, counted from the log alone in the simplest way: each grant is looked at against all before it.

It shares nothing with who grants but facts and names: windows are told apart by the wall clock of their zone, sums are made
anew for each grant. So it is slow, and plain enough to be believed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from msgspec import Struct

from farebox.core.errors import BadInput
from farebox.core.events import (
    AttemptFailed,
    Fact,
    QuotaLearned,
    QuotaReserved,
    QuotaSettled,
    SettingsAdopted,
    TaskCompleted,
)
from farebox.core.quotas import FOR_EVER, kind_of, quota_id, window_name, window_s
from farebox.core.settings import Settings, restore


class Grant(Struct):
    """One grant's part of one quota. `settled` are (sequence, what it really used), in order."""

    seq: int
    at_ms: int
    amount: Decimal
    settled: list[tuple[int, Decimal]]
    slot: bool = False

    def counts(self, seq: int) -> tuple[bool, Decimal]:
        """Return (whether it is open, how much it is) just before a sequence."""
        known = [used for at, used in self.settled if at < seq]
        return (not known, known[-1] if known else self.amount)


class Books:
    """A log folded the plain way."""

    def __init__(self, facts: Sequence[tuple[str, Fact]]) -> None:
        self.facts = facts
        self.settings: list[tuple[int, Settings]] = []
        self.learned: dict[str, list[QuotaLearned]] = defaultdict(list)
        self.grants: dict[str, list[Grant]] = defaultdict(list)
        self.parts: dict[tuple[str, str, int], dict[str, Grant]] = {}

    def wrong(self) -> Iterator[str]:
        """Yield each grant beyond a limit, and each settlement of nothing."""
        running: dict[tuple[str, str, int], str] = {}
        for _, fact in self.facts:
            match fact:
                case SettingsAdopted():
                    self.settings.append((fact.seq, restore(fact.settings)))
                case QuotaLearned():
                    self._learn(fact)
                case QuotaReserved():
                    yield from self._granted(fact, running)
                case QuotaSettled():
                    yield from self._settled(fact)
                    running.pop((*fact.key, fact.attempt), None)
                case TaskCompleted() | AttemptFailed():
                    running.pop((*fact.key, fact.attempt), None)
                case _:
                    pass

    def open_now(self) -> list[str]:
        """Return the quotas in which something is held at the end of the log."""
        return [quota for quota, grants in self.grants.items() if any(one.counts(2**60)[0] for one in grants)]

    def _known(self, as_of: int) -> Settings:
        return [one for seq, one in self.settings if seq <= as_of][-1]

    def _learn(self, fact: QuotaLearned) -> None:
        platforms = self.settings[-1][1].platforms
        owner = platforms[fact.platform].account or fact.platform
        try:
            self.learned[quota_id(owner, window_name(fact.window_s), fact.unit)].append(fact)
        except BadInput:
            return

    def _granted(self, fact: QuotaReserved, running: dict[tuple[str, str, int], str]) -> Iterator[str]:
        settings = self._known(fact.as_of)
        slots = sum(platform == fact.platform for platform in running.values()) + 1
        if slots > settings.platforms[fact.platform].limit:
            yield f"seq {fact.seq}: {slots} of {fact.platform} run"
        running[*fact.key, fact.attempt] = fact.platform
        parts = self.parts[*fact.key, fact.attempt] = {}
        for take in fact.takes:
            amount = Decimal(take.amount)
            limit = self._limit(take.quota, settings, fact.as_of)
            used = self._use(take.quota, fact, settings)
            if limit is not None and amount and used + amount > limit:
                yield f"seq {fact.seq}: {take.quota} has {used} of {limit} used, and {amount} more is granted"
            if (limit is None) != (take.limit is None) or (limit is not None and Decimal(take.limit or 0) > limit):
                yield f"seq {fact.seq}: {take.quota} has the limit {limit}, the grant says {take.limit}"
        for take in fact.takes:
            parts[take.quota] = Grant(fact.seq, fact.at_ms, Decimal(take.amount), [])
            self.grants[take.quota].append(parts[take.quota])
        missing = [quota for quota in self._applying(fact, settings) if quota not in parts]
        yield from (f"seq {fact.seq}: {quota} was forgotten" for quota in missing)

    def _settled(self, fact: QuotaSettled) -> Iterator[str]:
        parts = self.parts.get((*fact.key, fact.attempt))
        if parts is None:
            yield f"seq {fact.seq}: nothing was reserved that is settled"
            return
        for take in fact.takes:
            if take.quota in parts:
                parts[take.quota].settled.append((fact.seq, Decimal(take.amount)))
            else:
                yield f"seq {fact.seq}: nothing was reserved of {take.quota}, and it is settled"

    def _applying(self, fact: QuotaReserved, settings: Settings) -> Iterator[str]:
        """Yield the windows of the platform's account that a grant must take from, as was known when it was decided."""
        owner = settings.platforms[fact.platform].account or fact.platform
        for one in settings.quotas.values():
            platform = settings.platforms.get(one.platform)
            same = platform is not None and (platform.account or one.platform) == owner
            if same and (one.unit != "usd" or fact.billing == "metered"):
                yield quota_id(owner, one.window, one.unit)
        for quota, told in self.learned.items():
            if told and quota.rsplit("/", 2)[0] == owner and told[0].seq <= fact.as_of:
                yield quota

    def _limit(self, quota: str, settings: Settings, as_of: int) -> Decimal | None:
        said: dict[str, list[Decimal]] = {"configured": [], "published": []}
        for one in settings.quotas.values():
            platform = settings.platforms[one.platform]
            if one.limit is not None and quota_id(platform.account or one.platform, one.window, one.unit) == quota:
                said[one.source].append(Decimal(one.limit))
        for name, one in settings.budgets.items():
            if quota.startswith((f"budget:{name}/", f"budget:{name}=")):
                said["configured"].append(Decimal(one.limit_usd))
        told = [one.limit for one in self.learned[quota] if one.limit is not None and one.seq <= as_of]
        known = [Decimal(min(told[-1], 10**15))] if told else said["published"]
        if not known and quota.endswith("/percent"):
            known = [Decimal(100)]
        if quota.startswith(("budget:task=", "budget:chain=")) and not said["configured"]:
            return BOUND
        return min((*said["configured"], *known), default=None)

    def _use(self, quota: str, fact: QuotaReserved, settings: Settings) -> Decimal:
        window, kind, zone = self._window(quota, settings)
        own = Decimal(0)
        for one in self.grants[quota]:
            is_open, amount = one.counts(fact.seq)
            if is_open or same_window(window, kind, zone, one.at_ms, fact.at_ms):
                own += amount
        known = [one for one in self.learned[quota] if one.used is not None and one.seq <= fact.as_of]
        if not known or fact.at_ms >= _void_ms(known[-1]):
            return own
        told = Decimal(min(known[-1].used or 0, 10**15))
        for one in self.grants[quota]:
            is_open, amount = one.counts(fact.seq)
            told += amount if is_open or one.seq > known[-1].seq else 0
        return max(own, told)

    def _window(self, quota: str, settings: Settings) -> tuple[str, str, str]:
        window = quota.rsplit("/", 2)[1]
        for one in settings.quotas.values():
            platform = settings.platforms[one.platform]
            if quota_id(platform.account or one.platform, one.window, one.unit) == quota:
                return window, kind_of(window, one.kind), one.zone
        for name, one in settings.budgets.items():
            if quota.startswith((f"budget:{name}/", f"budget:{name}=")):
                return window, kind_of(window, one.kind), one.zone
        return window, kind_of(window, None), "UTC"


BOUND = Decimal(3)
"""No task of these worlds brings a larger bound for itself or its chain."""


def same_window(window: str, kind: str, zone: str, began_ms: int, now_ms: int) -> bool:
    """Say whether what began at `began_ms` counts at `now_ms`."""
    if window == FOR_EVER:
        return True
    if window == "window":
        return False
    length_ms = window_s(window) * 1000
    if kind == "rolling":
        return began_ms > now_ms - length_ms
    began, now = (datetime.fromtimestamp(at_ms / 1000, ZoneInfo(zone)) for at_ms in (began_ms, now_ms))
    match window:
        case "month":
            return (began.year, began.month) == (now.year, now.month)
        case "week":
            return began.isocalendar()[:2] == now.isocalendar()[:2]
        case "day":
            return began.date() == now.date()
        case "hour":
            return (began.date(), began.hour, began.utcoffset()) == (now.date(), now.hour, now.utcoffset())
        case "minute":
            return began.replace(second=0, microsecond=0) == now.replace(second=0, microsecond=0) and began.fold == now.fold
        case _:
            midnight = datetime(1970, 1, 1, tzinfo=ZoneInfo(zone)).timestamp() * 1000
            return (began_ms - midnight) // length_ms == (now_ms - midnight) // length_ms


def _void_ms(learned: QuotaLearned) -> int:
    seconds = 0 if window_name(learned.window_s) == "window" else window_s(window_name(learned.window_s))
    return learned.at_ms + seconds * 1000 if learned.resets_at_ms is None else learned.resets_at_ms
