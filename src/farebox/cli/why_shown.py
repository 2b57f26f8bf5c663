"""A task's facts as a person reads them: what was asked, who could, who could not and why, what it took, what it cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from farebox.cli import cells
from farebox.cli.output import one_line
from farebox.cli.quota_table import amount, moment

Told = Mapping[str, Any]
REJECTED_SHOWN = 12


def lines_of(found: Told, width: int) -> list[str]:
    """Return the lines for a person."""
    lines = [f"task {found['task_id']} · {found['status']} · chain {found['chain_id']}"]
    if found.get("waiting"):
        until = f" until {_time(found['due_ms'])}" if found.get("due_ms") else ""
        lines.append(f"it waits{until}: {found['waiting']}")
    for fact in found["facts"]:
        said = _SAID.get(fact["fact"])
        told = said(fact) if said is not None else [fact["fact"]]
        lines.append(f"{_time(fact['at_ms'])}  {told[0]}  (fact {fact['seq']})")
        lines += [f"          {one}" for one in told[1:]]
    if found.get("left_out"):
        lines.append(f"and {found['left_out']} facts between them that are not shown")
    lines += _limits(found)
    return [_fitted(text, width) for text in lines]


def _fitted(text: str, width: int) -> str:
    indent = len(text) - len(text.lstrip())
    return " " * indent + one_line(text, max(40, width - indent))


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone().strftime("%H:%M:%S")


def _submitted(fact: Told) -> list[str]:
    words = [str(fact.get("type", "general")), f"{cells.count(fact.get('bytes', 0))} bytes"]
    words += [f"asks for {fact[name]}" for name in ("platform", "model") if fact.get(name)]
    tags: Told = fact.get("tags") or {}
    words += [f"{name}={value}" for name, value in tags.items()]
    allowed = [f"{name.removesuffix('_usd').replace('_', ' ')} {_plain(value)}" for name, value in _constraints(fact).items()]
    return [f"submitted: {', '.join(words)}", *([f"allows: {', '.join(allowed)}"] if allowed else [])]


def _constraints(fact: Told) -> Told:
    return fact.get("constraints") or {}


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)  # pyright: ignore[reportUnknownArgumentType]


def _routed(fact: Told) -> list[str]:
    allowance: Told = fact.get("allowance") or {}
    policy = f"policy {allowance['policy']}" if allowance.get("policy") else "no policy"
    lines = [f"routed, attempt {fact.get('attempt', 1)}: {policy}, on quota {allowance.get('on_quota', 'wait')}"]
    for place, one in enumerate(fact.get("candidates") or (), start=1):
        lines.append(f"{place}. {_candidate(one)}")
    rejected: Sequence[Told] = fact.get("rejected") or ()
    lines += [f"–  {one['platform']}: {one['reason']}" for one in rejected[:REJECTED_SHOWN]]
    return lines + ([f"–  and {len(rejected) - REJECTED_SHOWN} more"] if len(rejected) > REJECTED_SHOWN else [])


def _candidate(one: Told) -> str:
    who = "/".join(text for text in (one["platform"], one.get("model", "")) if text)
    words = [who, str(one.get("billing", "metered"))]
    if one.get("input_tokens") is not None:
        words.append(f"about {cells.tokens(one['input_tokens'])}→{cells.tokens(one.get('output_tokens'))} tok")
    if one.get("bound_usd") is not None:
        likely = f", likely {cells.usd(one['estimate_usd'])}" if one.get("estimate_usd") is not None else ""
        worth = "" if one.get("billing") in {"metered", "rehearsal", None} else "list price "
        words.append(f"{worth}{cells.usd(one.get('low_usd'))} to {cells.usd(one['bound_usd'])}{likely}")
    if one.get("health", 1000) < 1000:
        words.append(f"health {one['health'] / 10:g} %")
    if one.get("not_before_ms"):
        words.append(f"not before {_time(one['not_before_ms'])}")
    return " · ".join(words)


def _deferred(fact: Told) -> list[str]:
    until = f"until {moment(fact['due_ms'], fact['at_ms'])}" if fact.get("due_ms") else "until there is room"
    return [f"waits {until}: {fact.get('reason') or 'no room'}", *([f"quota {fact['quota']}"] if fact.get("quota") else [])]


def _reserved(fact: Told) -> list[str]:
    head = f"granted to {fact['platform']}: slot {fact.get('in_use', 0)} of {fact.get('limit', 0)}"
    if fact.get("as_of"):
        head += f", limits as known at fact {fact['as_of']}"
    return [head, *(_take(one) for one in fact.get("takes") or ())]


def _take(one: Told) -> str:
    unit = str(one["quota"]).rpartition("/")[2]
    told = f"takes {_amount(one)} of {one['quota']}"
    if one.get("used") is None:
        return told
    known = one.get("limit")
    limit = "unknown" if known is None else f"{amount(Decimal(known), unit)} ({one.get('source') or 'unpriced'})"
    return f"{told}: then {amount(Decimal(one['used']), unit)} of {limit}"


def _refused(fact: Told) -> list[str]:
    return [f"no capacity: {fact['fault']['error_class']}: {fact['fault'].get('message', '')}"]


def _settled(fact: Told) -> list[str]:
    head = f"settled on {fact['platform']}" + (", because nobody ended it in time" if fact.get("expired") else "")
    return [head, *(f"used {_amount(one)} of {one['quota']}" for one in fact.get("takes") or ())]


def _amount(take: Told) -> str:
    return amount(Decimal(take["amount"]), str(take["quota"]).rpartition("/")[2])


def _started(fact: Told) -> list[str]:
    return [f"attempt {fact['attempt']} starts on {fact['platform']} {fact.get('model', '')}".rstrip()]


def _ended(fact: Told) -> list[str]:
    word = {"AttemptFailed": "failed", "AttemptInterrupted": "was interrupted", "LateResult": "answered late"}.get(
        fact["fact"], str(fact.get("status"))
    )
    words = [f"attempt {fact.get('attempt', 0)} {word}" if fact.get("attempt") else f"task {word}"]
    if fact.get("duration_ms"):
        words.append(f"after {cells.seconds(fact['duration_ms'] / 1000)}")
    usage: Told = fact.get("usage") or {}
    if usage:
        tokens = f"{cells.tokens(usage.get('input_tokens'))}→{cells.tokens(usage.get('output_tokens'))} tok"
        words.append(f"{tokens} ({usage.get('source', 'provider')})")
    fault: Told = fact.get("fault") or {}
    return [" · ".join(words), *([f"{fault['error_class']}: {fault.get('message', '')}"] if fault else [])]


def _cost(fact: Told) -> list[str]:
    status, paid, value = fact.get("status", "unpriced"), fact.get("paid_usd"), fact.get("plan_value_usd")
    words = f"paid {cells.usd(paid)}" + (f", worth {cells.usd(value)} of a plan" if value is not None else "")
    if status == "possible":
        words = f"possibly charged, at most {cells.usd(paid)}"
    prices = f"price list {fact['price_list']}" if fact.get("price_list") else "no price list"
    named = f" ({fact['price_model']})" if fact.get("price_model") else ""
    return [f"cost of attempt {fact.get('attempt', 0)}: {words} · {status} · {prices}{named}", *_road(fact)]


def _road(fact: Told) -> list[str]:
    """Return tokens x price, one line for each price that counted, as core/pricing.py adds them up."""
    prices: Mapping[str, str] = fact.get("unit_prices") or {}
    usage: Told = fact.get("usage") or {}
    if fact.get("status") == "possible" or usage.get("input_tokens") is None:
        return [f"{name.replace('_', ' ')}: ${Decimal(price):f} each" for name, price in prices.items()]
    counts = parts_of(usage, prices)
    return [
        f"{cells.count(count)} {_PRICED[name]} x ${Decimal(prices[name]):f} = {cells.usd(count * Decimal(prices[name]))}"
        for name, count in counts.items()
        if count and name in prices
    ]


_PRICED = {
    "input": "input tokens", "cached": "tokens from a cache", "cache_write": "tokens into a cache",
    "cache_write_1h": "tokens into a cache for an hour", "output": "output tokens", "request": "call",
}  # fmt: skip


def parts_of(usage: Told, prices: Mapping[str, str]) -> dict[str, int]:
    """Return how many tokens each price counted: what has no price of its own counts as input."""
    kept = usage.get("cache_write_1h_tokens") or 0
    cached = (usage.get("cached_tokens") or 0) if "cached" in prices else 0
    short = ((usage.get("cache_write_tokens") or 0) - kept) if "cache_write" in prices else 0
    hour = kept if "cache_write_1h" in prices else 0
    fresh = int(usage["input_tokens"]) - cached - short - hour
    output = usage.get("output_tokens") or 0
    return {"request": 1, "input": fresh, "cached": cached, "cache_write": short, "cache_write_1h": hour, "output": output}


def _limits(found: Told) -> list[str]:
    lines = ["limits in force now:"]
    for one in found.get("limits") or ():
        if one.get("window") != "now":
            unit = str(one.get("unit", "requests"))
            limit = "unknown" if one.get("limit") is None else amount(Decimal(one["limit"]), unit)
            used = amount(Decimal(one.get("used", "0")), unit)
            lines.append(f"          {one['quota']}: {used} of {limit} {one.get('source') or ''}".rstrip())
    return lines if len(lines) > 1 else []


_SAID: dict[str, Callable[[Told], list[str]]] = {
    "TaskSubmitted": _submitted,
    "TaskRouted": _routed,
    "QuotaDeferred": _deferred,
    "QuotaReserved": _reserved,
    "QuotaRefused": _refused,
    "QuotaSettled": _settled,
    "TaskStarted": _started,
    "TaskCompleted": _ended,
    "AttemptFailed": _ended,
    "AttemptInterrupted": _ended,
    "LateResult": _ended,
    "CostRecorded": _cost,
    "TaskCancelRequested": lambda fact: [f"cancel asked for: {fact.get('reason') or 'no reason given'}"],
    "TaskDecision": lambda fact: [f"a person decided: {fact['decision']}"],
}
