"""The streams, the bucket and the durables: made once by init, looked at by everybody else, never mended by themselves.

A missing stream may still be on the disk (reliability: an unreadable meta file), so nobody makes it anew: LogUnfit says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import Struct

from farebox.core.errors import AccessDenied, LogFull, LogUnfit, NotReachable
from farebox.core.subjects import ALL
from farebox.core.wire import BODY_BYTES_MAX
from farebox.log import names
from farebox.log.answers import TURN_ON, document
from farebox.log.connection import Connection

SERVER_MIN = (2, 15)
"""Older servers lose or damage logs (nats-server #8491, #8447 and others, read 2026-11)."""
OWN_SERVER = "Take the one that comes with farebox: farebox up"
API_WAIT_S = 3.0
"""A cluster that is choosing a leader gives no answer; asking again is better than waiting."""
GIB = 1 << 30
SECOND_NS = 1_000_000_000
_NOT_FOUND = 404
MORE = "Ask for less in bus.log_mib, or give the server more: max_file in nats.conf (FAREBOX_MAX_FILE)."
GONE = "An engine over a new store makes it: farebox up. If it was there before, keep a copy of the server's files first."


class Sizes(Struct, frozen=True, kw_only=True):
    """How much each stream may hold, bytes; how long what is not the log is kept, seconds."""

    log_bytes: int = 10 * GIB
    blob_bytes: int = 6 * GIB
    live_bytes: int = GIB // 4
    dead_bytes: int = GIB // 16
    live_age_s: int = 6 * 3600
    dead_age_s: int = 30 * 86400


def stream_configs(durability: str, replicas: int, sizes: Sizes) -> dict[str, dict[str, Any]]:
    """Return the configuration of every stream by name. `durability` is only noted: the server's configuration sets it."""
    kept = {"storage": "file", "retention": "limits", "num_replicas": replicas, "allow_direct": True, "discard": "new"}
    noted = {"metadata": {"farebox.durability": durability}}
    advisories = "$JS.EVENT.ADVISORY.CONSUMER"
    return {
        names.DEAD_STREAM: kept
        | {
            "subjects": [f"{advisories}.{kind}.{names.STREAM}.*" for kind in ("MAX_DELIVERIES", "MSG_TERMINATED")],
            "max_bytes": sizes.dead_bytes,
            "max_age": sizes.dead_age_s * SECOND_NS,
            "discard": "old",
        },
        names.STREAM: kept
        | noted
        | {
            "subjects": [ALL],
            "max_bytes": sizes.log_bytes,
            "max_msg_size": BODY_BYTES_MAX + 16_384,
            "deny_delete": True,
            "deny_purge": True,
            "allow_atomic": True,
            "republish": _again(names.STREAM),
        },
        names.LIVE_STREAM: {
            "republish": _again(names.LIVE_STREAM),
            "subjects": ["farebox.live.>"],
            "storage": "file",
            "retention": "limits",
            "num_replicas": 1,
            "discard": "old",
            "max_bytes": sizes.live_bytes,
            "max_age": sizes.live_age_s * SECOND_NS,
            "persist_mode": "async",
        },
        names.BUCKET_STREAM: kept
        | {"subjects": [f"{names.CHUNKS}.>", f"{names.METAS}.>"], "max_bytes": sizes.blob_bytes, "allow_rollup_hdrs": False},
    }


def _again(name: str) -> dict[str, str]:
    source, destination = names.REPUBLISHED[name]
    return {"src": source, "dest": destination}


_MUST: dict[str, dict[str, Any]] = {
    names.STREAM: {
        "subjects": [ALL],
        "storage": "file",
        "retention": "limits",
        "discard": "new",
        "deny_delete": True,
        "deny_purge": True,
        "allow_direct": True,
        "allow_atomic": True,
    },
    names.BUCKET_STREAM: {"storage": "file", "retention": "limits", "discard": "new", "allow_direct": True},
    names.LIVE_STREAM: {"subjects": ["farebox.live.>"]},
    names.DEAD_STREAM: {"storage": "file"},
}
_MUST_NOT: dict[str, tuple[str, ...]] = {
    names.STREAM: (
        "max_age", "allow_msg_ttl", "allow_rollup_hdrs", "allow_msg_schedules", "allow_msg_counter", "persist_mode", "sealed",
        "mirror", "sources", "subject_transform", "no_ack", "subject_delete_marker_ttl",
    ),
    names.BUCKET_STREAM: ("max_age", "allow_msg_ttl", "allow_rollup_hdrs", "persist_mode", "sealed", "mirror", "sources"),
}  # fmt: skip
_LARGEST = {names.STREAM: BODY_BYTES_MAX}
_UNLIMITED = ("max_msgs", "max_msgs_per_subject")


class Streams:
    """What the server holds for the log; `control` stands in front of what is asked of the server itself."""

    def __init__(self, connection: Connection, control: str) -> None:
        self._connection = connection
        self._control = control

    async def prepare(self, adapters: Sequence[str], configs: Mapping[str, dict[str, Any]], ack_wait_s: float) -> None:
        """Make what is missing. What is there stays as it is. Raises LogUnfit, and makes nothing, on an unfit server."""
        self._check_server()
        for name, config in configs.items():
            if await self._info(name) is None:
                await self._api(f"STREAM.CREATE.{name}", {"name": name, **config})
        for platform in adapters:
            await self._durable(names.durable_of(platform), ack_wait_s)

    async def grow(self, name: str, bytes_max: int) -> None:
        """Let a stream hold so much, if it may hold less now. Raises LogFull when the server has not so much to give."""
        config = (await self.info(name))["config"]
        if 0 < config.get("max_bytes", -1) < bytes_max:
            # All it has goes back as it came: what the client library does not know must not be lost on the way.
            try:
                await self._api(f"STREAM.UPDATE.{name}", {**config, "max_bytes": bytes_max})
            except LogFull as none:
                raise LogFull(f"The server does not give {name} {bytes_max >> 20:,} MiB: {none.message}", hint=MORE) from none

    async def check(self) -> None:
        """Raise LogUnfit with one clear sentence unless the server can carry the log and all streams are as they must be."""
        self._check_server()
        _check_config(names.STREAM, (await self.info(names.STREAM))["config"])
        for name in (names.LIVE_STREAM, names.DEAD_STREAM, names.BUCKET_STREAM):
            try:
                _check_config(name, (await self.info(name, quiet=True))["config"])
            except AccessDenied:
                continue  # who runs has no right to look at all of them; who makes them has

    def _check_server(self) -> None:
        client = self._connection.client
        version = client.connected_server_version
        if (version.major, version.minor) < SERVER_MIN:
            raise LogUnfit(
                f"nats-server {version} is too old; {'.'.join(map(str, SERVER_MIN))} or later is needed.", hint=OWN_SERVER
            )
        if not client.has_jetstream:
            raise LogUnfit("This NATS server has JetStream off; farebox keeps its log there.", hint=TURN_ON)
        if client.max_payload < BODY_BYTES_MAX + 16_384:
            raise LogUnfit(f"max_payload of this server is {client.max_payload}; 1MB is needed.")

    async def info(self, name: str, *, quiet: bool = False, names_gone: bool = False) -> dict[str, Any]:
        """Return what the server says about a stream; with `names_gone` which sequences it lacks. Raises LogUnfit: missing."""
        found = await self._info(name, quiet=quiet, names_gone=names_gone)
        if found is None:
            raise LogUnfit(
                f"The stream {name} is missing.",
                hint=GONE,
            )
        return found

    async def missing(self, wanted: Sequence[str]) -> tuple[str, ...]:
        """Return those of `wanted` that are not there. Raises LogUnfit on an unfit server."""
        self._check_server()
        return tuple([name for name in wanted if await self._info(name) is None])

    async def unknown(self, durables: Sequence[str]) -> tuple[str, ...]:
        """Return those durables that are not there; what this user may not ask about counts as there."""
        found: list[str] = []
        for durable in durables:
            with suppress(AccessDenied):
                if await self._ask(f"CONSUMER.INFO.{names.STREAM}.{durable}", {}) is None:
                    found.append(durable)
        return tuple(found)

    async def consumer(self, durable: str) -> dict[str, Any]:
        """Return what the server says about a durable. Raises LogUnfit when it is missing."""
        found = await self._ask(f"CONSUMER.INFO.{names.STREAM}.{durable}", {})
        if found is None:
            raise LogUnfit(f"The durable {durable} is missing.", hint="An engine makes it when it starts: farebox up")
        for key, wanted in {"filter_subject": names.durable_filter(durable), "ack_policy": "explicit"}.items():
            if found["config"].get(key) != wanted:
                raise LogUnfit(
                    f"The durable {durable} has {key} = {found['config'].get(key)}, but it must be {wanted}.",
                    hint="Somebody changed it: remove it, the next start makes it as it was.",
                )
        return found

    async def follower(self, consumer: str, start: int, only: str) -> None:
        """Make the consumer `consumer` anew: ack none, from `start`, in the long form that cannot reach another one."""
        await self.drop(consumer)
        config = {
            "name": consumer,
            "ack_policy": "none",
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": start,
            "filter_subject": only,
            "replay_policy": "instant",
            "max_deliver": 1,
            "inactive_threshold": 60 * SECOND_NS,
            "mem_storage": True,
            "num_replicas": 1,
        }
        body = {"stream_name": names.STREAM, "config": config, "action": "create"}
        await self._api(f"CONSUMER.CREATE.{names.STREAM}.{consumer}.{only}", body)

    async def drop(self, consumer: str) -> None:
        """Remove a consumer if it is there."""
        await self._ask(f"CONSUMER.DELETE.{names.STREAM}.{consumer}", {})

    async def forget(self, consumer: str) -> None:
        """Have a consumer removed without waiting for it; one that stays is removed by the server after a minute."""
        await self._connection.send(f"{self._control}.CONSUMER.DELETE.{names.STREAM}.{consumer}", b"")

    async def _durable(self, durable: str, ack_wait_s: float) -> None:
        if await self._ask(f"CONSUMER.INFO.{names.STREAM}.{durable}", {}) is not None:
            return
        only = names.durable_filter(durable)
        config = {
            "durable_name": durable,
            "name": durable,
            "ack_policy": "explicit",
            "ack_wait": round(ack_wait_s * SECOND_NS),
            "deliver_policy": "all",
            "filter_subject": only,
            "replay_policy": "instant",
            "max_deliver": names.TRIES_MAX,
            "max_ack_pending": names.HANDED_OUT_MAX,
        }
        body = {"stream_name": names.STREAM, "config": config, "action": "create"}
        await self._api(f"CONSUMER.CREATE.{names.STREAM}.{durable}.{only}", body)

    async def _info(self, name: str, *, quiet: bool = False, names_gone: bool = False) -> dict[str, Any] | None:
        return await self._ask(f"STREAM.INFO.{name}", {"deleted_details": True} if names_gone else {}, quiet=quiet)

    async def _api(self, verb: str, body: Mapping[str, Any]) -> dict[str, Any]:
        answer = await self._ask(verb, body)
        if answer is None:
            raise LogUnfit(f"The stream {names.STREAM} is missing.", hint=GONE)
        return answer

    async def _ask(self, verb: str, body: Mapping[str, Any], *, quiet: bool = False) -> dict[str, Any] | None:
        """Ask JetStream's API; None stands for 404."""
        await self._connection.connected()
        payload = msgspec.json.encode(body) if body else b""
        reply = await self._connection.ask(f"{self._control}.{verb}", payload, wait_s=API_WAIT_S, quiet=quiet)
        if reply.status and self._connection.client.has_jetstream:
            raise NotReachable(f"JetStream does not answer at the moment (status {reply.status}).")
        if not reply.status and msgspec.json.decode(reply.body).get("error", {}).get("code") == _NOT_FOUND:
            return None
        return document(reply)


def _check_config(name: str, config: Mapping[str, Any]) -> None:
    for key, wanted in _MUST[name].items():
        if config.get(key) != wanted:
            raise LogUnfit(f"The stream {name} has {key} = {config.get(key)}, but it must be {wanted}.")
    for key in _MUST_NOT.get(name, ()):
        value = config.get(key)
        if value and value != "default":
            raise LogUnfit(f"The stream {name} has {key} = {value}, but it must not be set.")
    if 0 < config.get("max_msg_size", -1) < _LARGEST.get(name, 0):
        raise LogUnfit(f"The stream {name} has max_msg_size = {config['max_msg_size']}, but facts may have {_LARGEST[name]}.")
    for key in _UNLIMITED if name in _MUST_NOT else ():
        if config.get(key, -1) > 0:
            raise LogUnfit(f"The stream {name} has {key} = {config.get(key)}, but it must be without limit.")
