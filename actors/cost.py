"""Cost: books what each attempt cost, under the prices in force when it ended. Pure.

A charge is worked out when the end of an attempt is folded, and owed until its CostRecorded stands in the log: asked again,
the actor still knows what it owes, and a price list adopted meanwhile changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec
from msgspec import Struct

from farebox.core import money
from farebox.core.actor import Actor
from farebox.core.events import (
    AttemptFailed,
    AttemptInterrupted,
    CostRecorded,
    LateResult,
    PriceListAdopted,
    SettingsAdopted,
    TaskCompleted,
    TaskStarted,
    TaskSubmitted,
)
from farebox.core.ids import NONE
from farebox.core.pricing import Priced, PriceList, adopted, interned, name_of, price_of, upper_bound
from farebox.core.terms import Billing, Charged, CostStatus, Usage

INPUT_MARGIN = 2
"""The input of a lost call was guessed from its length: at most so many times the guess."""

Ended = TaskCompleted | AttemptFailed | AttemptInterrupted | LateResult


class Open(Struct, frozen=True):
    """What is known of a task before its attempt ends; it bounds what a lost call can have cost."""

    attempt: int = 0
    output_tokens_max: int | None = None
    input_tokens_estimate: int | None = None
    model: str = ""


class PriceModel(Struct, frozen=True):
    """The part of a platform's settings that decides about money."""

    price_model: str = ""


class PricedAs(Struct, frozen=True):
    """The part of adopted settings that decides about money."""

    platforms: dict[str, PriceModel] = {}


class Cost(Struct):
    """The prices in force, tasks that have not ended, and charges not yet in the log, by the id of what they answer."""

    prices: PriceList = PriceList()
    price_models: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    open: dict[str, Open] = msgspec.field(default_factory=dict[str, Open])
    owed: dict[str, CostRecorded] = msgspec.field(default_factory=dict[str, CostRecorded])

    def __post_init__(self) -> None:
        """Share the list with others who know it; called for a new state and for one read from a snapshot."""
        self.prices = interned(self.prices)


def decide(state: Cost, heard: Ended) -> Sequence[CostRecorded]:
    """Say the charge that is still owed for this end of an attempt."""
    owed = state.owed.get(_place(heard, heard.id))
    return () if owed is None else (owed,)


def evolve(state: Cost, fact: PriceListAdopted | SettingsAdopted | TaskSubmitted | TaskStarted | Ended | CostRecorded) -> Cost:
    """Fold what bounds a charge, work it out when the attempt ends, forget it when it is in the log."""
    match fact:
        case PriceListAdopted():
            state.prices = adopted(fact.list_id, fact.prices)
        case SettingsAdopted():
            state.price_models = _price_models(fact)
        case TaskSubmitted():
            if fact.max_tokens is not None:
                state.open[_task(fact)] = Open(output_tokens_max=fact.max_tokens)
        case TaskStarted():
            _start(state, fact)
        case CostRecorded():
            state.owed.pop(_place(fact, fact.cause), None)
        case _:
            _end(state, fact)
    return state


def _start(state: Cost, started: TaskStarted) -> None:
    known = state.open.get(_task(started), Open())
    longest = started.output_tokens_max or known.output_tokens_max
    state.open[_task(started)] = Open(started.attempt, longest, started.input_tokens_estimate, started.model)


def _end(state: Cost, ended: Ended) -> None:
    if may_cost(ended):
        state.owed[_place(ended, ended.id)] = charge(state, ended)
    if isinstance(ended, LateResult):
        return
    known = state.open.pop(_task(ended), Open())
    if known.output_tokens_max is not None and not isinstance(ended, TaskCompleted):
        state.open[_task(ended)] = Open(output_tokens_max=known.output_tokens_max)


def may_cost(ended: Ended) -> bool:
    """Say whether this end of an attempt gets a charge: it may have cost something, or it is the end of an adapter's task.

    A late result always gets one: it replaces what was booked as possible.
    """
    if ended.platform == NONE or ended.attempt == 0:
        return False
    return ended.charged != "none" or isinstance(ended, TaskCompleted | LateResult)


