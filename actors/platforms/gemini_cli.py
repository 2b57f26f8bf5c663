"""The Gemini CLI (`gemini`), started as it is, with its user's own login or with an API key. Pure.

    [platforms.gemini-cli]                # its own login: a Code Assist licence
    [platforms.gemini-cli]                # an API key, metered
    billing = "metered"
    key_env = "GEMINI_API_KEY"

Google ended the program for personal accounts (free, AI Pro, AI Ultra) on 2026-06-18; Code Assist licences and API keys go
on (google-gemini/gemini-cli discussion 28017, read 2026-11-21). Its login is never read, only looked for.

A text task runs lean in a folder of its own: no tools, no repeated tries, a short system prompt. With the option `directory`
the program works there with its own settings, tools and tries. With a login the key variables are kept from it, also those
in `.env` files, and in a folder of its own it takes no other login than the plan's. Gemini CLI 0.61.0 (2026-11-21).
"""

from __future__ import annotations

import re
import shlex
from typing import Any

import msgspec

from actors.platforms.checks import key_is_safe, options_are, url_works
from actors.platforms.gemini_lines import GeminiLinesReader
from farebox.core.errors import BadSettings
from farebox.core.events import PlatformReported
from farebox.core.platform import SCRATCH, Ask, PlatformKind, Probe, ProbeAnswer, ProcessCall, Reader
from farebox.core.quotas import QuotaSettings
from farebox.core.settings import PlatformSettings

OPTIONS: dict[str, tuple[str, ...]] = {
    "system": ("lean", "own"),
    "directory": (),
    "directories": (),
    "worktrees": (),
    "home": (),
    "approval_mode": ("default", "auto_edit", "yolo", "plan"),
    "allowed_tools": (),
    "arguments": (),
    "insecure": ("yes", "no"),
}
TESTED = (0, 61, 0)
KEY = "GEMINI_API_KEY"
INSTALL = "npm install -g @google/gemini-cli"
LEAN = "You answer the user's request directly and completely. You have no tools."
_KEYS = (KEY, "GOOGLE_API_KEY", "GOOGLE_GENAI_USE_VERTEXAI")
_LICENCE = ("GOOGLE_CLOUD_PROJECT", "GOOGLE_CLOUD_LOCATION")
_VERSION = re.compile(r"(\d{1,4})\.(\d{1,4})\.(\d{1,4})\S{0,40}", re.ASCII)
_QUIET: dict[str, Any] = {
    "general": {
        "maxAttempts": 1, "retryFetchErrors": False, "enableAutoUpdate": False, "enableAutoUpdateNotification": False
    },
    "privacy": {"usageStatisticsEnabled": False},
    "telemetry": {"enabled": False},
}  # fmt: skip


def ask_gemini(ask: Ask) -> ProcessCall:
    """Return the program to start: the prompt on its standard input, its settings in a folder of its own."""
    settings, options = ask.settings, ask.settings.options
    lean = _is_lean(settings)
    prompt = ask.prompt if lean or not ask.system else f"{ask.system}\n\n{ask.prompt}"
    return ProcessCall(
        argv=_argv(ask),
        stdin=prompt.encode("utf-8", "replace"),
        environment=_environment(settings, lean=lean),
        keep=(settings.key_env,) if settings.key_env else _LICENCE,
        directory=options.get("directory") or SCRATCH,
        scratch=_scratch(ask, lean=lean),
    )


def _is_lean(settings: PlatformSettings) -> bool:
    own = "own" if settings.options.get("directory") else "lean"
    return settings.options.get("system", own) == "lean"


def _argv(ask: Ask) -> tuple[str, ...]:
    options = ask.settings.options
    words = [*(ask.settings.argv or ("gemini",)), "--output-format", "stream-json", "--skip-trust"]
    if model := ask.model or ask.settings.model or next(iter(ask.settings.models), ""):
        words += ["-m", model]
    if not options.get("directory"):
        words += ["--extensions", "none"]
    if mode := options.get("approval_mode"):
        words += ["--approval-mode", mode]
    if tools := options.get("allowed_tools"):
        words += ["--allowed-tools", tools]
    return (*words, *shlex.split(options.get("arguments", "")))


def _environment(settings: PlatformSettings, *, lean: bool) -> dict[str, str]:
    added = {"TMPDIR": SCRATCH, "GEMINI_TELEMETRY_ENABLED": "false", "GEMINI_CLI_NO_RELAUNCH": "true", "NO_BROWSER": "true"}
    if settings.key_env:
        added["GEMINI_CLI_HOME"] = f"{SCRATCH}/home"
    else:
        added |= dict.fromkeys(_KEYS, "")
        if home := settings.options.get("home"):
            added["GEMINI_CLI_HOME"] = home
    if not settings.options.get("directory"):
        added["GEMINI_CLI_TRUST_WORKSPACE"] = "true"
    if lean:
        added["GEMINI_SYSTEM_MD"] = f"{SCRATCH}/system.md"
    if settings.url:
        added["GOOGLE_GEMINI_BASE_URL"] = settings.url.rstrip("/")
    return added


