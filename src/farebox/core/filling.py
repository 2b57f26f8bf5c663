"""How full the log is. From a share on it takes no new tasks: the rest is kept for the ends of those that it has."""

from __future__ import annotations

from msgspec import Struct

from farebox.core.errors import LogFilling

SAID_FROM_PERCENT = 80
"""From here on a status says it."""
TASKS_UNTIL_PERCENT = 90
"""From here on no new task is taken."""
MIB = 1 << 20
MORE_ROOM = "Give it more: bus.log_mib in farebox.toml, then start the engine again."


class Filling(Struct, frozen=True):
    """What the log holds and may hold, bytes; `bytes_max` 0 stands for no limit."""

    bytes: int = 0
    bytes_max: int = 0

    @property
    def percent(self) -> int:
        """How full it is, rounded down."""
        return self.bytes * 100 // self.bytes_max if self.bytes_max > 0 else 0

    def warning(self) -> LogFilling | None:
        """Return what a status says about it, None while there is room enough."""
        if self.percent < SAID_FROM_PERCENT:
            return None
        if self.percent >= TASKS_UNTIL_PERCENT:
            return self.refusal()
        return LogFilling(
            f"The log is {self.percent} % full ({self._shown()}); at {TASKS_UNTIL_PERCENT} % it takes no new tasks.",
            hint=MORE_ROOM,
        )

    def refusal(self) -> LogFilling | None:
        """Return why no new task is taken, None while they are."""
        if self.percent < TASKS_UNTIL_PERCENT:
            return None
        return LogFilling(
            f"The log is {self.percent} % full ({self._shown()}) and takes no new tasks; those it has go on to their ends.",
            hint=MORE_ROOM,
        )

    def _shown(self) -> str:
        return f"{self.bytes / MIB:,.1f} of {self.bytes_max / MIB:,.0f} MiB"
