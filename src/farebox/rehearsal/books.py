"""The books of a stand-in: what it did and what it would charge, one JSON object a line, kept apart from all of ours."""

from __future__ import annotations

import os
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

import msgspec
from msgspec import Struct

from farebox.core import money
from farebox.core.errors import BadInput
from farebox.core.terms import Usage

MILLION = Decimal(1_000_000)


class Price(Struct, frozen=True):
    """US dollars for a million tokens read and written."""

    input_usd: Decimal
    output_usd: Decimal

    def of(self, usage: Usage) -> Decimal:
        """Return what `usage` costs (US dollars), exact."""
        read = money.times(self.input_usd, usage.input_tokens or 0)
        written = money.times(self.output_usd, usage.output_tokens or 0)
        return money.total([read / MILLION, written / MILLION])


class Line(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One call. `mark` stands for its text, `usd` is None where the stand-in has no price."""

    mark: str
    model: str
    outcome: str
    charged: bool = False
    attempt: int = 1
    input_tokens: int = 0
    output_tokens: int = 0
    usd: str | None = None


class Books:
    """Lines in memory and, if there is a file, in it: appended whole, so that several processes can share one."""

    def __init__(self, file: Path | None = None, prices: Mapping[str, Price] | None = None) -> None:
        self.lines: list[Line] = []
        self._file = file
        self._prices = dict(prices or {})

    def price_of(self, model: str, usage: Usage) -> str | None:
        """Return what `usage` costs as text, None for a model without a price."""
        price = self._prices.get(model)
        return None if price is None else money.text(price.of(usage))

    def note(self, line: Line) -> None:
        """Keep one line."""
        self.lines.append(line)
        if self._file is not None:
            descriptor = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(descriptor, msgspec.json.encode(line) + b"\n")
            finally:
                os.close(descriptor)

    def charge(self, mark: str, model: str, outcome: str, attempt: int, usage: Usage) -> None:
        """Keep a line for a call that was paid."""
        self.note(
            Line(
                mark=mark,
                model=model,
                outcome=outcome,
                charged=True,
                attempt=attempt,
                input_tokens=usage.input_tokens or 0,
                output_tokens=usage.output_tokens or 0,
                usd=self.price_of(model, usage),
            )
        )


def read(file: Path) -> list[Line]:
    """Return the lines of a file of books, none if it does not exist. Raises BadInput for what is no line of one."""
    if not file.exists():
        return []
    try:
        return [msgspec.json.decode(line, type=Line) for line in file.read_bytes().splitlines() if line]
    except msgspec.MsgspecError as error:
        raise BadInput(f"{file} holds a line that is no entry: {error}") from error


def prices(text: str) -> dict[str, Price]:
    """Return the prices in a text like `small=0.25/2,large=3/15` (US dollars for a million tokens). Raises BadInput."""
    found: dict[str, Price] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        model, _, amounts = part.partition("=")
        read_usd, slash, written_usd = amounts.partition("/")
        if not model or not slash:
            raise BadInput(f"{part[:60]!r} is no price.", hint="Write it like MODEL=0.25/2")
        found[model] = Price(money.parse(read_usd), money.parse(written_usd))
    return found
