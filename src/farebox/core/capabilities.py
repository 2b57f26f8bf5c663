"""What the kinds of platforms can do, and whether on this machine: the words that `capabilities` and `local` mean."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from farebox.core.settings import PlatformSettings

TEXT = frozenset({"text"})
MODEL = TEXT | {"system", "max_tokens", "temperature"}
AGENT = TEXT | {"system", "files", "tools"}
CAN: dict[str, frozenset[str]] = {
    "claude-code": AGENT | {"max_tokens"},
    "codex": AGENT,
    "gemini-cli": TEXT | {"files", "tools"},
    "antigravity": TEXT | {"tools"},
    "anthropic": MODEL,
    "openai": MODEL,
    "gemini": MODEL,
    "compatible": MODEL,
    "command": TEXT | {"files"},
    "interactive": TEXT | {"person"},
    "rehearsal": TEXT,
}
"""By kind: `text` in and out, an own `system` prompt, bounded answers (`max_tokens`), `temperature`, works on `files` in a
directory, runs `tools` by itself, is a `person`. As the files in actors/platforms/ do it, 2026-11-21."""
KNOWN: frozenset[str] = TEXT.union(*CAN.values())
"""Capabilities that some kind has; a platform's own section may add others."""
HERE = frozenset({"command", "rehearsal", "interactive"})
"""Kinds that need no other machine, unless their section has a URL."""
_LOOPBACK = re.compile(r"127(\.[0-9]{1,3}){3}\Z", re.ASCII)


def can(platform: PlatformSettings) -> frozenset[str]:
    """Return what a platform can do: as its kind does, and what its section says besides. An unknown kind can do text."""
    return CAN.get(platform.kind, TEXT).union(platform.capabilities)


def is_local(platform: PlatformSettings) -> bool:
    """Whether what a platform is given stays on this machine: as its section says, else by its URL or its kind."""
    if platform.local is not None:
        return platform.local
    return is_loopback(platform.url) if platform.url else platform.kind in HERE


def is_loopback(url: str) -> bool:
    """Whether a URL leads to this machine itself. One that does not read leads elsewhere."""
    try:
        host = (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return False
    return host in {"localhost", "::1"} or host.endswith(".localhost") or _LOOPBACK.match(host) is not None
