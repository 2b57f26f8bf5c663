"""What a call may cost before it runs, as an interval in US dollars under one price list: least, likeliest, most."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple

from farebox.core import money
from farebox.core.pricing import NO_RATES, DatedPrice, PriceList, Rates, find

MINUTE_MS = 60_000
INPUT_MARGIN = 2
"""No model reads more than so many times what was estimated for it."""


class Dollars(NamedTuple):
    """`low` <= `estimate` <= `bound`, as the wire has them; `low_usd` and `estimate_usd` are the same as numbers."""

    low: str
    estimate: str
    bound: str
    low_usd: Decimal
    estimate_usd: Decimal


class _Line(NamedTuple):
    """US dollars per token for calls that read more than `above`, and per call."""

    above: int
    input: Decimal | None
    output: Decimal | None
    request: Decimal


class _Card(NamedTuple):
    """The lines of a model that hold at one moment, and the dearest of all that the list knows."""

    now: tuple[_Line, ...]
    dearest: tuple[_Line, ...]


def dollars(
    prices: PriceList, model: str, provider: str, tokens: int, output: tuple[int, int, int], at_ms: int
) -> Dollars | None:
    """Return what reading `tokens` and writing `output` (low, typical, most) costs at about `at_ms`; None without a price.

    The least is half the input, the most INPUT_MARGIN times it, at the dearest price that the list knows for the model.
    """
    found = find(prices, model, provider)
    if found is None:
        return None
    return _dollars(prices, model, provider, tokens, output, 0 if len(found.prices) == 1 else at_ms // MINUTE_MS * MINUTE_MS)


@lru_cache(maxsize=4096)
def _dollars(
    prices: PriceList, model: str, provider: str, tokens: int, output: tuple[int, int, int], at_ms: int
) -> Dollars | None:
    card = _card(prices, model, provider, at_ms)
    low, typical, most = output
    likely = _amount(_reached(card.now, tokens), tokens, typical)
    least = _amount(_reached(card.now, tokens // 2), tokens // 2, low)
    bounds = [_amount(line, tokens * INPUT_MARGIN, most) for line in card.dearest if tokens * INPUT_MARGIN > line.above]
    bound = max((one for one in bounds if one is not None), default=None)
    if likely is None or least is None or bound is None:
        return None
    # A list may sell more for less: the interval stays one.
    low_usd, bound_usd = min(least, likely), max(bound, likely)
    return Dollars(money.text(low_usd), money.text(likely), money.text(bound_usd), low_usd, likely)


@lru_cache(maxsize=1024)
def _card(prices: PriceList, model: str, provider: str, at_ms: int) -> _Card:
    found = find(prices, model, provider)
    assert found is not None, "only models that were found have a card"
    every = [_dearest(line, rates) for price in found.prices for line, rates in _lines(price)]
    return _Card(tuple(line for line, _ in _lines(found.price_at(at_ms))), tuple(every))


def _lines(price: DatedPrice) -> Sequence[tuple[_Line, Rates]]:
    tiers = [(-1, price.rates), *((tier.above, tier.rates) for tier in price.tiers)]
    return [(_line(above, rates), rates) for above, rates in tiers]


def _line(above: int, rates: Rates) -> _Line:
    if rates == NO_RATES:
        return _Line(above, None, None, Decimal("NaN"))
    return _Line(above, money.maybe(rates.input), money.maybe(rates.output), money.parse(rates.request or "0"))


def _dearest(line: _Line, rates: Rates) -> _Line:
    """Return a line whose input costs what the dearest kind of input does."""
    kinds = (rates.input, rates.cached, rates.cache_write, rates.cache_write_1h)
    return line._replace(input=max((money.parse(rate) for rate in kinds if rate), default=None))


def _reached(lines: tuple[_Line, ...], tokens: int) -> _Line:
    return [line for line in lines if tokens > line.above][-1]


def _amount(line: _Line, tokens: int, written: int) -> Decimal | None:
    """Return what a call costs; None for tokens without a price, and for models that are not sold by the token."""
    if line.request.is_nan() or (line.input is None and tokens) or (line.output is None and written):
        return None
    amount = line.request
    for rate, count in ((line.input, tokens), (line.output, written)):
        if rate is not None:
            amount = money.EXACT.fma(rate, count, amount)
    return amount


def window(prices: PriceList, model: str, provider: str) -> int | None:
    """Return how many tokens a model can hold, as the list knows; None if it does not."""
    found = find(prices, model, provider)
    return None if found is None else found.context_tokens
