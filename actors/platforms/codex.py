"""OpenAI's agent program `codex`: the user's own login and plan, or a key of an own provider.

    [platforms.codex]
    kind = "codex"                        # exists without a section
    options = {directory = "/home/me/project", sandbox = "workspace-write"}

It is talked with over `codex app-server`; `options.mode = "exec"` uses `codex exec --json`, which streams nothing.
A task of text runs in a folder of its own without tools; with `directory` codex works there, with its tools. On a plan no
key variable is kept and no turn begins on a login that bills by token. `billing = "metered"` with `key_env`, or a `url`,
uses an own provider and an own CODEX_HOME. Tested with codex 0.169.0 (npm `@openai/codex`, 2026-11-21).
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from actors.platforms.checks import key_is_safe, options_are, url_works, variables_are
from actors.platforms.codex_config import config, is_lean, own_provider
from actors.platforms.codex_exec import ExecReader
from actors.platforms.codex_talk import TalkReader, opening
from actors.platforms.release import release_in
from farebox.core.directories import roots
from farebox.core.errors import BadSettings
from farebox.core.events import PlatformReported
from farebox.core.platform import SCRATCH, Ask, PlatformKind, Probe, ProbeAnswer, ProcessCall, Reader
from farebox.core.settings import PlatformSettings

TESTED = (0, 169, 0)
INSTALL = "npm install -g @openai/codex"
INSTRUCTIONS = "You are a helpful assistant."
PROBE_S = 5.0
"""Started through node it takes up to a second on a busy machine."""
OPTIONS: dict[str, tuple[str, ...]] = {
    "mode": ("app-server", "exec"),
    "system": ("lean", "own"),
    "directory": (),
    "directories": (),
    "worktrees": (),
    "sandbox": ("read-only", "workspace-write", "danger-full-access"),
    "approvals": ("decline", "accept"),
    "home": (),
    "arguments": (),
    "keep": (),
    "insecure": ("yes", "no"),
}


def ask_codex(ask: Ask) -> ProcessCall:
    """Return the program to start, and what is said to it first."""
    settings = ask.settings
    options = settings.options
    files = _files(ask)
    environment = {"CODEX_HOME": options["home"]} if options.get("home") else {}
    if _own_home(settings):
        environment["CODEX_HOME"] = f"{SCRATCH}/codex"
    flags = () if _own_home(settings) else tuple(word for line in config(settings) for word in ("-c", line))
    talks = options.get("mode") != "exec"
    words = ("app-server",) if talks else _exec_words(ask)
    arguments = shlex.split(options.get("arguments", ""))
    return ProcessCall(
        argv=(*(settings.argv or ("codex",)), *words, *flags, *arguments, *(() if talks else ("-",))),
        stdin=opening(_thread(ask), asks_account=_plan_pays(settings)) if talks else _whole_prompt(ask),
        environment=environment,
        keep=_kept(ask.platform, settings),
        directory=options.get("directory") or SCRATCH,
        scratch=files if files or not options.get("directory") else None,
        talks=talks,
    )


def _plan_pays(settings: PlatformSettings) -> bool:
    return settings.billing == "plan" and not own_provider(settings)


def _own_home(settings: PlatformSettings) -> bool:
    return own_provider(settings) and not settings.options.get("home")


def _files(ask: Ask) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    if _own_home(ask.settings):
        files["codex/config.toml"] = "".join(f"{line}\n" for line in config(ask.settings)).encode()
    if ask.settings.options.get("mode") == "exec" and is_lean(ask.settings):
        files["instructions.md"] = (ask.system or INSTRUCTIONS).encode("utf-8", "replace")
    return files


def _kept(name: str, settings: PlatformSettings) -> tuple[str, ...]:
    """Return the variables that codex may see: on a plan none that holds a key."""
    keep = variables_are(name, settings.options.get("keep", ""))
    if own_provider(settings):
        return (settings.key_env, *keep) if settings.key_env else keep
    return keep if settings.options.get("home") else ("CODEX_HOME", *keep)


def _model(ask: Ask) -> str:
    return ask.model or ask.settings.model or next(iter(ask.settings.models), "")


def _sandbox(options: Mapping[str, str]) -> str:
    """Return what codex may do: outside a directory nothing but read."""
    return options.get("sandbox", "read-only") if options.get("directory") else "read-only"


def _thread(ask: Ask) -> dict[str, Any]:
    options, system = ask.settings.options, ask.system.encode("utf-8", "replace").decode()
    thread: dict[str, Any] = {
        "ephemeral": True,
        "sandbox": _sandbox(options),
        "approvalPolicy": "on-request" if options.get("approvals") == "accept" else "never",
    }
    if _model(ask):
        thread["model"] = _model(ask)
    if is_lean(ask.settings):
        thread["baseInstructions"] = system or INSTRUCTIONS
    elif system:
        thread["developerInstructions"] = system
    return thread


def _exec_words(ask: Ask) -> tuple[str, ...]:
    sandbox = _sandbox(ask.settings.options)
    words = ["exec", "--json", "--skip-git-repo-check", "--ephemeral", "-s", sandbox, "--color", "never"]
    if _model(ask):
        words += ["-m", _model(ask)]
    if is_lean(ask.settings):
        words += [] if _own_home(ask.settings) else ["--ignore-user-config"]
        words += ["-c", f'model_instructions_file="{SCRATCH}/instructions.md"']
    return tuple(words)


def _whole_prompt(ask: Ask) -> bytes:
    """Return the prompt; where codex keeps its own instructions the task's stand before it, never on the command line."""
    before = "" if is_lean(ask.settings) or not ask.system else f"{ask.system}\n\n"
    return f"{before}{ask.prompt}".encode("utf-8", "replace")


