"""Settings: flags, then FAREBOX_SECTION__KEY, then limits set by command, then farebox.toml of the project, then the user's,
then what is built in.

The part that actors may know becomes `core.settings.Settings` and is adopted into the log; the rest (`Edge`) stays on this
machine. Every value knows where it came from.
"""  # noqa: D205

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from farebox import layers
from farebox.core.errors import BadSettings
from farebox.core.settings import PlatformSettings, Settings
from farebox.layers import BUILT_IN, Layer, Value
from farebox.nearest import did_you_mean
from farebox.sections import Bus, StorePlace

if TYPE_CHECKING:
    from collections.abc import Iterable

    from farebox.core.platform import PlatformKind

__all__ = ["BUILT_IN", "Bus", "Config", "StorePlace", "home", "limits_file", "load", "platform_kinds", "user_file"]
FILE = "farebox.toml"
LIMITS_FILE = "limits.toml"
"""Beside the user's own file: what `farebox quota set` wrote."""
LIMITS = ("quotas", "budgets")


class Config(Struct, frozen=True, kw_only=True):
    """Everything that is set. `origins` says for each key (`engine.durability`) where its value came from."""

    settings: Settings
    bus: Bus
    store: StorePlace
    origins: dict[str, str]
    files: tuple[str, ...] = ()
    flags: dict[str, Any] = {}
    file: str = ""


