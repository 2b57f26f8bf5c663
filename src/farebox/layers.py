"""Layers of settings: values by dotted key, each with its origin, as files, the environment and built-in kinds say them."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import msgspec
from msgspec import Struct

from farebox.core import ids
from farebox.core.errors import BadInput, BadSettings
from farebox.core.settings import NAMED
from farebox.nearest import did_you_mean
from farebox.sections import KEYS, SINGLE

if TYPE_CHECKING:
    from farebox.core.platform import PlatformKind

PREFIX = "FAREBOX_"
BUILT_IN = "built in"


class Value(Struct, frozen=True):
    """One value as found, with its origin."""

    value: Any
    origin: str


Layer = dict[str, Value]
"""Values by dotted key: `engine.durability`, `platforms.ollama.url`, `budgets.month.limit_usd`."""


def of_file(path: Path, only: Iterable[str] = ()) -> Layer:
    """Return what a file says. With `only` no other section may stand in it. Raises BadSettings."""
    try:
        raw = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadSettings(f"{path}: {error}.") from error
    known = tuple(only) or tuple(KEYS)
    layer: Layer = {}
    for section, content in raw.items():
        if section not in known:
            raise BadSettings(f"{path}: unknown section [{section}].", hint=did_you_mean(section, known))
        if not isinstance(content, dict):
            raise BadSettings(f"{path}: {section} must be a section: [{section}].")
        layer |= _of_section(section, content, str(path))  # pyright: ignore[reportUnknownArgumentType]
    return layer


def _of_section(section: str, content: dict[str, Any], origin: str) -> Layer:
    if section not in NAMED:
        return {dotted(section, "", key, origin): Value(value, origin) for key, value in content.items()}
    layer: Layer = {}
    for name, settings in content.items():
        if not isinstance(settings, dict):
            raise BadSettings(f"{origin}: {section}.{name} must be a section: [{section}.{name}].")
        values: dict[str, Any] = settings  # pyright: ignore[reportUnknownVariableType]
        check_name(section, name, origin)
        layer |= {dotted(section, name, key, origin): Value(value, origin) for key, value in values.items()}
    return layer


def of_kinds(kinds: Iterable[PlatformKind]) -> Layer:
    """Return the platforms that need no settings, and the limits that their providers published."""
    layer: Layer = {}
    for kind in kinds:
        for section, each in (("platforms", kind.defaults), ("quotas", kind.quotas)):
            for name, settings in each.items():
                plain: dict[str, Any] = msgspec.to_builtins(settings)
                layer |= {f"{section}.{name}.{key}": Value(value, BUILT_IN) for key, value in plain.items()}
    return layer


def of_environment(environment: Mapping[str, str], known: Layer) -> Layer:
    """Return what variables say. Raises BadSettings."""
    layer: Layer = {}
    for name, text in environment.items():
        if name.startswith(PREFIX) and "__" in name:
            key = _of_variable(name, known)
            layer[key] = Value(_typed(key, text), name)
    return layer


def merged(layers: Iterable[Layer]) -> Layer:
    """Return all values; those of a later layer win."""
    found: Layer = {}
    for layer in layers:
        found |= layer
    return found


def names(layer: Layer, section: str) -> set[str]:
    """Return the names that a section holds."""
    return {key.split(".")[1] for key in layer if key.startswith(f"{section}.")}


def check_name(section: str, name: str, origin: str) -> None:
    """Raise BadSettings for a name that could not stand in a subject or an id."""
    what = {"policies": "policy"}.get(section, section.removesuffix("s"))
    try:
        ids.check(name, what)
    except BadInput as error:
        raise BadSettings(f"{origin}: {error.message}", hint=error.hint) from error


def dotted(section: str, name: str, key: str, origin: str) -> str:
    """Return the dotted key of a setting. Raises BadSettings for one that there is not."""
    whole = f"{section}.{name}" if name else section
    if key not in KEYS[section]:
        raise BadSettings(f"{origin}: [{whole}] has no setting {key!r}.", hint=did_you_mean(key, KEYS[section]))
    return f"{whole}.{key}"


def _of_variable(name: str, known: Layer) -> str:
    """Return the dotted key of a variable: FAREBOX_PLATFORMS__MY_LLM__URL finds the platform `my-llm` if there is one."""
    section, *rest = name.removeprefix(PREFIX).lower().split("__")
    if section in NAMED and len(rest) == 2:
        there = (one for one in sorted(names(known, section)) if one.replace("-", "_") == rest[0])
        found = next(there, rest[0])
        check_name(section, found, name)
        return dotted(section, found, rest[1], name)
    if section not in SINGLE or len(rest) != 1:
        raise BadSettings(f"{name} is no setting.", hint=did_you_mean(section, KEYS))
    return dotted(section, "", rest[0], name)


def _typed(key: str, text: str) -> Any:
    """Return lists, objects, numbers and booleans of a variable as JSON says them; text where text is expected."""
    section = key.partition(".")[0]
    hint = get_type_hints((NAMED | SINGLE)[section]).get(key.rpartition(".")[2], str)
    if hint is str:
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def converted[Kind](raw: dict[str, Any], kind: type[Kind], known: Layer, prefix: str) -> Kind:
    """Return a section's values as what they are. Raises BadSettings that names the origin and the key."""
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        message, _, place = str(error).replace("`", "").rpartition(" - at ")
        key = prefix + place.removeprefix("$.")
        origin = next((value.origin for name, value in known.items() if _same(name, key)), "the settings")
        raise BadSettings(f"{origin}: {key}: {message or error}.") from error


def _same(name: str, place: str) -> bool:
    return name == place or place.startswith((f"{name}[", f"{name}."))
