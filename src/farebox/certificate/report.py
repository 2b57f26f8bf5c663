"""What a certificate says: each quota with its peak, what went beyond its limit and by whose word, what is still open."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal

from msgspec import Struct

from farebox.certificate.known import Limit
from farebox.core import money

BREACHES_MAX = 1000
Kind = Literal["over", "left_out", "foreign", "amount", "used", "limit", "twice", "unasked", "settled", "stale", "unread"]
"""More than the limit; a quota left out, or one that did not apply; less taken than the estimate; a wrong sum; a wrong limit; a
task granted twice, or unasked; a settlement of nothing; decided on what was too old; a fact that nobody can read."""


class Breach(Struct, frozen=True):
    """What contradicts the claim, and where. `quota` is empty where it is about none."""

    seq: int
    kind: Kind
    quota: str
    text: str
    word: Limit | None = None


class Peak(Struct, frozen=True):
    """The most that was used, grants counted: when (ms since 1970), at which sequence, and the limit known then."""

    used: Decimal
    at_ms: int
    seq: int
    limit: Limit


class Line(Struct):
    """One quota in the certificate."""

    id: str
    unit: str
    grants: int = 0
    settled: int = 0
    expired: int = 0
    open: int = 0
    peak: Peak | None = None
    first: Breach | None = None


class Open(Struct, frozen=True):
    """A hold that nobody settled by the end of the log."""

    platform: str
    chain: str
    task: str
    attempt: int
    seq: int
    at_ms: int
    quotas: tuple[str, ...]


class Lag(Struct, frozen=True):
    """How old the knowledge was that a grant was decided on: facts, and milliseconds, since the first one it had not read."""

    facts: int = 0
    ms: int = 0
    seq: int = 0


class Certificate(Struct, frozen=True):
    """The whole. `unsaid` grants are of a farebox that did not say on what it decided: of them only slots are judged."""

    facts: int
    first: int
    last: int
    digest: str
    grants: int
    unsaid: int
    unplaced: int
    lag: Lag
    lines: tuple[Line, ...]
    open: tuple[Open, ...]
    breaches: tuple[Breach, ...]

    @property
    def holds(self) -> bool:
        """Whether nothing contradicts the claim."""
        return not self.breaches


def document(found: Certificate) -> dict[str, Any]:
    """Return the certificate as plain data, schema `farebox.audit-quota/1`; amounts are decimal text, unknown is null."""
    return {
        "schema": "farebox.audit-quota/1", "ok": found.holds, "facts": found.facts, "first": found.first, "last": found.last,
        "digest": found.digest, "grants": found.grants, "unsaid": found.unsaid, "unplaced": found.unplaced,
        "lag": {"facts": found.lag.facts, "ms": found.lag.ms, "seq": found.lag.seq or None},
        "quotas": [_line(line) for line in found.lines],
        "open": [
            {"platform": one.platform, "chain": one.chain, "task": one.task, "attempt": one.attempt, "seq": one.seq,
             "at_ms": one.at_ms, "quotas": list(one.quotas)} for one in found.open
        ],
        "breaches": [_breach(breach) for breach in found.breaches],
    }  # fmt: skip


def _line(line: Line) -> dict[str, Any]:
    peak = line.peak
    return {
        "quota": line.id, "unit": line.unit, "grants": line.grants, "settled": line.settled, "expired": line.expired,
        "open": line.open, "exceeded_at": line.first.seq if line.first else None,
        "peak": None if peak is None else {
            "used": plain(peak.used), "at_ms": peak.at_ms, "seq": peak.seq, **_word(peak.limit),
        },
    }  # fmt: skip


def _breach(breach: Breach) -> dict[str, Any]:
    word = None if breach.word is None else _word(breach.word)
    return {"seq": breach.seq, "kind": breach.kind, "quota": breach.quota or None, "text": breach.text, "word": word}


def _word(limit: Limit) -> dict[str, Any]:
    amount = None if limit.amount is None else plain(limit.amount)
    return {"limit": amount, "limit_seq": limit.seq or None, "limit_writer": limit.writer or None, "limit_source": limit.source}


def plain(amount: Decimal) -> str:
    """Return an amount as decimal text."""
    return money.text(amount)
