"""The first words with our own server: who its users are, and whether it is there and knows them."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from farebox.core.errors import LogUnfit
from farebox.log.names import durable_of
from farebox.log.seeds import public_key, signature
from farebox.runtime.permissions import names, render
from farebox.runtime.store import Store

ANSWER_S = 1.0
"""Somebody else may listen on the port and say nothing."""
LOOK_S = 0.01
_RELOADED = b"Reloaded server configuration"
_REFUSED = b"Failed to reload"
_LOOPBACK = "127.0.0.1"
_LANE = durable_of("")
_ACCOUNT = re.compile(rf'^  "({re.escape(_LANE)}[^"]+)": {{$', re.MULTILINE)
_INFO = b"INFO "


class _Info(Struct):
    """What is needed of the server's first line: the nonce that a user signs."""

    nonce: str


def write_users(store: Store, platforms: Iterable[str]) -> dict[str, str]:
    """Write users.conf for these platforms and return the seed of each user. Raises LogFull, LogUnfit."""
    lanes = tuple(platforms)
    seeds = store.seeds(names(lanes))
    store.write("users.conf", render(lanes, {name: public_key(seed) for name, seed in seeds.items()}).encode())
    return seeds


def lanes_in(store: Store) -> tuple[str, ...]:
    """Return the platforms whose adapters have users in users.conf as it stands."""
    path = store.path / "users.conf"
    text = path.read_text("utf-8") if path.exists() else ""
    return tuple(found.removeprefix(_LANE) for found in _ACCOUNT.findall(text))


async def reload(pid: int, log: Path, timeout_s: float) -> None:
    """Let the server read its configuration again, twice: the first time makes a new account, but links what it imports to
    an export that does not know it yet (nats-server 2.15.0: all its requests came to nobody).

    Raises LogUnfit when it refuses or does not do it in time.
    """  # noqa: D205
    for _ in range(2):
        began = len(log.read_bytes())  # noqa: ASYNC240 - a local file
        os.kill(pid, signal.SIGHUP)
        try:
            async with asyncio.timeout(timeout_s):
                while _RELOADED not in (said := log.read_bytes()[began:]) and _REFUSED not in said:  # noqa: ASYNC110, ASYNC240 - it says so there alone
                    await asyncio.sleep(LOOK_S)
        except TimeoutError:
            raise LogUnfit("nats-server does not read its configuration again.", hint=f"Its log: {log}") from None
        if _RELOADED not in said:
            raise LogUnfit("nats-server refuses its new configuration.", hint=f"Its log: {log}")


async def answers(port: int, seed: str) -> bool:
    """Say whether our server answers on the port: only ours knows the user of this seed. Takes at most ANSWER_S."""
    try:
        async with asyncio.timeout(ANSWER_S):
            reader, writer = await asyncio.open_connection(_LOOPBACK, port)
            try:
                return await _greet(reader, writer, seed)
            finally:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()
    except (OSError, TimeoutError, msgspec.MsgspecError):
        return False


async def _greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seed: str) -> bool:
    first = await reader.readline()
    if not first.startswith(_INFO):
        return False
    nonce = msgspec.json.decode(first.removeprefix(_INFO), type=_Info).nonce
    login = {"nkey": public_key(seed), "sig": signature(seed, nonce), "verbose": False, "name": "farebox-look"}
    writer.write(b"CONNECT " + msgspec.json.encode(login) + b"\r\nPING\r\n")
    return (await reader.readline()).startswith(b"PONG")
