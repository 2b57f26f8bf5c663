"""Which quotas and budgets a grant on a platform takes from, and how much: worked out of the settings once. Pure.

Amounts are whole numbers of a million-millionth of the quota's unit, so that sums are exact and the same in any order.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from msgspec import Struct

from actors.windows import Window, window_of
from farebox.core import money
from farebox.core.quotas import FOR_EVER, BudgetSettings, amount, budget_id, quota_id
from farebox.core.settings import Settings
from farebox.core.terms import Allowance, Billing, Candidate, QuotaSource, Unit

ONE = 10**12
"""One request, token, percent or US dollar."""
MOST = 10**15 * ONE
"""More is taken for so much: nobody has such a limit."""
FOREVER = window_of(FOR_EVER)


class Rule(Struct, frozen=True):
    """One quota as the settings say it. `wide`: all that the platform does takes from it, so who waits for it blocks the line.

    Limits in million-millionths, None: unknown.
    """

    quota: str
    unit: Unit
    window: Window
    configured: int | None = None
    published: int | None = None
    wide: bool = True
    billing: Billing | None = None


class BudgetRule(Struct, frozen=True):
    """One budget as the settings say it."""

    name: str
    settings: BudgetSettings
    window: Window
    limit: int


class Rules(Struct, frozen=True):
    """All that the settings say. `quotas` by the owner of the platform."""

    owners: dict[str, str]
    quotas: dict[str, tuple[Rule, ...]]
    budgets: tuple[BudgetRule, ...]


def whole(text: str) -> int:
    """Return decimal text as a whole number of million-millionths. Raises BadInput for no amount."""
    return min(int(money.parse(text) * ONE), MOST)


def told(amount_of: int) -> str:
    """Return an amount as decimal text."""
    number, rest = divmod(max(amount_of, 0), ONE)
    return f"{number}.{rest:012}".rstrip("0") if rest else str(number)


def compiled(settings: Settings) -> Rules:
    """Return the rules of settings as they were read whole (core/settings.py: what does not read is not in them)."""
    owners = {name: platform.account or name for name, platform in settings.platforms.items()}
    quotas: dict[str, dict[str, Rule]] = {}
    for one in settings.quotas.values():
        owner = owners.get(one.platform, one.platform)
        window = window_of(one.window, one.kind, one.zone)
        limit = amount(one.limit)
        rule = Rule(quota_id(owner, window.name, one.unit), one.unit, window, billing=one.billing)
        said = None if limit is None else min(int(limit * ONE), MOST)
        rule = msgspec.structs.replace(rule, **{"published" if one.source == "published" else "configured": said})
        of_owner = quotas.setdefault(owner, {})
        place = f"{rule.quota} {rule.billing or ''}"
        of_owner[place] = both(of_owner.get(place, rule), rule)
    budgets = tuple(
        BudgetRule(name, one, window_of(one.window, one.kind, one.zone), whole(one.limit_usd))
        for name, one in settings.budgets.items()
    )
    return Rules(owners, {owner: tuple(rules.values()) for owner, rules in quotas.items()}, budgets)


def both(one: Rule, other: Rule) -> Rule:
    """Return what holds where two entries speak of one quota: the smaller limit of each kind."""
    return msgspec.structs.replace(
        one,
        configured=smaller(one.configured, other.configured),
        published=smaller(one.published, other.published),
    )


def smaller(one: int | None, other: int | None) -> int | None:
    """Return the smaller of two limits; an unknown one bounds nothing."""
    return min((limit for limit in (one, other) if limit is not None), default=None)


def limit_of(rule: Rule, learned: int | None) -> tuple[int | None, QuotaSource | None]:
    """Return the limit that counts and who says it: learned beats published, and a smaller one that the user wrote both."""
    known, source = (learned, "learned") if learned is not None else (rule.published, "published")
    if known is None and rule.unit == "percent":
        known = 100 * ONE
    if rule.configured is not None and (known is None or rule.configured <= known):
        return rule.configured, "configured"
    return (known, source) if known is not None else (None, None)


def money_rules(
    budgets: tuple[BudgetRule, ...],
    bounds: dict[str, int],
    allowance: Allowance,
    about: tuple[str, str, str],
    candidate: Candidate,
) -> Iterator[Rule]:
    """Yield each budget that a grant takes from; `about` is (chain, task, batch). Play money never eats a real budget."""
    if candidate.billing not in {"metered", "rehearsal"}:
        return
    chain, task, batch = about
    found: dict[str, Rule] = {}
    for budget in budgets:
        for whose in _whose(budget.settings, allowance.tags, about, candidate):
            _add(found, budget_id(budget.name, budget.window.name, whose), budget.limit, budget.window, budget.settings.scope)
    if allowance.max_cost_usd is not None:
        _add(found, budget_id("task", FOR_EVER, f"{chain}.{task}"), whole(allowance.max_cost_usd), FOREVER, "task")
    for name, whose in (("batch", batch), ("chain", chain)):
        quota = budget_id(name, FOR_EVER, whose) if bounds and whose else ""
        if quota in bounds:
            _add(found, quota, bounds[quota], FOREVER, name)
    yield from found.values()


def bounds_of(allowance: Allowance, chain: str, batch: str) -> Iterator[tuple[str, int]]:
    """Yield the budgets that a task brings along for all tasks of its batch and of its chain."""
    if allowance.batch_max_cost_usd is not None and batch:
        yield budget_id("batch", FOR_EVER, batch), whole(allowance.batch_max_cost_usd)
    if allowance.chain_max_cost_usd is not None:
        yield budget_id("chain", FOR_EVER, chain), whole(allowance.chain_max_cost_usd)


def _add(found: dict[str, Rule], quota: str, limit: int, window: Window, scope: str) -> None:
    rule = Rule(quota, "usd", window, configured=limit, wide=scope in {"all", "platform"})
    found[quota] = both(found.get(quota, rule), rule)


def _whose(budget: BudgetSettings, tags: dict[str, str], about: tuple[str, str, str], candidate: Candidate) -> Iterator[str]:
    """Yield whose budget it is that this grant takes from: nobody's own (""), or the name of who has such a budget."""
    chain, task, batch = about
    played = candidate.billing == "rehearsal"
    match budget.scope:
        case "all":
            names = () if played else ((budget.key, budget.key),)
        case "platform":
            names = () if played and budget.key != candidate.platform else ((candidate.platform, candidate.platform),)
        case "tag":
            names = () if played else tuple((f"{name}={value}", f"{name}={value}") for name, value in sorted(tags.items()))
        case "chain":
            names = ((chain, chain),)
        case "batch":
            names = ((batch, batch),) if batch else ()
        case "task":  # pragma: no branch - there is no other scope
            names = ((f"{chain}.{task}", f"{chain}.{task}"), (task, f"{chain}.{task}"))[: 2 if budget.key else 1]
    for name, whose in names:
        if not budget.key:
            yield whose
        elif name == budget.key:
            yield ""


def need(rule: Rule, candidate: Candidate, percent: int, answer_tokens_max: int) -> int | None:
    """Return how much of a quota a grant takes; None: nobody can tell what it may cost."""
    tokens_in = candidate.input_tokens_max or candidate.input_tokens or 0
    tokens_out = answer_tokens_max if candidate.output_tokens_max is None else candidate.output_tokens_max
    match rule.unit:
        case "requests" | "calls":
            return ONE
        case "tokens":
            return max(tokens_in + tokens_out, 1) * ONE
        case "tokens_in":
            return max(tokens_in, 1) * ONE
        case "tokens_out":
            return max(tokens_out, 1) * ONE
        case "percent":
            return percent
        case "usd":  # pragma: no branch - there is no other unit
            return None if candidate.bound_usd is None else whole(candidate.bound_usd)
