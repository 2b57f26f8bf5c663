"""Starting an engine from an edge. The engine itself is loaded only here, and only when one is started."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path

from farebox.config import Config, load, platform_kinds
from farebox.discovery import Where


def embedded(store: Path, config: Config | None = None) -> AbstractAsyncContextManager[object]:
    """Return an engine with its own server over a store folder. Raises StoreInUse when another one has it."""
    from farebox.runtime.engine import Engine  # noqa: PLC0415 - the whole engine

    return Engine.embedded(store, full(config))


def joined(where: Where, store: Path, config: Config | None = None) -> AbstractAsyncContextManager[object]:
    """Return an engine on a server that is already there; views, keys and spool live in `store`."""
    from farebox.runtime.engine import Engine  # noqa: PLC0415 - the whole engine

    return Engine.on(where.url, store=store, config=full(config), user=where.user or None, password=where.password or None)


def offline(store: Path, config: Config | None = None) -> AbstractAsyncContextManager[object]:
    """Return the server and the views of a store, without actors: for one question while no engine runs."""
    from farebox.runtime.engine import Engine  # noqa: PLC0415 - the whole engine

    return Engine.offline(store, full(config))


def full(config: Config | None) -> Config:
    """Return the settings with all platforms that are installed, found the way the given ones were."""
    if config is None:
        return load(kinds=platform_kinds())
    return load(kinds=platform_kinds(), flags=config.flags, file=Path(config.file) if config.file else None)
