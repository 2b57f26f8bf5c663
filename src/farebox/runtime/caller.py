"""Makes the calls: asks a platform over HTTP, as a program or in place, and says what it came to. All waiting is here.

The answer is read by the platform's own reader. What has streamed so far is kept however a call ends.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from farebox.core.events import PlatformReported, QuotaLearned
from farebox.core.platform import (
    Call,
    End,
    HttpCall,
    InlineCall,
    PersonCall,
    PlatformKind,
    Probe,
    ProbeAnswer,
    ProcessCall,
    ProgramAnswer,
    Reader,
    Verdict,
)
from farebox.core.redaction import Redactor
from farebox.core.settings import PlatformSettings
from farebox.core.terms import CallRecord
from farebox.runtime import http_call, secrecy
from farebox.runtime.intake import Intake, OnLearned, OnPiece
from farebox.runtime.person_call import Person
from farebox.runtime.watch import Limits

STDERR_TAIL_CHARS = 32 * 1024
"""Less than is kept of it: what was cut off in the middle of a secret is not among that."""


class Called(Struct, frozen=True, kw_only=True):
    """How a call ended: the verdict, all text that came, what was learned about quota, and every try that left us."""

    verdict: Verdict
    text: str
    learned: tuple[QuotaLearned, ...] = ()
    calls: tuple[CallRecord, ...] = ()
    duration_ms: int = 0


async def call(
    call: Call,
    reader: Reader,
    *,
    timeout_s: float,
    first_byte_timeout_s: float,
    idle_timeout_s: float,
    on_piece: OnPiece,
    cancelled: asyncio.Event,
    environ: Mapping[str, str],
    on_learned: OnLearned | None = None,
    person: Person | None = None,
) -> Called:
    """Make one call and return what it came to.

    `on_piece` gets the text as it streams, and may hold the source back; `on_learned` what is told about quota, at once.
    `person` is who answers a PersonCall.

    It ends when the platform ends it, when `cancelled` is set or when one of the three times (seconds) is over: in all, until
    the first byte, between two bytes. Nothing is raised for what a platform does. On asyncio cancellation all is closed and
    killed before CancelledError goes on.
    """
    started_s = time.monotonic()
    known = secrecy.redactor(environ, keys_of(call))
    intake = Intake(reader, on_piece, known, on_learned)
    limits = Limits(timeout_s=timeout_s, first_byte_timeout_s=first_byte_timeout_s, idle_timeout_s=idle_timeout_s)
    records: list[CallRecord] = []
    match call:
        case HttpCall():
            end, records = await http_call.run(call, intake, limits, cancelled, environ)
        case ProcessCall():
            end, records = await _run_program(call, intake, limits, cancelled, environ)
        case PersonCall():
            assert person is not None, "who asks a person knows where answers come from"
            end = await person.run(call, intake, cancelled)
        case InlineCall():
            end = _take(call, intake, cancelled)
    verdict = _without_secrets(intake.end(_told(end, known)), known)
    return Called(
        verdict=verdict,
        text=intake.text if verdict.text is None else verdict.text,
        learned=tuple(intake.learned),
        calls=_named(records, verdict),
        duration_ms=round((time.monotonic() - started_s) * 1000),
    )


async def _run_program(
    call: ProcessCall, intake: Intake, limits: Limits, cancelled: asyncio.Event, environ: Mapping[str, str]
) -> tuple[End, list[CallRecord]]:
    from farebox.runtime import process_call  # noqa: PLC0415  psutil costs 20 ms that only programs need

    if secrecy.holds_a_store(call.directory):
        where = call.directory or "the folder in which the engine was started"
        return End(
            cut="missing", detail=f"Not started in {where}: the store of the engine lies there, with the log and all keys."
        ), []
    started_s = time.monotonic()
    end = await process_call.run(call, intake, limits, cancelled, environ)
    if end.surely_unsent:
        return end, []
    return end, [CallRecord(duration_ms=round((time.monotonic() - started_s) * 1000))]


def _take(call: InlineCall, intake: Intake, cancelled: asyncio.Event) -> End:
    """Read an answer that was computed with the question."""
    if cancelled.is_set():
        return End(cut="cancelled", sent=False)
    # It is all there: nobody gains by reading it in parts.
    return End(exit_code=0) if intake.feed(b"".join(call.chunks)) else End(cut="overflow")


def _named(records: list[CallRecord], verdict: Verdict) -> tuple[CallRecord, ...]:
    """Return the records, the last one named by the verdict."""
    if not records:
        return ()
    error_class = verdict.fault.error_class if verdict.fault else ""
    return (*records[:-1], msgspec.structs.replace(records[-1], error_class=error_class))


def _told(end: End, known: Redactor) -> End:
    """Strike the keys out of what a program said last, before anybody shortens it; at its front one may be cut already."""
    if not end.stderr_tail and not end.detail:
        return end
    tail = known.text(end.stderr_tail)[-STDERR_TAIL_CHARS:]
    return msgspec.structs.replace(end, stderr_tail=tail, detail=known.text(end.detail))


def _without_secrets(verdict: Verdict, known: Redactor) -> Verdict:
    """Strike the keys out of the fault: platforms and programs like to repeat them, and readers shorten what they repeat."""
    if verdict.fault is None:
        return verdict
    message = known.cut_text(verdict.fault.message)
    return msgspec.structs.replace(verdict, fault=msgspec.structs.replace(verdict.fault, message=message))


def keys_of(call: Call) -> tuple[str, ...]:
    """Return the names of the variables that go along with a call."""
    return (call.key_env,) if isinstance(call, HttpCall) else call.keep if isinstance(call, ProcessCall) else ()


async def probe(kind: PlatformKind, name: str, settings: PlatformSettings, environ: Mapping[str, str]) -> PlatformReported:
    """Find out whether a platform is there, and with which models. Costs nothing; raises nothing for what it meets."""
    wanted = kind.probe(name, settings)
    key_set = bool(settings.key_env and environ.get(settings.key_env, "").strip())
    path = shutil.which(wanted.program, path=environ.get("PATH", os.defpath)) if wanted.program else None
    status, body, fault = 0, b"", ""
    if wanted.call is not None and (key_set or not wanted.call.key_env):
        status, body, fault = await http_call.look(wanted.call, wanted.timeout_s, environ)
    answer = ProbeAnswer(
        status=status, body=body, path=path or "", said=await _ask_program(path, wanted, environ),
        found=_found(wanted.paths, environ), key_set=key_set, fault=fault,
    )  # fmt: skip
    return secrecy.struck(kind.read_probe(name, settings, answer), secrecy.redactor(environ, (settings.key_env,)))


async def _ask_program(path: str | None, wanted: Probe, environ: Mapping[str, str]) -> tuple[ProgramAnswer, ...]:
    if path is None or not wanted.ask:
        return ()
    from farebox.runtime import versions  # noqa: PLC0415  as above

    return await versions.ask(path, wanted, environ)


def _found(names: Sequence[str], environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return those of `names` that are there; what stands in them is somebody else's."""
    home = environ.get("HOME", "")
    return tuple(name for name in names if Path(home + name[1:] if name.startswith("~/") else name).exists())


async def close() -> None:
    """Close the connections that are kept for the next call."""
    await http_call.close()