def home(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of the user's store: `FAREBOX_HOME`, else the platform's usual place."""
    given = environment.get("FAREBOX_HOME")
    if given:
        return Path(given).expanduser()
    import platformdirs  # noqa: PLC0415 - only who needs it pays for it

    return Path(platformdirs.user_data_dir("farebox"))


def user_file(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the place of the user's own farebox.toml."""
    given = environment.get("FAREBOX_HOME")
    if given:
        return Path(given).expanduser() / FILE
    import platformdirs  # noqa: PLC0415 - only who needs it pays for it

    return Path(platformdirs.user_config_dir("farebox")) / FILE


def limits_file(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the place of the limits that were set by command."""
    return user_file(environment).with_name(LIMITS_FILE)


def project_file(folder: Path) -> Path | None:
    """Return the nearest farebox.toml in `folder` or above, None if there is none."""
    for place in (folder, *folder.parents):
        if (place / FILE).is_file():
            return place / FILE
    return None


def load(
    *,
    folder: Path | None = None,
    environment: Mapping[str, str] = os.environ,
    flags: Mapping[str, Any] | None = None,
    file: Path | None = None,
    kinds: Iterable[PlatformKind] = (),
) -> Config:
    """Return what is set. `flags` go by dotted key; `file` replaces the search.

    `kinds` bring the built-in platforms; without them (a client) the sections of platforms, quotas, budgets and policies are
    not looked into. Raises BadSettings that names the file and the key.
    """
    found, files = _files(folder or Path.cwd(), environment, file)
    flags = {key: value for key, value in (flags or {}).items() if value is not None}
    kinds = tuple(kinds)
    known = layers.merged([layers.of_kinds(kinds), *reversed(found)])
    known |= layers.of_environment(environment, known)
    known |= {key: Value(value, f"--{key.rpartition('.')[2]}") for key, value in flags.items()}
    known = _at_home(_discovered(known), str(limits_file(environment)))
    config = Config(
        settings=_settings(known, with_platforms=bool(kinds)),
        bus=_section("bus", Bus, known),
        store=_section("store", StorePlace, known),
        origins={key: known[key].origin for key in sorted(known)},
        files=tuple(str(path) for path in files),
        flags=flags,
        file=str(file or ""),
    )
    _check_kinds(config, kinds)
    if kinds:
        _check_limits(config)
    return config


def platform_kinds() -> tuple[PlatformKind, ...]:
    """Return the kinds of platforms that are installed (entry points `farebox.platforms`)."""
    from importlib.metadata import entry_points  # noqa: PLC0415 - 30 ms, engines only

    found: list[PlatformKind] = []
    for point in entry_points(group="farebox.platforms"):
        loaded = point.load()
        found.extend(loaded if isinstance(loaded, tuple) else (loaded,))  # pyright: ignore[reportUnknownArgumentType]
    return tuple(found)


def _files(folder: Path, environment: Mapping[str, str], file: Path | None) -> tuple[list[Layer], list[Path]]:
    """Return what the files say, the one that wins first, and their paths. Limits set by command hold beside any file."""
    if file is not None and not file.is_file():
        raise BadSettings(f"{file}: there is no such file.", hint="Give an existing one with --config.")
    paths = [file] if file else [path for path in (project_file(folder), user_file(environment)) if path and path.is_file()]
    paths = list(dict.fromkeys(path.resolve() for path in paths))
    limits = limits_file(environment)
    by_command = [layers.of_file(limits, LIMITS)] if limits.is_file() else []
    return [*by_command, *(layers.of_file(path) for path in paths)], [*([limits] if by_command else []), *paths]


def _discovered(known: Layer) -> Layer:
    """Return `known`; where nothing is to be discovered, without what nobody wrote down and nobody need ask for by name."""
    chosen = known.get("engine.discover")
    if chosen is None or chosen.value is not False:
        return known
    platforms = {key: value for key, value in known.items() if key.startswith("platforms.")}
    named = {key.split(".")[1] for key, value in platforms.items() if value.origin != BUILT_IN}
    named |= {key.split(".")[1] for key, value in platforms.items() if key.endswith(".open") and value.value is False}
    return {key: value for key, value in known.items() if not key.startswith("platforms.") or key.split(".")[1] in named}


def _at_home(known: Layer, by_command: str) -> Layer:
    """Return `known` without the limits of platforms that are not here, where nobody wrote them for this place.

    Those are what is built in and what was set by command, perhaps in a project that has other platforms. And where somebody
    gave another figure than the published one, it is his, not the provider's.
    """
    platforms = layers.names(known, "platforms")
    kept: Layer = dict(known)
    for name in layers.names(known, "quotas"):
        section = {key: value for key, value in known.items() if key.startswith(f"quotas.{name}.")}
        owner, limit = section.get(f"quotas.{name}.platform"), section.get(f"quotas.{name}.limit")
        homeless = owner is None or owner.value not in platforms
        if homeless and all(value.origin in {BUILT_IN, by_command} for value in section.values()):
            dropped = set(section)
        elif limit is not None and limit.origin != BUILT_IN:
            stale = (f"quotas.{name}.source", f"quotas.{name}.said")
            dropped = {key for key in stale if key in section and section[key].origin == BUILT_IN}
        else:
            dropped: set[str] = set()
        for key in dropped:
            del kept[key]
    return kept


def _settings(known: Layer, *, with_platforms: bool) -> Settings:
    raw = {key.removeprefix("engine."): value.value for key, value in known.items() if key.startswith("engine.")}
    settings = layers.converted(raw, Settings, known, "engine.")
    if not with_platforms:
        return settings
    from farebox import limits  # noqa: PLC0415 - engines only

    readers = {"platforms": _platform, **limits.READERS}
    read: dict[str, Any] = {}
    for section, reader in readers.items():
        read[section] = {name: reader(name, _fields(known, f"{section}.{name}."), known) for name in _names(known, section)}
    return msgspec.structs.replace(settings, **read)


def _names(known: Layer, section: str) -> list[str]:
    """Return the names of a section's parts in the order in which they were written."""
    return list(dict.fromkeys(key.split(".")[1] for key in known if key.startswith(f"{section}.")))


def _fields(known: Layer, prefix: str) -> dict[str, Any]:
    return {key.removeprefix(prefix): value.value for key, value in known.items() if key.startswith(prefix)}


def _platform(name: str, fields: dict[str, Any], known: Layer) -> PlatformSettings:
    prefix = f"platforms.{name}."
    if "kind" not in fields:
        origin = next(value.origin for key, value in known.items() if key.startswith(prefix))
        raise BadSettings(f'{origin}: [platforms.{name}] needs kind, for example kind = "compatible".')
    _refuse_keys(name, fields, known)
    return layers.converted(fields, PlatformSettings, known, prefix)


def _refuse_keys(name: str, fields: dict[str, Any], known: Layer) -> None:
    """Raise BadSettings for a key among the settings: they are adopted into the log."""
    from farebox.runtime import secrecy  # noqa: PLC0415 - engines only

    struck = secrecy.redactor()
    for key, value in fields.items():
        if any(struck.text(text) != text for text in secrecy.all_texts(value)):
            raise BadSettings(
                f"{known[f'platforms.{name}.{key}'].origin}: platforms.{name}.{key} holds a key, which the log would keep.",
                hint='Put it into a variable of the environment and write its name: key_env = "NAME".',
            )


def _section[Kind: Struct](section: str, kind: type[Kind], known: Layer) -> Kind:
    return layers.converted(_fields(known, f"{section}."), kind, known, f"{section}.")


def _check_kinds(config: Config, kinds: tuple[PlatformKind, ...]) -> None:
    by_name = {kind.name: kind for kind in kinds}
    for name, settings in config.settings.platforms.items() if kinds else ():
        kind = by_name.get(settings.kind)
        origin = config.origins.get(f"platforms.{name}.kind", BUILT_IN)
        if kind is None:
            choose = f"Choose one of: {', '.join(sorted(by_name))}."
            hint = f"{did_you_mean(settings.kind, by_name)} {choose}".strip()
            raise BadSettings(f"{origin}: platforms.{name}: there is no kind {settings.kind!r}.", hint=hint)
        kind.check(name, settings)


def _check_limits(config: Config) -> None:
    settings = config.settings
    if settings.quotas or settings.budgets or settings.policies or settings.last_resort != "wait":
        from farebox import limits  # noqa: PLC0415 - engines with limits only

        limits.check(settings, config.origins)
