"""Prices as a value: what a usage costs under one adopted list, and nothing else. Unknown stays unknown.

A list holds providers, their models, and for each model dated prices per token, as decimal text. A price may hold only at
certain hours, and may have tiers: above so many input tokens another price counts for all tokens of the call.

Names are matched by small tests, all in lower case: `=name`, `^prefix`, `$suffix`, `~part`, `/regular expression`. One row
of tests must hold whole; any row will do.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from farebox.core import money
from farebox.core.errors import BadSettings
from farebox.core.money import Usd
from farebox.core.terms import Count, Millis, Usage, Value

DAY_MS = 86_400_000
MODEL_CHARS_MAX = 256
"""A longer name is no model: names come from answers of platforms and meet regular expressions here."""
_COMPACT_DATE = re.compile(r"-(20\d\d)(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|\Z)", re.ASCII)

Test = Annotated[str, Meta(pattern=r"^[=^$~/]")]
Tests = tuple[tuple[Test, ...], ...]
DayMillis = Annotated[int, Meta(ge=0, le=DAY_MS)]


class Priced(Struct, frozen=True):
    """A cost with its reasons. `total` in US dollars, exact; `unit_prices` per token as text; `model` as the list names it."""

    total: Decimal
    unit_prices: dict[str, str]
    model: str


class Rates(Value, frozen=True, kw_only=True, omit_defaults=True):
    """US dollars per token. Where `cached` or `cache_write` is None such tokens cost what other input does.

    `cache_write_1h` is for what a cache keeps for an hour. Where only `cache_write` is told, such tokens have no known price:
    the one for five minutes is not theirs. `request` is added once per call.
    """

    input: Usd | None = None
    output: Usd | None = None
    cached: Usd | None = None
    cache_write: Usd | None = None
    cache_write_1h: Usd | None = None
    request: Usd | None = None


NO_RATES = Rates()
"""Of a model that is known, and sold by the hour or the page."""


class Tier(Value, frozen=True, kw_only=True, omit_defaults=True):
    """The rates for all tokens of a call that read more than `above` input tokens."""

    above: Count
    rates: Rates


class DatedPrice(Value, frozen=True, kw_only=True, omit_defaults=True):
    """A price in force from `from_ms` on (ms since 1970), perhaps only daily between two moments (ms since midnight UTC).

    When `day_until_ms` comes before `day_from_ms` the hours go past midnight. `tiers` rise.
    """

    from_ms: Millis = 0
    day_from_ms: DayMillis = 0
    day_until_ms: DayMillis = DAY_MS
    rates: Rates
    tiers: tuple[Tier, ...] = ()

    def in_force(self, at_ms: int) -> bool:
        """Say whether this price holds at `at_ms`."""
        if at_ms < self.from_ms:
            return False
        moment = at_ms % DAY_MS
        if self.day_until_ms < self.day_from_ms:
            return moment >= self.day_from_ms or moment < self.day_until_ms
        return self.day_from_ms <= moment < self.day_until_ms

    def rates_for(self, input_tokens: int) -> Rates:
        """Return the rates of a call that read `input_tokens`."""
        reached = [tier.rates for tier in self.tiers if input_tokens > tier.above]
        return reached[-1] if reached else self.rates


class ModelPrices(Value, frozen=True, kw_only=True, omit_defaults=True):
    """One model: its name in the list, the names it answers to, its prices. Of several in force the last one counts.

    `context_tokens` is how many tokens it can hold, where that is known.
    """

    id: str
    match: Tests
    prices: Annotated[tuple[DatedPrice, ...], Meta(min_length=1)]
    context_tokens: Count | None = None

    def price_at(self, at_ms: int) -> DatedPrice:
        """Return the price in force at `at_ms`; before all dates that is the first one."""
        return next((price for price in reversed(self.prices) if price.in_force(at_ms)), self.prices[0])


class ProviderPrices(Value, frozen=True, kw_only=True, omit_defaults=True):
    """One provider: the models it sells, the names that are its own without saying so, whose models it sells as well."""

    id: str
    match: Tests = ()
    also: tuple[str, ...] = ()
    models: tuple[ModelPrices, ...] = ()


class PriceList(Value, frozen=True, kw_only=True, omit_defaults=True):
    """The prices in force, as adopted into the log. `list_id` names them."""

    list_id: str = ""
    providers: tuple[ProviderPrices, ...] = ()

    def __hash__(self) -> int:
        """By name: the whole list would be walked for each price that is looked up."""
        return hash(self.list_id)


def canonical(prices: PriceList) -> tuple[dict[str, Any], str]:
    """Return the list as plain data and the sha256 of its canonical JSON."""
    plain = msgspec.to_builtins(prices, order="sorted")
    return plain, hashlib.sha256(msgspec.json.encode(plain, order="sorted")).hexdigest()


def restore(plain: dict[str, Any]) -> PriceList:
    """Return the list that a PriceListAdopted holds. Raises BadSettings when it does not read."""
    try:
        prices = msgspec.convert(plain, PriceList)
        for tests in _all_tests(prices):
            for test in tests:
                re.compile(test[1:] if test[0] == "/" else "")
    except (msgspec.ValidationError, re.error) as error:
        raise BadSettings(f"The adopted price list does not read: {error}") from error
    return prices


def adopted(list_id: str, plain: dict[str, Any]) -> PriceList:
    """Return the list that was adopted as `list_id`; one that does not read (or is not inline) prices nothing."""
    try:
        prices = restore(plain)
    except BadSettings:
        prices = PriceList()
    return interned(msgspec.structs.replace(prices, list_id=list_id))


@lru_cache(maxsize=8)
def interned(prices: PriceList) -> PriceList:
    """Return the one object for equal lists: two of them would be compared whole at each price that is looked up."""
    return prices


def name_of(price_model: str, model: str) -> str:
    """Return the name to look up: the platform's own `price_model`; one that ends in "/" only names whose model it is."""
    return price_model + model if price_model.endswith("/") else price_model or model