def read_codex(ask: Ask) -> Reader:
    """Return a reader for one run."""
    if ask.settings.options.get("mode") == "exec":
        return ExecReader(ask)
    return TalkReader(ask, plan=_plan_pays(ask.settings))


def probe_codex(_name: str, settings: PlatformSettings) -> Probe:
    """Return what to ask the program: its version and, where its login is used, whether there is one."""
    home = settings.options.get("home", "")
    ask = (("--version",),) if own_provider(settings) else (("--version",), ("login", "status"))
    return Probe(
        program=next(iter(settings.argv), "codex"),
        ask=ask,
        keep=() if home else ("CODEX_HOME",),
        environment={"CODEX_HOME": home} if home else {},
        timeout_s=PROBE_S,
    )


def read_probe(name: str, settings: PlatformSettings, answer: ProbeAnswer) -> PlatformReported:
    """Return whether codex is there, in which version, and who pays."""
    program = next(iter(settings.argv), "codex")
    if not answer.path:
        return PlatformReported(platform=name, detail=f"no program {program[:200]!r} on PATH", mend=INSTALL)
    release, version = release_in(answer.said[0].out if answer.said else "", TESTED)
    if not release:
        return PlatformReported(platform=name, detail=f"{answer.path} does not say its version", mend=INSTALL)
    why, mend = _key_missing(settings, answer) if own_provider(settings) else _login_missing(settings, answer)
    return PlatformReported(
        platform=name,
        available=not why,
        detail=f"{release}{version}, {why or _payer(settings)}",
        mend=mend,
        release=release,
        models=settings.models,
    )


def _key_missing(settings: PlatformSettings, answer: ProbeAnswer) -> tuple[str, str]:
    if settings.key_env and not answer.key_set:
        return f"{settings.key_env} is not set", f"export {settings.key_env}=…"
    return "", ""


def _login_missing(settings: PlatformSettings, answer: ProbeAnswer) -> tuple[str, str]:
    home = settings.options.get("home", "")
    login = f"CODEX_HOME={shlex.quote(home)} codex login" if home else "codex login"
    status = answer.said[1]
    if status.exit_code is None:
        return "its login status did not come in time", "codex login status"
    if status.exit_code != 0:
        return "not logged in", login
    if settings.billing == "plan" and "API key" in status.out + status.errors:
        return "its login is an API key, which is billed by token", f'{login}, or billing = "metered" with key_env'
    return "", ""


def _payer(settings: PlatformSettings) -> str:
    if own_provider(settings):
        return f"{settings.key_env} is set" if settings.key_env else f"at {settings.url}"
    return "logged in"


def check(name: str, settings: PlatformSettings) -> None:
    """Refuse settings that cannot work. Raises BadSettings."""
    options_are(name, settings, OPTIONS)
    variables_are(name, settings.options.get("keep", ""))
    key_is_safe(name, settings)
    if settings.url:
        url_works(name, settings.url)
    if settings.argv and not settings.argv[0].strip():
        raise BadSettings(f"platforms.{name}.argv names no program.", hint='Leave it out, or write argv = ["/path/to/codex"].')
    if settings.billing == "plan" and settings.key_env:
        raise BadSettings(
            f"platforms.{name} is billed to a plan, which is paid by a login, not by {settings.key_env}.",
            hint='Remove key_env, or write billing = "metered".',
        )
    if settings.billing == "metered" and not settings.key_env and not settings.url:
        raise BadSettings(f"platforms.{name} is metered and needs a key.", hint='Write key_env = "OPENAI_API_KEY".')
    _options_fit(name, settings)


def _options_fit(name: str, settings: PlatformSettings) -> None:
    options = settings.options
    try:
        shlex.split(options.get("arguments", ""))
    except ValueError as error:
        raise BadSettings(f"platforms.{name}.options.arguments cannot be read: {error}.") from None
    if options.get("approvals") == "accept" and options.get("mode") == "exec":
        raise BadSettings(f"platforms.{name}: codex exec asks for no approvals.", hint='Remove approvals, or mode = "exec".')
    for option in ("directory", "home"):
        if options.get(option, "").startswith("~"):
            raise BadSettings(f"platforms.{name}.options.{option} must be a whole path: nobody expands ~.")
    if not roots(settings) and options.get("sandbox", "read-only") != "read-only":
        raise BadSettings(
            f"platforms.{name}.options.sandbox means nothing without a directory: there are no tools then.",
            hint='Write options = {directories = "/path/to/projects", sandbox = "workspace-write"}.',
        )


CODEX = PlatformKind(
    name="codex",
    ask=ask_codex,
    reader=read_codex,
    probe=probe_codex,
    read_probe=read_probe,
    check=check,
    defaults={"codex": PlatformSettings(kind="codex", billing="plan", limit=2)},
)
