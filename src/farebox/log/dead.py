"""The dead stream: what durables gave up, as the server's advisories tell it. They are kept whether anybody listens or not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import msgspec

from farebox.log import names
from farebox.log.port import GivenUp
from farebox.log.raw_client import Reply

READ_MAX = 1000
"""The latest so many are read; the stream itself keeps more."""
AT_ONCE = 50

Ask = Callable[[str, bytes], Awaitable[Reply]]


class Advisory(msgspec.Struct):
    """What io.nats.jetstream.advisory.v1.max_deliver and .terminated have in common (nats-server 2.15, read 2026-11)."""

    consumer: str
    stream_seq: int
    timestamp: str
    deliveries: int = 0
    reason: str = ""


_decoder = msgspec.json.Decoder(Advisory)


async def given_up(ask: Ask, state: dict[str, Any]) -> list[GivenUp]:
    """Return the latest advisories, the oldest first. `state` is what the server says about the stream."""
    if not state["messages"]:
        return []
    seqs = range(max(state["first_seq"], state["last_seq"] - READ_MAX + 1), state["last_seq"] + 1)
    found: list[GivenUp] = []
    for start in range(0, len(seqs), AT_ONCE):
        wanted = (ask(f"$JS.API.DIRECT.GET.{names.DEAD_STREAM}", b'{"seq":%d}' % seq) for seq in seqs[start : start + AT_ONCE])
        found += [one for reply in await asyncio.gather(*wanted) if (one := read(reply)) is not None]
    return found


def read(reply: Reply) -> GivenUp | None:
    """Return what one advisory says, None where none stands or it is none."""
    if reply.status:
        return None
    try:
        told = _decoder.decode(reply.body)
        at_ms = int(datetime.fromisoformat(told.timestamp).timestamp() * 1000)
    except (msgspec.MsgspecError, ValueError):
        return None
    return GivenUp(told.stream_seq, told.consumer, told.deliveries, told.reason or f"{told.deliveries} tries", at_ms)
