"""Any program as a platform: the prompt on its standard input, the answer from its standard output. Pure.

    [platforms.notes]
    kind = "command"
    argv = ["my-model", "--model", "{model}"]
    billing = "free"

Exit code 0 and some text is success, anything else a fault. The prompt never stands on the command line, where `ps` shows it.
"""

from __future__ import annotations

from actors.platforms.checks import key_is_safe, options_are, variables_are, without
from actors.platforms.faults import fault, fault_of_cut
from actors.platforms.plain_text import PlainTextReader, estimated
from farebox.core.errors import BadSettings
from farebox.core.events import PlatformReported
from farebox.core.platform import Ask, End, PlatformKind, Probe, ProbeAnswer, ProcessCall, Reader, Verdict
from farebox.core.settings import PlatformSettings
from farebox.core.terms import Charged, Fault

OPTIONS: dict[str, tuple[str, ...]] = {"keep": (), "directory": (), "directories": (), "worktrees": ()}
STDERR_CHARS = 700


def ask_command(ask: Ask) -> ProcessCall:
    """Return the program to start; `{model}` in its arguments becomes the model's name."""
    settings = ask.settings
    model = ask.model or settings.model or next(iter(settings.models), "")
    prompt = f"{ask.system}\n\n{ask.prompt}" if ask.system else ask.prompt
    keep = variables_are(ask.platform, settings.options.get("keep", ""))
    return ProcessCall(
        argv=tuple(part.replace("{model}", model) for part in settings.argv),
        stdin=prompt.encode("utf-8", "replace"),
        keep=(settings.key_env, *keep) if settings.key_env else keep,
        directory=settings.options.get("directory", ""),
    )


def judge_run(ask: Ask, said: str, end: End) -> Verdict:
    """Return what a run came to: the answer without the line ends that programs put behind it."""
    text = said.rstrip("\r\n")
    why = _why_not(end, text)
    return Verdict(
        ok=why is None,
        text=text,
        model=ask.model,
        usage=estimated(ask, text) if why is None else None,
        finish_reason="stop" if why is None else "",
        fault=why,
        charged=_charged(ask, end, why),
    )


def _why_not(end: End, text: str) -> Fault | None:
    if end.cut:
        return fault_of_cut(end)
    last_words = end.stderr_tail.strip()[-STDERR_CHARS:]
    if end.exit_code != 0:
        return fault("crashed", f"{_how(end.exit_code)} {last_words}")
    return None if text.strip() else fault("invalid", f"The program wrote nothing. {last_words}")


def _charged(ask: Ask, end: End, why: Fault | None) -> Charged:
    if ask.settings.billing == "free" or end.surely_unsent:
        return "none"
    return "known" if why is None else "possible"


def _how(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"The program was ended by signal {-exit_code}."
    return f"The program ended with exit code {exit_code}."


def read_command(ask: Ask) -> Reader:
    """Return a reader for one run."""
    return PlainTextReader(ask, judge_run)


def probe_program(_name: str, settings: PlatformSettings) -> Probe:
    """Return what to look up on PATH."""
    return Probe(program=next(iter(settings.argv), ""))


def read_program(name: str, settings: PlatformSettings, answer: ProbeAnswer) -> PlatformReported:
    """Return whether the program is there."""
    program = next(iter(settings.argv), "")
    if answer.path:
        return PlatformReported(platform=name, available=True, detail=answer.path, models=settings.models)
    return PlatformReported(
        platform=name, detail=f"no program {program[:200]!r} on PATH", mend=f"Install it, or correct platforms.{name}.argv"
    )


def check(name: str, settings: PlatformSettings) -> None:
    """Refuse settings that cannot work. Raises BadSettings."""
    if not settings.argv or not settings.argv[0].strip():
        raise BadSettings(f"platforms.{name} needs argv, the program to start.", hint='Write it like argv = ["my-model"].')
    if any("\x00" in part for part in settings.argv):
        raise BadSettings(f"platforms.{name}.argv holds a NUL character.")
    options_are(name, settings, OPTIONS)
    variables_are(name, settings.options.get("keep", ""))
    key_is_safe(name, settings)
    without(name, settings, "url")


COMMAND = PlatformKind(
    name="command",
    ask=ask_command,
    reader=read_command,
    probe=probe_program,
    read_probe=read_program,
    check=check,
    defaults={},
)
