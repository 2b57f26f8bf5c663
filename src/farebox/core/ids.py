"""Ids of chains, tasks and batches: lower case, no dots or wildcards, sorted by time. Ids of facts: a keyed hash.

An id names subjects and spool files, so its shape is checked wherever one comes in.
"""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import blake2b
from typing import Annotated

from msgspec import Meta

from farebox.core.errors import BadInput

PATTERN = r"^[a-z0-9][a-z0-9_-]{0,62}$"
_SHAPE = re.compile(r"\A[a-z0-9][a-z0-9_-]{0,62}\Z", re.ASCII)
NONE = "-"
"""The token of a missing lane, chain or task."""

Id = Annotated[str, Meta(pattern=r"^(-|[a-z0-9][a-z0-9_-]{0,62})$")]
_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"
_TIME_CHARS = 9
_RANDOM_BYTES = 5


@lru_cache(maxsize=65_536)
def is_id(text: str) -> bool:
    """Say whether `text` may stand as a chain, task, batch or platform token."""
    return bool(_SHAPE.match(text))


def check(text: str, what: str = "id") -> str:
    """Return `text` if it is an id. Raises BadInput with the rule otherwise."""
    if not is_id(text):
        shown = text if len(text) <= 40 else text[:37] + "..."
        raise BadInput(
            f"{what} {shown!r} is not usable.",
            hint="Use 1 to 63 of a-z, 0-9, _ and -, beginning with a letter or digit.",
        )
    return text


def new(at_ms: int, entropy: bytes) -> str:
    """Return a fresh id that sorts by time: `at_ms` (milliseconds since 1970) and 5 random bytes, 17 characters."""
    assert len(entropy) >= _RANDOM_BYTES, "five random bytes make an id"
    head = _base32(at_ms, _TIME_CHARS)
    return head + _base32(int.from_bytes(entropy[:_RANDOM_BYTES], "big"), 8)


def of_line(batch: str, line: int) -> str:
    """Return the task id of line `line` (from 1) of a batch: sending a batch again makes the same ids."""
    return f"{batch}-{line}"


def of_fact(key: bytes, writer: str, cause: str, fact: str, place: int) -> str:
    """Return the id of the `place`-th fact of one decision: 26 characters that only the holder of `key` can foresee."""
    said = f"{writer}\n{cause}\n{fact}\n{place}".encode()
    return blake2b(said, key=key, digest_size=13).hexdigest()


def _base32(number: int, width: int) -> str:
    chars: list[str] = []
    for _ in range(width):
        number, digit = divmod(number, 32)
        chars.append(_DIGITS[digit])
    return "".join(reversed(chars))
