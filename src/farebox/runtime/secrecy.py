"""What must stay secret on this machine: the values of the environment's keys. Where they are struck out, and where refused.

Struck out: whatever a platform says (answers, live text, faults, what programs write on standard error) and whatever farebox
says about it in logs, errors and traces. Refused: a task or a setting that holds one, as nobody meant to send or keep that.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import msgspec

from farebox.core.errors import BadInput
from farebox.core.redaction import CHARS_MIN, Redactor
from farebox.core.terms import FileInput

_STORES: set[Path] = set()
_SEEN_MAX = 64
_seen: dict[int, tuple[dict[Any, Any], dict[tuple[str, ...], Redactor]]] = {}
_ENDS = ("KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL", "CREDENTIALS", "_PAT")
"""A variable whose name ends like this holds a secret, unless its value is the path of a file."""


class Environment(dict[str, str]):
    """An environment that changes no more: an engine looks for its secrets once, not at each call."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__(environ)
        self.secrets = _secrets(environ, (name for name in environ if name.upper().endswith(_ENDS)))


def secret_values(environ: Mapping[str, str], names: Iterable[str] = ()) -> dict[str, str]:
    """Return the secrets of an environment by the names of their variables; `names` are secret whatever they are called."""
    known = environ if isinstance(environ, Environment) else Environment(environ)
    more = [name for name in names if name in environ and name not in known.secrets]
    return known.secrets | _secrets(environ, more) if more else known.secrets


def _secrets(environ: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    found = {name: environ[name].strip() for name in names}
    return {name: value for name, value in found.items() if len(value) >= CHARS_MIN and not _is_path(value)}


def redactor(environ: Mapping[str, str] = os.environ, names: Iterable[str] = ()) -> Redactor:
    """Return what strikes out the secrets of an environment and all that looks like a key.

    It is asked for with each attempt: while the environment stays as it was, that costs a comparison (2 us instead of 60).
    """
    plain: Mapping[Any, Any] = getattr(environ, "_data", environ)  # os.environ decodes each name anew
    wanted = tuple(names)
    seen = _seen.get(id(environ))
    if seen is None or seen[0] != plain:
        if len(_seen) >= _SEEN_MAX:
            _seen.clear()
        seen = _seen[id(environ)] = (dict(plain), {})
    if wanted not in seen[1]:
        seen[1][wanted] = _redactor(tuple(secret_values(environ, wanted).values()))
    return seen[1][wanted]


class Task(Protocol):
    """What a task holds that its sender wrote."""

    @property
    def prompt(self) -> str: ...  # noqa: D102
    @property
    def label(self) -> str: ...  # noqa: D102
    @property
    def context(self) -> Any: ...  # noqa: D102
    @property
    def metadata(self) -> Any: ...  # noqa: D102
    @property
    def files(self) -> tuple[FileInput, ...]: ...  # noqa: D102


def refuse_secrets(task: Task, environ: Mapping[str, str] = os.environ) -> None:
    """Raise BadInput when a task holds the value of a key of this environment: the log would keep it for ever."""
    known = redactor(environ)
    if not known.values:
        return
    texts = [
        task.prompt,
        task.label,
        *all_texts(task.context),
        *all_texts(task.metadata),
        *(file.content or "" for file in task.files),
    ]
    text = next((text for text in texts if known.holds(text)), None)
    if text is not None:
        name = next(name for name, value in secret_values(environ).items() if value in text)
        hint = "The log would keep it for ever. Take it out, or unset the variable where that is no secret."
        raise BadInput(f"The task holds the value of {name}.", hint=hint, code="FB416")


def struck[Kind: msgspec.Struct](fact: Kind, by: Redactor) -> Kind:
    """Return a fact with the secrets in its texts struck out."""
    changes = {
        name: by.text(text)
        for name in fact.__struct_fields__
        if isinstance(text := getattr(fact, name), str) and by.suspects(text)
    }
    return msgspec.structs.replace(fact, **changes) if changes else fact


def keep_out_of(store: Path) -> None:
    """Remember a folder in which no program of a platform may be started: it holds the log and all keys."""
    _STORES.add(store.resolve())


def let_go_of(store: Path) -> None:
    """Forget it again: the engine over it has stopped."""
    _STORES.discard(store.resolve())


def holds_a_store(directory: str) -> bool:
    """Say whether a program that starts in `directory` would stand in a store, or above one: agents read what lies around."""
    place = Path(directory or ".").resolve()
    return any(place.is_relative_to(store) or (directory and store.is_relative_to(place)) for store in _STORES)


class Hiding(logging.Filter):
    """Strikes the secrets of this process out of its log lines, traces included."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass, without its secrets."""
        known = redactor()
        record.msg, record.args = known.text(record.getMessage()), ()
        if record.exc_info:
            record.exc_text = known.text(logging.Formatter().formatException(record.exc_info))
            record.exc_info = None
        return True


def hide_in_logs() -> None:
    """Strike secrets out of what is logged while nobody has set up logging: that goes to standard error."""
    last = logging.lastResort
    if last is not None and not any(isinstance(one, Hiding) for one in last.filters):
        last.addFilter(Hiding())


@lru_cache(maxsize=64)
def _redactor(values: tuple[str, ...]) -> Redactor:
    return Redactor(values)


def _is_path(value: str) -> bool:
    """Whether a variable names a file instead of holding the secret itself."""
    return value.startswith(("/", "~", "./")) and Path(value).expanduser().exists()


def all_texts(value: Any) -> Iterable[str]:
    """Yield all texts inside plain data, names too."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict):
            waiting += [*one, *one.values()]  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        elif isinstance(one, list | tuple):
            waiting += one  # pyright: ignore[reportUnknownArgumentType]
