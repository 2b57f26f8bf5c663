"""The log of a store for who keeps it: init, audit, backup, restore, accept. Beside a running engine where there is one."""

from __future__ import annotations

import shutil
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from farebox.config import Config
from farebox.core.errors import BadInput, LogUnfit, NotReachable, StoreInUse
from farebox.discovery import Where
from farebox.log.jetstream import JetStreamLog
from farebox.log.port import Position
from farebox.runtime import backup, founding, greeting, trust, witness
from farebox.runtime.embedded import START_S, EmbeddedServer
from farebox.runtime.permissions import inbox_prefix
from farebox.runtime.store import ClientRecord, ServerRecord, Store

PROOF = ".proof"
"""Where a copy is tried out."""
MADE_ANEW = ("views", "snapshots")
"""Folders of a store that hold what is made from the log."""


class Kept:
    """An open log, its store, and whether an engine runs on it."""

    def __init__(self, log: JetStreamLog, place: Store, url: str, running: bool, let_in: tuple[str, ...] = ()) -> None:
        self.log = log
        self.place = place
        self.url = url
        self.running = running
        self.let_in = let_in
        """Platforms that got a user while an engine ran which does not use them before its next start."""


@asynccontextmanager
async def opened(store: Path, config: Config, where: Where | None = None) -> AsyncGenerator[Kept]:
    """Open the log with all rights: of the server at `where`, of the engine that runs, else of a server started for it.

    Raises LogUnfit when the store has no log yet, LogMissing when it had one.
    """
    place = Store(store)
    async with AsyncExitStack() as stack:
        engine = place.engine()
        where = where or _elsewhere(place)
        if where is None and not founding.founded(place):
            raise LogUnfit(f"There is no log in {store} yet.", hint="Make it: farebox init — or start an engine: farebox up")
        if where is None and engine is not None:
            where = _init_of(place, engine.url)
        if where is None:
            where = await _started(stack, place, config)
        log = await _connected(stack, where)
        if founding.founded(place):
            await founding.check_there(place, log)
        yield Kept(log, place, where.url, engine is not None)


async def found(store: Path, config: Config, where: Where | None = None) -> Kept:
    """Make the streams of a store that never had any, and users and durables for all its platforms. Safe to call again.

    Beside a running engine its server takes the users of new platforms at once; the engine uses them from its next start on.
    Raises LogMissing when it had streams and they are gone: they are never made anew.
    """
    place, platforms = Store(store), list(config.settings.platforms)
    engine, named = place.engine(), where is not None
    let_in: tuple[str, ...] = ()
    async with AsyncExitStack() as stack:
        where = where or _elsewhere(place)
        if engine is not None and where is None:
            where = _init_of(place, engine.url)
            let_in = await _let_in(place, platforms)
        elif where is None:
            where = await _started(stack, place, config)
        elif engine is None:
            place.open()
            stack.callback(place.close)
        log = await _connected(stack, where)
        known = founding.founded(place)
        if known:
            await founding.check_there(place, log)
        await log.prepare(config.settings.durability, platforms, config.bus.replicas, log_bytes=config.bus.log_mib << 20)
        if not known:
            founding.note_founded(place, where.url if named else "")
        await log.check()
        return Kept(log, place, where.url, engine is not None, let_in)


async def copied(kept: Kept, folder: Path) -> backup.Made:
    """Bring the copy in `folder` up to date, or make it. Raises LogDamaged for a log that cannot be believed, BackupUnfit."""
    position = await trust.examine(kept.log, witness.read(kept.place.path))
    trail = trail_of(kept.place.path, position)
    return await backup.make(kept.log, position, folder, kept.place.key(), trail)


async def proven(folder: Path, config: Config) -> None:
    """Put the copy in `folder` back into a store of its own beside it, read all of it there, and remove that store again.

    Raises BackupUnfit, LogDamaged when it cannot be put back as it was.
    """
    proof = folder / PROOF
    shutil.rmtree(proof, ignore_errors=True)
    try:
        await put_back(folder, proof, config)
    finally:
        shutil.rmtree(proof, ignore_errors=True)


