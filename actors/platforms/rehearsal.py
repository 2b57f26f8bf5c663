"""Platforms without a model: local stand-ins that speak real wire formats and answer with a digest of the input. Pure.

The option `wire` says how: `chat` (HTTP, like `compatible`), `stream-json` (a process, like an agent program) or `inline`
(computed here and now, for benchmarks). They are used only when somebody asks for them by name.
"""

from __future__ import annotations

from actors.platforms import command, compatible
from actors.platforms.checks import key_is_safe, options_are, url_works
from actors.platforms.faults import fault_of_cut
from actors.platforms.plain_text import PlainTextReader, estimated
from actors.platforms.stream_json import StreamJsonReader
from farebox.core.digest import chunks, digest
from farebox.core.errors import BadSettings
from farebox.core.events import PlatformReported
from farebox.core.platform import (
    Ask,
    Call,
    End,
    InlineCall,
    PlatformKind,
    Probe,
    ProbeAnswer,
    ProcessCall,
    Reader,
    Verdict,
)
from farebox.core.settings import PlatformSettings

WIRES = ("chat", "stream-json", "inline")
MODEL = "rehearsal-small"
PRICE = "gpt-5-mini"
"""Whose list price a rehearsal of the default platform is counted in: play money needs a price, too."""


def wire_of(settings: PlatformSettings) -> str:
    """Return the wire that the settings choose."""
    return settings.options.get("wire", "chat")


def ask_rehearsal(ask: Ask) -> Call:
    """Return the call for one task, over the chosen wire."""
    match wire_of(ask.settings):
        case "inline":
            return InlineCall(chunks=tuple(part.encode() for part in chunks(digest(ask.prompt, ask.system))))
        case "stream-json":
            call = command.ask_command(ask)
            return ProcessCall(argv=(*call.argv, "--model", compatible.model_of(ask) or MODEL), stdin=call.stdin)
        case _:
            return compatible.ask_chat(ask)


def judge_computed(ask: Ask, text: str, end: End) -> Verdict:
    """Return what a computed answer came to; its tokens are computed, not counted by a model."""
    if end.cut:
        return Verdict(ok=False, text=text, fault=fault_of_cut(end))
    return Verdict(
        ok=True,
        text=text,
        model=compatible.model_of(ask) or MODEL,
        usage=estimated(ask, text, "computed"),
        finish_reason="stop",
        charged="known",
    )


def read_rehearsal(ask: Ask) -> Reader:
    """Return a reader for the chosen wire."""
    match wire_of(ask.settings):
        case "inline":
            return PlainTextReader(ask, judge_computed)
        case "stream-json":
            return StreamJsonReader(ask)
        case _:
            return compatible.read_chat(ask)


def probe_rehearsal(name: str, settings: PlatformSettings) -> Probe:
    """Return how to look for the stand-in."""
    match wire_of(settings):
        case "inline":
            return Probe()
        case "stream-json":
            return command.probe_program(name, settings)
        case _:
            return compatible.probe_models(name, settings)


def read_probe(name: str, settings: PlatformSettings, answer: ProbeAnswer) -> PlatformReported:
    """Return whether the stand-in is there."""
    match wire_of(settings):
        case "inline":
            return PlatformReported(
                platform=name, available=True, detail="computed, no model", models=settings.models or (MODEL,)
            )
        case "stream-json":
            return command.read_program(name, settings, answer)
        case _ if not settings.url:
            return PlatformReported(
                platform=name, detail="its stand-in is not running", mend="The engine starts it: farebox up"
            )
        case _:
            return compatible.read_models(name, settings, answer)


def check(name: str, settings: PlatformSettings) -> None:
    """Refuse settings that cannot work. Raises BadSettings. The `chat` wire gets its url when its stand-in starts."""
    options_are(name, settings, {**compatible.OPTIONS, **command.OPTIONS, "wire": WIRES})
    if settings.billing != "rehearsal":
        raise BadSettings(f"platforms.{name} is a rehearsal and cannot bill.", hint='Write billing = "rehearsal".')
    if wire_of(settings) == "stream-json" and not settings.argv:
        raise BadSettings(f"platforms.{name} needs argv, the stand-in to start.", hint='Or use options = {wire = "chat"}.')
    if settings.url:
        url_works(name, settings.url)
    key_is_safe(name, settings)


REHEARSAL = PlatformKind(
    name="rehearsal",
    ask=ask_rehearsal,
    reader=read_rehearsal,
    probe=probe_rehearsal,
    read_probe=read_probe,
    check=check,
    defaults={"rehearsal": PlatformSettings(kind="rehearsal", billing="rehearsal", open=False, model=MODEL, price_model=PRICE)},
)
