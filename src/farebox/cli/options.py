"""The options that every command knows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from farebox.config import Config, load
from farebox.core.errors import BadInput


@Parameter(name="*")
@dataclass(frozen=True)
class Common:
    """Options of every command."""

    json: Annotated[bool, Parameter(negative=())] = False
    """Print one JSON document on stdout; money is decimal text, unknown is null."""
    server: str | None = None
    """A NATS server, nats://HOST:PORT, instead of the local engine."""
    nats_context: Annotated[str | None, Parameter(name=("--context", "--nats-context"))] = None
    """A context of the nats CLI."""
    store: Path | None = None
    """The folder of the store (default: FAREBOX_HOME, else the usual place)."""
    config: Path | None = None
    """A settings file instead of farebox.toml."""
    quiet: Annotated[bool, Parameter(name=("--quiet", "-q"), negative=())] = False
    """No progress and no notes."""
    verbose: Annotated[bool, Parameter(name=("--verbose", "-v"), negative=())] = False
    """Traces of errors."""
    progress: Literal["auto", "live", "plain", "none"] = "auto"
    """How progress is shown on stderr."""
    color: Literal["auto", "always", "never"] = "auto"
    """Colours; NO_COLOR and FORCE_COLOR count too."""

    def settings(self, **flags: Any) -> Config:
        """Return the settings; `flags` like engine__durability win over everything else. Raises BadSettings."""
        named = {key.replace("__", "."): value for key, value in flags.items()}
        return load(file=self.config, flags=named)

    def place(self, config: Config) -> Path:
        """Return the folder of the store."""
        from farebox import discovery  # noqa: PLC0415 - 15 ms that --help does not need

        return discovery.store_of(self.store, config.store.dir)


@Parameter(name="*")
@dataclass(frozen=True)
class SubmitCommon(Common):
    """The same for `submit`, where --context is the context of the task."""

    nats_context: Annotated[str | None, Parameter(name="--nats-context")] = None
    """A context of the nats CLI."""


def no_option(given: str, what: str) -> str:
    """Return `given` unless it is a mistyped option in the place of a text, which must never be sent. Raises BadInput."""
    if given.startswith("-") and given != "-" and not any(char.isspace() for char in given):
        raise BadInput(f"Unknown option: {given[:60]}.", hint=f"(As a {what} it would need a space in it.)", code="FB400")
    return given


DEFAULT = Common()
SUBMIT_DEFAULT = SubmitCommon()
