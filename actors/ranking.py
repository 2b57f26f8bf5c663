"""The order of candidates: who was asked for, where the chain stays, then cost tier, cost, health, the user's order. Pure.

Who failed this task before, or is spared because it failed others, comes last.
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from actors.filters import (
    Against,
    Rules,
    too_long,
    why_absent,
    why_failed,
    why_not_paid,
    why_ruled_out,
    why_too_dear,
)
from actors.routes import MEMO_MAX, NO_CONSTRAINTS, Known, Open, Router, chain_of, model_of, policy_of
from farebox.core import estimates, forecast, health, money
from farebox.core.events import TaskRouted
from farebox.core.forecast import Dollars
from farebox.core.policies import NO_POLICY
from farebox.core.pricing import name_of
from farebox.core.settings import PlatformSettings
from farebox.core.terms import Allowance, Candidate, Rejected

HEALTH_STEP = 200
"""Points of health that make a difference: among those who are well the user's order counts."""
FREE = Decimal(0)
UNPRICED = Decimal(10) ** 30
"""Where a price is not known: behind all that have one."""
NO_ALLOWANCE = TaskRouted().allowance
"""The very default of the fact: only that one is left out when it is written."""

Rank = tuple[bool, bool, bool, int, Decimal, int, int]


class Ranked(NamedTuple):
    """Who may do a task, in order, and who may not: `against` beside `rejected`, as far as the task itself was looked at."""

    candidates: tuple[Candidate, ...]
    rejected: tuple[Rejected, ...]
    against: tuple[Against, ...]


class Asked(NamedTuple):
    """A task with the rules that hold for it."""

    name: str
    known: Known
    rules: Rules


def asked(state: Router, name: str, known: Known) -> Asked:
    """Return the task known as `name` with its policy under the settings of now."""
    chain = chain_of(name)
    policy_name, policy = policy_of(state.settings, known, chain)
    on_quota = known.constraints.on_quota or policy.on_quota or state.settings.on_quota
    return Asked(name, known, Rules(policy_name, policy, chain, on_quota))


def rank(state: Router, task: Asked) -> Ranked:
    """Return the candidates of a task and everybody else with the reason."""
    platforms, turned_away = _present(state, task)
    found: list[tuple[Rank, Candidate]] = []
    rejected: list[Rejected] = []
    against: list[Against] = []
    for order, name, platform, model in platforms:
        one = _weighed(state, task, order, name, platform, model)
        if isinstance(one, Against):
            rejected.append(Rejected(platform=name, reason=one.reason))
            against.append(one)
        else:
            found.append(one)
    if len(found) > 1:
        found.sort(key=_by_rank)
    return Ranked(
        tuple(candidate for _, candidate in found), (*turned_away, *rejected) if rejected else turned_away, tuple(against)
    )


def _by_rank(one: tuple[Rank, Candidate]) -> Rank:
    return one[0]


def _present(state: Router, task: Asked) -> tuple[Open, tuple[Rejected, ...]]:
    """Return who can do such a task, and who cannot. The same question has the same answer until settings or reports change."""
    known, rules = task.known, task.rules
    question = (known.hint, known.fallback, known.model, known.directory, rules.name, known.constraints.allow)
    answer = state.memo.get(question)
    if answer is None:
        if len(state.memo) >= MEMO_MAX:
            state.forget()
        answer = state.memo[question] = _look(state, known, rules)
    return answer


def _look(state: Router, known: Known, rules: Rules) -> tuple[Open, tuple[Rejected, ...]]:
    present: list[tuple[int, str, PlatformSettings, str]] = []
    absent: list[Rejected] = []
    preferred = {name: place - len(rules.policy.order) for place, name in enumerate(rules.policy.order)}
    for order, (name, platform) in enumerate(state.settings.platforms.items()):
        if reason := why_absent(state, known, rules, name, platform):
            absent.append(Rejected(platform=name, reason=reason))
        else:
            present.append((preferred.get(name, order), name, platform, model_of(state, known, name, platform)))
    return tuple(present), tuple(absent)