async def put_back(folder: Path, store: Path, config: Config, where: Where | None = None) -> backup.Manifest:
    """Make the log of an empty store from the copy in `folder`, and look at all of it. Raises BackupUnfit, BadInput."""
    manifest = backup.check(folder)
    place = Store(store)
    if founding.founded(place) or any((store / "nats").glob("*/*/streams/*")):
        raise BadInput(
            f"{store} has a log already; a copy is put back into an empty store only.", hint="Name a new one: --store DIR"
        )
    async with AsyncExitStack() as stack:
        place.open()
        stack.callback(place.close)
        place.write("key", (folder / backup.KEY).read_bytes())
        start = where or await _started(stack, place, config, opened=True)
        log = await _connected(stack, start)
        await backup.restore(log, manifest, folder)
        await log.prepare(config.settings.durability, list(config.settings.platforms), config.bus.replicas)
        await log.check()
        position = await backup.prove(log, manifest, folder)
        witness.settle(place.path, position, await log.at(position.last_seq) if position.last_seq else None)
        founding.note_founded(place, "" if where is None else where.url)
    return manifest


async def accepted(kept: Kept) -> Position:
    """Believe the log as it stands from now on; views and snapshots are made anew. Raises StoreInUse while an engine runs."""
    if kept.running:
        raise StoreInUse("An engine runs on this log.", hint="Stop it first: farebox down")
    position = await kept.log.position()
    last = await trust.fact_at(kept.log, position.last_seq, position) if position.last_seq else None
    for name in MADE_ANEW:
        shutil.rmtree(kept.place.path / name, ignore_errors=True)
    kept.place.remove(founding.STOPPED)
    witness.settle(kept.place.path, position, last)
    return position


def trail_of(folder: Path, position: Position) -> dict[int, str]:
    """Return the digests that were written down for this log, by sequence."""
    return {mark.seq: mark.digest for mark in witness.marks(folder) if mark.created == position.created}


def _elsewhere(place: Store) -> Where | None:
    """Return the server elsewhere that this store worked with, if any; who logs in there is in client.json."""
    url = founding.elsewhere(place)
    if not url:
        return None
    login = place.read("client.json", ClientRecord)
    if login is None:
        return Where(url=url)
    return Where(
        url=login.url,
        user=login.user,
        password=login.password,
        inbox_prefix=login.inbox_prefix,
        credentials=login.credentials,
        tls=login.tls,
    )


def _init_of(place: Store, url: str) -> Where:
    return Where(url=url, user="init", password=place.seeds(["init"])["init"], inbox_prefix=inbox_prefix("init"))


async def _started(stack: AsyncExitStack, place: Store, config: Config, *, opened: bool = False) -> Where:
    if not opened:
        place.open()
        stack.callback(place.close)
    server = EmbeddedServer(
        place, list(config.settings.platforms), durability=config.settings.durability, log_bytes=config.bus.log_mib << 20
    )
    await server.start()
    stack.push_async_callback(server.stop)
    return _init_of(place, server.url)


async def _connected(stack: AsyncExitStack, where: Where) -> JetStreamLog:
    log = await JetStreamLog.connect(
        where.url, user=where.user, password=where.password, credentials=where.credentials, inbox_prefix=where.inbox_prefix,
        name="farebox keeper", tls=where.tls,
    )  # fmt: skip
    stack.push_async_callback(log.close)
    return log


async def _let_in(place: Store, platforms: list[str]) -> tuple[str, ...]:
    """Give users to those platforms that have none on the server of the engine that runs; return which. Raises NotReachable."""
    known = greeting.lanes_in(place)
    new = tuple(platform for platform in platforms if platform not in known)
    if new:
        server = place.read("server.json", ServerRecord)
        if server is None or server.process is None or not server.process.runs():
            raise NotReachable("The server of the engine that runs is just being started anew.", hint="Do it again.")
        greeting.write_users(place, (*known, *new))
        await greeting.reload(server.process.pid, place.path / "nats.log", START_S)
    return new
