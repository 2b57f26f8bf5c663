"""farebox replay: forget every view, rebuild all of them from the log, print counts and digest."""

from __future__ import annotations

from farebox.cli import cells, session
from farebox.cli.options import DEFAULT, Common
from farebox.cli.output import document, line

EXIT_DIFFERS = 8


def command(*, common: Common = DEFAULT) -> int:
    """Forget every view and rebuild all of them from the log."""
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
