"""Putting a client's facts into the log: fenced, so that sending again is harmless, and never by hope.

An append is stored, refused or unknown. Unknown is resolved by reading back the fact's own subject; when nothing stands
there it is sent again: should the first one arrive late after all, the fence refuses one of the two. A server whose disk is
full answers nothing; who has waited in vain asks the engine for the reason.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Awaitable, Callable

import msgspec

from farebox import api, exact_counts, vacancy
from farebox.core import events, ids, subjects, wire
from farebox.core.errors import (
    AppendBusy,
    AppendRefused,
    AppendUnknown,
    BadFact,
    BadInput,
    FareboxError,
    NotReachable,
)
from farebox.core.terms import FileInput, Ref
from farebox.log.port import Entry, Fence, Log, Stored
from farebox.runtime import secrecy
from farebox.tasks import CONSTRAINTS, TaskSpec

WRITER = "client"
PATIENCE_S = 120.0
"""How long the bus may stay away while a fact waits to be stored."""
RETRY_FIRST_S = 0.05
RETRY_MAX_S = 1.0
_APART = {"prompt", "context", "files", "chain", *CONSTRAINTS}
CARRIED = tuple(name for name in TaskSpec.__struct_fields__ if name not in _APART)
"""What a submission takes over from the task as it stands."""


def new_id() -> str:
    """Return a fresh id that sorts by time."""
    return ids.new(time.time_ns() // 1_000_000, os.urandom(5))


async def submission(log: Log, spec: TaskSpec, *, chain: str, task: str, batch: str = "") -> events.TaskSubmitted:
    """Return the fact for a task. Contents are put into the object store, largest first, until the rest is small.

    Raises BadInput (FB416) when the task holds the value of a key of this environment.
    """
    secrecy.refuse_secrets(spec)
    prompt = spec.prompt.encode()
    context = msgspec.json.encode(spec.context) if spec.context else b""
    contents = {"prompt": prompt, "context": context}
    contents |= {f"file {place}": (file.content or "").encode() for place, file in enumerate(spec.files)}
    refs = await _moved(log, contents)
    return events.TaskSubmitted(
        id=new_id(),
        chain=chain,
        task=task,
        batch=batch,
        prompt="" if "prompt" in refs else spec.prompt,
        prompt_ref=refs.get("prompt"),
        context={} if "context" in refs else spec.context,
        context_ref=refs.get("context"),
        files=tuple(_file(file, refs.get(f"file {place}")) for place, file in enumerate(spec.files)),
        bytes=len(prompt),
        input_tokens=exact_counts.counted(spec),
        sha256=hashlib.sha256(prompt).hexdigest(),
        constraints=spec.constraints,
        **{name: getattr(spec, name) for name in CARRIED},
    )


async def say_first(log: Log, fact: events.Fact, *, patience_s: float = PATIENCE_S) -> Stored:
    """Put a fact on its subject as the first one and return what stands there: it, or the one that was there before.

    Raises NotReachable or AppendUnknown when the bus stays away, LogFull (at once, or when the disk stays full), AccessDenied;
    LogFilling for what begins something new when the log has room for ends only.
    """
    entry = _entry(fact)
    refusal = await vacancy.of(log).refusal(fact)
    if refusal is not None:
        stands = await log.last(entry.subject)
        if stands is None:
            raise refusal
        return stands
    return await _patiently(log, lambda: _tried(log, entry), patience_s)


async def keep(log: Log, body: bytes, *, patience_s: float = PATIENCE_S) -> Ref:
    """Put a content into the object store. Raises as `say_first`."""
    return await _patiently(log, lambda: log.put_blob(body), patience_s)


async def say_submission(log: Log, fact: events.TaskSubmitted) -> bool:
    """Put a submission into the log; False if the same one stood there. Raises BadInput when another one does."""
    stands = await say_first(log, fact)
    found = _read(stands)
    if not isinstance(found, events.TaskSubmitted) or _asked(found) != _asked(fact):
        raise BadInput(f"Task {fact.task} was submitted before with other contents.", hint="Use another id.")
    return found.id == fact.id


async def say_cancel(log: Log, chain: str, task: str, reason: str = "") -> None:
    """Ask for a task's end, once: a request that stands already is enough."""
    await say_first(log, events.TaskCancelRequested(id=new_id(), chain=chain, task=task, reason=reason[:500]))


async def _patiently[Answer](log: Log, store: Callable[[], Awaitable[Answer]], patience_s: float) -> Answer:
    """Try until it is stored; after `patience_s` raise why it is not."""
    pause_s, until = RETRY_FIRST_S, time.monotonic() + patience_s
    while True:
        try:
            return await store()
        except (AppendUnknown, AppendBusy, NotReachable) as error:
            if time.monotonic() + pause_s > until:
                reason = await _reason(log, patience_s)
                if reason is None:
                    raise
                raise reason from error
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, RETRY_MAX_S)


async def _reason(log: Log, patience_s: float) -> FareboxError | None:
    """Return why nothing was stored, as far as the engine knows."""
    try:
        trouble = await api.trouble(log)
    except FareboxError:
        return None
    if trouble is None:
        return None
    message = f"{trouble.message} Nothing was stored in {patience_s:.0f} s."
    return type(trouble)(message, hint="Mend that, then send it again.", code=trouble.code)


def _entry(fact: events.Fact) -> Entry:
    subject = subjects.subject_of(WRITER, fact)
    return Entry(subject, wire.encode(fact), Fence(subject, 0))


async def _tried(log: Log, entry: Entry) -> Stored:
    try:
        (seq,) = await log.append([entry])
    except AppendRefused:
        stands = await log.last(entry.subject)
        if stands is None:
            raise
        return stands
    except AppendUnknown:
        stands = await log.last(entry.subject)
        if stands is None:
            raise
        return stands
    return Stored(entry.subject, entry.body, seq, 0)


def _read(stands: Stored) -> events.AnyFact | None:
    try:
        return wire.decode(stands.subject, stands.body, stands.seq, stands.at_ms)
    except BadFact:
        return None


def _asked(fact: events.TaskSubmitted) -> events.TaskSubmitted:
    """Return what was asked for, without the marks of one sending: another machine may count tokens, or not."""
    return msgspec.structs.replace(fact, id="", prev=0, traceparent="", seq=0, at_ms=0, input_tokens=None)


async def _moved(log: Log, contents: dict[str, bytes]) -> dict[str, Ref]:
    """Put contents away, the largest first, until what is left fits into a fact."""
    refs: dict[str, Ref] = {}
    left = sum(len(body) for body in contents.values())
    for name, body in sorted(contents.items(), key=lambda item: len(item[1]), reverse=True):
        if left <= wire.INLINE_BYTES_MAX:
            break
        refs[name] = await keep(log, body)
        left -= len(body)
    return refs


def _file(file: FileInput, ref: Ref | None) -> FileInput:
    return file if ref is None else FileInput(name=file.name, ref=ref)
