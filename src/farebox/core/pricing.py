"""Prices as a value: what a usage costs under one adopted list, and nothing else. Unknown stays unknown."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from msgspec import Struct

from farebox.core.terms import Usage


class Priced(Struct, frozen=True):
    """A cost with its reasons. `total` in US dollars, exact; `unit_prices` per token as text; `model` as the list names it."""

    total: Decimal
    unit_prices: dict[str, str]
    model: str


class PriceList(Struct, frozen=True, kw_only=True):
    """PLACEHOLDER filled in next: the prices in force."""

    list_id: str = ""
    prices: dict[str, Any] = {}


def price_of(prices: PriceList, model: str, usage: Usage, at_ms: int) -> Priced | None:
    """Return what `usage` of `model` costs at stream time `at_ms`, None when the list does not know the model."""
    raise NotImplementedError
