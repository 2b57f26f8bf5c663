"""Why a platform may not do a task: what is true of itself, what the task or its policy rule out, what is too small.

Each reason says whose word it is. `Against` keeps the three apart, because they end a task differently. Pure.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from actors.routes import Failure, Known, Router
from farebox.core import capabilities, directories, forecast, money
from farebox.core.forecast import Dollars
from farebox.core.policies import PolicySettings
from farebox.core.pricing import name_of
from farebox.core.quotas import BudgetSettings
from farebox.core.rejections import BY_NAME, TOO_DEAR, UNPRICED
from farebox.core.settings import TIERS, PlatformSettings, Settings
from farebox.core.terms import ErrorClass, OnQuota

TRIES_MAX = 3
"""Attempts on one platform whose failure never reached the model."""
PASSING: frozenset[ErrorClass] = frozenset({"rate_limited", "server_error", "network", "stalled", "crashed", "truncated"})
"""Failures that may be over at the next try; all others rule the platform out for this task."""


class Against(NamedTuple):
    """Why not: `absent` for what the platform itself says, `rule` for the will of task or policy, `window` for a long text,
    `quota` for money that is not spent in the place of what is used up.
    """  # noqa: D205

    kind: Literal["absent", "rule", "window", "quota"]
    reason: str
    window: int = 0


class Rules(NamedTuple):
    """The policy that applies to a task, under its name, the chain of the task, and what it does without room."""

    name: str
    policy: PolicySettings
    chain: str
    on_quota: OnQuota = "wait"

    @property
    def word(self) -> str:
        """How a reason begins that the policy gives."""
        return f"policy {self.name} "


def falls_back(known: Known, rules: Rules) -> bool:
    """Whether others may stand in for the platform asked for."""
    return known.fallback and rules.policy.fallback


def why_absent(state: Router, known: Known, rules: Rules, name: str, platform: PlatformSettings) -> str:
    """Return why `name` cannot do the task or was not meant, whatever else the task allows; empty if it can."""
    if known.hint and name != known.hint and not falls_back(known, rules):
        return f"only {known.hint} was asked for" + (f" ({rules.word}does not fall back)" if known.fallback else "")
    if not platform.enabled:
        return "disabled"
    if not platform.open and name != known.hint and name not in known.constraints.allow and name not in rules.policy.allow:
        return BY_NAME
    if forbidden := directories.why_not(platform, known.directory):
        return forbidden
    report = state.reports.get(name)
    if report is None or not report.available:
        return f"not available: {report.detail if report else 'has not reported yet'}"
    if known.model and report.models and known.model not in report.models:
        return f"has no model {known.model}"
    return ""


def why_not_paid(state: Router, known: Known, rules: Rules, name: str, platform: PlatformSettings) -> str:
    """Return why no money is spent in the place of a platform that costs none and is used up; empty if it may be."""
    if platform.billing != "metered" or rules.on_quota == "spill" or name == known.hint:
        return ""
    for failure in known.failures.values():
        section = state.settings.platforms.get(failure.platform)
        if failure.is_of_quota and section is not None and section.billing != "metered":
            return f"{failure.platform} is used up, and --on-quota {rules.on_quota} does not pay instead (spill does)"
    return ""


def why_failed(settings: Settings, known: Known, failure: Failure, rules: Rules) -> str:
    """Return why a platform that failed is not tried again for this task; empty if it is."""
    if failure.error_class == "quota_exhausted" and failure.told and rules.on_quota == "wait":
        return ""  # Its window turns, however late; that is waited for.
    if failure.error_class not in PASSING or failure.tries >= TRIES_MAX:
        return f"failed: {failure.error_class}: {failure.message}"
    if failure.not_before_ms - known.at_ms > settings.retry_wait_max_s * 1000:
        return f"asks to wait until {failure.not_before_ms} ms, longer than retry_wait_max_s allows"
    return ""


def why_ruled_out(known: Known, rules: Rules, name: str, platform: PlatformSettings) -> str:
    """Return which rule of the task or its policy excludes a platform; empty if none does."""
    return _named_out(known, rules, name) or _who_pays(known, rules, platform) or _unable(known, rules, platform)


def _named_out(known: Known, rules: Rules, name: str) -> str:
    asked, policy = known.constraints, rules.policy
    if name in asked.deny:
        return "the task denies it"
    if asked.allow and name not in asked.allow:
        return f"the task allows only {_listed(asked.allow)}"
    if name in policy.deny:
        return f"{rules.word}denies it"
    if policy.allow and name not in policy.allow:
        return f"{rules.word}allows only {_listed(policy.allow)}"
    return ""


def _who_pays(known: Known, rules: Rules, platform: PlatformSettings) -> str:
    dearest, tiers = known.constraints.tier, rules.policy.tiers
    if dearest and TIERS[platform.billing] > TIERS[dearest]:
        return f"the task allows nothing dearer than {dearest}, this is {platform.billing}"
    if tiers and platform.billing not in tiers:
        return f"{rules.word}allows only {_listed(tiers)}, this is {platform.billing}"
    return ""


def _unable(known: Known, rules: Rules, platform: PlatformSettings) -> str:
    asked, policy = known.constraints, rules.policy
    if (asked.local or policy.local) and not capabilities.is_local(platform):
        who = "the task" if asked.local else rules.word.rstrip()
        return f"{who} stays on this machine, this does not"
    if not asked.capabilities and not policy.capabilities:
        return ""
    able = capabilities.can(platform)
    if missing := [one for one in asked.capabilities if one not in able]:
        return f"the task asks for {_listed(missing)}"
    if missing := [one for one in policy.capabilities if one not in able]:
        return f"{rules.word}asks for {_listed(missing)}"
    return ""


def too_long(state: Router, name: str, platform: PlatformSettings, model: str, tokens: int) -> Against | None:
    """Return why a text of about so many tokens does not fit into the model's window; None if it may."""
    window = platform.context_tokens or forecast.window(state.prices, name_of(platform.price_model, model), name)
    if window is None or tokens <= window:
        return None
    return Against("window", f"about {tokens:,} tokens do not fit into its {window:,}", window)


