"""Settings: flags, then FAREBOX_SECTION__KEY, then farebox.toml of the project, then the user's, then what is built in.

The part that actors may know becomes `core.settings.Settings` and is adopted into the log; the rest (`Edge`) stays on this
machine. Every value knows where it came from.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import msgspec
from msgspec import Struct

from farebox.core import ids
from farebox.core.errors import BadInput, BadSettings
from farebox.core.settings import PlatformSettings, Settings
from farebox.nearest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable

    from farebox.core.platform import PlatformKind

FILE = "farebox.toml"
PREFIX = "FAREBOX_"
BUILT_IN = "built in"
LOG_MIB_MAX = 16 * 1024 * 1024
"""16 TiB: more is a slip of the pen."""


class Bus(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[bus]`: where the log is, when it is not the embedded one. `password_env` names a variable, never the password.

    The files are named by their paths: a seed instead of a password, and what TLS needs (all PEM).

    `replicas` counts when the log is made: on so many servers of a cluster; 0 stands for 3 there and 1 on a single server.
    `log_mib` is what the log may grow to: a smaller one is made larger when an engine starts, a larger one stays as it is.
    """

    server: str = ""
    context: str = ""
    user: str = ""
    password_env: str = ""
    nkey_file: str = ""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    replicas: Literal[0, 1, 3, 5] = 0
    log_mib: Annotated[int, msgspec.Meta(ge=0, le=LOG_MIB_MAX)] = 0


