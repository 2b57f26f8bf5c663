"""What was known at a sequence: which quotas a grant falls under, the limit of each, and which fact said it."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from msgspec import Struct

from farebox.certificate.turns import Turn, turn_of
from farebox.core import quotas
from farebox.core.errors import BadInput
from farebox.core.events import QuotaLearned, SettingsAdopted, TaskRouted
from farebox.core.quotas import BudgetSettings, QuotaSettings
from farebox.core.settings import Settings, restore
from farebox.core.terms import Allowance, Billing, QuotaSource

VERSIONS_KEPT = 1000
PERCENT, ZERO = Decimal(100), Decimal(0)
NOBODY: tuple[tuple[int, str], ...] = ()


class Limit(Struct, frozen=True):
    """How much may be used (None: nobody knows), and by whose word: the fact, its writer, and where the figure is from."""

    amount: Decimal | None = None
    seq: int = 0
    writer: str = ""
    source: QuotaSource | None = None


class Applied(Struct, frozen=True):
    """One quota that a grant falls under."""

    id: str
    unit: str
    turn: Turn
    limit: Limit


class Wanted(Struct, frozen=True):
    """What a grant is about: the task, its platform, who pays, and what its routing allowed."""

    chain: str
    task: str
    batch: str
    platform: str
    billing: Billing
    allowance: Allowance


class _Learned(Struct):
    """What a provider said of one window."""

    id: str
    unit: str
    turn: Turn
    first_seq: int
    limits: list[tuple[int, str]]
    writer: str


class _Version:
    """The settings of one SettingsAdopted, as far as they bound a grant."""

    def __init__(self, seq: int, settings: Settings) -> None:
        self.seq = seq
        self.settings = settings
        self.slots = {name: one.limit for name, one in settings.platforms.items() if one.enabled}
        self.accounts = {name: one.account or name for name, one in settings.platforms.items()}
        self.by_owner: dict[str, list[QuotaSettings]] = {}
        for entry in settings.quotas.values():
            self.by_owner.setdefault(self.accounts.get(entry.platform, entry.platform), []).append(entry)

    def owner(self, platform: str) -> str:
        return self.accounts.get(platform, platform)


class Known:
    """The settings, what providers said and the bounds of submissions, each with the sequence from which on it counts."""

    def __init__(self) -> None:
        self._versions = [_Version(0, Settings())]
        self._learned: dict[str, dict[str, _Learned]] = {}
        self._owners: dict[str, str] = {}
        self._bounds: dict[str, list[tuple[int, str]]] = {}

    def adopt(self, fact: SettingsAdopted) -> None:
        """Take settings in force."""
        self._versions.append(_Version(fact.seq, restore(fact.settings)))
        del self._versions[:-VERSIONS_KEPT]

    def learn(self, fact: QuotaLearned) -> str:
        """Take a limit that a provider said; return the quota's name, empty where its window is none."""
        try:
            window = quotas.window_name(fact.window_s)
            turn = turn_of(window)
        except BadInput:
            return ""
        owner = fact.account or self._versions[-1].owner(fact.platform)
        name = quotas.quota_id(owner, window, fact.unit)
        known = self._learned.setdefault(owner, {}).setdefault(
            name, _Learned(name, fact.unit, turn, fact.seq, [], f"adapter of {fact.platform}")
        )
        self._owners[name] = owner
        if fact.limit is not None:
            known.limits.append((fact.seq, str(fact.limit)))
            del known.limits[:-VERSIONS_KEPT]
        return name

    def bound(self, fact: TaskRouted) -> None:
        """Take the bounds that a submission set for its batch and its chain; the smallest one counts."""
        allowance = fact.allowance
        for name, limit in (
            (f"batch={fact.batch}" if fact.batch else "", allowance.batch_max_cost_usd),
            (f"chain={fact.chain}", allowance.chain_max_cost_usd),
        ):
            if limit is not None and name:
                known = self._bounds.setdefault(name, [])
                if not known or Decimal(limit) < Decimal(known[-1][1]):
                    known.append((fact.seq, limit))

    def turn(self, name: str) -> Turn:
        """Return the window of a quota that a provider spoke of, as the settings of now say it."""
        owner = self._owners[name]
        for entry in self._versions[-1].by_owner.get(owner, ()):
            if quotas.quota_id(owner, entry.window, entry.unit) == name:
                return turn_of(entry.window, entry.kind, entry.zone)
        return self._learned[owner][name].turn

    def slots(self, platform: str, as_of: int) -> Limit:
        """Return how many may run at once on a platform: 0 where it is not in use."""
        version = self._version(as_of)
        return Limit(Decimal(version.slots.get(platform, 0)), version.seq, "engine", "configured")

    def applied(self, wanted: Wanted, as_of: int) -> dict[str, Applied]:
        """Return the quotas that a grant falls under as of a sequence, by name."""
        version = self._version(as_of)
        owner = version.owner(wanted.platform)
        found: dict[str, Applied] = {}
        for one in self._windows(version, owner, wanted.billing, as_of):
            found[one.id] = one
        for one in (*self._budgets(version, wanted), *self._bounded(wanted, version.seq, as_of)):
            other = found.get(one.id)
            if other is None or _less(one.limit, other.limit):
                found[one.id] = one
        return found

    def _version(self, as_of: int) -> _Version:
        return next((one for one in reversed(self._versions) if one.seq <= as_of), self._versions[0])

    def _windows(self, version: _Version, owner: str, billing: Billing, as_of: int) -> Iterator[Applied]:
        learned = {name: one for name, one in self._learned.get(owner, {}).items() if one.first_seq <= as_of}
        entries: dict[str, list[QuotaSettings]] = {}
        for entry in version.by_owner.get(owner, ()):
            if entry.billing is None or entry.billing == billing:
                entries.setdefault(quotas.quota_id(owner, entry.window, entry.unit), []).append(entry)
        for name in dict.fromkeys((*entries, *learned)):
            written, said = entries.get(name, []), learned.get(name)
            if written:
                unit, turn = written[0].unit, turn_of(written[0].window, written[0].kind, written[0].zone)
            elif said is not None:
                unit, turn = said.unit, said.turn
            else:  # pragma: no cover - a name is from one of the two
                continue
            yield Applied(name, unit, turn, _limit(version.seq, unit, written, said, as_of))

    def _budgets(self, version: _Version, wanted: Wanted) -> Iterator[Applied]:
        for name, budget in version.settings.budgets.items():
            for whose in _whose(budget, wanted):
                turn = turn_of(budget.window, budget.kind, budget.zone)
                limit = Limit(Decimal(budget.limit_usd), version.seq, "engine", "configured")
                yield Applied(quotas.budget_id(name, budget.window, whose), "usd", turn, limit)

    def _bounded(self, wanted: Wanted, seq: int, as_of: int) -> Iterator[Applied]:
        """Yield the budgets that submissions brought along: that of the task itself, those of its batch and its chain."""
        if wanted.billing not in {"metered", "rehearsal"}:
            return
        own = wanted.allowance.max_cost_usd
        found = [("task", f"{wanted.chain}.{wanted.task}", None if own is None else (seq, own))]
        for scope, whose in (("batch", wanted.batch), ("chain", wanted.chain)):
            known = self._bounds.get(f"{scope}={whose}", NOBODY)
            found.append((scope, whose, next(((at, bound) for at, bound in reversed(known) if at <= as_of), None)))
        for scope, whose, bound in found:
            if bound is not None:
                said = Limit(Decimal(bound[1]), bound[0], "router", "configured")
                yield Applied(quotas.budget_id(scope, quotas.FOR_EVER, whose), "usd", turn_of(quotas.FOR_EVER), said)


