"""How a quota, a budget or a platform's slots stand at a moment: what the quota actor knows, for people and for plans."""

from __future__ import annotations

from farebox.core.money import Usd
from farebox.core.terms import Millis, QuotaSource, Unit, Value


class Standing(Value, frozen=True, kw_only=True):
    """`used` of `limit` (None: unknown) in the quota's unit, as decimal text; `open` is the part of it that is in flight.

    `platforms` are those that it bounds (none named: all). `source` says whose word the limit is, `evidence` where the use is
    known from and `evidence_ms` since when; `resets_at_ms` (stream time) when it turns, or what is used begins to roll off. For
    slots the window is `now`, `limit` the pace and `most` what the settings allow. `per_call` is what a call takes of a window
    told in percent, as the provider's reports showed.
    """

    quota: str
    platforms: tuple[str, ...] = ()
    window: str = ""
    unit: Unit = "requests"
    used: Usd = "0"
    per_call: Usd = "1"
    open: Usd = "0"
    limit: Usd | None = None
    most: Usd | None = None
    source: QuotaSource | None = None
    evidence: str = ""
    evidence_ms: Millis | None = None
    resets_at_ms: Millis | None = None
