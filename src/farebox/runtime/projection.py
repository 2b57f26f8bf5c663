"""Keeps the views behind the log by a few commits: facts are handed over as they are read, and written in one thread."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Protocol

from msgspec import Struct

from farebox.core.errors import BusError, FareboxError, LogFull
from farebox.log.port import Log, Stored

log_ = logging.getLogger("farebox.views")

COMMIT_S = 0.03
"""Facts are joined for so long into one transaction: a commit costs about 20 ms whatever its size up to 300 facts."""
SHARE = 4
"""The pause after a commit is so many times as long as the commit took: under load the views take a fifth of a core."""
PAUSE_MAX_S = 0.08
"""They are never further behind than this and two commits (at 500 tasks a second a commit takes about 50 ms)."""
CHUNK_FACTS = 20_000
READERS = 2
AGAIN_S = 1.0
"""Pause before views that could not be written are written again."""
UNSEEN = "The tables cannot hold it"
"""How the reason begins for which a fact that everybody else could read is in no view."""


class Views(Protocol):
    """What the runtime needs of the views; views/ledger.py is it."""

    def begin(self, created: str) -> int:
        """Say which log comes; another one than before: forget everything first. Returns the first sequence wanted."""
        ...

    def ingest(self, batch: Sequence[Stored]) -> int:
        """Fold facts, in order, and the new checkpoint in one transaction."""
        ...

    def put_aside(self, fact: Stored, reason: str) -> None:
        """Go past the next fact without it, and keep where it stands and why."""
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


class Rebuilt(Struct, frozen=True):
    """What a rebuild folded, the digests of before (empty: unreadable) and after, how long the folding took (seconds)."""

    facts: int
    before: str
    after: str
    seconds: float


class Projection:
    """The views of one engine."""

    def __init__(self, views: Any, trouble: Callable[[], FareboxError | None] = lambda: None) -> None:
        """`trouble` says what is wrong with the store, if anything is: then the views are not to blame."""
        self.views = views
        self._trouble = trouble
        self._behind = ""
        self.seq = 0
        self._given = 0
        self._queue: list[Stored] = []
        self._news = asyncio.Event()
        self._moved = asyncio.Condition()
        self._watched: dict[str, list[asyncio.Future[int]]] = {}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="views")
        self._readers = ThreadPoolExecutor(max_workers=READERS, thread_name_prefix="questions")
        self._task: asyncio.Task[None] | None = None
        self._committing: asyncio.Future[None] | None = None
        self._rebuilding = asyncio.Lock()

    async def begin(self, created: str) -> int:
        """Look whether these are views of that log; return the first sequence they want. Facts must come from there on."""
        self.seq = self._given = await self._write(lambda: self.views.begin(created)) - 1
        self._task = asyncio.ensure_future(self._run())
        return self.seq + 1

    def tap(self, batch: Sequence[Stored]) -> None:
        """Take facts over from the follower."""
        self._queue += [stored for stored in batch if stored.seq > self._given] if batch[0].seq <= self._given else batch
        self._given = max(self._given, batch[-1].seq)
        self._news.set()
        if self._watched:
            for stored in batch:
                for future in self._watched.pop(_task_of(stored.subject), ()):
                    if not future.done():
                        future.set_result(stored.seq)

    @property
    def heard(self) -> int:
        """The last sequence handed over; the views come to it with the next commit."""
        return self._given

    @contextmanager
    def watching(self, task: str) -> Generator[asyncio.Future[int]]:
        """Watch a task from now on: the future gives the sequence of the next fact about it that was read."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._watched.setdefault(task, []).append(future)
        try:
            yield future
        finally:
            waiting = self._watched.get(task, [])
            if future in waiting:
                waiting.remove(future)
            if not waiting:
                self._watched.pop(task, None)

    async def shown(self, news: asyncio.Future[int], timeout_s: float) -> bool:
        """Wait until what `news` tells of can be seen in the views; False after `timeout_s`."""
        until_s = asyncio.get_running_loop().time() + timeout_s
        await asyncio.wait({news}, timeout=timeout_s)
        return news.done() and await self.wait_for(news.result(), until_s - asyncio.get_running_loop().time())

    async def ask[Answer](self, question: Callable[[], Answer]) -> Answer:
        """Return the answer of the views: whole commits, never a half one."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, question)

    async def wait_for(self, seq: int, timeout_s: float) -> bool:
        """Wait until the views hold sequence `seq`; say whether they do."""
        try:
            async with asyncio.timeout(timeout_s), self._moved:
                await self._moved.wait_for(lambda: self.seq >= seq)
        except TimeoutError:
            return False
        return True

    async def rebuild(self, log: Log) -> Rebuilt:
        """Forget everything and fold the log again, as far as it was folded before; what comes meanwhile waits."""
        async with self._rebuilding:
            await self._halt()
            until = None
            try:
                before = await self._last_words()
                until, began_s = self.seq, time.perf_counter()
                await self._write(self.views.forget)
                self.seq = 0
                facts = await self._catch_up(log, until)
                seconds = round(time.perf_counter() - began_s, 3)
                after = await self.ask(self.views.digest)
            finally:
                if until in {None, self.seq}:
                    self._news.set()
                    self._task = asyncio.ensure_future(self._run())
            return Rebuilt(facts, before, after, seconds)

    async def _last_words(self) -> str:
        """Write what is waiting and return the digest; empty where the views are damaged: that is why they are made anew."""
        try:
            while self._queue:
                await self._commit()
            return await self.ask(self.views.digest)
        except LogFull:
            raise  # they are whole, and there is no room to make them anew
        except BusError as error:
            log_.warning("the views are made anew from the log: %s", error)
            return ""

    async def close(self) -> None:
        """Write what is waiting and let go of the views. Safe to call twice."""
        await self._halt()
        try:
            if self._queue and self._task is not None:
                await self._commit()
        finally:
            self._task = None
            self._readers.shutdown()
            self._thread.submit(self.views.close)
            self._thread.shutdown()

    async def _write[Answer](self, work: Callable[[], Answer]) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _halt(self) -> None:
        """Stop writing, after what is just being written."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._committing is not None:
            await asyncio.gather(self._committing, return_exceptions=True)

    async def _catch_up(self, log: Log, until: int) -> int:
        """Fold the past in large chunks: one is written while the next is read."""
        chunk: list[Stored] = []
        folded = 0
        writing: asyncio.Future[None] | None = None
        position = await log.position()
        if position.first_seq <= until and position.last_seq:
            facts = log.follow(position.first_seq)
            try:
                async for batch in facts:
                    done = batch[-1].seq >= until
                    chunk += [stored for stored in batch if stored.seq <= until] if done else batch
                    if done or len(chunk) >= CHUNK_FACTS:
                        part, chunk = chunk, []
                        folded += len(part)
                        if writing is not None:
                            await writing
                        writing = asyncio.ensure_future(self._fold(part))
                    if done:
                        break
            finally:
                await facts.aclose()
                if writing is not None:
                    await writing
        await self._move(until)
        return folded

    async def _run(self) -> None:
        pause_s = 0.0
        while True:
            await self._news.wait()
            await asyncio.sleep(max(COMMIT_S, pause_s))
            began_s = time.monotonic()
            self._committing = asyncio.ensure_future(self._commit())
            try:
                await asyncio.shield(self._committing)
                pause_s = min(SHARE * (time.monotonic() - began_s), PAUSE_MAX_S)
                self._say_behind(None)
            except Exception as error:  # noqa: BLE001 - it is said, and tried again: views that stop for good say nothing
                self._say_behind(self._trouble() or error)
                await asyncio.sleep(AGAIN_S)

    def _say_behind(self, error: Exception | None) -> None:
        """Say once for each kind of trouble that the views stay behind, and once that they do not any more."""
        kind = "" if error is None else type(error).__name__
        if kind == self._behind:
            return
        self._behind = kind
        if error is None:
            log_.warning("the views are written again")
        else:
            log_.error("the views stay behind: %s", error)

    async def _commit(self) -> None:
        self._news.clear()
        batch, self._queue = self._queue[:CHUNK_FACTS], self._queue[CHUNK_FACTS:]
        if not batch:
            return
        try:
            await self._fold(batch)
        except BaseException:
            self._queue[:0] = batch
            raise
        finally:
            if self._queue:
                self._news.set()
        await self._move(batch[-1].seq)

    async def _fold(self, batch: Sequence[Stored]) -> None:
        """Write facts into the views; one that they cannot hold is put aside, for everybody to see, and the others go on.

        Raises what keeps anything at all from being written.
        """
        try:
            await self._write(lambda: self.views.ingest(batch))
        except (LogFull, OSError):
            raise
        except Exception:
            if self._trouble() is not None:
                raise
            if len(batch) == 1:
                await self._put_aside(batch[0])
                return
            half = len(batch) // 2
            await self._fold(batch[:half])
            await self._fold(batch[half:])

    async def _put_aside(self, fact: Stored) -> None:
        """Try one fact alone, after a pause, and go past it if it breaks again. Raises when that cannot be written either."""
        await asyncio.sleep(AGAIN_S)
        try:
            await self._write(lambda: self.views.ingest([fact]))
        except Exception as error:
            reason = f"{UNSEEN}: {type(error).__name__}: {error}"
            await self._write(lambda: self.views.put_aside(fact, reason))
            log_.exception("fact %d is in no view", fact.seq)

    async def _move(self, seq: int) -> None:
        async with self._moved:
            self.seq = seq
            self._moved.notify_all()


def _task_of(subject: str) -> str:
    return subject.rpartition(".")[2]
