"""How a certificate of quotas reads: a line for each quota, what went beyond its limit and by whose word, what is open."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import msgspec

from farebox.certificate.report import Certificate, Line, plain
from farebox.cli import cells
from farebox.cli.output import printable
from farebox.cli.table import Column, render
from farebox.core.errors import BadInput
from farebox.nearest import did_you_mean

SHOWN_MAX = 20
CODE = "FB308"
COLUMNS = (
    Column("quota", flexible=True),
    Column("grants", right=True),
    Column("settled", right=True, drop=3),
    Column("expired", right=True, drop=4),
    Column("open", right=True, drop=2),
    Column("peak", right=True),
    Column("limit", right=True),
    Column("by", drop=6),
    Column("when (UTC)", drop=7),
    Column("fact", right=True, drop=5),
    Column("verdict"),
)


def of_window(found: Certificate, name: str) -> Certificate:
    """Return the certificate of the quotas of one window, or of one quota; all of it for "". Raises BadInput."""
    if not name:
        return found
    lines = tuple(line for line in found.lines if name in {line.id, *line.id.rsplit("/", 2)[1:2], line.id.partition("/")[0]})
    if not lines:
        known = sorted(
            {line.id for line in found.lines} | {line.id.rsplit("/", 2)[1] for line in found.lines if "/" in line.id}
        )
        hint = did_you_mean(name, known) or f"Choose one of: {', '.join(known[:SHOWN_MAX]) or 'none: nothing was granted yet'}."
        raise BadInput(f"No grant took of a quota or window {name[:80]!r}.", hint=hint)
    kept = {line.id for line in lines}
    return msgspec.structs.replace(
        found,
        lines=lines,
        open=tuple(one for one in found.open if kept & {*one.quotas}),
        breaches=tuple(breach for breach in found.breaches if not breach.quota or breach.quota in kept),
    )


def lines_of(found: Certificate, columns_max: int) -> list[str]:
    """Return the certificate for people."""
    lines = render(COLUMNS, [_row(line) for line in found.lines], columns_max) if found.lines else ["Nothing was granted yet."]
    for breach in found.breaches[:SHOWN_MAX]:
        lines.append(f"✗ {CODE} {printable(breach.text)}")
    if len(found.breaches) > SHOWN_MAX:
        lines.append(f"  and {cells.count(len(found.breaches) - SHOWN_MAX)} more: --json shows up to 1,000")
    lines += _remarks(found)
    if found.holds:
        grants = f"{cells.count(found.grants)} grants in {cells.count(found.facts)} facts"
        lines.append(f"✓ never exceeded: {grants}, none beyond the limit known when it was decided. digest {found.digest}")
    else:
        lines.append(f"✗ not certified: fact {found.breaches[0].seq} is the first that contradicts it. digest {found.digest}")
    return lines


def _remarks(found: Certificate) -> list[str]:
    lines: list[str] = []
    if found.open:
        shown = ", ".join(f"{one.chain}/{one.task} on {one.platform}" for one in found.open[:3])
        more = f" and {cells.count(len(found.open) - 3)} more" if len(found.open) > 3 else ""
        are = "1 grant is" if len(found.open) == 1 else f"{cells.count(len(found.open))} grants are"
        lines.append(f"{are} still open: {printable(shown)}{more}.")
    if found.unsaid:
        lines.append(
            f"{cells.count(found.unsaid)} grants of an earlier farebox say nothing but their slot: only that was judged."
        )
    if found.unplaced:
        lines.append(f"{cells.count(found.unplaced)} late costs came too late to be placed.")
    if found.lag.seq:
        late = f"{cells.count(found.lag.facts)} facts, {found.lag.ms / 1000:.3f} s"
        lines.append(f"The oldest knowledge that a grant was decided on was {late} behind (fact {found.lag.seq}).")
    return lines


def _row(line: Line) -> list[str]:
    peak = line.peak
    verdict = "never exceeded" if line.first is None else f"✗ {line.first.kind.replace('_', ' ')} at {line.first.seq}"
    counts = [cells.count(count) for count in (line.grants, line.settled, line.expired, line.open)]
    if peak is None:
        return [line.id, *counts, *([cells.UNKNOWN] * 5), verdict]
    limit = cells.UNKNOWN if peak.limit.amount is None else _amount(peak.limit.amount, line.unit)
    when = datetime.fromtimestamp(peak.at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    source = peak.limit.source or cells.UNKNOWN
    return [line.id, *counts, _amount(peak.used, line.unit), limit, source, when, str(peak.seq), verdict]


def _amount(amount: Decimal, unit: str) -> str:
    return cells.usd(amount) if unit == "usd" else plain(amount)
