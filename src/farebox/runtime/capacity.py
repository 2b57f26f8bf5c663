"""What the engine knows of quotas: how each stands, and settings that change while it runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from farebox.core.errors import BadInput
from farebox.core.settings import Settings
from farebox.core.standing import Standing
from farebox.runtime.clock import StreamClock
from farebox.runtime.mind import Mind

Json = dict[str, Any]
LIVE = (
    "quotas", "budgets", "policies", "on_quota", "last_resort", "warn_at_percent", "estimate_from_tokens", "answer_tokens_max",
)  # fmt: skip
"""What may change while an engine runs. Its platforms are those that it was started with."""
ADOPTED_S = 5.0


class Capacity:
    """Answers about quotas for one engine. `reload` reads the settings anew, `adopt` makes them a fact; None: it cannot."""

    def __init__(
        self, minds: Sequence[Mind], settings: Settings, clock: StreamClock,
        reload: Callable[[], Settings] | None = None, adopt: Callable[[Settings], Awaitable[int]] | None = None,
    ) -> None:  # fmt: skip
        self._minds = minds
        self._clock = clock
        self._reload, self._adopt = reload, adopt
        self.settings = settings

    def now_ms(self) -> int:
        """Return stream time, ms since 1970."""
        return self._clock.now_ms()

    def standings(self) -> list[Standing]:
        """Return how each quota stands by what is folded up to now; none where no quota actor runs here."""
        now_ms = self._clock.now_ms()
        return [one for mind in self._minds if mind.actor.shown is not None for one in mind.actor.shown(mind.state, now_ms)]

    async def quota(self, _question: Json) -> Json:
        """Answer with every quota and budget (`farebox.quota/1`)."""
        return {
            "schema": "farebox.quota/1",
            "now_ms": self._clock.now_ms(),
            "warn_at_percent": self.settings.warn_at_percent,
            "quotas": [msgspec.to_builtins(one) for one in self.standings()],
        }

    async def settings_reload(self, _question: Json) -> Json:
        """Read the settings anew and adopt what may change while the engine runs (`farebox.settings/1`).

        `quotas` and `budgets` are those in force from now on: whoever wrote one can see whether this engine read it.
        """
        if self._reload is None or self._adopt is None:
            raise BadInput("This engine cannot take new settings while it runs.", hint="Restart it: farebox down, farebox up")
        new = self._reload()
        changed = [name for name in LIVE if getattr(new, name) != getattr(self.settings, name)]
        needs_restart = new.platforms != self.settings.platforms
        self.settings = msgspec.structs.replace(self.settings, **{name: getattr(new, name) for name in LIVE})
        seq = await self._adopt(self.settings)
        return {
            "schema": "farebox.settings/1", "adopted_seq": seq, "changed": changed, "needs_restart": needs_restart,
            "quotas": msgspec.to_builtins(self.settings.quotas), "budgets": msgspec.to_builtins(self.settings.budgets),
        }  # fmt: skip
