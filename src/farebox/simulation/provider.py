"""A provider with books of its own: what it charged is the truth that the log's costs are compared with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random

from msgspec import Struct

from farebox.core.events import TaskStarted
from farebox.core.platform import CallEnded, Verdict
from farebox.core.terms import CallRecord, Charged, ErrorClass, Fault, Usage

TROUBLES: tuple[tuple[ErrorClass, Charged], ...] = (
    ("rate_limited", "none"),
    ("server_error", "none"),
    ("network", "none"),
    ("invalid", "none"),
    ("refused", "known"),
    ("truncated", "possible"),
    ("stalled", "possible"),
    ("timeout", "possible"),
)
"""How a call may fail, and what the adapter can know of its charge."""
SECONDS_MAX = 50.0
"""The longest call; longer than the time after which a silent worker's task is handed to another."""


class Charge(Struct, frozen=True):
    """One line of the provider's books: it did this work and wants its money, whether anybody hears the answer or not."""

    epoch: int
    chain: str
    task: str
    attempt: int
    usage: Usage


class Provider:
    """Answers, fails, cuts, rate-limits; charges whenever work was done."""

    def __init__(self, random: Random, log_length: Callable[[], int]) -> None:
        self.calls: list[tuple[int, int]] = []
        self.charges: list[Charge] = []
        self.trouble = random.random() * 0.6
        self._random = random
        self._log_length = log_length

    async def ask(self, started: TaskStarted, cancelled: asyncio.Event) -> CallEnded:
        """Serve one call, which the caller may break off at any moment by going away or by `cancelled`."""
        random = self._random
        await asyncio.sleep(random.random() * 0.2)
        self.calls.append((started.seq, self._log_length()))
        trouble, charged = random.choice(TROUBLES) if random.random() < self.trouble else (None, "known")
        usage = Usage(input_tokens=random.randint(1, 1000), output_tokens=random.randint(1, 1000))
        if charged == "known" or (charged == "possible" and random.random() < 0.5):
            self.charges.append(Charge(started.seq, started.chain, started.task, started.attempt, usage))
        if await self._cancelled_while_working(cancelled):
            # A provider that had nothing to charge may still have been about to: the adapter cannot know.
            return _ended(started, _verdict("cancelled", "possible", None, None))
        if trouble is None:
            return _ended(started, Verdict(ok=True, usage=usage, charged="known"), text=f"answer to {started.task}")
        retry_after_ms = random.choice((None, 0, 300, 20_000)) if trouble == "rate_limited" else None
        return _ended(started, _verdict(trouble, charged, usage if charged == "known" else None, retry_after_ms))

    async def _cancelled_while_working(self, cancelled: asyncio.Event) -> bool:
        seconds = SECONDS_MAX * self._random.random() ** 6
        try:
            async with asyncio.timeout(seconds):
                await cancelled.wait()
        except TimeoutError:
            return False
        return True


def _verdict(error_class: ErrorClass, charged: Charged, usage: Usage | None, retry_after_ms: int | None) -> Verdict:
    fault = Fault(error_class=error_class, message="As the seed says.")
    return Verdict(ok=False, fault=fault, charged=charged, usage=usage, retry_after_ms=retry_after_ms)


def _ended(started: TaskStarted, verdict: Verdict, text: str = "") -> CallEnded:
    return CallEnded(
        epoch=started.seq, cause=started.id, attempt=started.attempt, verdict=verdict, text=text, duration_ms=1,
        calls=(CallRecord(status=200 if verdict.ok else 0, duration_ms=1),),
    )  # fmt: skip
