"""What a task or a whole batch allows: who may be paid, which platforms, what happens when quotas are used up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from cyclopts import Parameter

from farebox import amounts
from farebox.core.terms import OnQuota
from farebox.inputs import pairs_option
from farebox.tasks import TaskSpec


@Parameter(name="*")
@dataclass(frozen=True)
class Allowed:
    """Options of `submit` and `batch`."""

    tier: Literal["free", "plan", "metered"] | None = None
    """The dearest that may be used: free, plan or metered."""
    local: Annotated[bool, Parameter(negative=())] = False
    """Only platforms on this machine."""
    allow: tuple[str, ...] = ()
    """Only this platform (repeatable)."""
    deny: tuple[str, ...] = ()
    """Not this platform (repeatable)."""
    need: tuple[str, ...] = ()
    """What a platform must be able to do, like files (repeatable)."""
    on_quota: OnQuota | None = None
    """When what costs nothing more is used up: wait, spill (go on where it costs), or stop."""
    chain_max_cost: str | None = None
    """The most US dollars that all tasks of the chain may cost together."""
    allow_unpriced: Annotated[bool, Parameter(negative=())] = False
    """Models without a known price too, where money is bounded: nobody knows what they will cost."""
    tag: tuple[str, ...] = ()
    """NAME=VALUE to group costs by, and for budgets and policies (repeatable)."""

    def fields(self) -> dict[str, Any]:
        """Return them by the names of a task's fields. Raises BadInput."""
        return {
            "tier": self.tier or "",
            "local": self.local,
            "allow": self.allow,
            "deny": self.deny,
            "capabilities": self.need,
            "on_quota": self.on_quota,
            "chain_max_cost_usd": self.chain_max_cost,
            "allow_unpriced": self.allow_unpriced,
            "tags": pairs_option(self.tag, "--tag"),
        }

    def of_batch(self, max_cost: str | None) -> dict[str, Any]:
        """Return what holds for every task of a batch, `max_cost` for all together. Raises BadInput."""
        bounds = {"batch_max_cost_usd": max_cost, "chain_max_cost_usd": self.chain_max_cost}
        told = {name: amounts.usd(bound, f"--{option(name)}") for name, bound in bounds.items() if bound is not None}
        return {name: value for name, value in self.fields().items() if value and name not in bounds} | told


def option(name: str) -> str:
    """Return the option that sets a field, without its dashes."""
    plain = name.removeprefix("batch_").removesuffix("_usd").replace("_", "-")
    return {"capabilities": "need", "tags": "tag"}.get(name, plain)


def with_batch(spec: TaskSpec, told: dict[str, Any]) -> TaskSpec:
    """Return a task of a batch with what holds for all of it. What a line says itself counts; lists and tags are added to."""
    added: dict[str, Any] = {}
    for name, value in told.items():
        own = getattr(spec, name)
        match own:
            case tuple():
                added[name] = own or value if name == "allow" else (*own, *(one for one in value if one not in own))
            case dict():
                added[name] = {**value, **own}
            case _:
                added[name] = own or value
    return msgspec.structs.replace(spec, **added) if added else spec


ANYTHING = Allowed()
