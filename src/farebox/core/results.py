"""What a person or a program gets back: the result of a task, and the documents of `--json`. Money is text, unknown null."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

TaskStatus = Literal["pending", "running", "completed", "failed", "cancelled", "unknown"]


class UsageShown(Struct, frozen=True, kw_only=True):
    """Tokens over all attempts of a task; None is unknown."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    source: str = ""


class CostShown(Struct, frozen=True, kw_only=True):
    """Cost over all attempts of a task, US dollars as decimal text; None is unknown, status says why.

    `status` is the worst of the attempts: unpriced, possible, estimated, priced; "none" when nothing can have cost anything,
    "pending" while a charge is still to be booked.
    """

    paid_usd: str | None = None
    plan_value_usd: str | None = None
    possible_usd: str | None = None
    status: str = "none"


class ErrorShown(Struct, frozen=True, kw_only=True):
    """Why a task did not succeed. As JSON the class is named `class`, a word that Python keeps for itself."""

    error_class: str = field(name="class")
    message: str = ""


class Result(Struct, frozen=True, kw_only=True):
    """The result document of a task (`farebox.result/1`). `files_more`: not all files are named.

    `worktree` is a git worktree that was left for a look, made at the commit `base_commit`.
    """

    task_id: str
    chain_id: str
    batch_id: str = ""
    label: str = ""
    platform: str = ""
    model: str = ""
    billing: str = ""
    status: TaskStatus = "unknown"
    output: str = ""
    partial_output: str = ""
    files_created: tuple[str, ...] = ()
    files_changed: tuple[str, ...] = ()
    files_more: bool = False
    worktree: str = ""
    base_commit: str = ""
    usage: UsageShown = UsageShown()
    cost: CostShown = CostShown()
    duration_s: float | None = None
    attempts: int = 0
    error: ErrorShown | None = None

    @property
    def ok(self) -> bool:
        """Whether the task completed."""
        return self.status == "completed"
