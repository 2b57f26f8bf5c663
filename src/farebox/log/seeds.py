"""Logins without a password: a seed that stays with its user, the public key that the server knows, and signing with it.

The server draws a nonce and the user signs it, so that nothing secret goes over the wire and whoever listens on the port of a
server that is away learns nothing. The library is loaded where it is used: 30 ms that a command without a bus need not pay.
"""

from __future__ import annotations

import base64
import os
import re
from typing import Any

SEED = re.compile(r"SU[A-Z2-7]{56}")
"""A user's seed as the NATS tools write it (nats-io/nkeys, README "Encoding", read 2026-11-21)."""


def new_seed() -> str:
    """Draw a seed for a user."""
    nkeys = _library()
    return nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER).decode()


def is_seed(text: str) -> bool:
    """Say whether `text` looks like the seed of a user."""
    return SEED.fullmatch(text) is not None


def public_key(seed: str) -> str:
    """Return the key by which a server knows the user."""
    return _pair(seed).public_key.decode()


def signature(seed: str, nonce: str) -> str:
    """Return what a user answers when the server has drawn `nonce`."""
    return base64.urlsafe_b64encode(_pair(seed).sign(nonce.encode())).decode().rstrip("=")


def _pair(seed: str) -> Any:
    return _library().from_seed(bytearray(seed.encode()))


def _library() -> Any:
    import nkeys  # noqa: PLC0415 - see above  # pyright: ignore[reportMissingTypeStubs] - it has none

    return nkeys
