"""The sections of farebox.toml and what stands in each: one table for files, the environment and the documentation."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Struct

from farebox.core.settings import NAMED, Settings

LOG_MIB_MAX = 16 * 1024 * 1024
"""16 TiB: more is a slip of the pen."""


class Bus(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[bus]`: where the log is, when it is not the embedded one. `password_env` names a variable, never the password.

    The files are named by their paths: a seed instead of a password, and what TLS needs (all PEM).

    `replicas` counts when the log is made: on so many servers of a cluster; 0 stands for 3 there and 1 on a single server.
    `log_mib` is what the log may grow to: a smaller one is made larger when an engine starts, a larger one stays as it is.
    """

    server: str = ""
    context: str = ""
    user: str = ""
    password_env: str = ""
    nkey_file: str = ""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    replicas: Literal[0, 1, 3, 5] = 0
    log_mib: Annotated[int, msgspec.Meta(ge=0, le=LOG_MIB_MAX)] = 0


class StorePlace(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[store]`: the folder of the embedded engine."""

    dir: str = ""


ENGINE_KEYS: tuple[str, ...] = tuple(name for name in Settings.__struct_fields__ if name not in NAMED)
SINGLE: dict[str, type[Struct]] = {"engine": Settings, "bus": Bus, "store": StorePlace}
"""Sections that are there once."""
KEYS: dict[str, tuple[str, ...]] = {
    "engine": ENGINE_KEYS,
    "bus": Bus.__struct_fields__,
    "store": StorePlace.__struct_fields__,
    **{section: kind.__struct_fields__ for section, kind in NAMED.items()},
}
