"""The real command lines of the vendors, from npm, in exactly the versions that were tested; installed once into a cache.

The cache is `$FAREBOX_CLI_CACHE` or the user's cache folder, a folder for each package and version. Versions and where
their native binaries lie: seen on 2026-11-21, Linux x86-64. Native programs are called directly, so signals reach them;
`gemini` is JavaScript and needs `node` on PATH.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import platformdirs

PACKAGES = {
    "claude": "@anthropic-ai/claude-code@2.1.329",
    "gemini": "@google/gemini-cli@0.61.0",
    "codex": "@openai/codex@0.169.0",
}
BINARIES = {
    "claude": ("node_modules/@anthropic-ai/claude-code-*/claude",),
    "gemini": ("node_modules/.bin/gemini",),
    "codex": (
        "node_modules/@openai/codex-*/vendor/*/bin/codex",
        "node_modules/@openai/codex-*/vendor/*/codex/codex",
    ),
}
INSTALL_S = 300


def cache() -> Path:
    """Return the folder in which programs are kept."""
    own = os.environ.get("FAREBOX_CLI_CACHE")
    return Path(own) if own else platformdirs.user_cache_path("farebox") / "cli"


def version(name: str) -> str:
    """Return the version of `claude`, `gemini` or `codex` that is tested."""
    return PACKAGES[name].rpartition("@")[2]


def path(name: str) -> Path:
    """Return the program's path, installed if it is not there yet."""
    place = cache() / f"{name}-{version(name)}"
    if not place.exists():
        _install(name, place)
    found = sorted(one for pattern in BINARIES[name] for one in place.glob(pattern))
    assert found, f"no program in {place}: was it laid out anew? remove the folder to install again"
    return found[0]


def _install(name: str, place: Path) -> None:
    """Install aside, then move: two runs at once do not disturb each other, and half an installation is never used."""
    npm = shutil.which("npm")
    assert npm, "npm is needed to install the real programs"
    place.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f"{place.name}.", dir=place.parent))
    words = (npm, "install", "--prefix", aside, "--no-audit", "--no-fund", "--no-save", "--loglevel=error", PACKAGES[name])
    done = subprocess.run(words, cwd=aside, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    try:
        assert done.returncode == 0, done.stderr
        if not place.exists():
            aside.rename(place)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
