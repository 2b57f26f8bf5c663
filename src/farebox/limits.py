"""What quotas, budgets and policies may say: read from settings, and refused where nobody could mean it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from msgspec import Struct

from farebox import amounts
from farebox.core import capabilities, ids, quotas
from farebox.core.errors import BadInput, BadSettings
from farebox.core.policies import PolicySettings
from farebox.core.quotas import BudgetSettings, QuotaSettings
from farebox.core.settings import PlatformSettings, Settings
from farebox.layers import BUILT_IN, Layer, converted
from farebox.nearest import did_you_mean

Origins = Mapping[str, str]
TAKEN = ("task", "batch", "chain")
"""Names of the budgets that a submission brings itself."""
BOUND_KEYS = {"tag": "NAME=VALUE", "platform": "a platform's name", "chain": "a chain's id"}
PERCENT_MAX = 100


def _quota(name: str, fields: dict[str, Any], known: Layer) -> QuotaSettings:
    prefix = f"quotas.{name}."
    _needs(prefix, fields, known, platform='platform = "gemini"', window='window = "day"')
    fields = fields | _plain(prefix, "limit", fields, known, whole=True)
    return converted(fields, QuotaSettings, known, prefix)


def _budget(name: str, fields: dict[str, Any], known: Layer) -> BudgetSettings:
    prefix = f"budgets.{name}."
    _needs(prefix, fields, known, limit_usd='limit_usd = "20"')
    fields = fields | _plain(prefix, "limit_usd", fields, known)
    return converted(fields, BudgetSettings, known, prefix)


def _policy(name: str, fields: dict[str, Any], known: Layer) -> PolicySettings:
    prefix = f"policies.{name}."
    fields = fields | _plain(prefix, "max_cost_usd", fields, known)
    return converted(fields, PolicySettings, known, prefix)


READERS: dict[str, Callable[[str, dict[str, Any], Layer], Struct]] = {"quotas": _quota, "budgets": _budget, "policies": _policy}


def _needs(prefix: str, fields: dict[str, Any], known: Layer, **examples: str) -> None:
    for key, example in examples.items():
        if key not in fields:
            origin = next(value.origin for name, value in known.items() if name.startswith(prefix))
            raise BadSettings(f"{origin}: [{prefix[:-1]}] needs {key}, for example {example}.")


def _plain(prefix: str, key: str, fields: dict[str, Any], known: Layer, *, whole: bool = False) -> dict[str, Any]:
    """Return an amount as it is kept: exact text (whole numbers as such, if so wanted), however a person wrote it."""
    given = fields.get(key)
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        return {}
    if given < 0:
        origin = known[prefix + key].origin
        raise BadSettings(f"{origin}: {prefix}{key} is {given}; no limit is below 0.", hint="0 allows nothing.")
    return {key: given if whole and isinstance(given, int) else amounts.exact(given)}


def check(settings: Settings, origins: Origins) -> None:
    """Raise BadSettings for limits and policies that cannot hold, with the file, the key and what to type."""
    for name, quota in settings.quotas.items():
        _check_quota(f"quotas.{name}", quota, settings, origins)
    _check_apart(settings, origins)
    for name, budget in settings.budgets.items():
        _check_budget(name, budget, settings, origins)
    for name, policy in settings.policies.items():
        _check_policy(f"policies.{name}", policy, settings, origins)
    _check_last_resort("engine.last_resort", settings.last_resort, settings, origins)


def _check_quota(section: str, quota: QuotaSettings, settings: Settings, origins: Origins) -> None:
    _check_known(f"{section}.platform", (quota.platform,), settings, origins)
    _check_window(section, quota, origins)
    limit = _said(f"{section}.limit", origins, lambda: quotas.amount(quota.limit))
    if quota.unit == "percent" and limit is not None and limit > PERCENT_MAX:
        raise _wrong(f"{section}.limit", origins, f"is {limit} percent", "The most is 100; 90 leaves the rest to others.")


def _check_window(section: str, window: QuotaSettings | BudgetSettings, origins: Origins) -> None:
    _said(f"{section}.window", origins, lambda: quotas.canonical_window(window.window))
    if window.zone != "UTC":
        _check_zone(f"{section}.zone", window.zone, origins)


def _check_zone(key: str, zone: str, origins: Origins) -> None:
    import zoneinfo  # noqa: PLC0415 - for those who set a zone

    try:
        zoneinfo.ZoneInfo(zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        there = zoneinfo.available_timezones()
        by_lower = {name.lower(): name for name in there}
        found = did_you_mean(zone, by_lower)
        for lower, name in by_lower.items():
            found = found.replace(f'"{lower}"', f'"{name}"')
        hint = found or 'Write it like "America/Los_Angeles" or "Europe/Berlin".'
        raise _wrong(key, origins, f"{zone[:60]!r} is no time zone", hint) from error


def _check_apart(settings: Settings, origins: Origins) -> None:
    """Refuse two limits for the same thing by the same word: nobody knows which one is meant."""
    seen: dict[tuple[str, str], str] = {}
    for name, quota in settings.quotas.items():
        platform = settings.platforms[quota.platform]
        if quota.billing not in {None, platform.billing}:
            continue
        what = quotas.quota_id(platform.account or quota.platform, quota.window, quota.unit)
        other = seen.setdefault((what, quota.source), name)
        if other != name:
            message = f"says the same as [quotas.{other}]: both are about {what}"
            raise _wrong(
                f"quotas.{name}.limit", origins, message, f"Keep one of them; the other is from {_of(other, origins)}."
            )


def _of(name: str, origins: Origins) -> str:
    return next(origin for key, origin in origins.items() if key.startswith(f"quotas.{name}."))


def _check_budget(name: str, budget: BudgetSettings, settings: Settings, origins: Origins) -> None:
    section = f"budgets.{name}"
    if name in TAKEN:
        raise _wrong(f"{section}.limit_usd", origins, "has a name that submissions use themselves", "Give it another one.")
    _check_window(section, budget, origins)
    _said(f"{section}.limit_usd", origins, lambda: quotas.amount(budget.limit_usd))
    if budget.key and not _fits(budget):
        form = BOUND_KEYS.get(budget.scope)
        hint = f"With scope {budget.scope} it is {form}." if form else f"Scope {budget.scope} takes none: leave it out."
        raise _wrong(f"{section}.key", origins, f"is {budget.key[:60]!r}", hint)
    if budget.scope == "platform" and budget.key:
        _check_known(f"{section}.key", (budget.key,), settings, origins)


def _fits(budget: BudgetSettings) -> bool:
    if budget.scope == "tag":
        name, equals, value = budget.key.partition("=")
        return bool(name and equals and value)
    return budget.scope in BOUND_KEYS and ids.is_id(budget.key)


def _check_policy(section: str, policy: PolicySettings, settings: Settings, origins: Origins) -> None:
    for key in ("order", "allow", "deny"):
        _check_known(f"{section}.{key}", getattr(policy, key), settings, origins)
    _said(f"{section}.max_cost_usd", origins, lambda: quotas.amount(policy.max_cost_usd))
    for chain in policy.chains:
        _said(f"{section}.chains", origins, lambda chain=chain: ids.check(chain, "chain"))
    if policy.last_resort:
        _check_last_resort(f"{section}.last_resort", policy.last_resort, settings, origins)
    out = {name: _excluded(policy, name, one) for name, one in settings.platforms.items() if one.enabled}
    if out and all(out.values()):
        rules = "; ".join(f"{name}: {rule}" for name, rule in out.items())
        origin = _first(f"{section}.", origins)
        raise BadSettings(f"{origin}: [{section}] allows no platform at all.", hint=f"{rules}.")


def _excluded(policy: PolicySettings, name: str, platform: PlatformSettings) -> str:
    """Return the rule of a policy that keeps a platform out, "" if none does."""
    if name in policy.deny:
        return "deny"
    if policy.allow and name not in policy.allow:
        return "not in allow"
    if policy.tiers and platform.billing not in policy.tiers:
        return f"{platform.billing} is not in tiers"
    if policy.local and not capabilities.is_local(platform):
        return "not local"
    missing = [one for one in policy.capabilities if one not in capabilities.can(platform)]
    return f"cannot do {', '.join(missing)}" if missing else ""


def _check_last_resort(key: str, last_resort: str, settings: Settings, origins: Origins) -> None:
    if last_resort == "wait":
        return
    if last_resort not in settings.platforms:
        near = did_you_mean(last_resort, ("wait", *settings.platforms))
        hint = near or 'Write "wait", or the name of a platform on a plan.'
        raise _wrong(key, origins, f"is {last_resort[:60]!r}, which is no platform", hint)
    billing = settings.platforms[last_resort].billing
    if billing != "plan":
        plans = [name for name, one in settings.platforms.items() if one.billing == "plan" and one.enabled]
        hint = f"Choose wait or one of: {', '.join(plans)}." if plans else 'Write "wait".'
        raise _wrong(key, origins, f"is {last_resort}, which is billed {billing}, not on a plan", hint)


def _check_known(key: str, named: Iterable[str], settings: Settings, origins: Origins) -> None:
    for name in named:
        if name not in settings.platforms:
            hint = did_you_mean(name, settings.platforms) or f"Known: {', '.join(sorted(settings.platforms)) or 'none'}."
            raise _wrong(key, origins, f"names {name[:60]!r}, which is no platform", hint)


def _said(key: str, origins: Origins, ask: Callable[[], object]) -> Any:
    try:
        return ask()
    except BadInput as error:
        raise BadSettings(f"{_origin(key, origins)}: {key}: {error.message}", hint=error.hint) from error


def _wrong(key: str, origins: Origins, what: str, hint: str) -> BadSettings:
    return BadSettings(f"{_origin(key, origins)}: {key} {what}.", hint=hint)


def _origin(key: str, origins: Origins) -> str:
    return origins.get(key) or _first(key.rpartition(".")[0] + ".", origins)


def _first(prefix: str, origins: Origins) -> str:
    return next((origin for key, origin in origins.items() if key.startswith(prefix)), BUILT_IN)
