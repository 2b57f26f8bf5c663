"""Policies as settings: which platforms a kind of task may use, in which order, and what it does when quotas are used up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from farebox.core.money import Usd
from farebox.core.terms import OnQuota, TaskType

Tier = Literal["free", "plan", "metered", "rehearsal"]


class PolicySettings(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """`[policies.NAME]` of farebox.toml. `types`, `tags` and `chains` say for which tasks; left out, for any.

    Of several that fit, the one that asks for most counts (then the first by name). `order` names platforms in the order
    of use within a tier, `tiers` the tiers allowed (all, when left out), `last_resort` is `wait` or a platform on a plan whose
    line is joined when all is used up. `sticky`: a chain stays where it last succeeded, as long as that may do the task.
    """

    types: tuple[TaskType, ...] = ()
    tags: dict[str, str] = {}
    chains: tuple[str, ...] = ()
    order: tuple[str, ...] = ()
    tiers: tuple[Tier, ...] = ()
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    on_quota: OnQuota | None = None
    last_resort: str = ""
    fallback: bool = True
    sticky: bool = False
    local: bool = False
    max_cost_usd: Usd | None = None


NO_POLICY = PolicySettings()


def policy_for(
    policies: Mapping[str, PolicySettings], task_type: TaskType, tags: Mapping[str, str], chain: str
) -> tuple[str, PolicySettings]:
    """Return the name and the policy for such a task; ("", no policy) when none fits."""
    fitting = [(-_asked(one), name) for name, one in policies.items() if _fits(one, task_type, tags, chain)]
    if not fitting:
        return "", NO_POLICY
    _, name = min(fitting)
    return name, policies[name]


def _fits(policy: PolicySettings, task_type: TaskType, tags: Mapping[str, str], chain: str) -> bool:
    typed = not policy.types or task_type in policy.types
    return typed and (not policy.chains or chain in policy.chains) and all(tags.get(k) == v for k, v in policy.tags.items())


def _asked(policy: PolicySettings) -> int:
    return len(policy.tags) + bool(policy.types) + 2 * bool(policy.chains)
