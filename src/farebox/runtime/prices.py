"""Compiles the prices that the library genai-prices carries into a PriceList. It asks nobody: the data is in its wheel.

A library's update never changes history: what counts is the list that was adopted into the log.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, time
from decimal import Decimal
from importlib.metadata import version
from itertools import product
from typing import TYPE_CHECKING, Any

import msgspec

from farebox.core import money
from farebox.core.events import PriceListAdopted
from farebox.core.pricing import (
    DAY_MS,
    DatedPrice,
    ModelPrices,
    PriceList,
    ProviderPrices,
    Rates,
    Tests,
    Tier,
    canonical,
)

if TYPE_CHECKING:
    from genai_prices import types as g

PROVIDERS = (
    *("anthropic", "azure", "cerebras", "cohere", "deepseek", "fireworks", "google", "groq", "meta", "minimax", "mistral"),
    *("moonshotai", "openai", "perplexity", "together", "voyageai", "x-ai", "zai"),
)
"""Whose prices are compiled: so many that the list stands inline in its fact (about 100 KB of 256 KiB). OpenRouter alone
would fill the rest, and says itself what it charged. In the library's order: a bare name belongs to the first claimant."""
PRICE_KEYS = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cached": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "cache_write_1h": "cache_write_1h_mtok",
    "request": "requests_kcount",
}
"""Our rates and the keys of genai-prices (US dollars per million tokens; `request`: per thousand calls)."""
PER = {"request": Decimal(1000)}
PER_TOKENS = Decimal(1_000_000)


def compile_prices(providers: Iterable[str] = PROVIDERS) -> PriceList:
    """Return the prices of `providers` as the installed genai-prices knows them. Costs half a second and 12 MB."""
    from genai_prices import data  # noqa: PLC0415 - heavy: only the engine's start needs it

    known = {provider.id: provider for provider in data.providers}
    return PriceList(
        list_id=f"genai-prices-{version('genai-prices')}",
        providers=tuple(_provider(known[name]) for name in providers),
    )


def adoption(prices: PriceList) -> PriceListAdopted:
    """Return the fact that adopts `prices`, its content inline."""
    plain, sha256 = canonical(prices)
    return PriceListAdopted(list_id=prices.list_id, sha256=sha256, prices=plain)


def _provider(provider: g.Provider) -> ProviderPrices:
    return ProviderPrices(
        id=provider.id,
        match=_tests(provider.model_match) if provider.model_match else (),
        also=tuple(provider.fallback_model_providers or ()),
        models=tuple(_model(model) for model in provider.models),
    )


def _model(model: g.ModelInfo) -> ModelPrices:
    """Keep models without token prices too: they must stay unpriced, not fall through to a looser name behind them."""
    prices = model.prices
    dated = tuple(_dated(one) for one in prices) if isinstance(prices, list) else (_price(prices),)
    return ModelPrices(id=model.id, match=_tests(model.match), prices=dated, context_tokens=model.context_window)


def _dated(conditional: Any) -> DatedPrice:
    price, rule = _price(conditional.prices), conditional.constraint
    if rule is None:
        return price
    if hasattr(rule, "start_date"):
        midnight = datetime.combine(rule.start_date, time(tzinfo=UTC))
        return msgspec.structs.replace(price, from_ms=int(midnight.timestamp()) * 1000)
    return msgspec.structs.replace(price, day_from_ms=_day_ms(rule.start_time), day_until_ms=_day_ms(rule.end_time) or DAY_MS)


def _day_ms(moment: time) -> int:
    """Return the milliseconds since midnight UTC; a time without zone is UTC."""
    since = datetime.combine(datetime(1970, 1, 2, tzinfo=UTC), moment.replace(tzinfo=moment.tzinfo or UTC))
    return int(since.timestamp() * 1000) % DAY_MS


def _price(prices: g.ModelPrice) -> DatedPrice:
    named = {name: getattr(prices, key) for name, key in PRICE_KEYS.items()}
    starts = sorted({tier.start for price in named.values() for tier in getattr(price, "tiers", ())})
    return DatedPrice(
        rates=_rates(named, 0), tiers=tuple(Tier(above=start, rates=_rates(named, start + 1)) for start in starts)
    )


def _rates(named: dict[str, Any], input_tokens: int) -> Rates:
    """Return the rates that hold for a call that read `input_tokens`."""
    return Rates(**{name: _per_unit(_in_tier(price, input_tokens), PER.get(name, PER_TOKENS)) for name, price in named.items()})


def _in_tier(price: Any, input_tokens: int) -> Decimal | None:
    if price is None or isinstance(price, Decimal):
        return price
    reached = [tier.price for tier in price.tiers if input_tokens > tier.start]
    return reached[-1] if reached else price.base


def _per_unit(price: Decimal | None, per: Decimal) -> str | None:
    return None if price is None else money.text(money.EXACT.divide(price, per))


def _tests(clause: Any) -> Tests:
    """Turn a tree of clauses into rows of tests: any row, all of its tests."""
    return tuple(tuple(row) for row in _rows(clause))


def _rows(clause: Any) -> Iterator[list[str]]:
    if hasattr(clause, "or_"):
        for part in clause.or_:
            yield from _rows(part)
    elif hasattr(clause, "and_"):
        for rows in product(*(list(_rows(part)) for part in clause.and_)):
            yield [test for row in rows for test in row]
    else:
        yield [_test(clause)]


def _test(clause: Any) -> str:
    for sign, name in (("=", "equals"), ("^", "starts_with"), ("$", "ends_with"), ("~", "contains")):
        if hasattr(clause, name):
            return sign + getattr(clause, name).lower()
    return "/" + clause.regex
