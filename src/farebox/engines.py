"""Starting an engine from an edge: store, server, log, views, stand-ins and the engine over them, in the order that is safe.

Everything heavy is loaded only here, and only when an engine is started.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import sys
import time
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from farebox import __version__
from farebox.config import Config, load, platform_kinds
from farebox.core.errors import AppendBusy, BusError, FareboxError, LogUnfit, NotReachable
from farebox.core.settings import PlatformSettings
from farebox.discovery import Where
from farebox.runtime import founding

if TYPE_CHECKING:
    from farebox.core.actor import Actor
    from farebox.log.jetstream import JetStreamLog
    from farebox.log.port import Log
    from farebox.runtime.engine import Engine
    from farebox.runtime.parts import Parts
    from farebox.runtime.room import Room
    from farebox.runtime.store import Store


LEADER_WAIT_S = 30.0


class Hosted:
    """An engine that runs in this process, and what it stands on."""

    def __init__(self, engine: Engine, url: str, store: Path, credentials: Path, watched: asyncio.Task[None] | None) -> None:
        self.engine = engine
        self.url = url
        self.store = store
        self.credentials = credentials
        self._watched = watched

    async def wait(self) -> None:
        """Wait for what ends the engine by force. Raises LogDamaged and kin, LogUnfit when the server cannot be kept up."""
        tasks = [asyncio.ensure_future(self.engine.wait()), *([self._watched] if self._watched else [])]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            with _noting(self.store):
                task.result()


@asynccontextmanager
async def embedded(store: Path, config: Config | None = None, parts: Parts | None = None) -> AsyncGenerator[Hosted]:
    """Run an engine with its own server over a store folder. Raises StoreInUse when another one has it."""
    from farebox.runtime.embedded import EmbeddedServer  # noqa: PLC0415 - the whole engine
    from farebox.runtime.room import Room  # noqa: PLC0415

    config = full(config)
    async with AsyncExitStack() as stack:
        place = _open_store(stack, store)
        _its_log_is_here(place)
        platforms = list(config.settings.platforms)
        server = EmbeddedServer(
            place, platforms, durability=config.settings.durability, report=_report, log_bytes=config.bus.log_mib << 20
        )
        await server.start()
        stack.push_async_callback(server.stop)
        watched = asyncio.ensure_future(server.watch())
        stack.push_async_callback(_cancelled, watched)
        room = Room(place.path, place.free_bytes, _report)
        looking = asyncio.ensure_future(room.watch(server.restart, server.log))
        stack.push_async_callback(_cancelled, looking)
        login = server.login("engine")
        log = await _connect(stack, login.url, login.user, login.password, login.inbox_prefix, f"{login.user}-1")
        async with AsyncExitStack() as short:
            # Whoever may make streams goes away again before anything runs.
            init = server.login("init")
            maker = await _connect(short, init.url, init.user, init.password, init.inbox_prefix, "")
            await _prepared(place, maker, config, platforms)
        engine = await _running(stack, log, config, place, login.url, room, parts)
        credentials = place.write("client.json", server.login("client"))
        _write_record(stack, place, login.url, credentials)
        yield Hosted(engine, login.url, store, credentials, watched)


@asynccontextmanager
async def joined(where: Where, store: Path, config: Config | None = None, parts: Parts | None = None) -> AsyncGenerator[Hosted]:
    """Run an engine on a server that is already there; views, keys and spool live in `store`."""
    from farebox.runtime.room import Room  # noqa: PLC0415 - the whole engine

    config = full(config)
    async with AsyncExitStack() as stack:
        place = _open_store(stack, store)
        room = Room(place.path, place.free_bytes, _report)
        looking = asyncio.ensure_future(room.watch())
        stack.push_async_callback(_cancelled, looking)
        log = await _connect(stack, where.url, where.user, where.password, where.inbox_prefix, "", where=where)
        await _prepared(place, log, config, list(config.settings.platforms), elsewhere=where.url)
        engine = await _running(stack, log, config, place, where.url, room, parts)
        credentials = place.write("client.json", where)
        _write_record(stack, place, where.url, credentials)
        yield Hosted(engine, where.url, store, credentials, None)


@asynccontextmanager
async def offline(store: Path, config: Config | None = None) -> AsyncGenerator[Hosted]:
    """Serve the views of a store without any actor: for one question while no engine runs. Raises LogUnfit if it is empty."""
    from farebox.runtime.embedded import EmbeddedServer  # noqa: PLC0415 - the whole engine
    from farebox.runtime.room import Room  # noqa: PLC0415

    config = full(config)
    if not (store / founding.INITIALISED).exists():
        raise LogUnfit(f"There is no log in {store} yet.", hint="Start an engine: farebox up --detach")
    async with AsyncExitStack() as stack:
        place = _open_store(stack, store)
        _its_log_is_here(place)
        server = EmbeddedServer(
            place, list(config.settings.platforms), durability=config.settings.durability, report=_report,
            log_bytes=config.bus.log_mib << 20,
        )  # fmt: skip
        await server.start()
        stack.push_async_callback(server.stop)
        login = server.login("engine")
        log = await _connect(stack, login.url, login.user, login.password, login.inbox_prefix, f"{login.user}-1")
        founding.check_stopped(place)
        await founding.check_there(place, log)
        await log.check()
        room = Room(place.path, place.free_bytes, _report)
        engine = await _running(stack, log, config, place, login.url, room, only_views=True)
        credentials = place.write("client.json", server.login("client"))
        _write_record(stack, place, login.url, credentials)
        yield Hosted(engine, login.url, store, credentials, None)


@asynccontextmanager
async def alone(where: Where, store: Path, parts: Parts, config: Config | None = None) -> AsyncGenerator[Hosted]:
    """Run some actors on a server that is already there, under a login of their own; key and spool are in `store`."""
    from farebox.runtime.permissions import control_prefix  # noqa: PLC0415 - the whole engine
    from farebox.runtime.room import Room  # noqa: PLC0415

    config = full(config)
    async with AsyncExitStack() as stack:
        place = _open_store(stack, store)
        consumer, control = (f"{where.user}-1", control_prefix(where.user)) if where.inbox_prefix else ("", "$JS.API")
        log = await _connect(stack, where.url, where.user, where.password, where.inbox_prefix, consumer, control, where)
        room = Room(place.path, place.free_bytes, _report)
        engine = await _running(stack, log, config, place, where.url, room, parts)
        _write_record(stack, place, where.url, "")
        yield Hosted(engine, where.url, store, Path(), None)


def tune() -> None:
    """Make the garbage collector look less often: an engine's facts are in no cycles. For processes that are an engine."""
    gc.set_threshold(50_000, 20, 50)


