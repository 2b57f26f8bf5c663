"""The Antigravity CLI (`agy`), Google's successor of the Gemini CLI for personal accounts; off until a user turns it on. Pure.

    [platforms.antigravity]
    enabled = true

`agy -p PROMPT --output-format json` (1.1.8 or newer) prints one object: `status`, `response`, `usage`. Nobody here has run it:
what follows is from antigravity.google/docs/cli/headless and the program's release notes as quoted in
google-antigravity/antigravity-cli issues 747 and 1045 and stablyai/orca pull requests 15948, 20151 and 20797 (read 2026-11-21).

* Known: those three fields, `status` SUCCESS, the names of the token counts, `--model`, `--print-timeout`, `--version`.
* Not known: exit codes, the words of its errors, whether `input_tokens` holds the cached and `output_tokens` the thinking
  ones (the sum that makes `total_tokens` decides), and whether a program other than a person may start it on a personal plan
  (asked at discuss.ai.google.dev/t/183051, no answer seen). What is not SUCCESS with text is never taken for success.
* The prompt is an argument, so `ps` shows it to others on this machine and 128 KiB are the most it can be.
* `agy -p /usage` tells the plan's quota (1.1.11 or newer), but an older one would take it for a prompt and spend: it is not
  asked. The login is never read; it may lie in the system's keyring, so nobody can say whether there is one.
"""

from __future__ import annotations

import math
import re
import shlex
from typing import Any

from actors.platforms.checks import options_are, without
from actors.platforms.faults import fault, fault_of_answer, fault_of_cut
from actors.platforms.foreign_json import at, count_at, parse, text_at
from actors.platforms.plain_text import PlainTextReader, estimated
from farebox.core.errors import BadSettings
from farebox.core.events import PlatformReported
from farebox.core.platform import SCRATCH, Ask, End, PlatformKind, Probe, ProbeAnswer, ProcessCall, Reader, Verdict
from farebox.core.settings import PlatformSettings
from farebox.core.terms import Charged, ErrorClass, Fault, Usage

OPTIONS: dict[str, tuple[str, ...]] = {"directory": (), "directories": (), "worktrees": (), "arguments": ()}
INSTALL = "curl -fsSL https://antigravity.google/cli/install.sh | bash"
TOKEN = "~/.gemini/antigravity-cli/antigravity-oauth-token"
OLDEST = (1, 1, 8)
WAIT_S = 1800.0
"""Nothing is printed before the end, so only the task's own time ends a run."""
STDERR_CHARS = 800
_VERSION = re.compile(r"(\d{1,4})\.(\d{1,4})\.(\d{1,4})", re.ASCII)
_SIGNED_OUT = re.compile(r"not (logged|signed) in|sign in|log in|authenticat|unauthorized", re.IGNORECASE)
_SPENT = re.compile(r"quota|limit reached|out of credits", re.IGNORECASE)


def ask_agy(ask: Ask) -> ProcessCall:
    """Return the program to start."""
    options = ask.settings.options
    words = [*(ask.settings.argv or ("agy",)), "--output-format", "json"]
    words += ["--print-timeout", f"{math.ceil(ask.task.timeout_s)}s"]
    if model := ask.model or ask.settings.model or next(iter(ask.settings.models), ""):
        words += ["--model", model]
    words += shlex.split(options.get("arguments", ""))
    return ProcessCall(argv=(*words, "-p", _prompt(ask)), directory=options.get("directory") or SCRATCH, scratch={})


def _prompt(ask: Ask) -> str:
    """Return the prompt as an argument may be; one that begins with `/` would be taken for a command."""
    text = f"{ask.system}\n\n{ask.prompt}" if ask.system else ask.prompt
    text = text.encode("utf-8", "replace").decode().replace("\x00", "")
    return f"The task:\n{text}" if text.lstrip().startswith("/") else text


def judge_run(ask: Ask, said: str, end: End) -> Verdict:
    """Return what a run came to."""
    told = parse(said)
    why = _why_not(told, said, end)
    text = text_at(told, "response") if why is None or text_at(told, "status") == "SUCCESS" else ""
    usage = _usage(at(told, "usage"))
    if why is None and (usage is None or not usage.output_tokens):
        usage = estimated(ask, text)
    charged: Charged = "known" if usage is not None else "possible"
    if end.surely_unsent or (usage is None and why is not None and why.error_class in {"auth_missing", "unavailable"}):
        charged = "none"
    return Verdict(
        ok=why is None,
        text=text,
        model=ask.model or ask.settings.model,
        usage=usage,
        finish_reason="stop" if why is None else "",
        fault=why,
        charged=charged,
    )


