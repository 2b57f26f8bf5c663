"""Anthropic's agent program `claude` (Claude Code): the user's own login and plan, or a key.

    [platforms.claude-code]
    kind = "claude-code"                  # exists without a section
    options = {directory = "/home/me/project", permission_mode = "acceptEdits"}

A task of text runs in a folder of its own, without tools, with a short system prompt. With `directory` claude works there with
its own prompt, tools and settings. On a plan no key variable is kept: a key in the environment would be billed in the plan's
place. `billing = "metered"` keeps `key_env`. Its own retries are off. Another server: `url`. A second account: `home`, its
configuration folder. Tested with claude 2.1.329 (npm `@anthropic-ai/claude-code`, 2026-11-21).
"""

from __future__ import annotations

import shlex

from actors.platforms.checks import key_is_safe, options_are, url_works, variables_are
from actors.platforms.foreign_json import at, parse, text_at
from actors.platforms.release import release_in
from actors.platforms.stream_json import StreamJsonReader
from farebox.core.directories import roots
from farebox.core.errors import BadSettings
from farebox.core.events import PlatformReported
from farebox.core.platform import SCRATCH, Ask, PlatformKind, Probe, ProbeAnswer, ProcessCall
from farebox.core.settings import PlatformSettings

TESTED = (2, 1, 329)
INSTALL = "npm install -g @anthropic-ai/claude-code"
SYSTEM = "Answer the request."
PROBE_S = 5.0
"""`claude auth status` takes half a second, on a busy machine more."""
OPTIONS: dict[str, tuple[str, ...]] = {
    "system": ("lean", "own"),
    "directory": (),
    "directories": (),
    "worktrees": (),
    "allowed_tools": (),
    "permission_mode": ("acceptEdits", "auto", "bypassPermissions", "default", "dontAsk", "manual", "plan"),
    "home": (),
    "arguments": (),
    "keep": (),
    "insecure": ("yes", "no"),
}
KEYS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN")
"""The variables in which claude looks for a key; each is billed by token."""
PAYING = (*KEYS, "ANTHROPIC_BASE_URL", "CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX", "CLAUDE_CODE_USE_FOUNDRY")
"""The variables that make somebody else than the plan pay."""
LOGIN = "CLAUDE_CODE_OAUTH_TOKEN"
"""Where `claude setup-token` tells users to put their plan's login."""
_QUIET = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_ERROR_REPORTING": "1",
}
_ONCE = {
    "CLAUDE_CODE_MAX_RETRIES": "0",
    "CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK": "1",
    "CLAUDE_CODE_DISABLE_REFUSAL_RETRY": "1",
    "CLAUDE_CODE_DISABLE_REFUSAL_FALLBACK": "1",
    "CLAUDE_CODE_DISABLE_MODEL_ACCESS_FALLBACK": "1",
}
"""Asked once, of the model that was named: who repeats and who else is asked is decided in one place, not there."""
_SAID = ("-p", "--output-format", "stream-json", "--verbose", "--include-partial-messages", "--no-session-persistence")
_LEAN = ("--tools", "", "--strict-mcp-config", "--setting-sources", "")


def ask_claude(ask: Ask) -> ProcessCall:
    """Return the program to start. Prompt and system prompt never stand on the command line, where `ps` shows them."""
    settings = ask.settings
    words, files = _system(ask)
    return ProcessCall(
        argv=(*(settings.argv or ("claude",)), *_SAID, *words, *_chosen(ask)),
        stdin=ask.prompt.encode("utf-8", "replace"),
        environment={**_QUIET, **_ONCE, **_placed(settings), **_longest(ask)},
        keep=_kept(ask.platform, settings),
        directory=settings.options.get("directory") or SCRATCH,
        scratch=files,
    )


def _is_lean(settings: PlatformSettings) -> bool:
    return settings.options.get("system", "own" if settings.options.get("directory") else "lean") == "lean"


def _system(ask: Ask) -> tuple[tuple[str, ...], dict[str, bytes]]:
    """Return the words and files for the system prompt: instead of claude's own, or after it."""
    tools = () if ask.settings.options.get("directory") else _LEAN
    if _is_lean(ask.settings):
        option, system = "--system-prompt-file", ask.system or SYSTEM
    else:
        option, system = "--append-system-prompt-file", ask.system
    if not system:
        return tools, {}
    return (*tools, option, f"{SCRATCH}/system.txt"), {"system.txt": system.encode("utf-8", "replace")}


def _chosen(ask: Ask) -> tuple[str, ...]:
    """Return what the user chose. `--allowed-tools` takes all words that follow: it is written as one."""
    options = ask.settings.options
    words: list[str] = []
    model = ask.model or ask.settings.model or next(iter(ask.settings.models), "")
    if model:
        words += ["--model", model]
    if options.get("allowed_tools") and options.get("directory"):
        words.append(f"--allowed-tools={options['allowed_tools']}")
    if options.get("permission_mode") and options.get("directory"):
        words += ["--permission-mode", options["permission_mode"]]
    return (*words, *shlex.split(options.get("arguments", "")))


def _placed(settings: PlatformSettings) -> dict[str, str]:
    """Return where claude finds its configuration, its login and its server."""
    home = settings.options.get("home", "")
    return {
        **({"CLAUDE_CONFIG_DIR": home} if home else {}),
        **({"ANTHROPIC_BASE_URL": settings.url} if settings.url else {}),
    }