def _scratch(ask: Ask, *, lean: bool) -> dict[str, bytes]:
    """Return the files of the call: settings of its own home with a key, else settings of the folder it works in."""
    settings = ask.settings
    chosen = "selectedType" if settings.key_env else "enforcedType"
    login = "gemini-api-key" if settings.key_env else "oauth-personal"
    said = {**_QUIET, "security": {"auth": {chosen: login}}}
    if not settings.options.get("directory"):
        said["tools"] = {"core": []}
    place = "home/.gemini/settings.json" if settings.key_env else ".gemini/settings.json"
    files = {place: msgspec.json.encode(said)}
    if lean:
        files["system.md"] = (ask.system or LEAN).encode("utf-8", "replace")
    return files


def read_gemini(ask: Ask) -> Reader:
    """Return a reader for one run."""
    return GeminiLinesReader(ask)


def probe_gemini(_name: str, settings: PlatformSettings) -> Probe:
    """Return what to look for: the program, its version, and whether somebody has logged in. Node takes its time."""
    return Probe(
        program=next(iter(settings.argv), "gemini"),
        ask=(("--version",),),
        paths=() if settings.key_env else _logins(settings),
        timeout_s=10.0,
    )


def _logins(settings: PlatformSettings) -> tuple[str, ...]:
    home = settings.options.get("home") or "~"
    return (f"{home}/.gemini/oauth_creds.json", f"{home}/.gemini/gemini-credentials.json")


def read_program(name: str, settings: PlatformSettings, answer: ProbeAnswer) -> PlatformReported:
    """Return whether the program is there, runs, and has somebody to pay for it."""
    if not answer.path:
        program = next(iter(settings.argv), "gemini")
        return PlatformReported(platform=name, detail=f"no program {program[:200]!r} on PATH", mend=INSTALL)
    said = answer.said[0]
    found = _VERSION.search(said.out)
    if said.exit_code != 0 or found is None:
        told = "it did not say its version in time" if said.exit_code is None else said.errors.strip()[:200] or said.out[:200]
        return PlatformReported(
            platform=name, detail=f"{answer.path} does not run: {told}", mend=f"Install Node.js 20 or newer, then: {INSTALL}"
        )
    release = found[0]
    if settings.key_env and not answer.key_set:
        return PlatformReported(
            platform=name, detail=f"{settings.key_env} is not set", mend=f"export {settings.key_env}=…", release=release
        )
    if not settings.key_env and not answer.found:
        detail = f"version {release}; no login found (personal accounts ended on 2026-06-18: a Code Assist licence or a key)"
        mend = f'Log in with: gemini; or set platforms.{name}.billing = "metered" and key_env = "{KEY}"'
        return PlatformReported(platform=name, detail=detail, mend=mend, release=release)
    payer = f"paid with {settings.key_env}" if settings.key_env else "with its own login"
    return PlatformReported(
        platform=name, available=True, detail=f"{_aged(release)}, {payer}", release=release, models=settings.models
    )


def _aged(release: str) -> str:
    """Return how a version stands to the one that was tested."""
    found = _VERSION.match(release)
    assert found, "it was found as one"
    told, tested = tuple(int(part) for part in found.groups()), ".".join(map(str, TESTED))
    word = "newer" if told > TESTED else "older"
    return f"version {release}" if told == TESTED else f"version {release}, {word} than the tested {tested}"


def check(name: str, settings: PlatformSettings) -> None:
    """Refuse settings that cannot work. Raises BadSettings."""
    options_are(name, settings, OPTIONS)
    if settings.billing == "plan" and settings.key_env:
        raise BadSettings(
            f"platforms.{name} is paid by a plan and must not see a key.", hint='Remove key_env, or set billing = "metered".'
        )
    if settings.billing != "plan" and settings.key_env != KEY:
        raise BadSettings(f"platforms.{name} needs key_env.", hint=f'The program reads only one: key_env = "{KEY}".')
    if settings.url:
        url_works(name, settings.url)
        if not settings.key_env:
            raise BadSettings(f"platforms.{name}.url works only with a key.", hint=f'Set key_env = "{KEY}".')
    key_is_safe(name, settings)
    if settings.key_env and settings.options.get("home"):
        raise BadSettings(f"platforms.{name}.options.home is for logins; with a key each call has its own.")
    try:
        shlex.split(settings.options.get("arguments", ""))
    except ValueError as error:
        raise BadSettings(f"platforms.{name}.options.arguments: {error}.") from None


GEMINI_CLI = PlatformKind(
    name="gemini-cli",
    ask=ask_gemini,
    reader=read_gemini,
    probe=probe_gemini,
    read_probe=read_program,
    check=check,
    defaults={"gemini-cli": PlatformSettings(kind="gemini-cli", billing="plan", limit=2)},
    quotas={
        "gemini-cli-day": QuotaSettings(
            platform="gemini-cli",
            window="day",
            limit=1500,
            kind="rolling",  # nobody says when the day turns; this holds whenever it does
            billing="plan",
            source="published",
            said="Code Assist Standard (Enterprise 2000): quota-and-pricing.md of gemini-cli 0.61.0, 2026-11",
        )
    },
)
