"""The settings that actors may know, because they are facts (SettingsAdopted): platforms, who pays, limits, policy."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from farebox.core.errors import BadInput
from farebox.core.policies import PolicySettings
from farebox.core.quotas import BudgetSettings, QuotaSettings, amount, canonical_window
from farebox.core.terms import Billing, OnInterrupt, OnQuota

LONG_S = 1800.0
"""An attempt that may take so long is not repeated unasked after an interruption."""
AGENTS = frozenset({"claude-code", "codex", "gemini-cli", "antigravity"})
"""Programs that may change files where they are given a directory."""
TIERS: dict[str, int] = {"free": 0, "rehearsal": 0, "plan": 1, "metered": 2}


class PlatformSettings(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """`[platforms.NAME]` of farebox.toml: what to use, how to reach it and who pays for it."""

    kind: str
    enabled: bool = True
    billing: Billing = "metered"
    tier: Annotated[int, Meta(ge=0, le=99)] | None = None
    url: str = ""
    key_env: str = ""
    argv: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    model: str = ""
    price_model: str = ""
    limit: Annotated[int, Meta(ge=1, le=100_000)] = 10
    on_interrupt: OnInterrupt | None = None
    first_byte_timeout_s: Annotated[float, Meta(gt=0)] = 120.0
    idle_timeout_s: Annotated[float, Meta(gt=0)] = 120.0
    open: bool = True
    account: Annotated[str, Meta(pattern=r"^([a-z0-9][a-z0-9_-]{0,62})?$")] = ""
    local: bool | None = None
    context_tokens: Annotated[int, Meta(ge=1, le=10**9)] | None = None
    capabilities: tuple[str, ...] = ()
    options: dict[str, str] = {}

    @property
    def cost_tier(self) -> int:
        """0 is used first: free, plan, metered; or as the user says."""
        return TIERS[self.billing] if self.tier is None else self.tier

    @property
    def interrupt_policy(self) -> OnInterrupt:
        """What happens to an interrupted attempt unless the task says otherwise: programs may have done half their work."""
        return self.policy_for(0)

    def policy_for(self, timeout_s: float, directory: str = "") -> OnInterrupt:
        """Return what happens to an interrupted attempt that may take `timeout_s`: nobody pays for a long one twice unasked.

        In a task's own `directory` it may have done half its work.
        """
        if self.on_interrupt is not None:
            return self.on_interrupt
        if self.kind == "interactive":
            return "retry"  # Whoever was asked is simply asked again.
        works_on_files = self.kind == "command" or (self.kind in AGENTS and bool(self.options.get("directory")))
        works_on_files = works_on_files or bool(directory)
        return "ask" if works_on_files or timeout_s >= LONG_S else "retry"


class Settings(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The part of farebox.toml that is adopted into the log. `open = false` platforms are used only when asked for by name.

    With `discover = false` only platforms that somebody wrote down, or asks for by name, are used: none found by itself.
    `attempts_max` bounds all attempts of a task, `billed_attempts_max` those that may have cost something.
    `on_quota` and `last_resort` hold where no policy says otherwise (`wait`, or a platform on a plan whose line is joined).
    An answer under a budget has at most `answer_tokens_max` tokens unless its task says how many.
    """

    platforms: dict[str, PlatformSettings] = {}
    quotas: dict[str, QuotaSettings] = {}
    budgets: dict[str, BudgetSettings] = {}
    policies: dict[str, PolicySettings] = {}
    on_quota: OnQuota = "wait"
    last_resort: str = "wait"
    warn_at_percent: Annotated[int, Meta(ge=1, le=100)] = 90
    estimate_from_tokens: Annotated[int, Meta(ge=0)] = 10_000
    answer_tokens_max: Annotated[int, Meta(ge=1, le=10**9)] = 16_384
    discover: bool = True
    attempts_max: Annotated[int, Meta(ge=1, le=1000)] = 8
    billed_attempts_max: Annotated[int, Meta(ge=1, le=100)] = 2
    retry_wait_max_s: Annotated[float, Meta(ge=0)] = 3600.0
    durability: Literal["always", "100ms"] = "always"


NAMED: dict[str, type[Struct]] = {
    "platforms": PlatformSettings,
    "quotas": QuotaSettings,
    "budgets": BudgetSettings,
    "policies": PolicySettings,
}
"""What is there once for each name, and reads or does not read by itself."""


def canonical(settings: Settings) -> tuple[dict[str, Any], str]:
    """Return the settings as plain data and the sha256 of their canonical JSON."""
    plain = msgspec.to_builtins(settings, order="sorted")
    return plain, hashlib.sha256(msgspec.json.encode(plain, order="sorted")).hexdigest()


def restore(plain: dict[str, Any]) -> Settings:
    """Return the settings that a SettingsAdopted holds, as far as this farebox knows them whole. Nothing is obeyed by half.

    A platform with a setting that does not read is left out, and so is one with such a quota, with all that share its account.
    What is set for all and does not read, a budget or a policy too, leaves out every platform: nothing is spent past a bound
    that is not understood. What that was is named by `unread`; a later farebox understands it.
    """
    own = {name: value for name, value in plain.items() if name in Settings.__struct_fields__ and name not in NAMED}
    settings = _read(own, Settings) or Settings()
    if any(not name.startswith(("platforms.", "quotas.")) for name in unread(plain)):
        return settings
    read: dict[str, Any] = {}
    for section, kind in NAMED.items():
        each = {name: _read(one, kind) for name, one in plain.get(section, {}).items()}
        read[section] = {name: one for name, one in each.items() if one is not None}
    closed = {one.get("platform") for one in plain.get("quotas", {}).values() if _why_not(one, QuotaSettings)}
    accounts = {one.account for name, one in read["platforms"].items() if name in closed and one.account}
    platforms = {name: one for name, one in read["platforms"].items() if name not in closed and one.account not in accounts}
    return msgspec.structs.replace(settings, **(read | {"platforms": platforms}))


def unread(plain: dict[str, Any]) -> tuple[str, ...]:
    """Return what an adopted fact says that this farebox does not know, as `platforms.NAME` or `engine`, with the reason."""
    own = {name: value for name, value in plain.items() if name not in NAMED}
    found = [f"engine: {why}" for why in _why_not(own, Settings)]
    for section, kind in NAMED.items():
        each: Any = plain.get(section, {})
        if not isinstance(each, dict):
            return (f"{section} does not read",)
        named: dict[str, Any] = each  # pyright: ignore[reportUnknownVariableType]
        found += [f"{_whose(section, name, one)}: {why}" for name, one in named.items() for why in _why_not(one, kind)]
    return tuple(found)


def _whose(section: str, name: str, one: Any) -> str:
    """Return what is named: a quota that does not even say of which platform stands for all."""
    unowned = section == "quotas" and not (isinstance(one, dict) and isinstance(one.get("platform"), str))  # pyright: ignore[reportUnknownMemberType]
    return f"engine quotas.{name}" if unowned else f"{section}.{name}"


def _read[Kind: Struct](section: Any, kind: type[Kind]) -> Kind | None:
    return None if _why_not(section, kind) else msgspec.convert(section, kind)


def _why_not(section: Any, kind: type[Struct]) -> tuple[str, ...]:
    try:
        found = msgspec.convert(section, kind)
        if isinstance(found, QuotaSettings | BudgetSettings):
            canonical_window(found.window)
            amount(found.limit if isinstance(found, QuotaSettings) else found.limit_usd)
    except (msgspec.ValidationError, BadInput) as error:
        return (str(error),)
    return ()
