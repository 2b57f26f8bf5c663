"""Progress of a batch on stderr: a live table on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from farebox.batch import Batch
from farebox.cli import cells
from farebox.cli.options import Common
from farebox.cli.output import colourful, is_terminal, note

if TYPE_CHECKING:
    from rich.console import Group

PLAIN_S = 3.0
LIVE_S = 0.25
BAR = 24


@asynccontextmanager
async def progress(common: Common, batch: Batch) -> AsyncGenerator[None]:
    """Show how far a batch is while the block runs."""
    mode = common.progress if common.progress != "auto" else "live" if is_terminal(sys.stderr) else "plain"
    if common.quiet or mode == "none":
        yield
        return
    showing = asyncio.create_task(_live(common, batch) if mode == "live" else _plain(common, batch))
    try:
        yield
    finally:
        showing.cancel()
        await asyncio.gather(showing, return_exceptions=True)
        if mode == "plain":
            note(common, plain_line(batch))


def plain_line(batch: Batch) -> str:
    """Return progress as one line for logs."""
    total = batch.aggregate()
    paid = cells.usd(total.paid_usd).removeprefix("$")
    return f"progress {batch.done}/{batch.total} running={batch.running} failed={total.failed} paid={paid}"


async def _plain(common: Common, batch: Batch) -> None:
    while True:
        await asyncio.sleep(PLAIN_S)
        note(common, plain_line(batch))


async def _live(common: Common, batch: Batch) -> None:
    from rich.console import Console  # noqa: PLC0415 - 100 ms, for a live table only
    from rich.live import Live  # noqa: PLC0415

    console = Console(stderr=True, no_color=not colourful(common, sys.stderr), highlight=False)
    with Live(console=console, transient=True, auto_refresh=False) as live:
        while True:
            live.update(live_table(batch, console.width), refresh=True)
            await asyncio.sleep(LIVE_S)


def live_table(batch: Batch, width: int) -> Group:
    """Return the live table: the whole, then a line for each platform; it never cuts a money cell."""
    from rich.console import Group  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from farebox.cli.summary import lines_of  # noqa: PLC0415

    total = batch.aggregate()
    full = BAR * batch.done // max(batch.total, 1)
    bar = "━" * full + "╺" * (BAR - full)
    head = f"batch {batch.id} · {bar} {batch.done}/{batch.total} · {batch.running} running · {total.failed} failed"
    lines = [head, *lines_of(total)[1:]]
    return Group(*(Text(line, no_wrap=True, overflow="crop", end="") for line in _with_ends(lines, width)))


def _with_ends(lines: list[str], width: int) -> list[str]:
    return [line[: width - 1] + "\n" for line in lines]
