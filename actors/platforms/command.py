"""Any program as a platform: the prompt on its standard input, the answer from its standard output. Pure.

    [platforms.notes]
    kind = "command"
    argv = ["my-model", "--model", "{model}"]
    billing = "free"

Exit code 0 and some text is success, anything else a fault. The prompt never stands on the command line, where `ps` shows it.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from actors.platforms.checks import key_is_safe, options_are, variables_are, without
from actors.platforms.faults import fault, fault_of_cut
from farebox.core.errors import BadSettings
from farebox.core.events import PlatformReported, QuotaLearned
from farebox.core.platform import Ask, End, Head, Piece, PlatformKind, Probe, ProbeAnswer, ProcessCall, Reader, Verdict
from farebox.core.settings import PlatformSettings
from farebox.core.terms import Charged, Fault, Usage
from farebox.core.tokens import estimate

OPTIONS: dict[str, tuple[str, ...]] = {"keep": (), "directory": ()}
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


class CommandReader:
    """Reads standard output as UTF-8; bytes that are none become U+FFFD."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._text: list[str] = []

    def head(self, head: Head) -> Sequence[Piece | QuotaLearned]:
        """A program has no headers."""
        assert not head.headers, "a program answers without headers"
        return []

    def feed(self, data: bytes) -> Sequence[Piece | QuotaLearned]:
        """Read more of standard output."""
        text = self._decoder.decode(data)
        self._text.append(text)
        return [Piece(text)] if text else []

    def end(self, end: End) -> Verdict:
        """Say what it came to: the answer without the line ends that programs put behind it."""
        self._text.append(self._decoder.decode(b"", final=True))
        text = "".join(self._text).rstrip("\r\n")
        why = self._why_not(end, text)
        charged = self._charged(end, why)
        usage = self._estimated(text) if why is None else None
        return Verdict(
            ok=why is None,
            text=text,
            model=self._ask.model,
            usage=usage,
            finish_reason="stop" if why is None else "",
            fault=why,
            charged=charged,
        )

    def _why_not(self, end: End, text: str) -> Fault | None:
        if end.cut:
            return fault_of_cut(end)
        if end.exit_code != 0:
            return fault("crashed", f"{_how(end.exit_code)} {end.stderr_tail.strip()[-STDERR_CHARS:]}")
        return (
            None if text.strip() else fault("invalid", f"The program wrote nothing. {end.stderr_tail.strip()[-STDERR_CHARS:]}")
        )

    def _charged(self, end: End, why: Fault | None) -> Charged:
        if self._ask.settings.billing == "free" or end.surely_unsent:
            return "none"
        return "known" if why is None else "possible"

    def _estimated(self, text: str) -> Usage:
        read = estimate(self._ask.system) + estimate(self._ask.prompt)
        return Usage(input_tokens=read, output_tokens=estimate(text), source="estimated")


def _how(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"The program was ended by signal {-exit_code}."
    return f"The program ended with exit code {exit_code}."


def read_command(ask: Ask) -> Reader:
    """Return a reader for one run."""
    return CommandReader(ask)


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
