"""Every fact that can be in the log, in the order a task meets them.

A fact is a frozen struct with its envelope inside, so that any client in any language can read it from the body alone.
`seq` and `at_ms` are filled in by the reader from the stream, the only clock that is believed; a written value is ignored.
Fields may be added with a default; renaming or removing one makes a new version (core/wire.py).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from farebox.core.fact import Fact
from farebox.core.ids import NONE, Id
from farebox.core.money import Usd
from farebox.core.terms import (
    Allowance,
    Billing,
    CallRecord,
    Candidate,
    Charged,
    Constraints,
    CostStatus,
    Count,
    EndStatus,
    Fault,
    FileInput,
    Millis,
    OnInterrupt,
    PlatformSum,
    Ref,
    Rejected,
    Sha256,
    Take,
    TaskType,
    Unit,
    Usage,
)

Text = str
Seconds = Annotated[float, Meta(gt=0, le=7 * 86_400)]
Tags = dict[str, str]


class TaskSubmitted(Fact, frozen=True, kw_only=True, tag="TaskSubmitted"):
    """Somebody wants something done. Said by a client (or the handoff actor), fenced: the first on its subject."""

    prompt: Text = ""
    prompt_ref: Ref | None = None
    system: Text = ""
    context: dict[str, Any] = {}
    context_ref: Ref | None = None
    files: tuple[FileInput, ...] = ()
    metadata: Tags = {}
    tags: Tags = {}
    type: TaskType = "general"
    platform: str = ""
    fallback: bool = True
    model: str = ""
    priority: Annotated[int, Meta(ge=-1000, le=1000)] = 0
    timeout_s: Seconds = 300.0
    max_tokens: Annotated[int, Meta(ge=1, le=10**9)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=10)] | None = None
    needs: tuple[Id, ...] = ()
    memory: str = ""
    on_interrupt: OnInterrupt | None = None
    constraints: Constraints = Constraints()
    directory: Annotated[str, Meta(max_length=4096)] = ""
    worktree: bool = False
    label: str = ""
    bytes: Count = 0
    input_tokens: Count | None = None
    sha256: Sha256 | None = None


class TaskReady(Fact, frozen=True, kw_only=True, tag="TaskReady"):
    """All parents of a task are done and its context was recalled. Said by the handoff actor."""

    parents: tuple[Id, ...] = ()
    context_ref: Ref | None = None


class TaskRouted(Fact, frozen=True, kw_only=True, tag="TaskRouted"):
    """Who may do the attempt, cheapest first, and who may not and why. Said by the router."""

    submitted_by: Literal["client", "handoff"] = "client"
    submission_sha256: Sha256 = "0" * 64
    candidates: tuple[Candidate, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    priority: int = 0
    timeout_s: Seconds = 300.0
    on_interrupt: OnInterrupt = "retry"
    allowance: Allowance = Allowance()


class QuotaReserved(Fact, frozen=True, kw_only=True, tag="QuotaReserved"):
    """The first candidate with capacity has it. Said by quota; the platform's lane carries it to its adapter.

    `takes` is what it took of each quota besides the slot (`in_use` of `limit`), under the limits known at sequence `as_of`.
    After `start_by_ms` (stream time) nobody may start it any more. `output_tokens_max` bounds the answer where money is
    bounded.
    """

    platform: str
    model: str = ""
    billing: Billing = "metered"
    lane_seq: int = 0
    submitted_by: Literal["client", "handoff"] = "client"
    submission_sha256: Sha256 = "0" * 64
    timeout_s: Seconds = 300.0
    on_interrupt: OnInterrupt = "retry"
    in_use: Count = 0
    limit: Count = 0
    takes: tuple[Take, ...] = ()
    as_of: Count = 0
    start_by_ms: Millis = 0
    output_tokens_max: Count | None = None


class QuotaDeferred(Fact, frozen=True, kw_only=True, tag="QuotaDeferred"):
    """Nobody may start before `due_ms` (stream time); then the waiting line is looked at again. Said by quota.

    `due_ms` is 0 where nobody knows when `quota` has room again.
    """

    routed_seq: Count = 0
    due_ms: Millis = 0
    reason: str = ""
    quota: str = ""


class QuotaRefused(Fact, frozen=True, kw_only=True, tag="QuotaRefused"):
    """A waiting task gets no capacity any more (cancelled, or nothing allows it); the router ends it. Said by quota."""

    fault: Fault


class QuotaSettled(Fact, frozen=True, kw_only=True, tag="QuotaSettled"):
    """What a reservation really used; its slot is free. Said by quota for each attempt that ended, and once more with the
    dollars (`takes`) when its cost is known, as an answer to CostRecorded.

    `expired`: nobody ended the attempt by its deadline, so what it may have used is booked.
    """  # noqa: D205

    platform: str
    requests: Count = 0
    tokens: Count | None = None
    takes: tuple[Take, ...] = ()
    expired: bool = False


class QuotaWarned(Fact, frozen=True, kw_only=True, tag="QuotaWarned"):
    """A quota passed its warning line. Said by quota once per window, with the reset time and where the use is known from."""

    platform: str
    quota: str = ""
    window: str = ""
    unit: Unit = "requests"
    used: Count | Usd = 0
    limit: Count | Usd = 0
    resets_at_ms: Millis | None = None
    evidence: str = ""


class QuotaLearned(Fact, frozen=True, kw_only=True, tag="QuotaLearned"):
    """A limit or a use that the provider itself reported. Said by the adapter of the lane, not fenced."""

    platform: str
    account: str = ""
    window_s: Count = 0
    unit: Unit = "requests"
    limit: Count | None = None
    used: Count | None = None
    resets_at_ms: Millis | None = None
    evidence: str = ""


class TaskStarted(Fact, frozen=True, kw_only=True, tag="TaskStarted"):
    """The intent, in the log before money is spent; its own sequence is the epoch of the attempt. Said by the adapter.

    `worktree` is the folder of the git worktree that this attempt is about to get for itself. `output_tokens_max` bounds the
    answer where its money is bounded and the task itself says nothing.
    """

    platform: str
    model: str = ""
    billing: Billing = "metered"
    adapter: str = ""
    boot: str = ""
    timeout_s: Seconds = 300.0
    on_interrupt: OnInterrupt = "retry"
    worktree: str = ""
    input_tokens_estimate: Count | None = None
    output_tokens_max: Count | None = None


class ChunkStreamed(Fact, frozen=True, kw_only=True, tag="ChunkStreamed"):
    """Live text of an attempt, numbered from 1; kept for hours only, the whole answer is in TaskCompleted."""

    platform: str
    number: Count = 0
    text: Text = ""


class Ending(Fact, frozen=True, kw_only=True):
    """What every end of an attempt tells: who, how long, what it used and whether it can have cost something.

    `worktree` is a git worktree that is still there, made at the commit `base_commit`.
    """

    platform: str = NONE
    model: str = ""
    billing: Billing = "metered"
    charged: Charged = "none"
    usage: Usage | None = None
    provider_usd: Usd | None = None
    partial_output: Text = ""
    partial_ref: Ref | None = None
    duration_ms: Millis = 0
    calls: tuple[CallRecord, ...] = ()
    worktree: str = ""
    base_commit: str = ""

    @property
    def chargeable(self) -> bool:
        """Whether this attempt may have cost something, so that a CostRecorded must follow."""
        return self.charged != "none"


class TaskCompleted(Ending, frozen=True, kw_only=True, tag="TaskCompleted"):
    """The one end of a task. Said by the adapter that held it, or by the router for a task that cannot run.

    Files are named from the directory in which the program worked; deleted ones count as changed. `files_more`: these are not
    all of them.
    """

    status: EndStatus
    output: Text = ""
    output_ref: Ref | None = None
    files_created: tuple[str, ...] = ()
    files_changed: tuple[str, ...] = ()
    files_more: bool = False
    finish_reason: str = ""
    fault: Fault | None = None
    tried: tuple[Rejected, ...] = ()

    @property
    def chargeable(self) -> bool:
        """Every end that an adapter said gets its CostRecorded, be it over nothing."""
        return self.attempt > 0 and self.platform != NONE


class AttemptFailed(Ending, frozen=True, kw_only=True, tag="AttemptFailed"):
    """The provider said no, or the call never happened. The baton goes back to the router. Said by the adapter."""

    fault: Fault
    retry_after_ms: Millis | None = None


class AttemptInterrupted(Ending, frozen=True, kw_only=True, tag="AttemptInterrupted"):
    """The outcome of an attempt is not known: its call may have been charged. Said by whoever takes over."""

    reason: Literal["crash", "stall", "deadline", "cancelled", "fenced"] = "crash"
    fault: Fault


class LateResult(Ending, frozen=True, kw_only=True, tag="LateResult"):
    """A paid answer of an attempt that had lost its lane meanwhile. Not fenced: its cost is always booked."""

    output: Text = ""
    output_ref: Ref | None = None
    fault: Fault | None = None


class CostRecorded(Fact, frozen=True, kw_only=True, tag="CostRecorded"):
    """What one attempt cost; a later one for the same attempt supersedes, never adds. Said by cost.

    `paid_usd` is money, `plan_value_usd` the list price of work that a plan (or nobody) covered: never added together.
    None is unknown. `possible` means: at most this much.
    """

    platform: str = NONE
    model: str = ""
    billing: Billing = "metered"
    status: CostStatus = "unpriced"
    paid_usd: Usd | None = None
    plan_value_usd: Usd | None = None
    provider_usd: Usd | None = None
    usage: Usage | None = None
    unit_prices: dict[str, Usd] = {}
    price_list: str = ""
    price_model: str = ""
    late: bool = False


class HandoffCreated(Fact, frozen=True, kw_only=True, tag="HandoffCreated"):
    """A finished task's context became a memory; only this pointer and the summary travel. Said by the handoff actor."""

    memory: str
    summary: Annotated[str, Meta(max_length=500)] = ""
    sha256: Sha256 = "0" * 64
    bytes: Count = 0
    parent: Id = NONE
    hop: Count = 0
    trust: Literal["own", "tainted"] = "own"


