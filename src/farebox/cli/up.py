"""farebox up: the engine, here until a signal comes, or detached."""

from __future__ import annotations

import asyncio
import math
import os
import subprocess
import sys
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from cyclopts import Parameter

from farebox import discovery, engines
from farebox.api import raised
from farebox.cli import session
from farebox.cli.app import broken
from farebox.cli.options import DEFAULT, Common
from farebox.cli.output import document, note
from farebox.cli.waiting import Waiting
from farebox.client import joined
from farebox.config import Config
from farebox.core.errors import BadInput, FareboxError, LogUnfit

if TYPE_CHECKING:
    from farebox.runtime.parts import Parts

Named = tuple[tuple[str, ...], tuple[str, ...]]
"""What --only and --without named."""
LOG_FILE = "engine.log"
TAIL_CHARS = 2000
ENGINE_WAIT_S = 60.0
"""So long an engine waits for a server elsewhere: who mistyped its address should learn it."""


def command(
    *,
    detach: Annotated[bool, Parameter(negative=())] = False,
    durability: Literal["always", "100ms"] | None = None,
    only: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    without: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    ready_fd: Annotated[int | None, Parameter(show=False)] = None,
    common: Common = DEFAULT,
) -> int:
    """Start the engine: with its own server, or with --server on one that is already there (2.15 or later, JetStream).

    While nobody answers at --server it says so once and waits: an engine for a minute (with --detach not at all), an actor
    alone until a server is there.

    Parameters
    ----------
    detach
        Start it in the background and come back when it is ready.
    durability
        always: every fact is on disk before it counts. 100ms: faster, a power cut may take the last tenth of a second.
    only
        Run this actor alone, on a server that is there and under its own user (repeatable): router, quota, cost, aggregator,
        or adapter-PLATFORM. Its store is a folder of its own.
    without
        Run all but this actor: it runs elsewhere (repeatable).
    ready_fd
        Where to say that it is ready.
    """
    if ready_fd is not None:
        os.set_inheritable(ready_fd, False)  # the server and the programs of platforms must not hold it open
    config = common.settings(engine__durability=durability)
    place = common.place(config)
    if detach:
        return _detached(common, place, _same_options(common, durability, only, without))
    try:
        return session.run(lambda: _served(common, config, place, (only, without), ready_fd), serves=True)
    except Exception as error:
        said = error if isinstance(error, FareboxError) else broken(error)
        _tell(ready_fd, {"error": {"code": said.code, "message": said.message, "hint": said.hint}})
        raise


async def _served(common: Common, config: Config, place: Path, named: Named, ready_fd: int | None) -> int:
    engines.tune()
    config = engines.full(config)
    parts = engines.parts(config, *named)
    where = _server(common, config, place, parts)
    waiting = Waiting(_patience_s(where, parts, ready_fd), lambda text: _say_waiting(common, ready_fd, text))
    async with AsyncExitStack() as stack:
        try:
            engine = await waiting.entered(stack, lambda: _engine(where, config, place, parts))
        except asyncio.CancelledError:
            if not waiting.waits:
                raise
            note(common, "stopped")
            return 0
        ready = _about_parts(engine, parts) if parts.alone else await _about(engine)
        _tell(ready_fd, ready)
        _say_ready(common, ready)
        with suppress(asyncio.CancelledError):
            await engine.wait()
        note(common, "stopping")
    note(common, "stopped")
    return 0


def _server(common: Common, config: Config, place: Path, parts: Parts) -> discovery.Where | None:
    """Return the server elsewhere that was named, None for one of our own."""
    where = None
    if common.server or common.nats_context or config.bus.server or config.bus.context:
        where = discovery.find(common.server, common.nats_context, place, bus=config.bus)
    if parts.alone and where is None:
        raise BadInput(
            "An actor alone needs a bus.", hint="NATS_NKEY=NAME.nk farebox up --only NAME --server nats://NAME@HOST:4222"
        )
    return where


