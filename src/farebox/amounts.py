"""Amounts as people write them: 5, 0.25, "0.25", "$5", "5usd"; kept as exact text."""

from __future__ import annotations

from decimal import Decimal

from farebox.core import money
from farebox.core.errors import BadInput


def exact(given: object) -> object:
    """Return a number as its exact text, and anything else as it is: who checks it says what is wrong with it."""
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        return given
    return format(Decimal(repr(given)), "f") if isinstance(given, float) else str(given)


def usd(given: object, what: str) -> str:
    """Return an amount of US dollars in its one form. Raises BadInput that names `what`."""
    plain = str(exact(given)).strip().removeprefix("$").strip()
    for unit in ("usd", "USD"):
        plain = plain.removesuffix(unit).strip()
    try:
        return money.text(money.parse(plain))
    except BadInput as error:
        raise BadInput(
            f"{what} is {str(given)[:40]!r}; it is an amount of US dollars.", hint='Write it like "0.25".'
        ) from error
