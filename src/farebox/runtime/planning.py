"""What a batch would do, before any of it is sent: the router's choice for tasks that nobody submitted, against the limits."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from farebox.core import money, rejections
from farebox.core.errors import BadInput
from farebox.core.events import TaskRouted, TaskSubmitted
from farebox.core.terms import Fault, OnQuota, Ref
from farebox.runtime.capacity import Capacity
from farebox.runtime.mind import Mind
from farebox.runtime.plan import PAID, Group, Plan, planned

Json = dict[str, Any]
TASKS_MAX = 1_000_000
NOBODY = "0" * 64
SHARED = ("settings", "prices", "reports")
"""What a router's state holds that never changes by itself, and need not be copied for a supposition."""


class Alike(Struct, frozen=True, kw_only=True):
    """So many tasks of one kind in a question: the fields of a submission without its texts, and how many bytes those have."""

    count: Annotated[int, Meta(ge=1, le=TASKS_MAX)]
    bytes: Annotated[int, Meta(ge=0, le=2**40)] = 0
    task: dict[str, Any] = {}


class Planning:
    """Answers `plan` for one engine."""

    def __init__(self, minds: Sequence[Mind], capacity: Capacity) -> None:
        self._minds = minds
        self._capacity = capacity

    async def plan(self, question: Json) -> Json:
        """Answer with what these tasks would do (`farebox.plan/1`). Nothing is sent and nothing is kept. Raises BadInput.

        `groups` stand in the order of the tasks; `on_quota`, where given, is tried instead of what tasks and policies say.
        """
        groups = msgspec.convert(question.get("groups") or [], list[Alike])
        if sum(one.count for one in groups) > TASKS_MAX:
            raise BadInput(f"A plan looks at {TASKS_MAX:,} tasks at most.", hint="Leave it out with --yes.")
        router = next((mind for mind in self._minds if mind.actor.name == "router"), None)
        if router is None:
            raise BadInput("No router runs in this engine, so nothing can be planned.", hint="Leave it out with --yes.")
        now_ms, settings = self._capacity.now_ms(), self._capacity.settings
        supposed = _supposition(router.state)
        asked: OnQuota | None = question.get("on_quota")
        found = [self._group(router, supposed, place, one, asked, now_ms) for place, one in enumerate(groups)]
        plan = planned(found, self._capacity.standings(), now_ms, settings.warn_at_percent)
        return {"schema": "farebox.plan/1", "now_ms": now_ms, "warn_at_percent": settings.warn_at_percent, **_told(plan)}

    @staticmethod
    def _group(router: Mind, state: Any, place: int, one: Alike, on_quota: OnQuota | None, now_ms: int) -> Group:
        ref = Ref(ref=NOBODY, sha256=NOBODY, bytes=one.bytes)
        own = {"fact": "TaskSubmitted", "chain": "plan", "task": f"plan-{place}", **one.task}
        try:
            told = msgspec.convert(own, TaskSubmitted)
        except msgspec.ValidationError as error:
            raise BadInput(f"The task does not read: {error}.") from error
        fact = msgspec.structs.replace(told, id=f"plan-{place}", prompt_ref=ref, seq=1, at_ms=now_ms)
        state = router.actor.evolve(state, fact)
        for said in router.actor.decide(state, fact):
            if isinstance(said, TaskRouted):
                return Group(one.count, said.candidates, on_quota or said.allowance.on_quota)
            fault: Fault | None = getattr(said, "fault", None)
            if fault is not None:
                return Group(one.count, refused=fault.message, code=rejections.code_of(fault.error_class, fault.message))
        return Group(one.count, refused="it waits for something else")


def _supposition(state: Any) -> Any:
    """Return a router's state that may be thought on without touching the real one, and without its tasks."""
    twin = copy.copy(state)
    twin.tasks, twin.cancels = {}, {}
    return copy.deepcopy(twin, {id(one): one for name in SHARED if (one := getattr(twin, name, None)) is not None})


def _told(plan: Plan) -> Json:
    """Return a plan as a document: money is text, and what is paid stands apart from what plans cover."""
    shares = [
        {
            "platform": one.platform, "billing": one.billing, "tasks": one.tasks, "unpriced": one.unpriced,
            "low_usd": money.text(one.low_usd), "estimate_usd": money.text(one.estimate_usd),
            "bound_usd": money.text(one.bound_usd),
        }
        for one in plan.shares.values()
    ]  # fmt: skip
    paid = [one for one in plan.shares.values() if one.billing in PAID]
    return {
        "tasks": plan.tasks,
        "platforms": shares,
        "paid_low_usd": money.text(money.total(one.low_usd for one in paid)),
        "paid_estimate_usd": money.text(money.total(one.estimate_usd for one in paid)),
        "paid_bound_usd": money.text(money.total(one.bound_usd for one in paid)),
        "unpriced": sum(one.unpriced for one in paid),
        "windows": [
            {
                "quota": one.quota, "unit": one.unit, "used": money.text(one.used), "limit": money.text(one.limit),
                "after": money.text(one.after), "resets_at_ms": one.resets_at_ms, "warn_at_task": one.warn_at_task,
                "full_at_task": one.full_at_task,
            }
            for one in plan.reached.values()
            if one.warn_at_task is not None or one.full_at_task is not None
        ],
        "waits": plan.waits,
        "ends_ms": plan.ends_ms,
        "refused": [
            {"reason": reason, "tasks": tasks, "code": plan.codes.get(reason, "")} for reason, tasks in plan.refused.items()
        ],
    }  # fmt: skip