class BatchSubmitted(Fact, frozen=True, kw_only=True, tag="BatchSubmitted"):
    """A batch of `count` tasks comes: chain and task ids follow from its id. Said by a client before the tasks."""

    count: Annotated[int, Meta(ge=1, le=10_000_000)]
    parallel: Annotated[int, Meta(ge=1, le=100_000)] = 10
    fail_fast: bool = False
    sha256: Sha256 = "0" * 64
    lines_ref: Ref | None = None
    source: str = ""


class BatchCompleted(Fact, frozen=True, kw_only=True, tag="BatchCompleted"):
    """Every task of the batch has ended and every attempt has its charge, as of sequence `as_of_seq`. By the aggregator."""

    count: Count = 0
    completed: Count = 0
    failed: Count = 0
    cancelled: Count = 0
    paid_usd: Usd | None = None
    plan_value_usd: Usd | None = None
    possible_usd: Usd | None = None
    unpriced: Count = 0
    input_tokens: Count = 0
    output_tokens: Count = 0
    duration_ms: Millis = 0
    platforms: dict[str, PlatformSum] = {}
    as_of_seq: Count = 0


class TaskCancelRequested(Fact, frozen=True, kw_only=True, tag="TaskCancelRequested"):
    """A client does not want the task any more. Sticky: it counts whenever it comes. The holder of the baton obeys."""

    reason: str = ""