def _weighed(
    state: Router, task: Asked, order: int, name: str, platform: PlatformSettings, model: str
) -> tuple[Rank, Candidate] | Against:
    """Return a platform as a candidate with its rank, or what speaks against it."""
    known, rules = task.known, task.rules
    failure = known.failures.get(name)
    if failure is not None and (reason := why_failed(state.settings, known, failure, rules)):
        return Against("absent", reason)
    if known.failures and (reason := why_not_paid(state, known, rules, name, platform)):
        return Against("quota", reason)
    ruled = known.constraints is not NO_CONSTRAINTS or rules.policy is not NO_POLICY
    if ruled and (reason := why_ruled_out(known, rules, name, platform)):
        return Against("rule", reason)
    key = estimates.model_key(name, model)
    tokens = estimates.input_tokens(state.estimator, key, known.tokens)
    if narrow := too_long(state, name, platform, model, tokens):
        return narrow
    output = estimates.output_tokens(state.estimator, known.type, key)
    most = known.max_tokens or state.settings.answer_tokens_max
    writes = (min(output.low, most), min(output.typical, most), most)
    cost = forecast.dollars(state.prices, name_of(platform.price_model, model), name, tokens, writes, known.at_ms)
    if (ruled or (cost is None and state.settings.budgets)) and (reason := why_too_dear(state, known, rules, platform, cost)):
        return Against("rule", reason)
    candidate = _candidate(state, task, name, platform, model, tokens, writes, cost)
    return _rank(state, task, order, candidate, cost), candidate


def _candidate(
    state: Router,
    task: Asked,
    name: str,
    platform: PlatformSettings,
    model: str,
    tokens: int,
    writes: tuple[int, int, int],
    cost: Dollars | None,
) -> Candidate:
    known = task.known
    failure = known.failures.get(name)
    state_of = health.of(state.health, name)
    spared_ms = health.not_before_ms(state_of, task.name, known.at_ms)
    return Candidate(
        platform=name,
        model=model,
        billing=platform.billing,
        tier=platform.cost_tier,
        input_tokens=tokens,
        input_tokens_max=tokens * forecast.INPUT_MARGIN,
        output_tokens=writes[1],
        output_tokens_max=writes[2],
        low_usd=cost and cost.low,
        estimate_usd=cost and cost.estimate,
        bound_usd=cost and cost.bound,
        health=state_of.points,
        latency_ms=health.latency_ms(state_of),
        lane_seq=known.lanes.get(name, 0),
        not_before_ms=max(failure.not_before_ms if failure else 0, spared_ms),
        limit=platform.limit,
    )


def _rank(state: Router, task: Asked, order: int, candidate: Candidate, cost: Dollars | None) -> Rank:
    known, name = task.known, candidate.platform
    paid = candidate.billing in {"metered", "rehearsal"}
    return (
        name in known.failures or candidate.not_before_ms > known.at_ms,
        name != known.hint,
        not task.rules.policy.sticky or state.sticky.get(task.rules.chain) != name,
        candidate.tier,
        (cost.estimate_usd if cost else UNPRICED) if paid else FREE,
        (1000 - candidate.health) // HEALTH_STEP,
        order,
    )


def allowance(state: Router, task: Asked, candidates: tuple[Candidate, ...]) -> Allowance:
    """Return what quota needs of the task's constraints, its policy and the settings."""
    settings, known, rules = state.settings, task.known, task.rules
    constraints, policy = known.constraints, rules.policy
    last = policy.last_resort or settings.last_resort
    on_quota = rules.on_quota
    tags = known.tags if any(budget.scope == "tag" for budget in settings.budgets.values()) else {}
    if constraints is NO_CONSTRAINTS and policy is NO_POLICY and last == "wait" and on_quota == "wait" and not tags:
        return NO_ALLOWANCE
    return Allowance(
        policy=rules.name,
        on_quota=on_quota,
        last_resort=last if any(one.platform == last for one in candidates) else "",
        tags=tags,
        max_cost_usd=_smaller(constraints.max_cost_usd, policy.max_cost_usd),
        batch_max_cost_usd=constraints.batch_max_cost_usd,
        chain_max_cost_usd=constraints.chain_max_cost_usd,
        allow_unpriced=constraints.allow_unpriced,
    )


def _smaller(one: str | None, other: str | None) -> str | None:
    bounds = [bound for bound in (one, other) if bound is not None]
    return min(bounds, key=money.parse, default=None)