def _why_not(told: Any, said: str, end: End) -> Fault | None:
    status = text_at(told, "status")
    last_words = end.stderr_tail.strip()[-STDERR_CHARS:]
    if status == "SUCCESS" and (end.exit_code == 0 or end.cut):
        return None if text_at(told, "response").strip() else fault("invalid", f"The answer is empty. {last_words}")
    if end.cut:
        return fault_of_cut(end)
    if status and status != "SUCCESS":
        return _refused(status, text_at(told, "error") or text_at(told, "error", "message") or text_at(told, "response"))
    if end.exit_code == 0 and not said.strip():
        return fault("invalid", f"The program wrote nothing. {last_words}")
    how = f"The program ended with exit code {end.exit_code}."
    error_class: ErrorClass = "auth_missing" if end.exit_code != 0 and _SIGNED_OUT.search(last_words) else "crashed"
    return fault(error_class, f"{how} {last_words or said[:200]}")


def _refused(status: str, told: str) -> Fault:
    """Return what another status means. Its words are not known, so they are only guessed at."""
    if _SIGNED_OUT.search(told):
        return fault("auth_missing", told)
    by_words = fault_of_answer(0, status, told)
    if by_words.error_class == "invalid":
        return fault("quota_exhausted" if _SPENT.search(told) else "crashed", f"{status}: {told}")
    return by_words


def _usage(counted: Any) -> Usage | None:
    """Return the counts as their total says that they belong together; all zeros mean that nothing was asked of a model."""
    names = ("input_tokens", "output_tokens", "thinking_tokens", "cache_read_tokens")
    read, written, thought, cached = (count_at(counted, name) for name in names)
    if read is None or written is None or not (read or written):
        return None
    thoughts, kept, total = thought or 0, cached or 0, count_at(counted, "total_tokens")
    pairs = ((read, written), (read, written + thoughts), (read + kept, written), (read + kept, written + thoughts))
    fitting = next((pair for pair in pairs if sum(pair) == total), None)
    input_tokens, output_tokens = fitting or pairs[3]
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cached_tokens=cached,
        reasoning_tokens=thought,
        source="provider" if fitting else "estimated",
    )


def read_agy(ask: Ask) -> Reader:
    """Return a reader for one run. Nothing of it streams: the answer stands in an object."""
    return _Silent(ask, judge_run)


class _Silent(PlainTextReader):
    """Gives out nothing until the end: what is printed is an object, not the text."""

    def feed(self, data: bytes) -> list[Any]:
        """Read more of standard output."""
        super().feed(data)
        return []


def probe_agy(_name: str, settings: PlatformSettings) -> Probe:
    """Return what to look for: the program, its version, and a login kept as a file."""
    return Probe(program=next(iter(settings.argv), "agy"), ask=(("--version",),), paths=(TOKEN,), timeout_s=5.0)


def read_program(name: str, settings: PlatformSettings, answer: ProbeAnswer) -> PlatformReported:
    """Return whether the program is there and knows how to answer in JSON."""
    if not answer.path:
        program = next(iter(settings.argv), "agy")
        return PlatformReported(platform=name, detail=f"no program {program[:200]!r} on PATH", mend=INSTALL)
    found = _VERSION.search(answer.said[0].out)
    if answer.said[0].exit_code != 0 or found is None:
        return PlatformReported(
            platform=name, detail=f"{answer.path} did not say its version", mend=f"Try: {answer.path} --version"
        )
    if tuple(int(part) for part in found.groups()) < OLDEST:
        detail = f"version {found[0]} cannot answer in JSON; 1.1.8 can"
        return PlatformReported(platform=name, detail=detail, mend="agy update", release=found[0])
    login = "a login is there" if answer.found else "whether somebody is logged in is not known"
    return PlatformReported(
        platform=name,
        available=True,
        detail=f"version {found[0]}, never tested here; {login}",
        mend="" if answer.found else "Log in with: agy",
        release=found[0],
        models=settings.models,
    )


def check(name: str, settings: PlatformSettings) -> None:
    """Refuse settings that cannot work. Raises BadSettings."""
    options_are(name, settings, OPTIONS)
    without(name, settings, "url", "key_env")
    if settings.billing != "plan":
        raise BadSettings(f"platforms.{name} is paid by a plan: nothing else is known of it.", hint='Set billing = "plan".')
    try:
        shlex.split(settings.options.get("arguments", ""))
    except ValueError as error:
        raise BadSettings(f"platforms.{name}.options.arguments: {error}.") from None


ANTIGRAVITY = PlatformKind(
    name="antigravity",
    ask=ask_agy,
    reader=read_agy,
    probe=probe_agy,
    read_probe=read_program,
    check=check,
    defaults={
        "antigravity": PlatformSettings(
            kind="antigravity",
            enabled=False,
            billing="plan",
            limit=2,
            first_byte_timeout_s=WAIT_S,
            idle_timeout_s=WAIT_S,
        )
    },
)
