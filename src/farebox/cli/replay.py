"""farebox replay: rebuild every view from the log; or say what would have been under another policy."""

from __future__ import annotations

from pathlib import Path

from farebox.cli import cells, session
from farebox.cli.options import DEFAULT, Common
from farebox.cli.output import document, line, width

EXIT_DIFFERS = 8


def command(*, policy: Path | None = None, limits: Path | None = None, common: Common = DEFAULT) -> int:
    """Forget every view and rebuild all of them from the log.

    With --policy or --limits nothing is rebuilt and nothing changed: the tasks of the log go through the real router and quota
    once more, in virtual time and without any model, and what would have been is shown beside what happened.

    Parameters
    ----------
    policy
        A farebox.toml: what would have been under these settings.
    limits
        A file with [quotas.*] and [budgets.*] that count in the place of those of the same name.
    """
    if policy is not None or limits is not None:
        return session.run(lambda: _supposed(common, policy, limits))
    return session.run(lambda: _asked(common))


async def _asked(common: Common) -> int:
    async with session.opened(common, "answers") as client:
        found = await client.replay()
    same = bool(found.get("same_as_before", True))
    if common.json:
        document(found)
    else:
        line(f"{cells.count(found['facts'])} facts replayed in {found['seconds']} s")
        for view, rows in found["rows"].items():
            line(f"  {view:<16} {cells.count(rows):>12}")
        line(f"digest {found['digest']}")
        line("✓ the same as before" if same else "✗ not the same as before")
    return 0 if same else EXIT_DIFFERS


async def _supposed(common: Common, policy: Path | None, limits: Path | None) -> int:
    from farebox import engines, keeping  # noqa: PLC0415 - the whole engine
    from farebox.cli import hypothetical  # noqa: PLC0415
    from farebox.cli.audit import named_server  # noqa: PLC0415
    from farebox.whatif.reading import recorded, what_if  # noqa: PLC0415

    other = hypothetical.policy_of(policy) if policy is not None else None
    config = engines.full(common.settings())
    async with keeping.opened(common.place(config), config, named_server(common, config)) as kept:
        reading = await recorded(kept.log, await kept.log.position())
    change = hypothetical.changed(other, limits, reading.recording.settings)
    found = what_if(reading, engines.actors(), change, hypothetical.written_down(other)).document()
    if common.json:
        document(found)
    else:
        for text in hypothetical.lines_of(found, width()):
            line(text)
    return 0