def charge(state: Cost, ended: Ended) -> CostRecorded:
    """Return what the attempt cost, as far as it is known."""
    known = state.open.get(_task(ended), Open())
    known = known if known.attempt == ended.attempt else Open()
    charged = _charged(ended)
    priced = _priced(state, ended, charged, known)
    paid, plan_value = _split(ended.billing, priced and priced.total)
    return CostRecorded(
        cause=ended.id,
        chain=ended.chain,
        task=ended.task,
        attempt=ended.attempt,
        epoch=ended.epoch,
        batch=ended.batch,
        traceparent=ended.traceparent,
        platform=ended.platform,
        model=ended.model or known.model,
        billing=ended.billing,
        status=_status(ended, charged, priced),
        paid_usd=paid,
        plan_value_usd=plan_value,
        provider_usd=ended.provider_usd,
        usage=ended.usage,
        unit_prices=priced.unit_prices if priced else {},
        price_list=state.prices.list_id,
        price_model=priced.model if priced else "",
        late=isinstance(ended, LateResult),
    )


def _charged(ended: Ended) -> Charged:
    """An answer or a usage is no free ride, whatever an adapter forgot to say."""
    if ended.charged != "none":
        return ended.charged
    answered = ended.status == "completed" if isinstance(ended, TaskCompleted) else _has_output(ended)
    return "known" if answered or ended.usage is not None else "none"


def _has_output(ended: Ended) -> bool:
    return isinstance(ended, LateResult) and (ended.output != "" or ended.output_ref is not None)


def _priced(state: Cost, ended: Ended, charged: Charged, known: Open) -> Priced | None:
    if charged == "none":
        return Priced(money.ZERO, {}, "")
    model = _price_model(state, ended.platform, ended.model or known.model)
    if charged == "possible":
        return _bound(state.prices, model, ended, known)
    usage = ended.usage or Usage()
    return price_of(state.prices, model, usage, ended.at_ms, provider=ended.platform)


def _bound(prices: PriceList, model: str, ended: Ended, known: Open) -> Priced | None:
    """Return the most that a lost call can have cost; None when nobody set a bound to its answer."""
    told = ended.usage.input_tokens if ended.usage else None
    guess = None if known.input_tokens_estimate is None else known.input_tokens_estimate * INPUT_MARGIN
    input_tokens = guess if told is None else told
    if input_tokens is None or known.output_tokens_max is None:
        return None
    return upper_bound(prices, model, input_tokens, known.output_tokens_max, provider=ended.platform, at_ms=ended.at_ms)


def _status(ended: Ended, charged: Charged, priced: Priced | None) -> CostStatus:
    if charged == "none" or ended.billing == "free":
        return "priced"
    if charged == "possible":
        return "possible"
    if priced is None:
        return "unpriced"
    return "estimated" if ended.usage is not None and ended.usage.source == "estimated" else "priced"


def _split(billing: Billing, amount: Decimal | None) -> tuple[str | None, str | None]:
    """Return (paid, plan value). Rehearsals pay play money: `billing` keeps it apart in every sum."""
    listed = None if amount is None else money.text(amount)
    match billing:
        case "plan":
            return "0", listed
        case "free":
            return "0", None
        case _:
            return listed, None


def _price_model(state: Cost, platform: str, model: str) -> str:
    return name_of(state.price_models.get(platform, ""), model)


def _price_models(fact: SettingsAdopted) -> dict[str, str]:
    """Return what platforms are priced as: an attempt may run under settings that only a later farebox knows whole."""
    try:
        platforms = msgspec.convert(fact.settings, PricedAs).platforms
    except msgspec.ValidationError:
        return {}
    return {name: one.price_model for name, one in platforms.items() if one.price_model}


def _task(fact: TaskSubmitted | TaskStarted | Ended) -> str:
    return f"{fact.chain}/{fact.task}"


def _place(fact: Ended | CostRecorded, cause: str) -> str:
    return f"{fact.chain}/{fact.task}/{fact.attempt}/{cause}"


ACTOR = Actor(name="cost", new=Cost, decide=decide, evolve=evolve, pace="task")