def _limit(seq: int, unit: str, written: list[QuotaSettings], said: _Learned | None, as_of: int) -> Limit:
    """Return the limit in force: learned, else published; a smaller one that the user wrote is what he wants."""
    bounds = [_written(seq, one) for one in written if one.source == "configured" and one.limit is not None]
    learned = next(((at, told) for at, told in reversed(said.limits) if at <= as_of), None) if said is not None else None
    published = [_written(seq, one) for one in written if one.source != "configured" and one.limit is not None]
    if said is not None and learned is not None:
        bounds.append(Limit(Decimal(learned[1]), learned[0], said.writer, "learned"))
    elif published or unit != "percent":
        bounds += published
    else:
        bounds.append(Limit(PERCENT, seq, "engine", "published"))
    return min(bounds, key=lambda one: one.amount or ZERO, default=Limit())


def _less(one: Limit, other: Limit) -> bool:
    return one.amount is not None and (other.amount is None or one.amount < other.amount)


def _written(seq: int, entry: QuotaSettings) -> Limit:
    return Limit(quotas.amount(entry.limit), seq, "engine", entry.source)


def _whose(budget: BudgetSettings, wanted: Wanted) -> Iterator[str]:
    """Yield whose budget it is where each has its own, empty where it is one; nothing where the grant takes none of it.

    Play money takes no part of a budget for real money, and what a plan or nobody pays takes none at all.
    """
    named = budget.scope in {"task", "batch", "chain"} or (budget.scope == "platform" and budget.key == wanted.platform)
    if wanted.billing != "metered" and not (wanted.billing == "rehearsal" and named):
        return
    match budget.scope:
        case "all":
            yield ""
            return
        case "platform":
            own = [wanted.platform]
        case "tag":
            own = [f"{name}={value}" for name, value in sorted(wanted.allowance.tags.items())]
        case "chain":
            own = [wanted.chain]
        case "batch":
            own = [wanted.batch] if wanted.batch else []
        case "task":  # pragma: no branch - there is no other scope
            own = [f"{wanted.chain}.{wanted.task}", wanted.task][: 2 if budget.key else 1]
    if not budget.key:
        yield from own
    elif budget.key in own:
        yield ""
