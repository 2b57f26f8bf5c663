"""Settings of a platform that cannot work, each refused with one clear line. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from farebox.core.directories import is_whole
from farebox.core.errors import BadSettings
from farebox.core.settings import PlatformSettings

_VARIABLE = re.compile(r"\A[A-Za-z_][A-Za-z0-9_]{0,127}\Z", re.ASCII)
_POSITIVE = re.compile(r"[1-9]\d{0,8}", re.ASCII)
_IN_A_HEADER = re.compile(r"[!-~]{1,200}", re.ASCII)
_LOOPBACK = re.compile(r"\A(localhost|127\.\d{1,3}\.\d{1,3}\.\d{1,3}|::1)\Z", re.ASCII)


def is_loopback(url: str) -> bool:
    """Say whether `url` stays on this machine."""
    return bool(_LOOPBACK.match(urlsplit(url).hostname or ""))


def url_works(name: str, url: str) -> None:
    """Refuse what is no http(s) address with a host, or carries a password that would end up in the log."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise BadSettings(f"platforms.{name}.url {url[:80]!r} is no address.", hint=_URL_HINT) from None
    if not usable or any(char.isspace() or not char.isprintable() for char in url):
        raise BadSettings(f"platforms.{name}.url {url[:80]!r} is no address.", hint=_URL_HINT)
    if parts.username or parts.password or parts.query or parts.fragment:
        raise BadSettings(
            f"platforms.{name}.url may hold no user, password, query or fragment.",
            hint="Keys go into an environment variable that key_env names.",
        )


_URL_HINT = 'Write it like "http://127.0.0.1:8000/v1".'


def key_is_safe(name: str, settings: PlatformSettings) -> None:
    """Refuse a `key_env` that is no name of a variable, or a key that would travel in the clear."""
    key = settings.key_env
    if key and not _VARIABLE.match(key):
        raise BadSettings(
            f"platforms.{name}.key_env must be the name of an environment variable.",
            hint='Write its name, never the key itself, like "OPENAI_API_KEY".',
        )
    clear = settings.url.startswith("http:") and not is_loopback(settings.url)
    if key and clear and settings.options.get("insecure") != "yes":
        raise BadSettings(
            f"platforms.{name} would send the key over plain http.",
            hint='Use https, or write options = {insecure = "yes"} for a network you trust.',
        )


def options_are(name: str, settings: PlatformSettings, known: Mapping[str, Sequence[str]]) -> None:
    """Refuse options that are not in `known`; no values allows any text."""
    for option, value in settings.options.items():
        if option not in known:
            raise BadSettings(
                f"platforms.{name}.options has no {option[:40]!r}.", hint=f"It knows: {', '.join(sorted(known)) or 'none'}."
            )
        if known[option] and value not in known[option]:
            raise BadSettings(
                f"platforms.{name}.options.{option} cannot be {value[:40]!r}.", hint=f"It can be: {', '.join(known[option])}."
            )
    _places_are(name, settings)


def _places_are(name: str, settings: PlatformSettings) -> None:
    """Refuse directories for tasks and their worktrees that name no place by themselves."""
    for option in ("directories", "worktrees"):
        for path in (part.strip() for part in settings.options.get(option, "").split(",")):
            if path and not is_whole(path):
                raise BadSettings(
                    f"platforms.{name}.options.{option}: {path[:80]!r} is no whole path.",
                    hint="Write it from the root on, without ~ and without `..`, commas between several.",
                )


def counts_are(name: str, settings: PlatformSettings, *options: str) -> None:
    """Refuse an option that must be a count and is none."""
    for option in options:
        value = settings.options.get(option, "1")
        if not _POSITIVE.fullmatch(value):
            raise BadSettings(f"platforms.{name}.options.{option} must be a count from 1 on, not {value[:40]!r}.")


def headers_are(name: str, settings: PlatformSettings, *options: str) -> None:
    """Refuse an option that goes into a header and does not fit into one."""
    for option in options:
        value = settings.options.get(option, "x")
        if not _IN_A_HEADER.fullmatch(value):
            raise BadSettings(f"platforms.{name}.options.{option} {value[:40]!r} fits into no header.")


def variables_are(name: str, text: str) -> tuple[str, ...]:
    """Return the names in a list like `A, B`. Raises BadSettings for what cannot be a variable's name."""
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    for variable in names:
        if not _VARIABLE.match(variable):
            raise BadSettings(f"platforms.{name}.options.keep: {variable[:40]!r} is no name of an environment variable.")
    return names


def without(name: str, settings: PlatformSettings, *unused: str) -> None:
    """Refuse settings that this kind does not read: whoever wrote them expects something that will not happen."""
    for field in unused:
        if getattr(settings, field):
            raise BadSettings(f"platforms.{name}.{field} means nothing to kind {settings.kind!r}.", hint="Remove it.")
