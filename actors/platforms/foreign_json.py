"""JSON that somebody else wrote: what is missing or of another kind is None, never an error. Pure."""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation
from typing import Any, cast

import msgspec

from farebox.core import money
from farebox.core.errors import BadInput

TOKENS_MAX = 10**12


def _decimal(text: str) -> Decimal | None:
    try:
        return Decimal(text)
    except InvalidOperation:
        return None


_decoder = msgspec.json.Decoder(Any, float_hook=_decimal)


def parse(text: str) -> Any:
    """Return the value that `text` holds, None for anything that is no JSON. Fractions become Decimal, never float."""
    try:
        return _decoder.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return _mended(text) if "\\u" in text else None


def _mended(text: str) -> Any:
    """Read JSON with half a surrogate pair in it, as servers write that cut an emoji in two; the half becomes `?`."""
    try:
        plain = json.dumps(json.loads(text), ensure_ascii=False).encode("utf-8", "replace")
        return _decoder.decode(plain)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def at(value: Any, *path: str | int) -> Any:
    """Return what stands at `path` in `value`: keys of objects, places in arrays. None where there is nothing."""
    for step in path:
        if isinstance(step, str):
            value = cast("dict[str, Any]", value).get(step) if isinstance(value, dict) else None
        else:
            value = cast("list[Any]", value)[step] if isinstance(value, list) and len(cast("list[Any]", value)) > step else None
    return value


def text_at(value: Any, *path: str | int) -> str:
    """Return the text at `path`, an empty one where there is none."""
    found = at(value, *path)
    return found if isinstance(found, str) else ""


def count_at(value: Any, *path: str | int) -> int | None:
    """Return the count at `path`; None where there is none, or one that no provider can mean."""
    found = at(value, *path)
    return found if type(found) is int and 0 <= found <= TOKENS_MAX else None


def usd_at(value: Any, *path: str | int) -> str | None:
    """Return the US dollars at `path` as a fact may hold them, None for anything else."""
    found = at(value, *path)
    if type(found) not in {int, Decimal}:
        return None
    try:
        return money.text(Decimal(found))
    except BadInput:
        return None


def items_at(value: Any, *path: str | int) -> list[Any]:
    """Return the array at `path`, an empty one where there is none."""
    found = at(value, *path)
    return cast("list[Any]", found) if isinstance(found, list) else []