class StorePlace(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[store]`: the folder of the embedded engine."""

    dir: str = ""


ENGINE_KEYS: tuple[str, ...] = tuple(name for name in Settings.__struct_fields__ if name != "platforms")
SECTIONS: dict[str, tuple[str, ...]] = {
    "engine": ENGINE_KEYS,
    "bus": Bus.__struct_fields__,
    "store": StorePlace.__struct_fields__,
}


class Config(Struct, frozen=True, kw_only=True):
    """Everything that is set. `origins` says for each key (`engine.durability`) where its value came from."""

    settings: Settings
    bus: Bus
    store: StorePlace
    origins: dict[str, str]
    files: tuple[str, ...] = ()
    flags: dict[str, Any] = {}
    file: str = ""


class Value(Struct, frozen=True):
    """One value as found, with its origin."""

    value: Any
    origin: str


Layer = dict[str, Value]
"""Values by dotted key: `engine.durability`, `platforms.ollama.url`."""


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

    `kinds` bring the built-in platforms; without them (a client) the sections of platforms are not looked into.
    Raises BadSettings that names the file and the key.
    """
    layers, files = _files(folder or Path.cwd(), environment, file)
    flags = {key: value for key, value in (flags or {}).items() if value is not None}
    kinds = tuple(kinds)
    known = _merged([_built_in(kinds), *reversed(layers)])
    known |= _environment(environment, known)
    known |= {key: Value(value, f"--{key.rpartition('.')[2]}") for key, value in flags.items()}
    known = _discovered(known)
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
    if file is not None and not file.is_file():
        raise BadSettings(f"{file}: there is no such file.", hint="Give an existing one with --config.")
    paths = [file] if file else [path for path in (project_file(folder), user_file(environment)) if path and path.is_file()]
    paths = list(dict.fromkeys(path.resolve() for path in paths))
    return [_layer(path) for path in paths], paths


def _layer(path: Path) -> Layer:
    try:
        raw = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadSettings(f"{path}: {error}.") from error
    layer: Layer = {}
    for section, content in raw.items():
        if section != "platforms" and section not in SECTIONS:
            raise BadSettings(f"{path}: unknown section [{section}].", hint=did_you_mean(section, (*SECTIONS, "platforms")))
        if not isinstance(content, dict):
            raise BadSettings(f"{path}: {section} must be a section: [{section}].")
        layer |= _section_layer(section, content, str(path))  # pyright: ignore[reportUnknownArgumentType]
    return layer


def _section_layer(section: str, content: dict[str, Any], origin: str) -> Layer:
    if section != "platforms":
        return {_key(section, key, origin): Value(value, origin) for key, value in content.items()}
    layer: Layer = {}
    for name, settings in content.items():
        _platform_name(name, origin)
        if not isinstance(settings, dict):
            raise BadSettings(f"{origin}: platforms.{name} must be a section: [platforms.{name}].")
        values: dict[str, Any] = settings  # pyright: ignore[reportUnknownVariableType]
        layer |= {_key(f"platforms.{name}", key, origin): Value(value, origin) for key, value in values.items()}
    return layer


def _platform_name(name: str, origin: str) -> None:
    try:
        ids.check(name, "platform")
    except BadInput as error:
        raise BadSettings(f"{origin}: {error.message}", hint=error.hint) from error


def _key(section: str, key: str, origin: str) -> str:
    keys = PlatformSettings.__struct_fields__ if section.startswith("platforms.") else SECTIONS[section]
    if key not in keys:
        raise BadSettings(f"{origin}: [{section}] has no setting {key!r}.", hint=did_you_mean(key, keys))
    return f"{section}.{key}"


def _built_in(kinds: Iterable[PlatformKind]) -> Layer:
    layer: Layer = {}
    for kind in kinds:
        for name, settings in kind.defaults.items():
            plain = msgspec.to_builtins(settings)
            layer |= {f"platforms.{name}.{key}": Value(value, BUILT_IN) for key, value in plain.items()}
    return layer


def _discovered(known: Layer) -> Layer:
    """Return `known`; where nothing is to be discovered, without what nobody wrote down and nobody need ask for by name."""
    chosen = known.get("engine.discover")
    if chosen is None or chosen.value is not False:
        return known
    platforms = {key: value for key, value in known.items() if key.startswith("platforms.")}
    named = {key.split(".")[1] for key, value in platforms.items() if value.origin != BUILT_IN}
    named |= {key.split(".")[1] for key, value in platforms.items() if key.endswith(".open") and value.value is False}
    return {key: value for key, value in known.items() if not key.startswith("platforms.") or key.split(".")[1] in named}


def _merged(layers: Iterable[Layer]) -> Layer:
    merged: Layer = {}
    for layer in layers:
        merged |= layer
    return merged


def _environment(environment: Mapping[str, str], known: Layer) -> Layer:
    layer: Layer = {}
    for name, text in environment.items():
        if name.startswith(PREFIX) and "__" in name:
            key = _dotted(name, known)
            layer[key] = Value(_typed(key, text), name)
    return layer


def _dotted(name: str, known: Layer) -> str:
    """Return the dotted key of a variable: FAREBOX_PLATFORMS__MY_LLM__URL finds the platform `my-llm` if there is one."""
    section, *rest = name.removeprefix(PREFIX).lower().split("__")
    if section == "platforms" and len(rest) == 2:
        names = {key.split(".")[1] for key in known if key.startswith("platforms.")}
        platform = next((one for one in sorted(names) if one.replace("-", "_") == rest[0]), rest[0])
        _platform_name(platform, name)
        return _key(f"platforms.{platform}", rest[1], name)
    if section not in SECTIONS or len(rest) != 1:
        raise BadSettings(f"{name} is no setting.", hint=did_you_mean(section, (*SECTIONS, "platforms")))
    return _key(section, rest[0], name)


def _typed(key: str, text: str) -> Any:
    """Return lists, objects, numbers and booleans of a variable as JSON says them; text where text is expected."""
    kinds: dict[str, type[Struct]] = {"platforms": PlatformSettings, "bus": Bus, "store": StorePlace}
    hints = get_type_hints(kinds.get(key.partition(".")[0], Settings))
    hint = hints.get(key.rpartition(".")[2], str)
    if hint is str:
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def _settings(known: Layer, *, with_platforms: bool) -> Settings:
    raw: dict[str, Any] = {}
    by_platform: dict[str, dict[str, Any]] = {}
    for key, value in known.items():
        section, _, name = key.partition(".")
        if section == "engine":
            raw[name] = value.value
        elif section == "platforms" and with_platforms:
            platform, _, field = name.partition(".")
            by_platform.setdefault(platform, {})[field] = value.value
    settings = _converted(raw, Settings, known, "engine.")
    platforms = {name: _platform(name, fields, known) for name, fields in by_platform.items()}
    return msgspec.structs.replace(settings, platforms=platforms)


def _platform(name: str, fields: dict[str, Any], known: Layer) -> PlatformSettings:
    prefix = f"platforms.{name}."
    if "kind" not in fields:
        origin = next(value.origin for key, value in known.items() if key.startswith(prefix))
        raise BadSettings(f'{origin}: [platforms.{name}] needs kind, for example kind = "compatible".')
    _refuse_keys(name, fields, known)
    return _converted(fields, PlatformSettings, known, prefix)


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
    raw = {key.rpartition(".")[2]: value.value for key, value in known.items() if key.startswith(f"{section}.")}
    return _converted(raw, kind, known, f"{section}.")


def _converted[Kind](raw: dict[str, Any], kind: type[Kind], known: Layer, prefix: str) -> Kind:
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        message, _, place = str(error).replace("`", "").rpartition(" - at ")
        key = prefix + place.removeprefix("$.")
        origin = next((value.origin for name, value in known.items() if _same(name, key)), "the settings")
        raise BadSettings(f"{origin}: {key}: {message or error}.") from error


def _same(name: str, place: str) -> bool:
    return name == place or place.startswith((f"{name}[", f"{name}."))


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