class TaskAnswered(Fact, frozen=True, kw_only=True, tag="TaskAnswered"):
    """A person's answer to a task that waits for one."""

    answer: Text = ""
    answer_ref: Ref | None = None


class TaskDecision(Fact, frozen=True, kw_only=True, tag="TaskDecision"):
    """A person's word on an interrupted attempt whose policy is `ask`; `attempt` names it."""

    decision: Literal["retry", "fail", "accept"]


class SettingsAdopted(Fact, frozen=True, kw_only=True, tag="SettingsAdopted"):
    """The settings in force from here on (core/settings.py), whole. Said by the engine when they differ from the last."""

    settings: dict[str, Any] = {}
    sha256: Sha256 = "0" * 64


class PriceListAdopted(Fact, frozen=True, kw_only=True, tag="PriceListAdopted"):
    """The price list in force from here on; the log alone can derive each cost again. Said by the engine."""

    list_id: str
    sha256: Sha256 = "0" * 64
    prices: dict[str, Any] = {}
    prices_ref: Ref | None = None


class PlatformReported(Fact, frozen=True, kw_only=True, tag="PlatformReported"):
    """What a machine found out about its platform. Said by the adapter of the lane when it changes."""

    platform: str
    available: bool = False
    detail: str = ""
    mend: str = ""
    release: str = ""
    models: tuple[str, ...] = ()


AnyFact = (
    TaskSubmitted | TaskReady | TaskRouted | QuotaReserved | QuotaDeferred | QuotaRefused | QuotaSettled | QuotaWarned
    | QuotaLearned | TaskStarted | ChunkStreamed | TaskCompleted | AttemptFailed | AttemptInterrupted | LateResult
    | CostRecorded | HandoffCreated | BatchSubmitted | BatchCompleted | TaskCancelRequested | TaskAnswered
    | TaskDecision | SettingsAdopted | PriceListAdopted | PlatformReported
)  # fmt: skip
FACTS: tuple[type[Fact], ...] = AnyFact.__args__
"""All kinds of facts, as their tags name them."""
