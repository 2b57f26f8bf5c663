"""The envelope of every fact: who answers whom, about which attempt of which task. The facts stand in core/events.py."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from farebox.core.ids import NONE, Id
from farebox.core.terms import Count, Millis


class Fact(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag_field="fact"):
    """The envelope: who answers whom, about which attempt of which task, under which key and trace.

    `cause` is the id of the fact that this one answers; `prev` the sequence its fence expected (0: first);
    `epoch` the sequence of the attempt's TaskStarted.
    """

    id: Annotated[str, Meta(max_length=64)] = ""
    version: Annotated[int, Meta(ge=1, le=999)] = 1
    cause: Annotated[str, Meta(max_length=64)] = ""
    prev: Count = 0
    chain: Id = NONE
    task: Id = NONE
    attempt: Annotated[int, Meta(ge=0, le=10_000)] = 0
    epoch: Count = 0
    batch: Annotated[str, Meta(max_length=63)] = ""
    key_id: Annotated[str, Meta(max_length=64)] = ""
    traceparent: Annotated[str, Meta(max_length=64)] = ""
    seq: Count = 0
    at_ms: Millis = 0

    @property
    def key(self) -> tuple[str, str]:
        """The identity of the task: (chain, task)."""
        return (self.chain, self.task)
