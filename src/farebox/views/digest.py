"""The digest of a ledger: two that say the same have the same, however they were filled and whatever their files look like."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

Stream = Callable[[str], Iterable[list[tuple[Any, ...]]]]
"""Runs a SELECT and yields its rows, many at a time."""

VIEWS: dict[str, tuple[str, str]] = {
    "costs": ("*", "seq"),
    "attempts": ("*", "chain, task, attempt"),
    "tasks": ("*", "chain, task"),
    "chains": ("*", "chain"),
    "success": ("*", "platform, day"),
    "batches": ("*", "batch"),
    "alarms": ("*", "seq"),
    "quarantine": ("seq, at_ms, subject", "seq"),
}
"""Each view with its columns and the order of its rows. Outputs count by their hash."""


def digest(stream: Stream) -> str:
    """Return the SHA-256 over the canonical rows of every view: JSON lines in a fixed order, amounts as exact text."""
    total = hashlib.sha256()
    encode = msgspec.json.Encoder(order="sorted", decimal_format="string").encode
    for view, (columns, order) in VIEWS.items():
        total.update(f"# {view}\n".encode())
        for rows in stream(f"SELECT {columns} FROM {view} ORDER BY {order}"):  # noqa: S608 - constants above
            total.update(b"\n".join([encode(row) for row in rows]) + b"\n")
    return total.hexdigest()
