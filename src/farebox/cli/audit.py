"""farebox audit: read the whole log and say whether it is what was written, and whether a quota was ever exceeded."""

from __future__ import annotations

import time
from typing import Annotated

import msgspec
from cyclopts import Parameter

from farebox import discovery
from farebox.cli import cells, session
from farebox.cli.options import DEFAULT, Common
from farebox.cli.output import document, line, printable, width
from farebox.config import Config
from farebox.core.errors import BadInput
from farebox.nearest import did_you_mean

ACTIONS = ("verify", "quota")
EXIT_FAULTY = 8
SHOWN_MAX = 20


def command(
    action: str = "verify",
    /,
    *,
    from_: Annotated[int, Parameter(name="--from")] = 1,
    to: int | None = None,
    digest: str = "",
    window: str = "",
    common: Common = DEFAULT,
) -> int:
    """Read every fact and say whether the log is what was written (verify), or whether any quota was ever exceeded (quota).

    With an engine running or without.

    verify: sequences without a hole, every fact readable and true to its subject, ids and ends that stand once, each fact on
    top of the one it names, large contents with their hash, and the digests that were noted when the log was read before.

    quota: each grant against the limit known when it was made; exit code 8 names the first one beyond it and whose word the
    limit was.

    Parameters
    ----------
    action
        verify or quota.
    from_
        The first fact. The digest then begins there too.
    to
        The last fact (default: the end of the log).
    digest
        What the digest must be, for example that of a backup (all its digits or at least the first eight).
    window
        quota: only this window (5h, day), quota (gemini/day/requests) or platform.
    """
    if action not in ACTIONS:
        raise BadInput(f'"{action[:40]}" is no audit.', hint=did_you_mean(action, ACTIONS) or "farebox audit verify")
    if from_ < 1 or (to is not None and to < from_):
        raise BadInput("There are no such facts.", hint="Facts are numbered from 1: --from 1 --to 100")
    if digest and (len(digest) < 8 or set(digest.lower()) - set("0123456789abcdef")):
        raise BadInput("A digest has 64 of the digits 0-9 a-f; give at least the first eight.")
    if action == "quota":
        if from_ != 1 or to is not None or digest:
            raise BadInput("A certificate is about the whole log.", hint="farebox audit quota --window day")
        return session.run(lambda: _certified(common, window))
    if window:
        raise BadInput("--window belongs to quota.", hint=f"farebox audit quota --window {window[:80]}")
    return session.run(lambda: _verified(common, from_, to, digest.lower()))


async def _certified(common: Common, window: str) -> int:
    from farebox import engines, keeping  # noqa: PLC0415 - the whole engine
    from farebox.certificate import report  # noqa: PLC0415
    from farebox.certificate.reading import certify  # noqa: PLC0415
    from farebox.cli.certified import lines_of, of_window  # noqa: PLC0415

    config = engines.full(common.settings())
    async with keeping.opened(common.place(config), config, named_server(common, config)) as kept:
        found = of_window(await certify(kept.log, await kept.log.position()), window)
    if common.json:
        document(report.document(found))
    else:
        for text in lines_of(found, width()):
            line(text)
    return 0 if found.holds else EXIT_FAULTY


def named_server(common: Common, config: Config) -> discovery.Where | None:
    """Return the server that was named, None for that of the store."""
    if not (common.server or common.nats_context or config.bus.server or config.bus.context):
        return None
    return discovery.find(common.server, common.nats_context, common.place(config), bus=config.bus)


async def _verified(common: Common, first: int, last: int | None, digest: str) -> int:
    from farebox import engines, keeping  # noqa: PLC0415 - the whole engine
    from farebox.runtime.audit import Fault, audit  # noqa: PLC0415

    config = engines.full(common.settings())
    began_s = time.perf_counter()
    async with keeping.opened(common.place(config), config, named_server(common, config)) as kept:
        position = await kept.log.position()
        trail = keeping.trail_of(kept.place.path, position)
        report = await audit(kept.log, position, trail=trail, first=first, last=last)
    faults = list(report.faults)
    if digest and not report.mark.digest.startswith(digest):
        faults.append(Fault(0, "FB807", f"The digest is {report.mark.digest}, not {digest}."))
    if common.json:
        mark = report.mark
        document({
            "schema": "farebox.audit/1", "ok": not faults, "facts": report.facts, "first": report.first, "last": mark.seq,
            "digest": mark.digest, "created": mark.created, "contents": report.blobs, "good_to": report.good_to,
            "faults": msgspec.to_builtins(faults), "seconds": round(time.perf_counter() - began_s, 3),
        })  # fmt: skip
    elif not faults:
        line(f"✓ {cells.count(report.facts)} facts, no gap, digest {report.mark.digest}")
    else:
        for fault in faults[:SHOWN_MAX]:
            line(f"✗ {fault.code} {printable(fault.text)}")
        if len(faults) > SHOWN_MAX:
            line(f"  and {cells.count(len(faults) - SHOWN_MAX)} more: --json shows up to 1,000")
        line(f"Facts {report.first} to {report.good_to} are good." if report.good_to >= report.first else "No fact is proven.")
    return EXIT_FAULTY if faults else 0
