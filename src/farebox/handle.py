"""A task that was submitted: its live text, its result, its cancel. Nothing is missed and nothing comes twice.

Live text comes without any memory, numbered per attempt; what got lost on the way is healed from the result, which holds the
whole answer. The result is asked for after subscribing its subject, after a lost connection and after a time-out.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from farebox.core import events, wire
from farebox.core.errors import BadFact, FareboxError
from farebox.core.results import Result, TaskStatus
from farebox.log.port import Subscription

if TYPE_CHECKING:
    from farebox.client import Client

ENDED: tuple[TaskStatus, ...] = ("completed", "failed", "cancelled")


class ResultTimeout(FareboxError, TimeoutError):
    """The task has not ended in the time that the caller wanted to wait. It goes on."""

    code, exit_code = "FB701", 7


class Chunk(Struct, frozen=True):
    """Text of an answer. `restart`: what came before is void, the answer begins anew (another attempt)."""

    text: str
    attempt: int = 1
    restart: bool = False
    platform: str = ""


class LiveText:
    """Puts the numbered chunks of all attempts in order: bytes in any order in, each text once out."""

    def __init__(self) -> None:
        self.attempt = 0
        self._texts: list[str] = []
        self._next = 1
        self._early: dict[int, str] = {}
        self._whole = False

    @property
    def text(self) -> str:
        """All text of the latest attempt, joined when somebody looks: a long answer comes in thousands of chunks."""
        self._texts = ["".join(self._texts)]
        return self._texts[0]

    def hear(self, chunk: events.ChunkStreamed) -> list[Chunk]:
        """Return what can be shown now; a gap holds the rest back until it is filled or healed."""
        if self._whole or chunk.attempt < self.attempt:
            return []
        restart = chunk.attempt > self.attempt and any(self._texts)
        if chunk.attempt > self.attempt:
            self.attempt, self._texts, self._next, self._early = chunk.attempt, [], 1, {}
        if chunk.number >= self._next:
            self._early.setdefault(chunk.number, chunk.text)
        text = "".join(self._ready())
        if text:
            self._texts.append(text)
        return [Chunk(text, self.attempt, restart, chunk.platform)] if text or restart else []

    def heal(self, whole: str) -> list[Chunk]:
        """Return what is missing of the `whole` answer; if it reads otherwise, all of it, as a new beginning.

        Chunks that come later still are old news.
        """
        self._whole = True
        told = self.text
        if told == whole:
            return []
        restart = not whole.startswith(told)
        missing = whole if restart else whole[len(told) :]
        self._texts = [whole]
        return [Chunk(missing, max(self.attempt, 1), restart)]

    def _ready(self) -> list[str]:
        texts: list[str] = []
        while self._next in self._early:
            texts.append(self._early.pop(self._next))
            self._next += 1
        return texts


class Handle:
    """One task. Made by `Client.submit` or `Client.handle`."""

    def __init__(self, client: Client, chain_id: str, task_id: str) -> None:
        self.chain_id = chain_id
        self.task_id = task_id
        self._client = client
        self._live = LiveText()
        self._news: asyncio.Queue[Chunk | None] = asyncio.Queue()
        self._ears: list[Subscription] = []
        self.fresh = False
        self.say_again: Callable[[], Awaitable[object]] | None = None
        """Submits the task once more, as it was; None where somebody else submitted it."""
        self.ended = asyncio.Event()
        self.charged = asyncio.Event()
        self._result: Result | None = None

    @property
    def partial(self) -> str:
        """The text that has streamed so far in the latest attempt; it stays when a caller is cancelled."""
        return self._live.text

    def hear_end(self, token: str) -> None:
        """Take note that an end was published, or a charge after it."""
        if token == "completed":
            self.ended.set()
        elif self.ended.is_set():
            self.charged.set()

    async def listen(self, *, live: bool = True) -> None:
        """Subscribe the result, and the live text: done before the task is sent, so that nothing is missed."""
        if self._ears:
            return
        self._ears.append(await self._client.hear_end(self))
        if live:
            self._ears.append(await self._client.hear_live(self.chain_id, self.task_id, self._hear_chunk))

    async def chunks(self) -> AsyncIterator[Chunk]:
        """Yield the text as it streams, then what was lost on the way; ends when the task has ended.

        Raises what `result` raises.
        """
        result = asyncio.create_task(self._result_heard())
        result.add_done_callback(lambda _: self._news.put_nowait(None))
        try:
            while (chunk := await self._news.get()) is not None or not result.done():
                if chunk is not None:
                    yield chunk
            for late in self._healed(await result):
                yield late
        finally:
            result.cancel()
            await asyncio.gather(result, return_exceptions=True)

    async def result(self, timeout_s: float | None = None) -> Result:
        """Wait until the task has ended and its cost is booked, and return its result, successful or not.

        Raises ResultTimeout after `timeout_s` (the task goes on), NotReachable when bus or engine stay away too long.
        """
        if self._result is not None:
            return self._result
        await self.listen(live=False)
        try:
            async with asyncio.timeout(timeout_s):
                self._result = await self._client.wait_for(self)
        except TimeoutError as late:
            raise ResultTimeout(
                f"Task {self.task_id} has not ended after {timeout_s:g} s; it goes on.",
                hint=f"Look again: farebox status {self.task_id}",
            ) from late
        await self.close()
        return self._result

    async def status(self) -> TaskStatus:
        """Return where the task stands now: pending, running, completed, failed, cancelled or unknown."""
        if self._result is not None:
            return self._result.status
        return (await self._client.result_now(self.chain_id, self.task_id)).status

    async def cancel(self, reason: str = "") -> None:
        """Ask for the task's end. It sticks: it counts whenever it comes, and asking twice is asking once."""
        await self._client.cancel(self.chain_id, self.task_id, reason)

    async def decide(self, decision: str) -> None:
        """Say what becomes of the interrupted attempt that waits for it: retry, fail or accept. Raises as `Client.decide`."""
        await self._client.decide(self.task_id, decision)

    async def close(self) -> None:
        """Listen no more. The task goes on."""
        while self._ears:
            await self._ears.pop().close()

    async def _result_heard(self) -> Result:
        await self.listen()
        return await self.result()

    def _healed(self, result: Result) -> list[Chunk]:
        """Return what was waiting, then what never came. A task without success has no whole answer to heal from."""
        waiting: list[Chunk] = []
        while not self._news.empty():
            if (chunk := self._news.get_nowait()) is not None:
                waiting.append(chunk)
        whole = result.output if result.ok else result.partial_output
        healed = self._live.heal(whole) if result.ok or whole.startswith(self._live.text) else []
        return waiting + healed

    def _hear_chunk(self, subject: str, body: bytes) -> None:
        try:
            fact = wire.decode(subject, body)
        except BadFact:
            return  # live text is a courtesy: what cannot be read is healed from the result
        assert isinstance(fact, events.ChunkStreamed), "verified by its subject"
        for chunk in self._live.hear(fact):
            self._news.put_nowait(chunk)


class Answer(Result, frozen=True, kw_only=True):
    """The engine's result document; a content too large for an answer comes as a reference."""

    output_ref: events.Ref | None = None
    partial_ref: events.Ref | None = None

    def settled(self) -> bool:
        """Whether the task has ended and each of its charges is booked."""
        return self.status in ENDED and self.cost.status != "pending"

    def result(self) -> Result:
        """Return the plain document."""
        return Result(**{name: getattr(self, name) for name in Result.__struct_fields__})


def answer_of(document: dict[str, object]) -> Answer:
    """Return the engine's answer, typed."""
    return msgspec.convert(document, Answer)
