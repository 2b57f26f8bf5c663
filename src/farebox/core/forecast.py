"""What a call may cost before it runs, as an interval in US dollars under one price list: least, likeliest, most."""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple

from farebox.core import money
from farebox.core.pricing import PriceList, find, price_of, upper_bound
from farebox.core.terms import Usage

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
    low, typical, most = output
    likely = price_of(prices, model, Usage(input_tokens=tokens, output_tokens=typical), at_ms, provider=provider)
    least = price_of(prices, model, Usage(input_tokens=tokens // 2, output_tokens=low), at_ms, provider=provider)
    bound = upper_bound(prices, model, tokens * INPUT_MARGIN, most, provider=provider)
    if likely is None or least is None or bound is None:
        return None
    # A list may sell more for less: the interval stays one.
    low_usd, bound_usd = min(least.total, likely.total), max(bound.total, likely.total)
    return Dollars(money.text(low_usd), money.text(likely.total), money.text(bound_usd), low_usd, likely.total)


def window(prices: PriceList, model: str, provider: str) -> int | None:
    """Return how many tokens a model can hold, as the list knows; None if it does not."""
    found = find(prices, model, provider)
    return None if found is None else found.context_tokens