def price_of(prices: PriceList, model: str, usage: Usage, at_ms: int, *, provider: str = "") -> Priced | None:
    """Return what `usage` of `model` costs at stream time `at_ms` (ms since 1970).

    `model` may name its provider (`groq/llama-3.3-70b-versatile`); `provider` is a guess that is tried first. None when
    the list does not know the model, or a token count that has a price is unknown or contradicts another.
    """
    found = find(prices, model, provider)
    if found is None or usage.input_tokens is None:
        return None
    rates = found.price_at(at_ms).rates_for(usage.input_tokens)
    amount = _amount(rates, usage.input_tokens, usage)
    return None if amount is None else Priced(amount, _unit_prices(rates), found.id)


def upper_bound(
    prices: PriceList,
    model: str,
    input_tokens: int,
    output_tokens_max: int,
    *,
    provider: str = "",
    at_ms: int | None = None,
) -> Priced | None:
    """Return the most that a call with these token counts can cost: the dearest hour, tier and kind of input.

    At `at_ms` (ms since 1970) if given, else at any time the list knows. None when the list does not know the model, or no
    price for a kind of token that is asked about.
    """
    found = find(prices, model, provider)
    if found is None:
        return None
    bounds = [
        Priced(amount, _unit_prices(rates), found.id)
        for rates in _reachable(found, input_tokens, at_ms)
        if (amount := _most(rates, input_tokens, output_tokens_max)) is not None
    ]
    return max(bounds, key=lambda bound: bound.total, default=None)


