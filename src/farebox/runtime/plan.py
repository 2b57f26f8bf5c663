"""What a batch would do to every limit: task after task onto the first candidate with room, in time as it would pass. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal

from msgspec import Struct

from farebox.core import money, quotas
from farebox.core.errors import BadInput
from farebox.core.standing import Standing
from farebox.core.terms import Candidate, OnQuota

PAID = frozenset({"metered", "rehearsal"})
TURNS_MAX = 1_000
"""Turns of windows that a plan looks ahead."""


class Group(Struct, frozen=True):
    """So many tasks alike, one after the other: who may do one, cheapest first; `refused` says why nobody may.

    `code` is the code of that refusal where quota, budget or a missing price brings it.
    """

    count: int
    candidates: tuple[Candidate, ...] = ()
    on_quota: OnQuota = "wait"
    refused: str = ""
    code: str = ""


class Share(Struct):
    """What one platform would do. Dollars are list prices, from the least to the bound, without those of `unpriced` tasks."""

    platform: str
    billing: str
    tasks: int = 0
    low_usd: Decimal = money.ZERO
    estimate_usd: Decimal = money.ZERO
    bound_usd: Decimal = money.ZERO
    unpriced: int = 0


class Reached(Struct):
    """What would become of one limit: the first task (from 1) at the warning line, and the first without room left."""

    quota: str
    unit: str
    used: Decimal
    limit: Decimal
    after: Decimal
    resets_at_ms: int | None
    warn_at_task: int | None = None
    full_at_task: int | None = None


class Plan(Struct):
    """What would happen. `waits` tasks would start later, the last at `ends_ms`, when the windows it waits for have turned.

    How long calls take is not counted. `refused` counts by reason, `codes` names those of quota, budget and missing price.
    """

    tasks: int
    shares: dict[str, Share]
    reached: dict[str, Reached]
    refused: dict[str, int]
    codes: dict[str, str]
    waits: int = 0
    ends_ms: int | None = None


class _Window(Struct):
    told: Reached
    platforms: frozenset[str]
    length_ms: int
    next_ms: int | None
    warn: Decimal
    per_call: Decimal


def planned(groups: Iterable[Group], standings: Sequence[Standing], now_ms: int, warn_at_percent: int) -> Plan:
    """Return what would happen to these tasks from `now_ms` (stream time) on.

    A task needs room for the most that it may take, as a grant does, and uses what is likely.
    """
    windows = [window for one in standings if (window := _window(one, now_ms, warn_at_percent)) is not None]
    plan = Plan(0, {}, {one.told.quota: one.told for one in windows}, {}, {})
    for group in groups:
        chosen = _open_to(group)
        for _ in range(group.count):
            plan.tasks += 1
            _place(plan, group, chosen, windows)
    return plan


def _window(one: Standing, now_ms: int, warn_at_percent: int) -> _Window | None:
    if one.limit is None or one.window == "now":
        return None
    used, limit = money.parse(one.used), money.parse(one.limit)
    try:
        length_ms = quotas.window_s(one.window) * 1000
    except BadInput:
        length_ms = 0
    next_ms = one.resets_at_ms or (now_ms + length_ms if length_ms else None)
    told = Reached(one.quota, one.unit, used, limit, used, one.resets_at_ms)
    return _Window(told, frozenset(one.platforms), length_ms, next_ms, limit * warn_at_percent / 100, money.parse(one.per_call))


def _open_to(group: Group) -> tuple[Candidate, ...]:
    """Return the candidates that a task goes to without being asked: what costs money only where it may, or where all does."""
    cheap = tuple(one for one in group.candidates if one.billing != "metered")
    return group.candidates if group.on_quota == "spill" or not cheap else cheap


def _place(plan: Plan, group: Group, chosen: Sequence[Candidate], windows: list[_Window]) -> None:
    if not chosen:
        _refuse(plan, group.refused or "no platform may do it", group.code)
        return
    first: list[_Window] = []
    for _ in range(TURNS_MAX):
        first = []
        for candidate in chosen:
            without = _full(candidate, windows)
            if not without:
                _take(plan, candidate, windows)
                return
            first += without
            for window in without:
                window.told.full_at_task = window.told.full_at_task or plan.tasks
        turns = [window.next_ms for window in first if window.next_ms is not None and window.told.limit > 0]
        if group.on_quota == "stop" or not turns:
            break
        plan.ends_ms = max(plan.ends_ms or 0, min(turns))
        _turn(windows, plan.ends_ms)
    told = first[0].told
    if told.unit == "usd":
        _refuse(plan, f"{told.quota} has no room for the most that a task may cost", "FB302")
    else:
        _refuse(plan, f"{told.quota} is used up", "FB301")


def _refuse(plan: Plan, reason: str, code: str) -> None:
    plan.refused[reason] = plan.refused.get(reason, 0) + 1
    if code:
        plan.codes[reason] = code


def _full(candidate: Candidate, windows: Iterable[_Window]) -> list[_Window]:
    return [one for one in windows if (need := _most(candidate, one)) and one.told.after + need > one.told.limit]


def _most(candidate: Candidate, window: _Window) -> Decimal:
    """Return the most that a task may take of a window: so much room a grant asks for."""
    tokens_in = candidate.input_tokens_max or candidate.input_tokens or 0
    tokens_out = candidate.output_tokens_max or candidate.output_tokens or 0
    return _need(candidate, window, candidate.bound_usd or candidate.estimate_usd, tokens_in, tokens_out)


def _likely(candidate: Candidate, window: _Window) -> Decimal:
    """Return what a task would likely use of a window."""
    return _need(candidate, window, candidate.estimate_usd, candidate.input_tokens or 0, candidate.output_tokens or 0)


def _need(candidate: Candidate, window: _Window, usd: str | None, tokens_in: int, tokens_out: int) -> Decimal:
    """Return what of these amounts counts for a window; 0 where it does not bound the candidate."""
    named = candidate.platform in window.platforms
    if window.platforms and not named:
        return money.ZERO
    match window.told.unit:
        case "usd":
            real = candidate.billing == "metered" or (named and candidate.billing == "rehearsal")
            return money.parse(usd or "0") if real else money.ZERO
        case "tokens":
            return Decimal(tokens_in + tokens_out)
        case "tokens_in":
            return Decimal(tokens_in)
        case "tokens_out":
            return Decimal(tokens_out)
        case "calls":
            return money.ZERO
        case "percent":
            return window.per_call
        case _:
            return Decimal(1)


def _take(plan: Plan, candidate: Candidate, windows: Iterable[_Window]) -> None:
    share = plan.shares.setdefault(candidate.platform, Share(candidate.platform, candidate.billing))
    share.tasks += 1
    if candidate.estimate_usd is None:
        share.unpriced += 1
    else:
        share.estimate_usd += money.parse(candidate.estimate_usd)
        share.low_usd += money.parse(candidate.low_usd or candidate.estimate_usd)
        share.bound_usd += money.parse(candidate.bound_usd or candidate.estimate_usd)
    plan.waits += plan.ends_ms is not None
    for window in windows:
        need, told = _likely(candidate, window), window.told
        if need:
            told.after += need
            if told.after >= window.warn and told.warn_at_task is None:
                told.warn_at_task = plan.tasks
            if told.after >= told.limit and told.full_at_task is None:
                told.full_at_task = plan.tasks


def _turn(windows: Iterable[_Window], at_ms: int) -> None:
    """Let every window turn that does so by `at_ms`: what was used in it counts no more."""
    for window in windows:
        while window.next_ms is not None and window.next_ms <= at_ms and window.length_ms:
            window.told.after = money.ZERO
            window.next_ms += window.length_ms
        if window.next_ms is not None and window.next_ms <= at_ms:
            window.told.after, window.next_ms = money.ZERO, None
