"""Which actors a process runs: all of them, some alone on any machine, or all but those that run elsewhere."""

from __future__ import annotations

from msgspec import Struct

from farebox.log.names import durable_of


class Parts(Struct, frozen=True):
    """`only` these, or all but `without`. Names are those of actors; the adapter of a platform is `adapter-<platform>`."""

    only: frozenset[str] = frozenset()
    without: frozenset[str] = frozenset()

    @property
    def alone(self) -> bool:
        """Whether only some run here: then nobody here keeps views or answers questions."""
        return bool(self.only)

    def has(self, name: str) -> bool:
        """Say whether this actor runs here."""
        return name in self.only if self.only else name not in self.without

    def has_lane(self, platform: str) -> bool:
        """Say whether this platform's adapter runs here."""
        return self.has(durable_of(platform))


ALL_PARTS = Parts()
