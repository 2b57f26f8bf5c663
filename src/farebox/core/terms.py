"""The values that facts are made of: references, usage, candidates, errors. Frozen, with their units in the names."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from farebox.core.money import Usd

TaskType = Literal["code_generation", "research", "data_analysis", "review", "general"]
Billing = Literal["plan", "metered", "free", "rehearsal"]
"""Who pays for a platform's work: a flat plan, per token, nobody, or nobody because no model is behind it."""
Charged = Literal["none", "possible", "known"]
"""Whether an attempt cost something: certainly not, perhaps, or as its usage says."""
EndStatus = Literal["completed", "failed", "cancelled"]
OnInterrupt = Literal["retry", "fail", "ask"]
OnQuota = Literal["wait", "spill", "stop"]
"""What a task does when the capacity that costs nothing more is used up: wait for it, go on where it costs, or fail."""
Unit = Literal["requests", "tokens", "tokens_in", "tokens_out", "percent", "usd", "calls"]
"""What a quota counts; `calls` are those that run at once."""
QuotaSource = Literal["learned", "published", "configured"]
CostStatus = Literal["priced", "unpriced", "estimated", "possible"]
UsageSource = Literal["provider", "computed", "estimated"]
ErrorClass = Literal[
    "rate_limited", "quota_exhausted", "auth_missing", "context_too_long", "refused", "truncated", "server_error",
    "network", "timeout", "stalled", "crashed", "invalid", "cancelled", "unavailable", "exhausted", "policy",
    "quarantined", "parent_failed", "handoff_context_missing", "unsupported", "damaged",
]  # fmt: skip
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Count = Annotated[int, Meta(ge=0, le=2**53)]
TokenCount = Annotated[int, Meta(ge=0, le=10**12)]
Millis = Annotated[int, Meta(ge=0, le=2**53)]


class Value(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """A part of a fact: frozen, compared by value, defaults not written."""


class Ref(Value, frozen=True, kw_only=True):
    """A content kept in the object store because it is larger than 256 KiB."""

    ref: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    sha256: Sha256
    bytes: Count


class FileInput(Value, frozen=True, kw_only=True):
    """A text file handed in with a task."""

    name: Annotated[str, Meta(min_length=1, max_length=1024)]
    content: str | None = None
    ref: Ref | None = None


class Usage(Value, frozen=True, kw_only=True):
    """Tokens of one attempt. `input_tokens` counts all that was read, cached ones included; `output_tokens` all that was
    written, reasoning included; `cache_write_tokens` all that went into a cache, those kept for an hour included. None where
    the source does not say.
    """  # noqa: D205

    input_tokens: TokenCount | None = None
    output_tokens: TokenCount | None = None
    cached_tokens: TokenCount | None = None
    cache_write_tokens: TokenCount | None = None
    cache_write_1h_tokens: TokenCount | None = None
    reasoning_tokens: TokenCount | None = None
    source: UsageSource = "provider"


class Fault(Value, frozen=True, kw_only=True):
    """Why an attempt or a task did not succeed; `error_class` decides what happens next, `message` is for people."""

    error_class: ErrorClass
    message: Annotated[str, Meta(max_length=4096)] = ""


class CallRecord(Value, frozen=True, kw_only=True):
    """One call that left this machine inside an attempt."""

    status: int = 0
    error_class: str = ""
    duration_ms: Millis = 0


class Candidate(Value, frozen=True, kw_only=True):
    """A platform that may do the task. `lane_seq` is the last sequence the router knows in that lane for this task;
    `not_before_ms` a moment (stream time) before which it must not start, 0 for at once.

    Tokens and dollars are estimates: from `low_usd` to `bound_usd`, `estimate_usd` the likeliest. They are list prices,
    whoever pays; None where the list knows none. `bound_usd` holds for an answer of at most `output_tokens_max`.
    `health` is 1000 for a platform without recent trouble and falls to 0; `latency_ms` is what it took lately.
    """  # noqa: D205

    platform: str
    model: str = ""
    billing: Billing = "metered"
    tier: int = 0
    input_tokens: Count | None = None
    input_tokens_max: Count | None = None
    output_tokens: Count | None = None
    output_tokens_max: Count | None = None
    low_usd: Usd | None = None
    estimate_usd: Usd | None = None
    bound_usd: Usd | None = None
    health: Count = 1000
    latency_ms: Millis = 0
    lane_seq: int = 0
    not_before_ms: Millis = 0
    limit: Count = 10


class Rejected(Value, frozen=True, kw_only=True):
    """A platform that may not do the task, and why."""

    platform: str
    reason: str


class Constraints(Value, frozen=True, kw_only=True):
    """What a submission allows. What it leaves out the policy decides; of two bounds the smaller one counts.

    `tier` is the dearest that may be used, `allow` and `deny` name platforms, `capabilities` what a platform must be able to
    do; `local` keeps the task on this machine. The bounds are US dollars for the task with all its attempts, for all tasks of
    its batch and of its chain.
    """

    max_cost_usd: Usd | None = None
    batch_max_cost_usd: Usd | None = None
    chain_max_cost_usd: Usd | None = None
    on_quota: OnQuota | None = None
    tier: Literal["", "free", "plan", "metered"] = ""
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    local: bool = False
    allow_unpriced: bool = False


class Allowance(Value, frozen=True, kw_only=True):
    """What quota needs of a task's constraints and policy: bounds in US dollars, tags for budgets, what to do without room.

    `policy` names the policy that was applied; `last_resort` a platform whose line the task joins when all else is used up.
    """

    policy: str = ""
    on_quota: OnQuota = "wait"
    last_resort: str = ""
    tags: dict[str, str] = {}
    max_cost_usd: Usd | None = None
    batch_max_cost_usd: Usd | None = None
    chain_max_cost_usd: Usd | None = None
    allow_unpriced: bool = False


class Take(Value, frozen=True, kw_only=True):
    """A part of one quota: `amount` reserved (or, where it is settled, really used), in the quota's unit, as decimal text.

    `used` is the use with this part, `limit` the limit known then (None: unknown), `source` who said the limit.
    """

    quota: Annotated[str, Meta(max_length=256)]
    amount: Usd
    used: Usd | None = None
    limit: Usd | None = None
    source: QuotaSource | None = None


class PlatformSum(Value, frozen=True, kw_only=True):
    """What the tasks of a batch used on one platform."""

    tasks: Count = 0
    completed: Count = 0
    paid_usd: Usd | None = None
    plan_value_usd: Usd | None = None
    input_tokens: Count = 0
    output_tokens: Count = 0
    duration_ms: Millis = 0
