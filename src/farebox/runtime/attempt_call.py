"""The one call of an attempt: live text out as it comes, and in the end one outcome, whatever happened.

Nothing leaves here with a secret in it: neither to the bus nor into the spool or the log of the engine.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

import msgspec

from farebox.core import subjects, wire
from farebox.core.errors import BadFact, BadInput, BusError, FareboxError
from farebox.core.events import ChunkStreamed, QuotaLearned, TaskStarted
from farebox.core.platform import Ask, Call, CallEnded, InlineCall, PlatformKind, Reader, Verdict
from farebox.core.redaction import Flow
from farebox.core.settings import PlatformSettings
from farebox.core.terms import CallRecord, Charged, ErrorClass, Fault
from farebox.log.port import Log
from farebox.runtime import secrecy
from farebox.runtime.caller import Called, call, keys_of
from farebox.runtime.intake import OnLearned
from farebox.runtime.person_call import Person
from farebox.runtime.workplace import Workplace, works_on_files

log_ = logging.getLogger("farebox.worker")

CHUNK_S = 0.05
"""Live text is joined for so long: each chunk is a message of its own."""
CHUNK_CHARS = 2048
AHEAD_CHARS = 256 * 1024
"""So much live text may be on its way to the bus; then the platform's answer is not read on until some of it has left."""
MESSAGE_CHARS = 4000
"""A fault's message in a fact may be 4096 characters long."""


