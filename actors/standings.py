"""How every quota, budget and platform stands at a moment, told from the state of quota: for people, and for plans. Pure.

It reads the state and never touches it: the moment asked for may lie ahead of what the log has said.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from actors.capacity import Quota
from actors.pace import UNHURRIED, slots
from actors.rules import Rule, limit_of, told
from actors.uses import Evidence, Tally
from actors.windows import span, window_of
from farebox.core.quotas import FOR_EVER, budget_id, is_of_budget
from farebox.core.standing import Standing

SHOWN_MAX = 1_000
"""Budgets of single chains, batches and tags that are told."""


def shown(state: Quota, now_ms: int) -> Sequence[Standing]:
    """Return how each quota stands at `now_ms` (stream time): slots, windows, budgets. Bounds of single tasks are left out."""
    return (*_slots(state), *_windows(state, now_ms), *_budgets(state, now_ms))


def _slots(state: Quota) -> Iterator[Standing]:
    for platform, most in sorted(state.limits.items()):
        used = str(state.used.get(platform, 0))
        pace = slots(state.paces.get(platform, UNHURRIED), most)
        yield Standing(
            quota=f"{platform}/now/calls", platforms=(platform,), window="now", unit="calls", used=used, open=used,
            limit=str(pace), most=str(most), source="configured",
        )  # fmt: skip


def _windows(state: Quota, now_ms: int) -> Iterator[Standing]:
    """Tell what the settings say of each account, and what was only learned."""
    of_owner: dict[str, list[str]] = {}
    for platform, owner in state.rules.owners.items():
        of_owner.setdefault(owner, []).append(platform)
    seen: set[str] = set()
    for owner, platforms in sorted(of_owner.items()):
        billings = {state.settings.platforms[one].billing for one in platforms}
        for rule in state.rules.quotas.get(owner, ()):
            if rule.quota not in seen and (rule.billing is None or rule.billing in billings):
                seen.add(rule.quota)
                yield _standing(state, rule, tuple(platforms), now_ms)
        for quota in sorted(state.uses.learned):
            name, window, unit = quota.rsplit("/", 2)
            if name == owner and quota not in seen:
                seen.add(quota)
                yield _standing(state, Rule(quota, unit, window_of(window)), tuple(platforms), now_ms)  # type: ignore[arg-type]  # learned as one


def _budgets(state: Quota, now_ms: int) -> Iterator[Standing]:
    rules: dict[str, Rule] = {}
    platforms: dict[str, tuple[str, ...]] = {}
    for one in state.rules.budgets:
        quota = budget_id(one.name, one.window.name)
        if one.settings.scope == "all" or one.settings.key:
            rules[quota] = Rule(quota, "usd", one.window, configured=one.limit)
        if one.settings.scope == "platform" and one.settings.key:
            platforms[quota] = (one.settings.key,)
    for quota in sorted(state.uses.tallies)[:SHOWN_MAX]:
        budget = next((one for one in state.rules.budgets if is_of_budget(quota, one.name)), None) if "=" in quota else None
        if budget is not None:
            rules[quota] = Rule(quota, "usd", budget.window, configured=budget.limit)
    for quota, limit in sorted(state.bounds.items())[:SHOWN_MAX]:
        rules[quota] = Rule(quota, "usd", window_of(FOR_EVER), configured=limit)
    for quota, rule in rules.items():
        yield _standing(state, rule, platforms.get(quota, ()), now_ms)


def _standing(state: Quota, rule: Rule, platforms: tuple[str, ...], now_ms: int) -> Standing:
    learned = state.uses.learned.get(rule.quota)
    limit, source = limit_of(rule, None if learned is None else learned.limit)
    tally = state.uses.tallies.get(rule.quota) or Tally(rule.window)
    own = tally.open + _spent(state, rule.quota, tally, now_ms)
    fresh = learned if learned is not None and learned.used is not None and now_ms < learned.until_ms else None
    used = own if fresh is None else max(own, (fresh.used or 0) + fresh.since + fresh.before)
    return Standing(
        quota=rule.quota, platforms=platforms, window=rule.window.name, unit=rule.unit, used=told(used), open=told(tally.open),
        limit=None if limit is None else told(limit), source=source,
        evidence=(fresh.said or "the provider") if fresh is not None else "own count",
        evidence_ms=None if fresh is None else fresh.at_ms,
        per_call=told(learned.percent) if learned is not None and rule.unit == "percent" else "1",
        resets_at_ms=_reset_ms(state, rule, tally, fresh, now_ms),
    )  # fmt: skip


def _spent(state: Quota, quota: str, tally: Tally, now_ms: int) -> int:
    match tally.window.kind:
        case "rolling":
            since_ms = now_ms - tally.window.length_ms
            return sum(amount for at_ms, _, amount in state.uses.rolled.get(quota, ()) if at_ms > since_ms)
        case "fixed":
            return tally.spent if span(tally.window, now_ms).start_ms <= tally.start_ms else 0
        case _:
            return tally.spent


def _reset_ms(state: Quota, rule: Rule, tally: Tally, fresh: Evidence | None, now_ms: int) -> int | None:
    """Return when the window turns; of one that rolls, when the oldest of what counts rolls off."""
    if fresh is not None:
        return fresh.until_ms
    if rule.window.kind == "fixed":
        return span(rule.window, now_ms).turn_ms
    if rule.window.kind != "rolling":
        return None
    since_ms = now_ms - tally.window.length_ms
    counting = (at_ms for at_ms, _, _ in state.uses.rolled.get(rule.quota, ()) if at_ms > since_ms)
    oldest_ms = next(counting, None)
    return None if oldest_ms is None else oldest_ms + tally.window.length_ms
