"""Stream time as it is known here: the server's timestamps carried on by the monotonic clock. Wall clocks are not believed."""

from __future__ import annotations

import time


class StreamClock:
    """Follows the timestamps of live facts. Before the first one it starts from the wall clock."""

    def __init__(self) -> None:
        self._offset_ms = time.time_ns() // 1_000_000 - time.monotonic_ns() // 1_000_000

    def saw(self, at_ms: int) -> None:
        """Take over the timestamp of a fact that was just stored."""
        self._offset_ms = at_ms - time.monotonic_ns() // 1_000_000

    def now_ms(self) -> int:
        """Return stream time, ms since 1970."""
        return time.monotonic_ns() // 1_000_000 + self._offset_ms
