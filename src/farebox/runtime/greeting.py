"""The first words with our own server: who its users are, and whether it is there and knows them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress

import msgspec
from msgspec import Struct

from farebox.log.seeds import public_key, signature
from farebox.runtime.permissions import names, render
from farebox.runtime.store import Store

ANSWER_S = 1.0
"""Somebody else may listen on the port and say nothing."""
_LOOPBACK = "127.0.0.1"
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