@lru_cache(maxsize=4096)
def find(prices: PriceList, model: str, provider: str = "") -> ModelPrices | None:
    """Return the model that answers to `model`: at `provider`, at the one it names (`groq/…`), at the one it belongs to."""
    if len(model) > MODEL_CHARS_MAX:
        return None
    name = model.lower()
    named, _, rest = name.partition("/")
    for place, wanted in ((provider.lower(), name), (named, rest)):
        seller = _seller(prices, place)
        if seller and wanted and (found := _sold_by(prices, seller, wanted)):
            return found
    owner = next((seller for seller in prices.providers if matches(seller.match, name)), None)
    return owner and _sold_by(prices, owner, name)


def matches(tests: Tests, name: str) -> bool:
    """Say whether all tests of any row hold for `name`, which is in lower case."""
    return any(all(_holds(test, name) for test in row) for row in tests)


def _holds(test: str, name: str) -> bool:
    kind, wanted = test[0], test[1:]
    match kind:
        case "=":
            return name == wanted
        case "^":
            return name.startswith(wanted)
        case "$":
            return name.endswith(wanted)
        case "~":
            return wanted in name
        case _:
            return re.search(wanted, name) is not None


def _seller(prices: PriceList, name: str) -> ProviderPrices | None:
    return next((seller for seller in prices.providers if seller.id == name), None)


def _sold_by(prices: PriceList, seller: ProviderPrices, name: str) -> ModelPrices | None:
    """Look at the seller's own models, then at those it sells for others; a compact date counts like a dashed one."""
    for wanted in dict.fromkeys((name, _COMPACT_DATE.sub(r"-\1-\2-\3", name))):
        for place in (seller, *(other for also in seller.also if (other := _seller(prices, also)))):
            for model in place.models:
                if matches(model.match, wanted):
                    return model
    return None


def _amount(rates: Rates, input_tokens: int, usage: Usage) -> Decimal | None:
    cached = _counted(usage.cached_tokens, rates.cached)
    kept = usage.cache_write_1h_tokens or 0
    short = (usage.cache_write_tokens or 0) - kept
    hour = _counted(kept, rates.cache_write_1h or rates.cache_write)
    written = _counted(short, rates.cache_write)
    fresh = input_tokens - cached - written - hour
    output = usage.output_tokens if rates.output is not None else usage.output_tokens or 0
    if fresh < 0 or short < 0 or output is None:
        return None
    writes = ((rates.cache_write, written), (rates.cache_write_1h, hour))
    return _sum(rates, ((rates.input, fresh), (rates.cached, cached), *writes, (rates.output, output)))


def _counted(count: int | None, rate: str | None) -> int:
    return 0 if rate is None else count or 0


def _sum(rates: Rates, tokens: Iterable[tuple[str | None, int]]) -> Decimal | None:
    """Add up the call and price x count of its tokens; None when there are tokens without a price."""
    if rates == NO_RATES:
        return None
    amounts = [money.parse(rates.request or "0")]
    for rate, count in tokens:
        if rate is not None:
            amounts.append(money.times(money.parse(rate), count))
        elif count:
            return None
    return money.total(amounts)


def _reachable(found: ModelPrices, input_tokens: int, at_ms: int | None) -> Iterator[Rates]:
    """Yield the rates that a call can meet: a count that was guessed may fall short of a tier, so the base stays."""
    for price in found.prices if at_ms is None else (found.price_at(at_ms),):
        yield price.rates
        yield from (tier.rates for tier in price.tiers if input_tokens > tier.above)


def _most(rates: Rates, input_tokens: int, output_tokens: int) -> Decimal | None:
    kinds = (rates.input, rates.cached, rates.cache_write, rates.cache_write_1h)
    dearest = max((rate for rate in kinds if rate), key=Decimal, default=None)
    return _sum(rates, ((dearest, input_tokens), (rates.output, output_tokens)))


def _unit_prices(rates: Rates) -> dict[str, str]:
    return {name: rate for name in Rates.__struct_fields__ if (rate := getattr(rates, name)) is not None}


def _all_tests(prices: PriceList) -> Iterator[Sequence[str]]:
    for seller in prices.providers:
        yield from seller.match
        for model in seller.models:
            yield from model.match
