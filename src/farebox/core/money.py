"""Money: exact decimals with 12 places; text on the wire, Decimal in hand, never a float. Unknown is None, not 0.

The wire form is checked by a pattern before Decimal sees it, because Decimal accepts "NaN", "1e999999" and "1_000".
Sums run in a context of 50 digits: Python's own rounds to 28 in silence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Annotated

from msgspec import Meta

from farebox.core.errors import BadInput

PATTERN = r"^(0|[1-9][0-9]{0,25})(\.[0-9]{1,12})?$"
_SHAPE = re.compile(PATTERN.replace("^", r"\A").replace("$", r"\Z"), re.ASCII)

# A plain `$` would let a newline through behind the number; this end means the same to Python and to JSON Schema.
_WIRE = PATTERN.replace("$", r"(?![\s\S])")
Usd = Annotated[str, Meta(pattern=_WIRE, description="US dollars as plain decimal text, at most 26 + 12 digits")]
"""An amount in a fact."""

PLACES = Decimal("0.000000000001")
EXACT = Context(prec=50, rounding=ROUND_HALF_EVEN)
DIGITS_MAX = 30
"""More before the point are no amount; with 12 places they would not fit into EXACT, which refuses with an error of its own."""
ZERO = Decimal(0)


def parse(text: str) -> Decimal:
    """Return the amount in US dollars that `text` says. Raises BadInput for anything but a plain decimal >= 0."""
    if not _SHAPE.match(text):
        raise BadInput(f"{text[:40]!r} is no amount of money.", hint='Write it like "0.25".')
    return Decimal(text)


def text(amount: Decimal) -> str:
    """Return `amount` (US dollars) in its one wire form: rounded half even to 12 places, no exponent, no trailing zeros.

    Raises BadInput for amounts that are negative, not finite or too large.
    """
    if not amount.is_finite() or amount < 0:
        raise BadInput(f"{amount} is no amount of money.")
    plain = format(amount.quantize(PLACES, context=EXACT), "f") if amount.adjusted() < DIGITS_MAX else str(amount)
    plain = plain.rstrip("0").rstrip(".") if "." in plain else plain
    if not _SHAPE.match(plain):
        raise BadInput(f"{plain[:40]} is too large for an amount of money.")
    return plain


def maybe(amount: str | None) -> Decimal | None:
    """Return the parsed amount, or None where it is unknown."""
    return None if amount is None else parse(amount)


def total(amounts: Iterable[Decimal]) -> Decimal:
    """Return the exact sum (US dollars), the same in any order."""
    result = ZERO
    for amount in amounts:
        result = EXACT.add(result, amount)
    return result


def times(price: Decimal, count: int) -> Decimal:
    """Return price x count (US dollars), exact."""
    return EXACT.multiply(price, Decimal(count))
