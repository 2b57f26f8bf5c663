"""The same client, blocking: for scripts and notebooks without an event loop. One loop runs in a thread of its own.

with farebox.sync.connect() as fb:
    print(fb.submit("Summarise this").result().output)
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from anyio.from_thread import BlockingPortal, start_blocking_portal

from farebox import client as waiting
from farebox.aggregate import Aggregate
from farebox.api import Json
from farebox.core.results import Result, TaskStatus
from farebox.tasks import TaskOptions, TaskSpec

if TYPE_CHECKING:
    from farebox.batch import Batch as WaitingBatch
    from farebox.handle import Chunk
    from farebox.handle import Handle as WaitingHandle

__all__ = ["Batch", "Client", "Handle", "connect"]


class Handle:
    """One task, blocking."""

    def __init__(self, portal: BlockingPortal, handle: WaitingHandle) -> None:
        self._portal, self._handle = portal, handle

    @property
    def task_id(self) -> str:
        """The id of the task."""
        return self._handle.task_id

    @property
    def chain_id(self) -> str:
        """The id of its chain."""
        return self._handle.chain_id

    @property
    def partial(self) -> str:
        """The text that has streamed so far."""
        return self._handle.partial

    def chunks(self) -> Iterator[Chunk]:
        """Yield the text as it streams."""
        return _each(self._portal, self._handle.chunks())

    def result(self, timeout_s: float | None = None) -> Result:
        """Wait for the end and return the result. Raises ResultTimeout, NotReachable."""
        return self._portal.call(self._handle.result, timeout_s)

    def status(self) -> TaskStatus:
        """Return where the task stands now."""
        return self._portal.call(self._handle.status)

    def cancel(self, reason: str = "") -> None:
        """Ask for the task's end."""
        self._portal.call(self._handle.cancel, reason)


class Batch:
    """A batch, blocking: iterate over it to run it."""

    def __init__(self, portal: BlockingPortal, batch: WaitingBatch) -> None:
        self._portal, self._batch = portal, batch

    @property
    def id(self) -> str:
        """The id of the batch."""
        return self._batch.id

    @property
    def done(self) -> int:
        """How many tasks have ended."""
        return self._batch.done

    @property
    def total(self) -> int:
        """How many tasks it has."""
        return self._batch.total

    def __iter__(self) -> Iterator[Result]:
        """Run the batch and yield each result as its task completes."""
        return _each(self._portal, aiter(self._batch))

    def aggregate(self) -> Aggregate:
        """Return the sums over all results so far."""
        return self._batch.aggregate()

    def stop(self) -> None:
        """Send no more; what is under way goes on."""
        self._portal.call(self._batch.stop)

    def cancel(self, reason: str = "") -> None:
        """Send no more and cancel what is under way."""
        self._portal.call(self._batch.cancel, reason)


class Client:
    """A connection to a bus, blocking. Made by `connect`."""

    def __init__(self, portal: BlockingPortal, client: waiting.Client) -> None:
        self._portal, self._client = portal, client

    def submit(self, prompt: str, **options: Unpack[TaskOptions]) -> Handle:
        """Put one task on the bus. Raises BadInput (nothing was sent), BusError."""
        return Handle(self._portal, self._portal.call(partial(self._client.submit, prompt, **options)))

    def handle(self, chain_id: str, task_id: str) -> Handle:
        """Return the handle of a task that somebody submitted."""
        return Handle(self._portal, self._portal.call(self._client.handle, chain_id, task_id))

    def batch(
        self,
        tasks: Iterable[str | Mapping[str, Any] | TaskSpec] | None = None,
        *,
        parallel: int = 10,
        fail_fast: bool = False,
        batch_id: str | None = None,
        resume: str | None = None,
        max_cost_usd: str | float | None = None,
    ) -> Batch:
        """Return a batch; iterate over it to run it. `max_cost_usd` is the most that all its tasks may cost together."""
        given = {"parallel": parallel, "fail_fast": fail_fast, "batch_id": batch_id, "resume": resume}
        make = partial(self._client.batch, tasks, **given, max_cost_usd=max_cost_usd)
        return Batch(self._portal, self._portal.call(make))

    def status(self, task: str | None = None, *, state: str | None = None, limit: int | None = None) -> Json:
        """Return what runs and what ran, or the card of one task."""
        return self._portal.call(partial(self._client.status, task, state=state, limit=limit))

    def decide(self, task_id: str, decision: str) -> Json:
        """Decide about a task's interrupted attempt: retry, fail or accept."""
        return self._portal.call(self._client.decide, task_id, decision)

    def costs(self, by: Iterable[str] = ("platform",), *, since: str | None = None, until: str | None = None) -> Json:
        """Return what was spent."""
        return self._portal.call(partial(self._client.costs, by, since=since, until=until))

    def platforms(self) -> Json:
        """Return what is there and what is missing."""
        return self._portal.call(self._client.platforms)

    def quota(self) -> Json:
        """Return how every quota and budget stands."""
        return self._portal.call(self._client.quota)

    def why(self, task: str) -> Json:
        """Return why a task went where it went and cost what it cost. Raises BadInput for an unknown one."""
        return self._portal.call(self._client.why, task)

    def replay(self) -> Json:
        """Rebuild all views from the log."""
        return self._portal.call(self._client.replay)

    def info(self) -> Json:
        """Return who answers."""
        return self._portal.call(self._client.info)


@contextmanager
def connect(
    server: str | None = None,
    *,
    context: str | None = None,
    store: str | Path | None = None,
    user: str | None = None,
    password: str | None = None,
) -> Generator[Client]:
    """Connect as `farebox.connect` does. Raises NotReachable, AccessDenied, LogUnfit, BadSettings."""
    opening = waiting.connect(server, context=context, store=store, user=user, password=password)
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(opening) as client:
        yield Client(portal, client)


def _each[Item](portal: BlockingPortal, items: AsyncIterator[Item]) -> Iterator[Item]:
    """Yield what an async iterator yields; leaving early closes it."""

    async def following() -> tuple[Item] | None:
        try:
            return (await anext(items),)
        except StopAsyncIteration:
            return None

    async def close() -> None:
        aclose = getattr(items, "aclose", None)
        if aclose is not None:
            await aclose()

    try:
        while (found := portal.call(following)) is not None:
            yield found[0]
    finally:
        portal.call(close)
