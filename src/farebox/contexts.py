"""The nats CLI's contexts: named ways to reach a server, in ~/.config/nats/context/NAME.json.

Shape: nats-io ADR-21 "NATS Configuration Contexts" and nats-io/jsm.go natscontext/context.go (read 2026-11-21).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from farebox.core.errors import BadSettings
from farebox.nearest import did_you_mean

DEFAULT_URL = "nats://127.0.0.1:4222"


class Context(Struct, frozen=True, kw_only=True):
    """What a context file says, as far as farebox uses it or has to refuse it."""

    name: str = ""
    url: str = ""
    user: str = ""
    password: str = ""
    token: str = ""
    creds: str = ""
    nkey: str = ""
    nsc: str = ""
    cert: str = ""
    key: str = ""
    ca: str = ""
    inbox_prefix: str = ""


UNSUPPORTED = ("token", "nsc")
"""Ways to log in that the bus does not offer yet."""


def folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of the nats CLI: `$XDG_CONFIG_HOME/nats`, else `~/.config/nats`."""
    base = environment.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "nats"


def selected(environment: Mapping[str, str] = os.environ) -> str:
    """Return the name of the context that `nats context select` chose, "" if none."""
    try:
        return (folder(environment) / "context.txt").read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def load(name: str, environment: Mapping[str, str] = os.environ) -> Context:
    """Return a context. Raises BadSettings when there is none of that name or it needs what farebox cannot do."""
    path = folder(environment) / "context" / f"{name}.json"
    if "/" in name or "\\" in name or ".." in name or not path.is_file():
        raise BadSettings(f'There is no nats context "{name}".', hint=_known(name, path.parent))
    try:
        context = msgspec.json.decode(path.read_bytes(), type=Context)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadSettings(f"{path}: {error}.") from error
    used = [field for field in UNSUPPORTED if getattr(context, field)]
    if used:
        raise BadSettings(
            f'nats context "{name}" logs in by {used[0]}; farebox needs a user with a password, an nkey, or a credentials file.'
        )
    return msgspec.structs.replace(context, name=name, url=context.url or DEFAULT_URL)


def _known(name: str, place: Path) -> str:
    names = sorted(path.stem for path in place.glob("*.json")) if place.is_dir() else []
    near = did_you_mean(name, names)
    return near or (f"Known: {', '.join(names[:10])}." if names else "Make one: nats context add NAME --server URL")
