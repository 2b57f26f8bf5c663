"""What JetStream answers: acks of stored messages, and its errors as ours."""

from __future__ import annotations

import re
from typing import Any, NoReturn

import msgspec
from msgspec import Struct

from farebox.core.errors import AppendBusy, AppendRefused, BadFact, BusError, LogFull, LogUnfit
from farebox.log.raw_client import Reply


class ApiError(Struct, frozen=True):
    """An error of JetStream. `err_code` says which (server/errors.json of nats-server 2.15, read 2026-11)."""

    code: int = 0
    err_code: int = 0
    description: str = ""


class Ack(Struct, frozen=True):
    """The answer to a publish into a stream; of an atomic batch `seq` is the last."""

    seq: int = 0
    count: int = 1
    error: ApiError | None = None


TURN_ON = "Start it with: nats-server -c nats.conf — or take the one that comes with farebox: farebox up"
FEW_PEERS = "Start the missing servers of the cluster, or keep the log on fewer: [bus] replicas = 1 in farebox.toml"
_ack = msgspec.json.Decoder(Ack)
_LAST_SEQ = re.compile(r"wrong last sequence: (\d+)")
_FENCE = 10071
_PEERS = 10005
_NOT_NOW = frozenset({
    10008,  # JetStream system temporarily unavailable
    10009,  # no leader
    10164,  # another write below the filter is still being applied
    10167,  # ingest queue full
    10176,  # the batch was abandoned: parts of it never arrived
    10210,  # too many open batches in this stream
    10211,  # too many open batches
})  # fmt: skip
_NO_ROOM = frozenset({
    10002,  # resource limits of the account
    10023,  # insufficient resources
    10028,  # memory
    10047,  # storage
    10077,  # the store failed: maximum bytes exceeded, no space left
})  # fmt: skip
_TOO_LARGE = frozenset({10054, 10097})  # more than max_msg_size; headers too large


def stored(reply: Reply) -> Ack:
    """Return the ack of a stored message. Raises AppendRefused, AppendBusy, LogFull, BadFact, LogUnfit: nothing was stored."""
    if reply.status:
        raise AppendBusy(f"Nobody takes facts at the moment (status {reply.status}).")
    ack = _ack.decode(reply.body)
    if ack.error is not None:
        raise_api(ack.error)
    assert ack.seq > 0, reply.body
    return ack


def raise_api(error: ApiError) -> NoReturn:
    """Raise what an error of JetStream means to us."""
    text = f"{error.description} ({error.err_code})"
    if error.err_code == _FENCE:
        last = _LAST_SEQ.search(error.description)
        raise AppendRefused(f"Somebody wrote first: {text}.", last_seq=int(last.group(1)) if last else None)
    kinds: dict[frozenset[int], type[BusError | BadFact]] = {_NOT_NOW: AppendBusy, _NO_ROOM: LogFull, _TOO_LARGE: BadFact}
    for codes, kind in kinds.items():
        if error.err_code in codes:
            raise kind(f"The server says: {text}.")
    raise LogUnfit(f"The server says: {text}.", hint=FEW_PEERS if error.err_code == _PEERS else "")


def document(reply: Reply) -> dict[str, Any]:
    """Return the JSON object of an answer of JetStream's API. Raises what its error means; LogUnfit when nobody answers."""
    if reply.status:
        raise LogUnfit("This NATS server has JetStream off for us; farebox keeps its log there.", hint=TURN_ON)
    answer: dict[str, Any] = msgspec.json.decode(reply.body)
    if "error" in answer:
        raise_api(msgspec.convert(answer["error"], ApiError))
    return answer