class AttemptCall:
    """Calls a platform for one started attempt. `on_learned` gets what it tells about quota as soon as that is read."""

    def __init__(
        self, log: Log, kind: PlatformKind, settings: PlatformSettings, environ: Mapping[str, str], started: TaskStarted,
        on_learned: OnLearned | None = None,
    ) -> None:  # fmt: skip
        self._on_learned = on_learned
        self._log = log
        self._kind = kind
        self._settings = settings
        self._environ = environ
        self._started = started
        self._redactor = secrecy.redactor(environ, (settings.key_env,))
        self._flow = Flow(self._redactor)
        self._number = 0
        self._text: list[str] = []
        self._unsaid: list[str] = []
        self._unsaid_chars = self._ahead_chars = 0
        self._room: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._saying: set[asyncio.Task[None]] = set()

    def unsent(self, why: str, error_class: ErrorClass = "damaged") -> CallEnded:
        """Return the outcome of a call that was never made."""
        fault = Fault(error_class=error_class, message=why)
        return self._ended(Verdict(ok=False, fault=fault, charged="none"), "", 0, ())

    async def make(self, ask: Ask, cancelled: asyncio.Event, stopping: asyncio.Event) -> CallEnded:
        """Make the call. `cancelled` ends it with what came so far, `stopping` breaks it off because the engine stops."""
        if not works_on_files(ask):
            return await self._made(ask, cancelled, stopping)
        place = Workplace(ask, self._started, self._environ)
        try:
            placed = await place.prepare()
        except BadInput as error:
            return self.unsent(f"{error.message} {error.hint}".strip(), "invalid")
        ended = await self._made(placed, cancelled, stopping)
        return msgspec.structs.replace(ended, verdict=self._bare(await place.leave(ended.verdict)))

    async def _made(self, ask: Ask, cancelled: asyncio.Event, stopping: asyncio.Event) -> CallEnded:
        try:
            what, reader = self._kind.ask(ask), self._kind.reader(ask)
        except Exception as error:  # noqa: BLE001  a platform may be anybody's code, and nothing has been sent yet
            why = str(error) if isinstance(error, FareboxError) else f"The platform's own code broke: {error!r}"
            return self.unsent(why, "invalid")
        self._redactor = secrecy.redactor(self._environ, (self._settings.key_env, *keys_of(what)))
        self._flow = Flow(self._redactor)
        calling = self._call(what, reader, cancelled)
        # An answer that is there already needs no task beside that of its attempt, and nobody who could stop it.
        ended = await (self._ended_by(calling) if isinstance(what, InlineCall) else self._watched(calling, stopping))
        await self._flush()
        return ended

    async def _watched(self, calling: Coroutine[Any, Any, Called], stopping: asyncio.Event) -> CallEnded:
        """Return how the call ended, or that it was broken off because the engine stops."""
        work = asyncio.ensure_future(self._ended_by(calling))
        stop = asyncio.ensure_future(stopping.wait())
        try:
            await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # Also when nobody waits for us any more: a call that goes on would go on costing.
            stop.cancel()
            work.cancel()
        await asyncio.wait({work})
        return self._broken_off("The engine was stopped during the call.") if work.cancelled() else work.result()

    async def _ended_by(self, calling: Coroutine[Any, Any, Called]) -> CallEnded:
        try:
            called = await calling
        except Exception as error:  # noqa: BLE001  a platform is a plug-in: its fault must not leave the attempt without an end
            log_.error("%s broke: %s", self._started.platform, self._redactor.text(repr(error)))
            return self._broken_off(f"The platform's own code broke: {error!r}")
        text = called.text if called.verdict.text is None else called.verdict.text
        return self._ended(called.verdict, text, called.duration_ms, called.calls)

    def _broken_off(self, why: str) -> CallEnded:
        fault = Fault(error_class="crashed", message=why)
        return self._ended(Verdict(ok=False, fault=fault, charged="possible"), "".join(self._text), 0, ())

    async def _call(self, what: Call, reader: Reader, cancelled: asyncio.Event) -> Called:
        return await call(
            what,
            reader,
            timeout_s=self._started.timeout_s,
            first_byte_timeout_s=self._settings.first_byte_timeout_s,
            idle_timeout_s=self._settings.idle_timeout_s,
            on_piece=self._on_piece,
            cancelled=cancelled,
            environ=self._environ,
            on_learned=None if self._on_learned is None else self._learn,
            person=Person(self._log, self._started),
        )

    def _learn(self, fact: QuotaLearned) -> None:
        assert self._on_learned is not None, "called only for somebody"
        self._on_learned(secrecy.struck(fact, self._redactor))

    def _on_piece(self, piece: str) -> asyncio.Future[None] | None:
        text = clean(piece)
        self._text.append(text)
        self._unsaid.append(text)
        self._unsaid_chars += len(text)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(CHUNK_S, self._say)
        elif self._unsaid_chars >= CHUNK_CHARS:
            self._timer.cancel()
            self._say()
        return self._room

    def _say(self) -> None:
        self._timer = None
        chunk = self._next_chunk()
        if chunk is not None:
            task = asyncio.ensure_future(self._publish(chunk))
            self._saying.add(task)
            task.add_done_callback(self._saying.discard)

    def _next_chunk(self, *, last: bool = False) -> ChunkStreamed | None:
        """Return what has come since the last chunk, as far as it can be said already; with `last` all of it."""
        text, self._unsaid, self._unsaid_chars = self._flow.feed("".join(self._unsaid)), [], 0
        if last:
            text += self._flow.end()
        if not text:
            return None
        self._ahead_chars += len(text)
        if self._ahead_chars > AHEAD_CHARS and self._room is None:
            self._room = asyncio.get_running_loop().create_future()
        self._number += 1
        started = self._started
        return ChunkStreamed(
            chain=started.chain, task=started.task, attempt=started.attempt, epoch=started.seq, batch=started.batch,
            platform=started.platform, number=self._number, text=text, cause=started.id,
        )  # fmt: skip

    async def _publish(self, chunk: ChunkStreamed) -> None:
        try:
            await self._log.publish(subjects.live_subject(chunk), wire.encode(chunk))
        except (BusError, BadFact):
            # Live text may be lost (or too large for one message): the whole answer stands in TaskCompleted.
            return
        finally:
            self._ahead_chars -= len(chunk.text)
            if self._room is not None and self._ahead_chars <= AHEAD_CHARS:
                room, self._room = self._room, None
                room.set_result(None)

    async def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        last = self._next_chunk(last=True)
        if self._saying:
            await asyncio.wait(self._saying)
        if last is not None:
            await self._publish(last)

    def _ended(self, verdict: Verdict, text: str, duration_ms: int, calls: Sequence[CallRecord]) -> CallEnded:
        return CallEnded(
            epoch=self._started.seq, cause=self._started.id, attempt=self._started.attempt,
            verdict=self._bare(verdict), text=self._redactor.text(clean(text)), duration_ms=duration_ms, calls=tuple(calls),
        )  # fmt: skip

    def _bare(self, verdict: Verdict) -> Verdict:
        """The text travels once, beside the verdict; words for people are only so long."""
        fault = verdict.fault
        if fault is not None:
            message = self._redactor.text(clean(fault.message))[:MESSAGE_CHARS]
            fault = Fault(error_class=fault.error_class, message=message)
        files = {name: tuple(map(self._redactor.text, getattr(verdict, name))) for name in ("files_created", "files_changed")}
        return secrecy.struck(msgspec.structs.replace(verdict, text=None, fault=fault, **files), self._redactor)


def blamed(outcome: CallEnded, why: str) -> CallEnded:
    """Return the outcome in place of one that no fact can hold; whether it may have cost something stays."""
    charged: Charged = "none" if outcome.verdict.charged == "none" else "possible"
    verdict = Verdict(ok=False, fault=Fault(error_class="invalid", message=clean(why)[:MESSAGE_CHARS]), charged=charged)
    return CallEnded(epoch=outcome.epoch, cause=outcome.cause, attempt=outcome.attempt, verdict=verdict, text=outcome.text)


def clean(text: str) -> str:
    """Return `text` without half surrogate pairs, which no log can carry."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
