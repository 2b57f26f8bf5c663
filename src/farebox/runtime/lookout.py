"""The lookout: looks for this machine's platforms at the start, now and then, and when somebody asks; what changed is a fact.

A server that starts later, or a program that is installed later, is used from the next look on. One that does not answer once,
perhaps because it is busy, is still believed to be there, unless a person asks.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from urllib.parse import urlsplit

from farebox.core import subjects, wire
from farebox.core.errors import BadFact, BusError
from farebox.core.events import PlatformReported
from farebox.core.platform import PlatformKind
from farebox.core.settings import PlatformSettings
from farebox.log.port import Log
from farebox.runtime.adoption import say_if_new
from farebox.runtime.caller import probe

log_ = logging.getLogger("farebox.lookout")

AGAIN_S = 30.0
"""Between two looks at what runs on this machine."""
FAR_EVERY = 20
"""Platforms on other machines are looked at in every so many looks: their lists of models cost somebody else something."""
FIRST_S = 0.5
"""How long a start waits for what is known already to be found again."""
MISSES_MAX = 2
"""So many looks in a row must miss a platform before it counts as gone."""
NEAR = frozenset({"", "localhost", "127.0.0.1", "::1"})


class Lookout:
    """What is known of the platforms whose adapters run here. `reports` is kept current in place."""

    def __init__(
        self, log: Log, kinds: Mapping[str, PlatformKind], platforms: Mapping[str, PlatformSettings], secret: bytes,
        environ: Mapping[str, str],
    ) -> None:  # fmt: skip
        self.reports: dict[str, PlatformReported] = {}
        self._log = log
        self._kinds = kinds
        self._platforms = {name: settings for name, settings in platforms.items() if settings.enabled}
        self._secret = secret
        self._environ = environ
        self._misses: dict[str, int] = {}
        self._asked: asyncio.Task[None] | None = None
        self._again: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Look again and again from now on."""
        self._again = asyncio.ensure_future(self._look_again())

    async def close(self) -> None:
        """Look no more."""
        looking = [task for task in (self._asked, self._again) if task is not None]
        for task in looking:
            task.cancel()
        await asyncio.gather(*looking, return_exceptions=True)

    async def first(self) -> None:
        """Look for the first time. Of what the log knows no answer is waited for long: some programs take seconds to say one.

        Raises what the log raises.
        """
        known = [await self._recalled(name) for name in self._platforms]
        if not all(known):
            await self.look()
            return
        self._asked = asyncio.ensure_future(self._calmly(misses_max=1, far=True))
        await asyncio.wait({self._asked}, timeout=FIRST_S)

    async def look(self, *, misses_max: int = 1, far: bool = True) -> None:
        """Look once and say what changed, each as soon as it is found out. Raises what the log raises."""
        chosen = {name: settings for name, settings in self._platforms.items() if far or _near(settings)}
        looks = (self._look_at(name, settings, misses_max) for name, settings in chosen.items())
        for error in await asyncio.gather(*looks, return_exceptions=True):
            if error is not None:
                raise error

    async def _look_at(self, name: str, settings: PlatformSettings, misses_max: int) -> None:
        report = await probe(self._kinds[settings.kind], name, settings, self._environ)
        if self._doubted(report, misses_max):
            return
        if report != self.reports.get(name):
            await say_if_new(self._log, "adapter", report, self._secret)
        self.reports[name] = report

    async def _recalled(self, name: str) -> bool:
        """Whether the log knows what was last found out about a platform; then it counts until it is looked at again."""
        last = await self._log.last(subjects.subject_of("adapter", PlatformReported(platform=name)))
        try:
            found = None if last is None else wire.decode(last.subject, last.body, last.seq, last.at_ms)
        except BadFact:
            return False
        if isinstance(found, PlatformReported):
            self.reports[name] = found
        return found is not None

    async def asked(self) -> None:
        """Look because a person asks; who asks meanwhile shares the look. A log that takes nothing now hinders no answer."""
        if self._asked is None or self._asked.done():
            self._asked = asyncio.ensure_future(self._calmly(misses_max=1, far=True))
        await asyncio.shield(self._asked)

    async def _look_again(self) -> None:
        looks = 0
        while True:
            await asyncio.sleep(AGAIN_S)
            looks += 1
            await self._calmly(misses_max=MISSES_MAX, far=looks % FAR_EVERY == 0)

    async def _calmly(self, *, misses_max: int, far: bool) -> None:
        try:
            await self.look(misses_max=misses_max, far=far)
        except BusError as error:
            log_.warning("what was found out about platforms could not be said: %s", error)
        except Exception:
            log_.exception("looking for platforms broke; it is tried again")

    def _doubted(self, report: PlatformReported, misses_max: int) -> bool:
        """Whether a platform that was there is missed for the first time or so."""
        before = self.reports.get(report.platform)
        missed = 0 if report.available else self._misses.get(report.platform, 0) + 1
        self._misses[report.platform] = missed
        return before is not None and before.available and not report.available and missed < misses_max


def _near(settings: PlatformSettings) -> bool:
    try:
        return (urlsplit(settings.url).hostname or "") in NEAR
    except ValueError:
        return False
