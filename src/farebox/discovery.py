"""Finding the bus: a server that is named, else the engine that runs on this machine, else none (then one is started).

In this order: the argument, FAREBOX_SERVER and NATS_URL, a nats context that is named (argument, FAREBOX_CONTEXT,
NATS_CONTEXT, `[bus]` of farebox.toml), the running engine of the store, the context that the nats CLI has selected.
An engine that somebody started here comes before a selected context, which may belong to other work.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

import msgspec
from msgspec import Struct

from farebox import contexts
from farebox.config import Bus, home
from farebox.core.errors import BadSettings
from farebox.log.login import Tls
from farebox.log.seeds import is_seed
from farebox.runtime.permissions import inbox_prefix, is_user
from farebox.runtime.store import ClientRecord, Store


class Where(Struct, frozen=True, kw_only=True):
    """How to reach a bus; `origin` says for people why this one. `password` may be a seed, which signs and is never sent."""

    url: str
    user: str = ""
    password: str = ""
    credentials: str = ""
    inbox_prefix: str = ""
    tls: Tls = Tls()
    origin: str = ""


def find(
    server: str | None,
    context: str | None,
    store: Path,
    *,
    store_given: bool = False,
    user: str | None = None,
    password: str | None = None,
    bus: Bus | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Where | None:
    """Return where the bus is, None if no server is named and no engine runs. Raises BadSettings, LogUnfit.

    `store_given`: the store was named by the caller, so nothing but its own engine or a named server counts.
    """
    if store_given and not server and not context:
        return of_store(store)
    named = _named(server, context, bus or Bus(), environment)
    if named is not None:
        return _with_login(named, user, password, bus or Bus(), environment)
    running = of_store(store)
    if running is not None:
        return running
    chosen = contexts.selected(environment)
    return _of_context(chosen, environment) if chosen else None


def _seed(path: str, what: str) -> str:
    """Return the seed that a file holds. Raises BadSettings."""
    try:
        found = Path(path).expanduser().read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadSettings(f"{what}: {path} does not read.", hint="It holds the seed of a user and nothing else.") from error
    if not is_seed(found):
        raise BadSettings(f"{what}: {path} holds no seed of a user.", hint="It holds one line that begins with SU.")
    return found


def of_store(store: Path) -> Where | None:
    """Return how a client reaches the running engine of a store, None if none runs. Raises LogUnfit."""
    place = Store(store)
    engine = place.engine()
    login = place.read("client.json", ClientRecord) if engine is not None else None
    if login is None:
        return None
    return Where(
        url=login.url,
        user=login.user,
        password=login.password,
        credentials=login.credentials,
        inbox_prefix=login.inbox_prefix,
        tls=login.tls,
        origin=f"the engine of {store}",
    )


def _named(server: str | None, context: str | None, bus: Bus, environment: Mapping[str, str]) -> Where | None:
    if server:
        return _of_url(server, "--server")
    if context:
        return _of_context(context, environment)
    for variable in ("FAREBOX_SERVER", "NATS_URL"):
        if environment.get(variable):
            return _of_url(environment[variable], variable)
    for variable in ("FAREBOX_CONTEXT", "NATS_CONTEXT"):
        if environment.get(variable):
            return _of_context(environment[variable], environment)
    if bus.server:
        return _of_url(bus.server, "farebox.toml")
    return _of_context(bus.context, environment) if bus.context else None


def _of_context(name: str, environment: Mapping[str, str]) -> Where:
    context = contexts.load(name, environment)
    where = _of_url(context.url, f'nats context "{name}"')
    return msgspec.structs.replace(
        where,
        user=context.user or where.user,
        password=_seed(context.nkey, "nkey") if context.nkey else context.password or where.password,
        credentials=context.creds,
        inbox_prefix=context.inbox_prefix,
        tls=Tls(ca_file=context.ca, cert_file=context.cert, key_file=context.key),
    )


def _of_url(url: str, origin: str) -> Where:
    """Take user and password out of the address, so that no message shows them. Servers of a cluster stand between commas."""
    first, *others = [_of_one(part.strip(), origin) for part in url.split(",")]
    return msgspec.structs.replace(first, url=",".join(where.url for where in (first, *others)))


def _of_one(url: str, origin: str) -> Where:
    try:
        parts = urlsplit(url if "://" in url else f"nats://{url}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise BadSettings(f"{origin}: {url.rpartition('@')[2]} is no address: {error}.") from error
    if parts.scheme not in {"nats", "tls", "ws", "wss"} or not host:
        raise BadSettings(f"{origin}: {url.rpartition('@')[2]} is no address of a NATS server.", hint="nats://HOST:4222")
    place = f"[{host}]" if ":" in host else host
    plain = urlunsplit((parts.scheme, f"{place}:{port or 4222}", parts.path, "", ""))
    return Where(url=plain, user=unquote(parts.username or ""), password=unquote(parts.password or ""), origin=origin)


def _with_login(where: Where, user: str | None, password: str | None, bus: Bus, environment: Mapping[str, str]) -> Where:
    """Who logs in: the argument, what the address or context says, `[bus]`, then the nats CLI's own variables.

    Users that our nats.conf knows hear only their own inbox.
    """
    set_password = environment.get(bus.password_env, "") if bus.password_env else ""
    name = user or where.user or bus.user or environment.get("NATS_USER", "")
    key = password or where.password or set_password
    nkey_file = bus.nkey_file or environment.get("NATS_NKEY", "")
    return msgspec.structs.replace(
        where,
        user=name,
        password=key or (_seed(nkey_file, "bus.nkey_file") if nkey_file else environment.get("NATS_PASSWORD", "")),
        credentials=where.credentials or ("" if key or nkey_file else environment.get("NATS_CREDS", "")),
        tls=_tls(where.tls, bus, environment),
        inbox_prefix=where.inbox_prefix or (inbox_prefix(name) if is_user(name) else ""),
    )


def _tls(of_context: Tls, bus: Bus, environment: Mapping[str, str]) -> Tls:
    return Tls(
        ca_file=of_context.ca_file or bus.ca_file or environment.get("NATS_CA", ""),
        cert_file=of_context.cert_file or bus.cert_file or environment.get("NATS_CERT", ""),
        key_file=of_context.key_file or bus.key_file or environment.get("NATS_KEY", ""),
    )


def store_of(store: str | Path | None, set_dir: str, environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of the store: the argument, FAREBOX_STORE__DIR or `[store]`, else FAREBOX_HOME and its kin."""
    given = store or set_dir
    return Path(given).expanduser() if given else home(environment)
