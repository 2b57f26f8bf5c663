"""Settings and prices become facts, so that actors know nothing that is not in the log."""

from __future__ import annotations

import msgspec

from farebox.core import ids, subjects, wire
from farebox.core.errors import AppendRefused, AppendUnknown
from farebox.core.events import Fact, SettingsAdopted
from farebox.core.pricing import PriceList
from farebox.core.settings import Settings, canonical
from farebox.log.port import Entry, Fence, Log
from farebox.runtime.prices import adoption

TRIES = 20


async def adopt(log: Log, settings: Settings, prices: PriceList, secret: bytes) -> None:
    """Say the settings and the price list if they differ from the last adopted ones."""
    plain, sha256 = canonical(settings)
    await say_if_new(log, "engine", SettingsAdopted(settings=plain, sha256=sha256), secret)
    await say_if_new(log, "engine", adoption(prices), secret)


async def say_if_new(log: Log, writer: str, fact: Fact, secret: bytes) -> None:
    """Append `fact` unless the last one on its subject says the same. Raises what the log raises in the end."""
    subject = subjects.subject_of(writer, fact)
    guard = subjects.fence_filter(writer, fact)
    for _ in range(TRIES):
        last = await log.last(subject)
        seq = last.seq if last else 0
        before = wire.decode(last.subject, last.body, last.seq, last.at_ms) if last else None
        if before is not None and _bare(before) == _bare(fact):
            return
        cause = before.id if before is not None else ""
        stamped = msgspec.structs.replace(
            fact,
            cause=cause,
            prev=seq if guard else 0,
            id=ids.of_fact(secret, writer, cause or subject, type(fact).__name__, 0),
        )
        fence = Fence(guard, seq) if guard else None
        try:
            await log.append([Entry(subject, wire.encode(stamped), fence)])
        except (AppendRefused, AppendUnknown):
            continue
        return
    raise AppendUnknown(f"{type(fact).__name__} could not be recorded: others write it all the time.")


def _bare(fact: Fact) -> bytes:
    return wire.encode(msgspec.structs.replace(fact, id="", cause="", prev=0))
