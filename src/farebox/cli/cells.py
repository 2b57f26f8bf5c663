"""How values read: money, tokens, durations, rates. Unknown is a dash, never a zero."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from farebox.core import money

UNKNOWN = "\N{EN DASH}"
_SMALL = Decimal("0.001")


def usd(amount: str | Decimal | None) -> str:
    """Return an amount in US dollars: four places, more where four would hide it."""
    if amount is None:
        return UNKNOWN
    value = money.parse(amount) if isinstance(amount, str) else amount
    if value and value < _SMALL:
        places = -value.adjusted() + 1
        return "$" + format(value.quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_EVEN), "f")
    return "$" + format(value.quantize(Decimal("0.0001"), rounding=ROUND_HALF_EVEN), "f")


def at_most(question: Mapping[str, Any]) -> str:
    """Return what an interrupted attempt may have cost, in words."""
    if question.get("billing") in {"free", "rehearsal"}:
        return "nothing"
    if question.get("billing") == "plan":
        return "a part of the plan"
    if question.get("possible_usd") is not None:
        return f"at most {usd(question['possible_usd'])}"
    return "an unknown amount"


def count(number: int | None) -> str:
    """Return a number with thin groups: 1 204."""
    return UNKNOWN if number is None else f"{number:,}".replace(",", " ")


def tokens(number: int | None) -> str:
    """Return a number of tokens, in thousands above 100 000."""
    if number is None:
        return UNKNOWN
    return f"{count(round(number / 1000))} k" if number >= 100_000 else count(number)


def seconds(duration_s: float | None) -> str:
    """Return a duration."""
    if duration_s is None:
        return UNKNOWN
    if duration_s < 60:
        return f"{duration_s:.1f} s"
    minutes, rest = divmod(round(duration_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02} min"


def percent(rate: float | None) -> str:
    """Return a share (0 to 1) in percent."""
    return UNKNOWN if rate is None else f"{rate * 100:.1f}"


def text(value: Any) -> str:
    """Return anything else as a cell."""
    return UNKNOWN if value in {None, ""} else str(value)
