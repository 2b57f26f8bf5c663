"""Hearing the ends of tasks and their charges on core NATS: once per chain, however many of its tasks are waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from farebox.core import subjects
from farebox.log.port import Log, Subscription

Ear = Callable[[str], None]
"""Called with what was said: `completed` or `recorded`."""
SUBJECTS = ("*.completed", "cost.recorded")


@dataclass
class _Chain:
    """Who waits in one chain."""

    ears: dict[str, list[Ear]] = field(default_factory=dict[str, list[Ear]])
    subscriptions: list[Subscription] = field(default_factory=list[Subscription])
    opening: asyncio.Lock = field(default_factory=asyncio.Lock)


class Ends:
    """The ears of one client."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._chains: dict[str, _Chain] = {}

    async def hear(self, chain: str, task: str, ear: Ear) -> Subscription:
        """Call `ear` whenever an end or a charge of the task is published; the log may refuse it, so ask then."""
        found = self._chains.setdefault(chain, _Chain())
        found.ears.setdefault(task, []).append(ear)
        waiting = _Waiting(self, chain, task, ear)
        try:
            async with found.opening:
                for said in SUBJECTS[len(found.subscriptions) :]:
                    found.subscriptions.append(await self._log.listen(f"{subjects.LOG}.{said}.*.{chain}.*", self._heard))
        except BaseException:
            await waiting.close()
            raise
        return waiting

    async def forget(self, chain: str, task: str, ear: Ear) -> None:
        """Take an ear away; the last one of a chain takes its subscription away."""
        found = self._chains.get(chain)
        if found is None or ear not in found.ears.get(task, ()):
            return
        found.ears[task].remove(ear)
        if not found.ears[task]:
            del found.ears[task]
        if not found.ears:
            del self._chains[chain]
            for subscription in found.subscriptions:
                await subscription.close()

    def _heard(self, subject: str, _body: bytes) -> None:
        _, _, _, token, _, chain, task = subject.split(".")
        found = self._chains.get(chain)
        for ear in tuple(found.ears.get(task, ())) if found else ():
            ear(token)


@dataclass(frozen=True)
class _Waiting:
    """One ear."""

    ends: Ends
    chain: str
    task: str
    ear: Ear

    async def close(self) -> None:
        """Listen no more. Safe to call twice."""
        await self.ends.forget(self.chain, self.task, self.ear)
