"""Names inside the server: streams, the bucket of large contents, durables, and what a subject may look like."""

from __future__ import annotations

import re
from collections.abc import Sequence

from farebox.core.errors import BadFact, LogUnfit
from farebox.core.wire import BODY_BYTES_MAX
from farebox.log.port import BATCH_MAX, Entry

STREAM = "FAREBOX"
LIVE_STREAM = "FAREBOX_LIVE"
DEAD_STREAM = "FAREBOX_DEAD"
BUCKET = "farebox-blobs"
BUCKET_STREAM = f"OBJ_{BUCKET}"
CHUNKS = f"$O.{BUCKET}.C"
METAS = f"$O.{BUCKET}.M"
SERVERS = "farebox"
"""The queue group of those who answer questions: one of them answers."""
HANDED_OUT_MAX = 1000
"""Facts of one durable that are handed out and not acked (max_ack_pending)."""
TRIES_MAX = 100
"""After so many tries a fact is handed out no more (max_deliver); the worker's own limit lies far below."""
ACK_WAIT_S = 30.0
"""A fact that nobody acked or reported progress on for so long is handed out again."""
READERS_MAX = 4
"""So many readings one user may have at a time, through consumers `<user>-1` and so on."""
REPUBLISHED = {STREAM: ("farebox.log.>", "farebox.stored.log.>"), LIVE_STREAM: ("farebox.live.>", "farebox.stored.live.>")}
"""What a stream says again once it is stored: who listens there never hears what the log refused."""

_DURABLE = "adapter-"
_PUBLISHABLE = re.compile(r"\A[!-)+-=?-~]+\Z")
_FILTER = re.compile(r"\A[!-~]+\Z")


def durable_of(platform: str) -> str:
    """Return the durable from which the adapters of `platform` take their tasks."""
    return f"{_DURABLE}{platform}"


def durable_filter(durable: str) -> str:
    """Return what the durable hands out. Raises LogUnfit for a name that is none of ours."""
    if not durable.startswith(_DURABLE):
        raise LogUnfit(f"There is no durable {durable!r}.", hint="An engine makes it when it starts: farebox up")
    return f"farebox.log.quota.reserved.{durable.removeprefix(_DURABLE)}.>"


def reader_names(consumer: str) -> tuple[str, ...]:
    """Return the names of the consumers that a user with `consumer` may read through: `x-1` stands for x-1 to x-4."""
    base = consumer.removesuffix("-1")
    return (consumer,) if base == consumer else tuple(f"{base}-{place}" for place in range(1, READERS_MAX + 1))


def check_entry(subject: str, body: bytes, fence: str | None) -> None:
    """Raise BadFact for what must never reach the server: it would store a literal wildcard, and drop us for an oversize."""
    if not _PUBLISHABLE.match(subject) or "" in subject.split("."):
        raise BadFact(f"{subject[:120]!r} is no subject to publish on.")
    if fence is not None and not _FILTER.match(fence):
        raise BadFact(f"{fence[:120]!r} is no filter.")
    if len(body) > BODY_BYTES_MAX:
        raise BadFact(f"A body of {len(body)} bytes is larger than {BODY_BYTES_MAX}.")


def check_batch(entries: Sequence[Entry]) -> None:
    """Check all entries of one append. Raises BadFact.

    A fence whose filter is exactly a subject that an earlier entry of the batch writes is our mistake: the server refuses it
    for ever, with the words it has for "busy" (10164; seen with nats-server 2.15.0, 2026-11).
    """
    assert 0 < len(entries) <= BATCH_MAX, len(entries)
    written: set[str] = set()
    for entry in entries:
        over = entry.fence.filter if entry.fence else None
        check_entry(entry.subject, entry.body, over)
        assert over not in written, f"the batch fences {over}, which it writes itself"
        written.add(entry.subject)


def matches(pattern: str, subject: str) -> bool:
    """Say whether `subject` lies below `pattern` (`*` one token, `>` one or more)."""
    wanted, found = pattern.split("."), subject.split(".")
    for place, step in enumerate(wanted):
        if step == ">":
            return len(found) > place
        if place >= len(found) or step not in {"*", found[place]}:
            return False
    return len(wanted) == len(found)