def why_too_dear(state: Router, known: Known, rules: Rules, platform: PlatformSettings, cost: Dollars | None) -> str:
    """Return which bound of money excludes a platform before it runs; empty if none does. Plans and what is free have none."""
    if platform.billing not in {"metered", "rehearsal"}:
        return ""
    asked, own = known.constraints, rules.policy.max_cost_usd
    bounds = (
        (asked.max_cost_usd, "the task"),
        (own, rules.word.rstrip()),
        (asked.batch_max_cost_usd, "its batch"),
        (asked.chain_max_cost_usd, "its chain"),
    )
    told = [(money.parse(bound), who) for bound, who in bounds if bound is not None]
    if cost is None:
        unpriced = bool(told) or (platform.billing == "metered" and _budgeted(state.settings, known, rules.chain))
        return f"has no price, and money is bounded: {UNPRICED} allows it" if unpriced and not asked.allow_unpriced else ""
    for bound, who in told:
        if cost.low_usd > bound:
            return f"{TOO_DEAR} ${cost.low}, {who} may cost ${money.text(bound)}"
    return ""


def _budgeted(settings: Settings, known: Known, chain: str) -> bool:
    """Whether a budget of the settings may count for a task. One of a platform does: a model without price has no budget."""
    return any(_counts(budget, known, chain) for budget in settings.budgets.values())


def _counts(budget: BudgetSettings, known: Known, chain: str) -> bool:
    match budget.scope:
        case "tag":
            name, _, value = budget.key.partition("=")
            return name in known.tags and value in {"", known.tags[name]}
        case "chain":
            return budget.key in {"", chain}
        case "batch":
            return bool(known.batch)
        case _:
            return True


def _listed(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