def _longest(ask: Ask) -> dict[str, str]:
    longest = ask.task.max_tokens
    return {} if longest is None else {"CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(longest)}


def _kept(name: str, settings: PlatformSettings) -> tuple[str, ...]:
    """Return the variables that claude may see: on a plan its login, and none that makes somebody else pay."""
    keep = variables_are(name, settings.options.get("keep", ""))
    if not settings.options.get("home"):
        keep = ("CLAUDE_CONFIG_DIR", *keep)
    if settings.billing == "plan":
        return (LOGIN, *keep)
    return (settings.key_env, *keep) if settings.key_env else keep


def read_claude(ask: Ask) -> StreamJsonReader:
    """Return a reader for one run."""
    return StreamJsonReader(ask)


def probe_claude(name: str, settings: PlatformSettings) -> Probe:
    """Return what to ask the program: its version and, where its login pays, whether there is one."""
    return Probe(
        program=next(iter(settings.argv), "claude"),
        ask=(("--version",),) if settings.key_env else (("--version",), ("auth", "status", "--json")),
        keep=_kept(name, settings),
        environment={**_QUIET, **_placed(settings)},
        timeout_s=PROBE_S,
    )


def read_probe(name: str, settings: PlatformSettings, answer: ProbeAnswer) -> PlatformReported:
    """Return whether claude is there, in which version, and who pays."""
    program = next(iter(settings.argv), "claude")
    if not answer.path:
        return PlatformReported(platform=name, detail=f"no program {program[:200]!r} on PATH", mend=INSTALL)
    release, remark = release_in(answer.said[0].out if answer.said else "", TESTED)
    if not release:
        return PlatformReported(platform=name, detail=f"{answer.path} does not say its version", mend=INSTALL)
    why, mend = _key_missing(settings, answer) if settings.key_env else _login_missing(settings, answer)
    payer = f"{settings.key_env} is set" if settings.key_env else "logged in"
    return PlatformReported(
        platform=name,
        available=not why,
        detail=f"{release}{remark}, {why or payer}",
        mend=mend,
        release=release,
        models=settings.models,
    )


def _key_missing(settings: PlatformSettings, answer: ProbeAnswer) -> tuple[str, str]:
    return ("", "") if answer.key_set else (f"{settings.key_env} is not set", f"export {settings.key_env}=…")


def _login_missing(settings: PlatformSettings, answer: ProbeAnswer) -> tuple[str, str]:
    """Return why its login cannot pay. Of what it tells about its user only this is read: logged in, and how."""
    home = settings.options.get("home", "")
    login = f"CLAUDE_CONFIG_DIR={shlex.quote(home)} claude auth login" if home else "claude auth login"
    status = answer.said[1]
    told = parse(status.out)
    if at(told, "loggedIn") is False:
        return "not logged in", login
    if at(told, "loggedIn") is not True:
        return "its login status did not come", "claude auth status"
    if settings.billing == "plan" and text_at(told, "authMethod") in {"api_key", "api_key_helper", "third_party"}:
        return "its login is billed by token", f'{login}, or billing = "metered"'
    return "", ""


def check(name: str, settings: PlatformSettings) -> None:
    """Refuse settings that cannot work. Raises BadSettings."""
    options_are(name, settings, OPTIONS)
    keep = variables_are(name, settings.options.get("keep", ""))
    key_is_safe(name, settings)
    if settings.url:
        url_works(name, settings.url)
    if settings.argv and not settings.argv[0].strip():
        raise BadSettings(f"platforms.{name}.argv names no program.", hint='Leave it out, or write argv = ["/path/to/claude"].')
    if settings.key_env and settings.key_env not in KEYS:
        raise BadSettings(f"platforms.{name}: claude does not read {settings.key_env}.", hint=f"It reads {' or '.join(KEYS)}.")
    paying = next((one for one in (settings.key_env, *keep) if one in PAYING), "")
    if settings.billing == "plan" and paying:
        raise BadSettings(
            f"platforms.{name} is billed to a plan, and with {paying} something else would pay.",
            hint='Remove it, or write billing = "metered".',
        )
    _options_fit(name, settings)


def _options_fit(name: str, settings: PlatformSettings) -> None:
    options = settings.options
    try:
        shlex.split(options.get("arguments", ""))
    except ValueError as error:
        raise BadSettings(f"platforms.{name}.options.arguments cannot be read: {error}.") from None
    for option in ("directory", "home"):
        if options.get(option, "").startswith("~"):
            raise BadSettings(f"platforms.{name}.options.{option} must be a whole path: nobody expands ~.")
    for option in ("allowed_tools", "permission_mode"):
        if options.get(option) and not roots(settings):
            raise BadSettings(
                f"platforms.{name}.options.{option} means nothing without a directory: there are no tools then.",
                hint='Write options = {directories = "/path/to/projects", …}, or directory = "/path/to/project".',
            )


CLAUDE_CODE = PlatformKind(
    name="claude-code",
    ask=ask_claude,
    reader=read_claude,
    probe=probe_claude,
    read_probe=read_probe,
    check=check,
    defaults={"claude-code": PlatformSettings(kind="claude-code", billing="plan", limit=2)},
)
