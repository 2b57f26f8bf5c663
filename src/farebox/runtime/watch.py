"""The clocks of one call: its whole time, the time to the first byte, the time between bytes. Each cuts for itself."""

from __future__ import annotations

import asyncio
import time
from typing import Literal

from msgspec import Struct

Cut = Literal["", "timeout", "first_byte", "stalled", "cancelled"]


class Limits(Struct, frozen=True, kw_only=True):
    """How long a call may take in all, until its first byte, and between two of them."""

    timeout_s: float
    first_byte_timeout_s: float
    idle_timeout_s: float


class Watch:
    """Watches one call by the monotonic clock; `touch` it for every byte that comes."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._end_s = time.monotonic() + limits.timeout_s
        self._due_s = 0.0
        self._on_time: Cut = "first_byte"
        self.begin()

    def begin(self) -> None:
        """Wait for a first byte anew: another try of the same call."""
        self._due_s = time.monotonic() + self._limits.first_byte_timeout_s
        self._on_time = "first_byte"

    def touch(self) -> None:
        """Something came."""
        self._due_s = time.monotonic() + self._limits.idle_timeout_s
        self._on_time = "stalled"

    def cut(self) -> Cut:
        """Return which clock has run out, empty while none has."""
        now_s = time.monotonic()
        if now_s >= self._end_s:
            return "timeout"
        return self._on_time if now_s >= self._due_s else ""

    def remaining_s(self) -> float:
        """Return the time until a clock may run out: a first byte can bring the end of the next pause nearer."""
        now_s = time.monotonic()
        return max(min(self._end_s, self._due_s, now_s + self._limits.idle_timeout_s) - now_s, 0.0)


async def until(done: asyncio.Future[None], watch: Watch, cancelled: asyncio.Event) -> Cut:
    """Wait until `done` is; return why it was not waited for any longer, empty if it came to its own end."""
    stop = asyncio.ensure_future(cancelled.wait())
    try:
        while not done.done():
            cut: Cut = "cancelled" if cancelled.is_set() else watch.cut()
            if cut:
                return cut
            await asyncio.wait({done, stop}, timeout=watch.remaining_s(), return_when=asyncio.FIRST_COMPLETED)
    finally:
        stop.cancel()
    return ""