def full(config: Config | None) -> Config:
    """Return the settings with all platforms that are installed, found the way the given ones were (files and flags)."""
    if config is None:
        return load(kinds=platform_kinds())
    if config.settings.platforms:
        return config
    return _read_anew(config)


def _read_anew(config: Config) -> Config:
    """Return the settings as the files and the environment say them now, found the way the given ones were."""
    return load(kinds=platform_kinds(), flags=config.flags, file=Path(config.file) if config.file else None)


def parts(config: Config, only: Sequence[str], without: Sequence[str]) -> Parts:
    """Return which actors shall run here. Raises BadInput for a name that is none."""
    from farebox.parts import chosen  # noqa: PLC0415

    return chosen(only, without, [actor.name for actor in actors()], config.settings.platforms)


def actors() -> tuple[Actor[Any], ...]:
    """Return the actors that are installed (entry points `farebox.actors`), in the order a task meets them."""
    from importlib.metadata import entry_points  # noqa: PLC0415 - 30 ms, engines only

    found: list[Actor[Any]] = []
    for point in entry_points(group="farebox.actors"):
        loaded: Any = point.load()
        found.extend(loaded if isinstance(loaded, tuple) else (loaded,))  # pyright: ignore[reportUnknownArgumentType]
    return tuple(found)


def _open_store(stack: AsyncExitStack, path: Path) -> Store:
    from farebox.runtime.store import Store  # noqa: PLC0415

    place = Store(path)
    place.open()
    stack.callback(place.close)
    return place


def _report(line: str) -> None:
    from farebox.runtime.secrecy import redactor  # noqa: PLC0415

    with contextlib.suppress(OSError):  # its log may lie on the disk that is full: then nothing can be said, and all goes on
        print(f"farebox: {redactor().text(line)}", file=sys.stderr, flush=True)  # noqa: T201 - an engine's one voice beside its log


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _connect(
    stack: AsyncExitStack, url: str, user: str, password: str, inbox_prefix: str, consumer: str, control: str = "$JS.API",
    where: Where | None = None,
) -> Any:  # fmt: skip
    from farebox.log.jetstream import JetStreamLog  # noqa: PLC0415

    log = await JetStreamLog.connect(
        url, user=user, password=password, inbox_prefix=inbox_prefix, name="farebox engine", consumer=consumer, control=control,
        credentials=where.credentials if where else "", tls=where.tls if where else None,
        on_health=lambda text: _report(f"bus: {text}") if text else None,
    )  # fmt: skip
    stack.push_async_callback(log.close)
    if control == "$JS.API":  # who is confined may not ask for the stream
        await _answered(log)
    return log


async def _answered(log: Log) -> None:
    """Wait until somebody speaks for the log: a cluster that is choosing a leader says nothing for some seconds."""
    deadline_s = time.monotonic() + LEADER_WAIT_S
    while True:
        try:
            await log.position()
        except (NotReachable, AppendBusy):
            if time.monotonic() > deadline_s:
                raise
            await asyncio.sleep(0.5)
        except BusError:
            return  # whoever starts on it says what is missing
        else:
            return


