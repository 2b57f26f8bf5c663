"""The table of subjects and fences: who may say which fact, where it stands in the log, and what guards it.

    farebox.log.<writer>.<token>.<lane>.<chain>.<task>

Body and subject say the same in every token: where the subject says `-`, the body names nothing either. Only the platform
of a submission is not its lane but a wish, and a batch may be named as the chain of its tasks.

Subjects, permissions (runtime/permissions.py), tests and docs are all made from `TABLE`. Facts that guard each other carry the
same filter string; no unfenced fact may match a fence's filter (a test holds that).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from functools import lru_cache

from msgspec import Struct

from farebox.core import events as e
from farebox.core import ids
from farebox.core.errors import BadFact

LOG = "farebox.log"
LIVE = "farebox.live"
ALL = f"{LOG}.>"
API = "farebox.api"


class Guard(Enum):
    """What a fact's append expects of the log."""

    NONE = "none"
    OWN_FIRST = "own subject, first"
    OWN_LAST = "own subject, last known"
    ROUTER = "router of the task"
    QUOTA = "all of quota"
    LANE = "lane of the task"
    HANDOFF = "handoff of the task"


class Place(Enum):
    """Which of lane, chain and task stand in a fact's subject."""

    TASK = "-.<chain>.<task>"
    LANE_TASK = "<platform>.<chain>.<task>"
    LANE = "<platform>.-.-"
    BATCH = "-.<batch>.-"
    ALONE = "-.-.-"


class Row(Struct, frozen=True):
    """One fact of one writer."""

    fact: type[e.Fact]
    writer: str
    token: str
    place: Place
    guard: Guard


TABLE: tuple[Row, ...] = (
    Row(e.SettingsAdopted, "engine", "settings", Place.ALONE, Guard.OWN_LAST),
    Row(e.PriceListAdopted, "engine", "prices", Place.ALONE, Guard.OWN_LAST),
    Row(e.BatchSubmitted, "client", "batch_submitted", Place.BATCH, Guard.OWN_FIRST),
    Row(e.TaskSubmitted, "client", "submitted", Place.TASK, Guard.OWN_FIRST),
    Row(e.TaskSubmitted, "handoff", "submitted", Place.TASK, Guard.OWN_FIRST),
    Row(e.TaskReady, "handoff", "ready", Place.TASK, Guard.OWN_FIRST),
    Row(e.TaskRouted, "router", "routed", Place.TASK, Guard.ROUTER),
    Row(e.TaskCompleted, "router", "completed", Place.TASK, Guard.ROUTER),
    Row(e.QuotaReserved, "quota", "reserved", Place.LANE_TASK, Guard.QUOTA),
    Row(e.QuotaDeferred, "quota", "deferred", Place.TASK, Guard.QUOTA),
    Row(e.QuotaRefused, "quota", "refused", Place.TASK, Guard.QUOTA),
    Row(e.QuotaSettled, "quota", "settled", Place.LANE_TASK, Guard.QUOTA),
    Row(e.QuotaWarned, "quota", "warned", Place.LANE, Guard.QUOTA),
    Row(e.TaskStarted, "adapter", "started", Place.LANE_TASK, Guard.LANE),
    Row(e.TaskCompleted, "adapter", "completed", Place.LANE_TASK, Guard.LANE),
    Row(e.AttemptFailed, "adapter", "failed", Place.LANE_TASK, Guard.LANE),
    Row(e.AttemptInterrupted, "adapter", "interrupted", Place.LANE_TASK, Guard.LANE),
    Row(e.LateResult, "late", "result", Place.LANE_TASK, Guard.NONE),
    Row(e.QuotaLearned, "adapter", "quota_learned", Place.LANE, Guard.NONE),
    Row(e.PlatformReported, "adapter", "reported", Place.LANE, Guard.NONE),
    Row(e.CostRecorded, "cost", "recorded", Place.LANE_TASK, Guard.OWN_LAST),
    Row(e.HandoffCreated, "handoff", "created", Place.TASK, Guard.HANDOFF),
    Row(e.BatchCompleted, "aggregator", "batch_completed", Place.BATCH, Guard.OWN_FIRST),
    Row(e.TaskCancelRequested, "client", "cancel_requested", Place.TASK, Guard.OWN_LAST),
    Row(e.TaskAnswered, "client", "answered", Place.TASK, Guard.OWN_LAST),
    Row(e.TaskDecision, "client", "decided", Place.TASK, Guard.OWN_LAST),
)
LIVE_ROW = Row(e.ChunkStreamed, "adapter", "chunk", Place.LANE_TASK, Guard.NONE)

ROWS: dict[tuple[str, type[e.Fact]], Row] = {(row.writer, row.fact): row for row in TABLE}
BY_TOKEN: dict[tuple[str, str], Row] = {(row.writer, row.token): row for row in TABLE}
WRITERS: tuple[str, ...] = tuple(dict.fromkeys(row.writer for row in TABLE))


def row_of(writer: str, fact: e.Fact) -> Row:
    """Return the row that allows `writer` to say `fact`. Raises BadFact if there is none."""
    row = ROWS.get((writer, type(fact)))
    if row is None:
        raise BadFact(f"{writer} may not say {type(fact).__name__}.")
    return row


def subject_of(writer: str, fact: e.Fact) -> str:
    """Return the subject on which `writer` says `fact`. Every token is checked: a literal wildcard would be stored."""
    row = row_of(writer, fact)
    return _PLACES[writer, row.fact](fact)


def live_subject(fact: e.ChunkStreamed) -> str:
    """Return the subject of a live chunk."""
    return _live_place(fact)