def _patience_s(where: discovery.Where | None, parts: Parts, ready_fd: int | None) -> float:
    """Return how long to wait for a server. Somebody waits for the word of a detached engine, and nobody for an actor's."""
    if where is None:
        return 0.0
    return math.inf if parts.alone else 0.0 if ready_fd is not None else ENGINE_WAIT_S


def _engine(
    where: discovery.Where | None, config: Config, place: Path, parts: Parts
) -> AbstractAsyncContextManager[engines.Hosted]:
    if where is None:
        return engines.embedded(place, config, parts)
    return engines.alone(where, place, parts, config) if parts.alone else engines.joined(where, place, config, parts)


def _about_parts(engine: engines.Hosted, parts: Parts) -> dict[str, Any]:
    said = {"bus": engine.url, "store": str(engine.store), "pid": os.getpid(), "only": sorted(parts.only)}
    return {"schema": "farebox.up/1", **said, "credentials": None}


async def _about(engine: engines.Hosted) -> dict[str, Any]:
    """Ask as any client would: who can do that, can work. Another engine of the same bus may answer: what is ours is said."""
    where = discovery.of_store(engine.store)
    assert where is not None, "an engine that runs has said where"
    ours = {"bus": engine.url, "store": str(engine.store), "credentials": str(engine.credentials), "pid": os.getpid()}
    async with joined(where) as client:
        return {**await client.info(), **ours, "schema": "farebox.up/1"}


def _say_ready(common: Common, ready: dict[str, Any]) -> None:
    if common.json:
        document(ready)
        return
    if ready.get("only"):
        note(common, f"ready · {', '.join(ready['only'])} · bus {ready['bus']} · store {ready['store']}")
        return
    note(common, f"engine ready · bus {ready['bus']} · store {ready['store']} · credentials {ready['credentials']}")


def _say_waiting(common: Common, ready_fd: int | None, text: str) -> None:
    note(common, text)
    if ready_fd is not None:
        with suppress(OSError):
            os.write(ready_fd, msgspec.json.encode({"waiting": text}) + b"\n")


def _tell(ready_fd: int | None, content: dict[str, Any]) -> None:
    if ready_fd is not None:
        with suppress(OSError), os.fdopen(ready_fd, "wb") as pipe:
            pipe.write(msgspec.json.encode(content))


def _detached(common: Common, place: Path, options: list[str]) -> int:
    """Start the engine as a process of its own, and wait for its word (or its end) on a pipe."""
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    reading, writing = os.pipe()
    with (place / LOG_FILE).open("ab") as log:
        began = log.tell()
        child = subprocess.Popen(  # noqa: S603 - ourselves
            [sys.executable, "-m", "farebox", "up", "-v", *options, "--ready-fd", str(writing)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=[writing],
        )
    os.close(writing)
    try:
        said = _heard(common, reading)
    except KeyboardInterrupt:
        child.terminate()  # whoever leaves while it is not ready does not want it later
        raise
    if not said:
        raise LogUnfit(f"The engine ended with code {child.wait()}: {_tail(place / LOG_FILE, began)}")
    ready: dict[str, Any] = msgspec.json.decode(said)
    if "error" in ready:
        child.wait()
        raise raised(ready["error"])
    _say_ready(common, ready)
    return 0


def _heard(common: Common, reading: int) -> bytes:
    """Return its last word; what it says before that it waits for is passed on."""
    with os.fdopen(reading, "rb") as pipe:
        for said in pipe:
            told: dict[str, Any] = msgspec.json.decode(said)
            if "waiting" not in told:
                return said
            note(common, told["waiting"])
    return b""


def _same_options(common: Common, durability: str | None, only: tuple[str, ...], without: tuple[str, ...]) -> list[str]:
    named = {
        "--server": common.server,
        "--context": common.nats_context,
        "--store": common.store,
        "--config": common.config,
        "--durability": durability,
    }
    several = [("--only", name) for name in only] + [("--without", name) for name in without]
    return [part for option, value in (*named.items(), *several) if value for part in (option, str(value))]


def _tail(path: Path, began: int) -> str:
    with path.open("rb") as log:
        log.seek(began)
        return " ".join(log.read().decode(errors="replace")[-TAIL_CHARS:].split())
