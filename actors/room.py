"""Whether a task has room on a platform: every quota and budget at once, and what it would take of each. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from actors import lines
from actors.capacity import Block, Claim, Quota, Waiting
from actors.rules import ONE, Rule, both, limit_of, money_rules, need, told
from actors.windows import window_of
from farebox.core.errors import BadInput
from farebox.core.events import QuotaLearned
from farebox.core.quotas import quota_id, window_name
from farebox.core.terms import Billing, Candidate, Take

MONEY_FREE: frozenset[Billing] = frozenset({"plan", "free"})


def parts_of(state: Quota, waiting: Waiting, candidate: Candidate) -> list[Claim]:
    """Return what a grant would take of each quota that applies."""
    key = f"{candidate.platform} {candidate.billing}"
    plan = state.plans.get(key)
    if plan is None:
        plan = state.plans[key] = tuple(_plan(state, candidate))
    budgeted = state.rules.budgets or state.bounds or waiting.allowance.max_cost_usd is not None
    if not plan and not budgeted:
        return []
    rules = list(plan)
    if budgeted:
        about = (waiting.chain, waiting.task, waiting.batch)
        rules += money_rules(state.rules.budgets, state.bounds, waiting.allowance, about, candidate)
    return [_part(state, waiting, candidate, rule) for rule in rules]


def _plan(state: Quota, candidate: Candidate) -> Iterator[Rule]:
    """Yield the quotas of a platform's account that apply under this billing, learned ones too."""
    owner = state.rules.owners.get(candidate.platform, candidate.platform)
    found: dict[str, Rule] = {}
    for rule in state.rules.quotas.get(owner, ()):
        if rule.billing not in {None, candidate.billing} or (rule.unit == "usd" and candidate.billing in MONEY_FREE):
            continue
        found[rule.quota] = both(found.get(rule.quota, rule), rule)
    yield from found.values()
    for quota in state.uses.learned:
        of_owner, window, unit = quota.rsplit("/", 2)
        if of_owner == owner and quota not in found and not (unit == "usd" and candidate.billing in MONEY_FREE):
            yield Rule(quota, unit, window_of(window))  # type: ignore[arg-type]  # a unit is what was learned


def _part(state: Quota, waiting: Waiting, candidate: Candidate, rule: Rule) -> Claim:
    known = state.uses.learned.get(rule.quota)
    limit, source = limit_of(rule, None if known is None else known.limit)
    used, opened = state.uses.use(rule.quota, state.now_ms)
    amount = need(rule, candidate, ONE if known is None else known.percent, state.settings.answer_tokens_max)
    if amount is None and waiting.allowance.allow_unpriced:
        return Claim(rule, 0, used, opened, limit, None)
    return Claim(rule, amount, used, opened, limit, source)


def blocked_by(parts: list[Claim]) -> Block | None:
    """Return what stands in the way of a grant, the most lasting first; None: there is room."""
    found: Block | None = None
    for part in parts:
        block = _blocked(part)
        if block is None:
            continue
        if block.never:
            return block
        if found is None or _lasts(block) > _lasts(found):
            found = block
    return found


def _lasts(block: Block) -> tuple[bool, bool]:
    return not block.part.rule.wide, block.hard


def _blocked(part: Claim) -> Block | None:
    amount, limit, rule = part.amount, part.limit, part.rule
    if amount is None:
        return Block(part, never=True)
    if limit is None or amount == 0:
        return None
    settled = part.used - part.open
    if amount > limit or (rule.window.kind == "all" and settled + amount > limit):
        return Block(part, never=True)
    if part.used + amount > limit:
        return Block(part, hard=rule.unit != "calls" and settled + amount > limit)
    if rule.unit in {"calls", "usd"} or not part.open:
        return None
    # At most half of what is left of a window in flight at once, never less than one.
    return Block(part) if 2 * (part.open + amount) > limit - settled else None


def takes(parts: list[Claim]) -> tuple[Take, ...]:
    """Return what a grant takes, as it stands in its fact."""
    return tuple(
        Take(
            quota=part.rule.quota, amount=told(part.amount or 0), used=told(part.used + (part.amount or 0)),
            limit=None if part.limit is None else told(part.limit), source=part.source,
        )
        for part in parts
    )  # fmt: skip


def room_ms(state: Quota, part: Claim) -> int:
    """Return when there may be room for this part (stream time, ms); 0: nobody knows."""
    most = (part.limit or 0) - (part.amount or 0)
    return state.uses.room_ms(part.rule.quota, most, state.now_ms) or 0


def quota_of(state: Quota, fact: QuotaLearned) -> str:
    """Return the quota of which a provider told; empty for one that no name fits."""
    owner = state.rules.owners.get(fact.platform, fact.platform)
    try:
        return quota_id(owner, window_name(fact.window_s), fact.unit)
    except BadInput:
        return ""


def learn(state: Quota, fact: QuotaLearned) -> None:
    """Take in what a provider reported."""
    quota = quota_of(state, fact)
    if not quota:
        return
    fact = msgspec.structs.replace(fact, at_ms=max(fact.at_ms, state.clock_ms))  # The clock of the log never goes back.
    unstored = sum(amount for hold in state.holds.values() if not hold.seq for name, amount in hold.parts if name == quota)
    new = quota not in state.uses.learned
    if state.uses.learn(quota, state.window(quota), fact, unstored) or new:
        state.plans = {}
        lines.look_again(state)
    state.watched[quota] = fact.platform
