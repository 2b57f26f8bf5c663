"""farebox init: make the streams of a new store, and a user and a durable for each platform."""

from __future__ import annotations

from farebox.cli import session
from farebox.cli.audit import named_server
from farebox.cli.options import DEFAULT, Common
from farebox.cli.output import document, line


def command(*, common: Common = DEFAULT) -> int:
    """Make the log of a new store, and a user and a durable for each platform of the settings.

    Streams are made once: those of a store that had some are never made anew. An engine that starts does the same. Beside a
    running engine it makes what a new platform needs; the engine uses that platform from its next start on.
    """
    return session.run(lambda: _made(common))


async def _made(common: Common) -> int:
    from farebox import engines, keeping  # noqa: PLC0415 - the whole engine

    config = engines.full(common.settings())
    kept = await keeping.found(common.place(config), config, named_server(common, config))
    platforms = sorted(config.settings.platforms)
    if common.json:
        document({
            "schema": "farebox.init/1", "store": str(kept.place.path), "bus": kept.url, "platforms": platforms,
            "running": kept.running, "from_next_start": list(kept.let_in),
        })  # fmt: skip
    else:
        line(f"ready · store {kept.place.path} · platforms {', '.join(platforms)}")
        if kept.let_in:
            new = ", ".join(kept.let_in)
            line(f"The engine that runs uses {new} from its next start on: farebox down && farebox up --detach")
    return 0
