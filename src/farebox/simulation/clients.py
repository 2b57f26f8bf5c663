"""The people of a world: they submit, change their minds, say things twice, write garbage, and answer what they are asked."""

from __future__ import annotations

import asyncio
from random import Random

import msgspec

from farebox.core import ids, subjects, wire
from farebox.core.errors import AppendRefused, BusError
from farebox.core.events import (
    AttemptInterrupted,
    BatchSubmitted,
    Fact,
    SettingsAdopted,
    TaskCancelRequested,
    TaskDecision,
    TaskSubmitted,
)
from farebox.core.settings import Settings, canonical
from farebox.core.subjects import Guard
from farebox.log.port import Entry, Fence
from farebox.log.store import MemoryStore

TASKS_MAX = 10
HURRY_S = 60.0
"""All tasks are submitted within this time."""


class Clients:
    """Everybody who writes below `farebox.log.client.`; `promised` are the tasks that must end."""

    def __init__(self, store: MemoryStore, random: Random, platforms: list[str]) -> None:
        self.promised: set[tuple[str, str]] = set()
        self.batch: BatchSubmitted | None = None
        self.unread = 0
        self._store = store
        self._random = random
        self._platforms = platforms
        self._answered = 0

    async def live(self, settings: Settings) -> None:
        """Do all they will ever do, each at his own time; then only answer questions."""
        random = self._random
        works = [self._one(f"t{number}") for number in range(random.randint(1, TASKS_MAX))]
        if random.random() < 0.4:
            works.append(self._some(random.randint(1, 4)))
        if random.random() < 0.3:
            works.append(self._operator(settings))
        await asyncio.gather(*works)

    async def answer(self) -> None:
        """Say what shall become of interrupted attempts, asked or not."""
        while True:
            await asyncio.sleep(7)
            for stored in self._store.read(self._answered + 1):
                self._answered = stored.seq
                if ".adapter.interrupted." not in stored.subject:
                    continue
                fact = wire.decode(stored.subject, stored.body, stored.seq, stored.at_ms)
                assert isinstance(fact, AttemptInterrupted)
                decision = self._random.choice(("retry", "fail", "accept"))
                self.say(TaskDecision(chain=fact.chain, task=fact.task, attempt=fact.attempt, decision=decision))

    async def _one(self, task: str) -> None:
        """One task with everything that people do to it, before, meanwhile and after."""
        random = self._random
        chain = random.choice(("c1", task))
        submitted = self._submission(chain, task)
        await asyncio.sleep(HURRY_S * random.random())
        if random.random() < 0.06:
            self._garbage(f"farebox.log.client.submitted.-.{chain}.{task}")
        else:
            self.say(submitted)
        self.promised.add((chain, task))
        if random.random() < 0.15:
            await asyncio.sleep(200 * random.random() ** 2)
            self._write(submitted, None)
        if random.random() < 0.05:
            await asyncio.sleep(100 * random.random())
            self._garbage(f"farebox.log.client.submitted.-.{chain}.{task}")

    async def _some(self, count: int) -> None:
        """A batch."""
        await asyncio.sleep(HURRY_S * self._random.random())
        self.batch = BatchSubmitted(batch="b1", count=count, id="b1")
        self.say(self.batch)
        for line in range(1, count + 1):
            await asyncio.sleep(self._random.random())
            submitted = msgspec.structs.replace(self._submission("b1", ids.of_line("b1", line)), batch="b1")
            self.say(submitted)
            self.promised.add(submitted.key)

    async def _operator(self, settings: Settings) -> None:
        """Changes limits, and switches a platform off for a while."""
        random = self._random
        for change in (0, 1):
            await asyncio.sleep(HURRY_S * random.random())
            platforms = {
                name: msgspec.structs.replace(one, limit=random.randint(1, 4), enabled=bool(change) or random.random() < 0.6)
                for name, one in settings.platforms.items()
            }
            plain, sha256 = canonical(msgspec.structs.replace(settings, platforms=platforms))
            self._write(SettingsAdopted(settings=plain, sha256=sha256), None, writer="engine")

    def _submission(self, chain: str, task: str) -> TaskSubmitted:
        random = self._random
        asyncio.get_running_loop().create_task(self._maybe_cancel(chain, task))
        return TaskSubmitted(
            chain=chain,
            task=task,
            id=random.choice(("", "mine", f"id-{chain}-{task}")),
            prompt=task,
            platform=random.choice(("", *self._platforms)),
            fallback=random.random() < 0.8,
            priority=random.choice((0, 0, 0, 5, -5)),
            on_interrupt=random.choice((None, None, "retry", "fail", "ask")),
            needs=("nobody",) if random.random() < 0.03 else (),
        )

    async def _maybe_cancel(self, chain: str, task: str) -> None:
        random = self._random
        if random.random() < 0.3:
            await asyncio.sleep(100 * random.random() ** 2)
            if random.random() < 0.1:
                self._garbage(f"farebox.log.client.cancel_requested.-.{chain}.{task}")
            else:
                self.say(TaskCancelRequested(chain=chain, task=task, id=random.choice(("", "mine"))))

    def say(self, fact: Fact) -> None:
        """Append as a careful client does: under the fence, and a refusal means that it was said already."""
        guard = subjects.fence_filter("client", fact)
        assert guard is not None, "all that clients say is fenced"
        first = subjects.row_of("client", fact).guard is Guard.OWN_FIRST
        try:
            self._write(fact, Fence(guard, 0 if first else self._store.last_below(guard)))
        except AppendRefused:
            return

    def _write(self, fact: Fact, fence: Fence | None, writer: str = "client") -> None:
        body = wire.encode(msgspec.structs.replace(fact, prev=fence.last if fence else 0))
        self._store.append([Entry(subjects.subject_of(writer, fact), body, fence)])

    def _garbage(self, subject: str) -> None:
        body = self._random.choice((b"", b"{", b'{"fact":"TaskSubmitted","task":"other"}', b"\xff" * 20))
        try:
            self._store.append([Entry(subject, body, None)])
        except BusError:
            return
        self.unread += 1