def _its_log_is_here(place: Store) -> None:
    """Raise LogUnfit for a store that served a log on another server: a server of its own would hold nothing."""
    marker = place.path / founding.INITIALISED
    _, elsewhere, url = (marker.read_text("utf-8") if marker.exists() else "").partition(founding.ELSEWHERE)
    if elsewhere:
        raise LogUnfit(
            f"The log of {place.path} is on {url.strip()}, and no engine runs on it from here.",
            hint=f"Start one: farebox up --server {url.strip()} --detach — or use another store: --store DIR",
        )


async def _prepared(place: Store, log: Any, config: Config, platforms: list[str], *, elsewhere: str = "") -> None:
    """Make the streams on the first start of a store, and never again: what is missing later was lost, and is said."""
    known = founding.founded(place)
    if known:
        await founding.check_there(place, log)
    await log.prepare(config.settings.durability, platforms, config.bus.replicas, log_bytes=config.bus.log_mib << 20)
    if not elsewhere and config.settings.durability != "always":
        await asyncio.to_thread(founding.settle, place)
    if not known:
        founding.note_founded(place, elsewhere)
    await log.check()


@contextlib.contextmanager
def _noting(store: Path) -> Generator[None]:
    """Keep it in the store when the log is what stops an engine."""
    try:
        yield
    except FareboxError as error:
        founding.note_stop(store, error)
        raise


async def _running(
    stack: AsyncExitStack, log: JetStreamLog, config: Config, place: Store, url: str, room: Room, parts: Parts | None = None,
    *, only_views: bool = False,
) -> Engine:  # fmt: skip
    from farebox.runtime import caller, secrecy  # noqa: PLC0415
    from farebox.runtime.engine import Engine  # noqa: PLC0415
    from farebox.runtime.parts import ALL_PARTS  # noqa: PLC0415
    from farebox.runtime.prices import compile_prices  # noqa: PLC0415
    from farebox.runtime.process_tree import end_orphans  # noqa: PLC0415
    from farebox.views.desk import Desk  # noqa: PLC0415

    secrecy.hide_in_logs()
    secrecy.keep_out_of(place.path)
    stack.callback(secrecy.let_go_of, place.path)
    ended = await asyncio.to_thread(end_orphans)
    if ended:
        _report(f"{ended} programs of an engine that was killed were still running; they were ended")
    kinds = {kind.name: kind for kind in platform_kinds()}
    stack.push_async_callback(caller.close)
    local = config.settings.platforms if only_views else await _with_stand_ins(stack, config.settings.platforms)
    parts = parts or ALL_PARTS
    desk = None if parts.alone else Desk(place.path / "views" / "ledger.duckdb")
    for notice in desk.notices if desk else ():
        _report(notice)
    about = {
        "version": __version__,
        "bus": url,
        "store": str(place.path),
        "credentials": str(place.path / "client.json"),
        "durability": config.settings.durability,
        "only_views": only_views,
    }
    engine = Engine(
        log, config.settings, actors=() if only_views else actors(), kinds=kinds, prices=compile_prices(),
        views=desk, folder=place.path, secret=place.key(), about=about,
        local=local, environ=os.environ, trouble=lambda: room.trouble() or log.denial(), parts=parts,
        reload=lambda: _read_anew(config).settings,
    )  # fmt: skip
    stack.push_async_callback(engine.stop)
    with _noting(place.path):
        await (engine.look(actors()) if only_views else engine.start())
    if not only_views:
        place.remove(founding.STOPPED)
    return engine


async def _with_stand_ins(stack: AsyncExitStack, platforms: Mapping[str, PlatformSettings]) -> dict[str, PlatformSettings]:
    """Return the platforms with the addresses of the stand-ins that rehearsals need; start those that are not set up."""
    local = dict(platforms)
    for name, settings in platforms.items():
        if settings.kind != "rehearsal" or not settings.enabled:
            continue
        wire = settings.options.get("wire", "chat")
        if wire == "chat" and not settings.url:
            from farebox.rehearsal.server import StandIn  # noqa: PLC0415

            stand_in = StandIn()
            await stand_in.start()
            stack.push_async_callback(stand_in.close)
            local[name] = msgspec.structs.replace(settings, url=stand_in.url)
        elif wire == "stream-json" and not settings.argv:
            local[name] = msgspec.structs.replace(settings, argv=(sys.executable, "-m", "farebox.rehearsal.program"))
    return local


def _write_record(stack: AsyncExitStack, place: Store, url: str, credentials: Path | str) -> None:
    """Say in the store who runs here, last of all, so that whoever reads it can already ask."""
    from farebox.runtime.store import EngineRecord, Process  # noqa: PLC0415

    process = Process.of(os.getpid())
    record = EngineRecord(
        pid=process.pid, born_s=process.born_s, url=url, credentials=str(credentials), started_ms=time.time_ns() // 1_000_000
    )
    place.write("engine.json", record)

    def forget() -> None:
        with contextlib.suppress(FareboxError):
            place.remove("engine.json")

    stack.callback(forget)
