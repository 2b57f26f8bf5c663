"""A batch: many tasks, a bounded number of them under way, their results as they complete.

Task ids follow from the batch's id and the line, so sending again is harmless: an interrupted batch goes on, and runs nothing
twice. Its tasks are kept in the object store, so that it can go on without the file it came from.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Self

import msgspec

from farebox import api
from farebox.aggregate import Aggregate, aggregate
from farebox.core import events, ids, subjects, wire
from farebox.core.errors import BadFact, BadInput, BusError, LogFilling, NotReachable
from farebox.core.results import ErrorShown, Result
from farebox.handle import Answer, answer_of
from farebox.inputs import canonical_lines, restored_lines
from farebox.log.port import Stored
from farebox.posting import WRITER, keep, new_id, say_first
from farebox.remembered import differences
from farebox.tasks import TaskSpec

if TYPE_CHECKING:
    from farebox.client import Client
    from farebox.handle import Handle

NOT_SENT = "not sent"
PARALLEL_MAX = 400
"""A connection may have 1000 subscriptions, and each chain under way needs two."""
AWAY_S = 0.5
"""Whoever could not send for so long finds a server that was away, and may have come back without what it had just taken."""


class Batch:
    """Iterate over it to run it. `done`, `total` and `running` say how far it is; `results` go by line, from 1."""

    def __init__(
        self,
        client: Client,
        specs: Sequence[TaskSpec] | None,
        *,
        parallel: int = 10,
        fail_fast: bool = False,
        batch_id: str | None = None,
        resume: str | None = None,
        source: str = "",
    ) -> None:
        if specs is not None and not specs:
            raise BadInput("The batch holds no task.")
        if specs is None and resume is None:
            raise BadInput("A batch needs tasks, or the id of an interrupted one.", hint="resume=BATCH")
        if not 1 <= parallel <= PARALLEL_MAX:
            raise BadInput(f"parallel is {parallel}; it must be from 1 to {PARALLEL_MAX}.")
        given = resume or batch_id
        self.id = ids.check(given, "batch") if given else new_id()
        self._client, self._specs = client, specs
        self._parallel, self._fail_fast, self._resume, self._source = parallel, fail_fast, resume is not None, source
        self._handles: dict[int, Handle] = {}
        self._sent: set[str] = set()
        self._before: dict[str, Answer] = {}
        self._stopped = self._cancelled = self._opened = False
        self._refused: LogFilling | None = None
        self._said: events.BatchSubmitted | None = None
        self.results: dict[int, Result] = {}

    @property
    def total(self) -> int:
        """How many tasks it has; 0 while a resumed batch has not been read yet."""
        return len(self._specs or ())

    @property
    def done(self) -> int:
        """How many have ended."""
        return len(self.results)

    @property
    def running(self) -> int:
        """How many are under way."""
        return len(self._handles)

    def aggregate(self) -> Aggregate:
        """Return the sums over all results so far."""
        return aggregate(self.results.values(), self.id)

    @property
    def cancelled(self) -> int:
        """How many were sent and then cancelled: those stay so, a resumed batch never starts them again."""
        return sum(result.status == "cancelled" and not _is_unsent(result) for result in self.results.values())

    @property
    def unsent(self) -> int:
        """How many were not sent, because it was stopped or cancelled before."""
        return sum(map(_is_unsent, self.results.values()))

    def stop(self) -> None:
        """Send no more. What is under way goes on, and what was not sent stays so: a resumed batch runs it."""
        self._stopped = True

    async def cancel(self, reason: str = "") -> None:
        """Send no more and cancel what is under way. That sticks: a resumed batch runs what was not sent, and only that."""
        self._stopped = self._cancelled = True
        await asyncio.gather(*(handle.cancel(reason) for handle in tuple(self._handles.values())))

    async def __aenter__(self) -> Self:
        """Open the batch: its fact is in the log before any task."""
        await self._open()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Listen no more. Tasks that were sent go on."""
        for handle in tuple(self._handles.values()):
            await handle.close()

    async def __aiter__(self) -> AsyncIterator[Result]:
        """Run the batch and yield each result as its task completes. Raises BusError; then it can be resumed.

        A log that takes no new tasks (LogFilling) ends the sending: what was sent is waited for before it is raised.
        """
        await self._open()
        lines = iter(range(1, self.total + 1))
        ready: asyncio.Queue[Result | None] = asyncio.Queue(self._parallel)
        workers = [asyncio.create_task(self._work(lines, ready)) for _ in range(min(self._parallel, self.total))]
        ending = asyncio.create_task(_then_end(workers, ready))
        try:
            while (result := await ready.get()) is not None:
                yield result
            await ending
            with suppress(BusError):  # all have ended: only its line in the books is missing, and a resumed batch says it, too
                await self._say_again()
            if self._refused is not None:
                raise self._refused
        finally:
            for task in (*workers, ending):
                task.cancel()
            await asyncio.gather(*workers, ending, return_exceptions=True)

    async def _open(self) -> None:
        """Say that the batch comes, or find it again; check names before anything is sent."""
        if self._opened:
            return
        log = self._client.log
        stands = await log.last(subjects.exact(WRITER, "batch_submitted", self.id, ids.NONE)) if self._resume else None
        if self._resume and stands is None:
            raise BadInput(f'There is no batch "{self.id}".', hint="See: farebox status", code="FB407")
        if stands is not None:
            await self._found(stands)
            self._sent = await self._ended_before()
            self._before = await self._answers_before()
        else:
            for spec in {(spec.platform, spec.model): spec for spec in self._specs or ()}.values():
                await self._client.check(spec)
            await self._announce()
        self._opened = True

    async def _announce(self) -> None:
        assert self._specs, "checked when it was made"
        lines = canonical_lines(self._specs)
        fact = events.BatchSubmitted(
            id=new_id(),
            batch=self.id,
            count=len(self._specs),
            parallel=self._parallel,
            fail_fast=self._fail_fast,
            sha256=_sha256(self._specs),
            lines_ref=await keep(self._client.log, lines),
            source=self._source[:1024],
        )
        await self._found(await say_first(self._client.log, fact))

    async def _found(self, stands: Stored) -> None:
        """Take the tasks of a batch that stands in the log; other tasks under its id are refused.

        Those of a resumed one may come without the options that it began with: these are kept with it, and go on to hold.
        """
        fact = self._said = _batch_fact(stands)
        if self._specs is None and fact.lines_ref is None:
            raise BadInput(f'The batch "{self.id}" does not hold its tasks.', hint="Give the file again.")
        if self._specs is not None and _sha256(self._specs) == fact.sha256:
            return
        differ = ""
        if fact.lines_ref is not None:
            kept = restored_lines(await self._client.log.get_blob(fact.lines_ref))
            differ = differences(kept, self._specs or kept)
            if (self._resume or self._specs is None) and not differ and _sha256(kept) == fact.sha256:
                self._specs = kept
                return
        raise BadInput(
            f'The batch "{self.id}" was started with other tasks. {differ}'.rstrip(),
            hint=f"Go on with its own, without a file and options: farebox batch --resume {self.id}",
            code="FB408",
        )

    async def _ended_before(self) -> set[str]:
        """Return the tasks that need no sending any more; the log's fence holds even if this list lags behind."""
        document = await api.ask(self._client.log, "batch", {"batch": self.id}, timeout_s=60)
        return {str(task) for task in document.get("ended") or ()}

    async def _answers_before(self) -> dict[str, Answer]:
        """Return what the tasks that ended before came to, page by page: asked for one by one each costs the engine 60 ms."""
        found: dict[str, Answer] = {}
        after = 0
        with suppress(NotReachable):  # an engine of another version: then each task is asked for
            while rows := await self._page(after):
                after = int(rows[-1]["seq"])
                answers = [answer_of(row) for row in rows]
                found |= {answer.task_id: answer for answer in answers if answer.settled()}
        return found

    async def _page(self, after: int) -> list[api.Json]:
        return (await api.ask(self._client.log, "results", {"batch": self.id, "after": after}, timeout_s=60))["results"]

    async def _work(self, lines: Iterator[int], ready: asyncio.Queue[Result | None]) -> None:
        for line in lines:
            result = await self._one(line)
            self.results[line] = result
            await ready.put(result)
            if self._fail_fast and not result.ok and not self._stopped:
                await self.cancel("another task of the batch failed (fail-fast)")

    async def _one(self, line: int) -> Result:
        assert self._specs, "opened"
        spec, task = self._specs[line - 1], ids.of_line(self.id, line)
        if (answer := self._before.pop(task, None)) is not None:
            return await self._client.whole(answer)
        if self._stopped:
            return self._unsent(spec, task)
        try:
            handle = await self._sent_handle(spec, task)
            self._handles[line] = handle
            if self._cancelled:
                await handle.cancel()
            return await handle.result()
        except LogFilling as full:
            self.stop()
            hint = f"{full.hint} Then go on with: farebox batch --resume {self.id}".strip()
            self._refused = LogFilling(full.message, hint=hint)
            return self._unsent(spec, task)
        finally:
            if (handle := self._handles.pop(line, None)) is not None:
                await handle.close()

    async def _sent_handle(self, spec: TaskSpec, task: str) -> Handle:
        if task in self._sent:
            return self._client.handle(spec.chain or self.id, task)
        began_s = time.monotonic()
        handle = await self._client.send(spec, task_id=task, batch_id=self.id, live=False, check=False)
        if time.monotonic() - began_s > AWAY_S:
            await self._say_again()
        if handle.say_again is not None:
            handle.say_again = partial(self._say_again, then=handle.say_again)
        return handle

    async def _say_again(self, then: Callable[[], Awaitable[object]] | None = None) -> None:
        """Say the batch once more where the log lost it (power cut under `100ms`, older log put back), `then` its task."""
        log, fact = self._client.log, self._said
        if fact is not None and await log.last(subjects.exact(WRITER, "batch_submitted", self.id, ids.NONE)) is None:
            await keep(log, canonical_lines(self._specs or ()))
            await say_first(log, msgspec.structs.replace(fact, seq=0, at_ms=0))
        if then is not None:
            await then()

    def _unsent(self, spec: TaskSpec, task: str) -> Result:
        return Result(
            task_id=task,
            chain_id=spec.chain or self.id,
            batch_id=self.id,
            label=spec.label,
            status="cancelled",
            error=ErrorShown(error_class="cancelled", message=NOT_SENT),
        )


def _sha256(specs: Sequence[TaskSpec]) -> str:
    return hashlib.sha256(canonical_lines(specs)).hexdigest()


def _is_unsent(result: Result) -> bool:
    return result.error is not None and result.error.message == NOT_SENT


def _batch_fact(stands: Stored) -> events.BatchSubmitted:
    try:
        fact = wire.decode(stands.subject, stands.body, stands.seq, stands.at_ms)
    except BadFact as error:
        raise BadInput(f"The batch in the log does not read: {error.message}") from error
    assert isinstance(fact, events.BatchSubmitted), "verified by its subject"
    return fact


async def _then_end(workers: Sequence[asyncio.Task[None]], ready: asyncio.Queue[Result | None]) -> None:
    """Wait for all workers; the first one that breaks stops the others and is raised."""
    try:
        await _all(workers)
    finally:
        await ready.put(None)


async def _all(workers: Sequence[asyncio.Task[None]]) -> None:
    done, waiting = await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
    for worker in waiting:
        worker.cancel()
    for worker in done:
        worker.result()
