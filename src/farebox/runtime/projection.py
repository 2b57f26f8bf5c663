"""Keeps the views behind the log by a few commits: facts are handed over as they are read, and written in one thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from farebox.log.port import Log, Stored

COMMIT_S = 0.03
"""Facts are joined for so long into one transaction: a commit costs about 20 ms whatever its size up to 300 facts."""
SHARE = 4
"""The pause after a commit is so many times as long as the commit took: under load the views take a fifth of a core."""
PAUSE_MAX_S = 0.15
"""They are never further behind than this and one commit."""
CHUNK_FACTS = 20_000
READERS = 2


class Views(Protocol):
    """What the runtime needs of the views; views/ledger.py is it."""

    def begin(self, created: str) -> int:
        """Say which log comes; another one than before: forget everything first. Returns the first sequence wanted."""
        ...

    def ingest(self, batch: Sequence[Stored]) -> int:
        """Fold facts, in order, and the new checkpoint in one transaction."""
        ...

    def forget(self) -> None:
        """Begin anew from nothing."""
        ...

    def digest(self) -> str:
        """Return the sha256 of all views' canonical rows."""
        ...

    def counts(self) -> dict[str, Any]:
        """Return what the views hold."""
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


class Projection:
    """The views of one engine."""

    def __init__(self, views: Any) -> None:
        self.views = views
        self.seq = 0
        self.heard = 0
        self._pause_s = COMMIT_S
        self._queue: list[Stored] = []
        self._news = asyncio.Event()
        self._moved = asyncio.Condition()
        self._watched: dict[str, list[asyncio.Future[int]]] = {}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="views")
        self._readers = ThreadPoolExecutor(max_workers=READERS, thread_name_prefix="questions")
        self._task: asyncio.Task[None] | None = None

    async def begin(self, created: str) -> int:
        """Look whether these are views of that log; return the first sequence they want. Facts must come from there on."""
        self.seq = await self._write(lambda: self.views.begin(created)) - 1
        self._task = asyncio.ensure_future(self._run())
        return self.seq + 1

    def tap(self, batch: Sequence[Stored]) -> None:
        """Take facts over from the follower."""
        self._queue += [stored for stored in batch if stored.seq > self.seq] if batch[0].seq <= self.seq else batch
        self.heard = max(self.heard, batch[-1].seq)
        self._news.set()
        if self._watched:
            for stored in batch:
                for future in self._watched.pop(_task_of(stored.subject), ()):
                    if not future.done():
                        future.set_result(stored.seq)

    def watch(self, chain: str, task: str) -> asyncio.Future[int]:
        """Return what will hold the sequence of the next fact about a task. Call it before asking: none slips in between."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._watched.setdefault(f"{chain}.{task}", []).append(future)
        return future

    async def next_of(self, watched: asyncio.Future[int], timeout_s: float) -> None:
        """Wait until the fact that is watched for is in the views, or the time."""
        try:
            async with asyncio.timeout(timeout_s):
                seq = await watched
        except TimeoutError:
            return
        await self.wait_for(seq, timeout_s)

    def forget_watch(self, chain: str, task: str, watched: asyncio.Future[int]) -> None:
        """Watch no more."""
        left = self._watched.get(f"{chain}.{task}", [])
        if watched in left:
            left.remove(watched)
        if not left:
            self._watched.pop(f"{chain}.{task}", None)

    async def ask[Answer](self, question: Callable[[], Answer]) -> Answer:
        """Return the answer of the views: whole commits, never a half one."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, question)

    async def _write[Answer](self, work: Callable[[], Answer]) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def wait_for(self, seq: int, timeout_s: float) -> bool:
        """Wait until the views hold sequence `seq`; say whether they do."""
        try:
            async with asyncio.timeout(timeout_s), self._moved:
                await self._moved.wait_for(lambda: self.seq >= seq)
        except TimeoutError:
            return False
        return True

    async def rebuild(self, log: Log, until: int) -> int:
        """Forget everything and fold the log again up to `until`; what comes meanwhile waits. Returns the facts folded."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._write(self.views.forget)
        self.seq = 0
        folded = await self._catch_up(log, until)
        self._queue = [stored for stored in self._queue if stored.seq > self.seq]
        self._task = asyncio.ensure_future(self._run())
        return folded

    async def close(self) -> None:
        """Write what is waiting and let go of the views."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._queue:
            await self._commit()
        self._readers.shutdown()
        await self._write(self.views.close)
        self._thread.shutdown()

    async def _catch_up(self, log: Log, until: int) -> int:
        """Fold the past in large chunks."""
        chunk: list[Stored] = []
        folded = 0
        position = await log.position()
        if until < position.first_seq:
            return 0
        facts = log.follow(position.first_seq)
        try:
            async for batch in facts:
                chunk += [stored for stored in batch if stored.seq <= until]
                done = batch[-1].seq >= until
                if done or len(chunk) >= CHUNK_FACTS:
                    part, chunk = chunk, []
                    folded += len(part)
                    await self._write(lambda part=part: self.views.ingest(part))
                if done:
                    break
        finally:
            await facts.aclose()
        self.seq = until
        return folded

    async def _run(self) -> None:
        while True:
            await self._news.wait()
            await asyncio.sleep(self._pause_s)
            await asyncio.shield(asyncio.ensure_future(self._commit()))

    async def _commit(self) -> None:
        self._news.clear()
        batch, self._queue = self._queue[:CHUNK_FACTS], self._queue[CHUNK_FACTS:]
        if self._queue:
            self._news.set()
        if not batch:
            return
        began = time.perf_counter()
        await self._write(lambda: self.views.ingest(batch))
        self._pause_s = min(PAUSE_MAX_S, max(COMMIT_S, SHARE * (time.perf_counter() - began)))
        async with self._moved:
            self.seq = batch[-1].seq
            self._moved.notify_all()


def _task_of(subject: str) -> str:
    return subject.split(".", 5)[5]
