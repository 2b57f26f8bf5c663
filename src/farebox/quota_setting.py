"""Setting limits by command: what `PLATFORM WINDOW LIMIT` means, in which section it belongs, and that it can hold."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import msgspec
from msgspec import Struct

from farebox import amounts, config, limits_file
from farebox.core import quotas
from farebox.core.errors import BadInput
from farebox.core.settings import Settings
from farebox.core.terms import Unit
from farebox.nearest import did_you_mean

UNITS: tuple[str, ...] = get_args(Unit)
ALL = "all"
"""Instead of a platform: a budget over everything."""
_LIMIT = re.compile(r"\$?\s*([0-9][0-9_]*(?:\.[0-9]+)?)\s*([a-z_%$]*)\Z", re.ASCII)
_WORDS = {"%": "percent", "request": "requests", "token": "tokens", "call": "calls", "$": "usd", "dollars": "usd"}
_SHORT = {"k": 1_000, "m": 1_000_000}


class Limit(Struct, frozen=True):
    """A limit as it was written: how many of what."""

    number: str
    unit: Unit


class Place(Struct, frozen=True):
    """Where a limit stands among the settings: `quotas` or `budgets`, its name, and its keys."""

    section: str
    name: str
    keys: dict[str, Any]

    @property
    def shown(self) -> str:
        """As a person finds it in a file."""
        return f"[{self.section}.{self.name}]"


def parsed(given: str, unit: str | None) -> Limit:
    """Return what LIMIT says: 60, 60usd, $60, 100000tokens, 100ktokens, 80%. Raises BadInput."""
    found = _LIMIT.match(given.strip().lower())
    if not found:
        raise BadInput(f"{given[:40]!r} is no limit.", hint="Write it like 60, 60usd, 100000tokens or 80%.")
    number, word = found[1].replace("_", ""), found[2]
    if word[:1] in _SHORT and (not word[1:] or word[1:] in UNITS):
        number, word = amounts.exact(int(float(number) * _SHORT[word[0]])), word[1:]
    word = _WORDS.get(word, word) or ("usd" if given.strip().startswith("$") else "") or unit or "requests"
    if word not in UNITS:
        raise BadInput(f"{word[:40]!r} is no unit.", hint=did_you_mean(word, UNITS) or f"Choose one of: {', '.join(UNITS)}.")
    if unit and word != unit:
        raise BadInput(f"The limit is in {word}, and --unit says {unit}.", hint="Leave out one of the two.")
    return Limit(str(number), word)  # type: ignore[arg-type]  # it is one of UNITS


def place_of(settings: Settings, owner: str, window: str, limit: Limit | None, unit: str | None = None) -> Place:
    """Return the section where such a limit stands, or would stand. Raises BadInput for a platform or window unknown.

    Without a limit and a unit it is about dollars where only dollars can be meant, else about requests.
    """
    window = quotas.canonical_window(window)
    unit = limit.unit if limit else unit or ("usd" if owner == ALL or owner in settings.budgets else "requests")
    if owner in settings.budgets or owner == ALL or (unit == "usd" and owner in settings.platforms):
        if unit != "usd":
            raise BadInput(
                "A budget is in US dollars.", hint=f"farebox quota set {owner} {window} {limit.number if limit else 60}usd"
            )
        return _budget(settings, owner, window, limit)
    if owner not in settings.platforms:
        near = did_you_mean(owner, (*settings.platforms, *settings.budgets, ALL))
        raise BadInput(f'There is no platform "{owner[:60]}".', hint=f"{near} See: farebox platforms".strip(), code="FB306")
    return _quota(settings, owner, window, unit, limit)


def _budget(settings: Settings, owner: str, window: str, limit: Limit | None) -> Place:
    keys: dict[str, Any] = {"limit_usd": limit.number} if limit else {}
    if owner in settings.budgets:
        return Place("budgets", owner, keys | {"window": window})
    scope = {"scope": "all"} if owner == ALL else {"scope": "platform", "key": owner}
    asked = (scope["scope"], scope.get("key", ""), window)
    for name, one in settings.budgets.items():
        if (one.scope, one.key, quotas.canonical_window(one.window)) == asked:
            return Place("budgets", name, keys)
    return Place("budgets", f"{owner}-{window}", keys | scope | {"window": window})


def _quota(settings: Settings, owner: str, window: str, unit: str, limit: Limit | None) -> Place:
    """Return the section of such a limit; where a published one stands under a name, that is the one which is replaced."""
    keys: dict[str, Any] = {"limit": _whole(limit.number)} if limit else {}
    account = settings.platforms[owner].account or owner
    asked = quotas.quota_id(account, window, unit)  # type: ignore[arg-type]  # a unit
    for name, one in settings.quotas.items():
        its = settings.platforms[one.platform]
        fits = one.billing in {None, its.billing}
        if fits and quotas.quota_id(its.account or one.platform, one.window, one.unit) == asked:
            return Place("quotas", name, keys)
    return Place(
        "quotas", f"{owner}-{window}-{unit}".replace("_", "-"), {"platform": owner, "window": window, "unit": unit, **keys}
    )


def _whole(number: str) -> int | str:
    return int(number) if number.isdigit() else number


def put(path: Path, place: Place, *, file: Path | None = None) -> None:
    """Write a limit, if all settings can hold with it. Raises BadSettings and writes nothing otherwise."""
    with limits_file.changed(path) as sections:
        own = sections.setdefault(place.section, {}).setdefault(place.name, {})
        own |= place.keys
        flags = {f"{place.section}.{place.name}.{key}": value for key, value in own.items()}
        config.load(file=file, flags=flags, kinds=config.platform_kinds())


def take_away(path: Path, place: Place) -> bool:
    """Remove a limit that was set by command; False where there is none."""
    if place.name not in limits_file.read(path).get(place.section, {}):
        return False
    with limits_file.changed(path) as sections:
        sections[place.section].pop(place.name, None)
    return True


def in_force(place: Place, adopted: Mapping[str, Any], *, file: Path | None = None, removed: bool = False) -> bool | None:
    """Say whether an engine holds a limit as the files here say it, by the sections it answered with; None: it told none.

    An engine elsewhere reads files of its own, and one that was started with another farebox.toml may read others, too.
    """
    if place.section not in adopted:
        return None
    whole = config.load(file=file, kinds=config.platform_kinds())
    mine = msgspec.to_builtins(getattr(whole.settings, place.section)).get(place.name)
    its = adopted[place.section].get(place.name)
    if removed or mine is None or its is None:
        return mine == its
    return all(mine.get(key) == its.get(key) for key in place.keys)


def held(place: Place, adopted: Mapping[str, Any]) -> str:
    """Return what an engine holds instead, in words."""
    its = adopted[place.section].get(place.name)
    if its is None:
        return f"no {place.shown}"
    limit = its.get("limit_usd" if place.section == "budgets" else "limit", "unknown")
    return f"{place.shown} with a limit of {limit}{' usd' if place.section == 'budgets' else ''}"