def live_filter(chain: str, task: str) -> str:
    """Return the filter of all live chunks of one task."""
    return f"{LIVE}.adapter.*.*.{chain}.{task}"


def exact(writer: str, token: str, chain: str, task: str, lane: str = ids.NONE) -> str:
    """Return one exact subject, for reading back what stands there."""
    assert (writer, token) in BY_TOKEN, (writer, token)
    return f"{LOG}.{writer}.{token}.{_token(lane)}.{_token(chain)}.{_token(task)}"


def task_filter(chain: str, task: str) -> str:
    """Return the filter of all facts of one task."""
    return f"{LOG}.*.*.*.{_token(chain)}.{_token(task)}"


def lane_filter(platform: str, chain: str, task: str) -> str:
    """Return the filter of all that adapters of `platform` said about one task."""
    return f"{LOG}.adapter.*.{_token(platform)}.{_token(chain)}.{_token(task)}"


def fence_filter(writer: str, fact: e.Fact) -> str | None:
    """Return the filter over which the append of `fact` expects the last sequence it knows; None for no fence."""
    row = row_of(writer, fact)
    match row.guard:
        case Guard.NONE:
            return None
        case Guard.OWN_FIRST | Guard.OWN_LAST:
            return subject_of(writer, fact)
        case Guard.ROUTER:
            return f"{LOG}.router.*.*.{_token(fact.chain)}.{_token(fact.task)}"
        case Guard.QUOTA:
            return f"{LOG}.quota.>"
        case Guard.LANE:
            return lane_filter(_lane(fact), fact.chain, fact.task)
        case Guard.HANDOFF:  # pragma: no branch - there is no other guard
            return f"{LOG}.handoff.created.*.{_token(fact.chain)}.{_token(fact.task)}"


class Address(Struct, frozen=True):
    """A subject taken apart."""

    writer: str
    token: str
    lane: str
    chain: str
    task: str


def parse(subject: str) -> Address:
    """Take a subject of the log apart. Raises BadFact when it has another shape."""
    tokens = subject.split(".")
    if len(tokens) != 7 or tokens[0] != "farebox" or tokens[1] not in {"log", "live"}:
        raise BadFact(f"{subject[:120]!r} is no subject of the log.")
    return Address(*tokens[2:])


def verify(subject: str, fact: e.Fact) -> Row:
    """Return the row of a fact read from `subject`. Raises BadFact when subject, writer and body disagree."""
    live = subject.startswith(LIVE)
    tokens = subject.split(".", 3)
    writer = tokens[2] if len(tokens) > 3 else ""
    place = _live_place if live else _PLACES.get((writer, type(fact)))
    if place is not None and (not live or type(fact) is LIVE_ROW.fact) and place(fact) == subject:
        return LIVE_ROW if live else ROWS[writer, type(fact)]
    address = parse(subject)
    row = LIVE_ROW if live else BY_TOKEN.get((address.writer, address.token))
    if row is None or type(fact) is not row.fact:
        raise BadFact(f"{address.writer} may not say {type(fact).__name__} on {subject}.")
    raise BadFact(f"The body of {type(fact).__name__} on {subject} speaks of another task or lane.")


def _placed(row: Row, root: str = LOG) -> Callable[[e.Fact], str]:
    """Return what makes the subject of a row's fact; made once, because each fact needs its subject several times."""
    prefix = f"{root}.{row.writer}.{row.token}"
    match row.place:
        case Place.TASK if "platform" in row.fact.__struct_fields__ and row.fact is not e.TaskSubmitted:
            return lambda fact: f"{prefix}.{_absent(_lane(fact))}.{_known(fact.chain)}.{_known(fact.task)}"
        case Place.TASK:  # without a lane; the platform of a submission is a wish
            return lambda fact: f"{prefix}.-.{_known(fact.chain)}.{_known(fact.task)}"
        case Place.LANE_TASK:
            return lambda fact: f"{prefix}.{_known(_lane(fact))}.{_known(fact.chain)}.{_known(fact.task)}"
        case Place.LANE:
            return lambda fact: f"{prefix}.{_known(_lane(fact))}.{_absent(fact.chain)}.{_absent(fact.task)}"
        case Place.BATCH:
            return lambda fact: f"{prefix}.-.{_batch(fact)}.{_absent(fact.task)}"
        case Place.ALONE:  # pragma: no branch - there is no other place
            return lambda fact: f"{prefix}.-.{_absent(fact.chain)}.{_absent(fact.task)}"


def _lane(fact: e.Fact) -> str:
    return getattr(fact, "platform", ids.NONE)


@lru_cache(maxsize=65_536)
def _known(token: str) -> str:
    if not ids.is_id(token):
        raise BadFact(f"{token[:64]!r} cannot stand in a subject.")
    return token


def _batch(fact: e.Fact) -> str:
    """Return the batch that a fact speaks of, which is also the chain of its tasks."""
    _absent(fact.chain, but=fact.batch)
    return _known(fact.batch)


def _absent(token: str, but: str = ids.NONE) -> str:
    """Return `-`, which stands where a fact speaks of nothing. Raises BadFact for a body that says more (than `but`)."""
    if token not in {ids.NONE, but}:
        raise BadFact(f"{token[:64]!r} stands in a body that must not speak of it.")
    return ids.NONE


def _token(token: str) -> str:
    return token if token == ids.NONE else _known(token)


_PLACES = {(row.writer, row.fact): _placed(row) for row in TABLE}
_live_place = _placed(LIVE_ROW, LIVE)
