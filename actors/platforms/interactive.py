"""A person as a platform: the task waits in `farebox status` until somebody answers it. Pure.

    farebox submit -p interactive --detach "Which of the two logos?"
    echo "The second." | farebox answer TASK -

Nobody is hurried: a task that leaves its timeout as it is waits for a week, one that says its own is held to it.
"""

from __future__ import annotations

from actors.platforms.checks import options_are, without
from actors.platforms.faults import fault, fault_of_cut
from actors.platforms.plain_text import PlainTextReader, estimated
from farebox.core.errors import BadSettings
from farebox.core.events import PlatformReported, TaskSubmitted
from farebox.core.platform import Ask, End, PersonCall, PlatformKind, Probe, ProbeAnswer, Reader, Verdict
from farebox.core.settings import PlatformSettings
from farebox.core.terms import Fault

UNHURRIED_S = 7 * 86_400.0
DEFAULT_S = TaskSubmitted().timeout_s
MODEL = "person"


def ask_person(ask: Ask) -> PersonCall:
    """Return how long somebody may take."""
    return PersonCall(wait_s=UNHURRIED_S if ask.task.timeout_s == DEFAULT_S else ask.task.timeout_s)


def judge(ask: Ask, said: str, end: End) -> Verdict:
    """Return what the person's words came to. Nobody counted tokens, so they are estimated; nobody is paid."""
    text = said.rstrip("\r\n")
    why = _why_not(end, text)
    return Verdict(
        ok=why is None,
        text=text,
        model=ask.model or MODEL,
        usage=estimated(ask, text) if why is None else None,
        finish_reason="stop" if why is None else "",
        fault=why,
        charged="known" if why is None else "none",
    )


def _why_not(end: End, text: str) -> Fault | None:
    if end.cut == "timeout":
        return fault("timeout", "Nobody answered in time.")
    if end.cut:
        return fault_of_cut(end)
    return None if text.strip() else fault("invalid", "The answer is empty.")


def read_person(ask: Ask) -> Reader:
    """Return a reader for one answer."""
    return PlainTextReader(ask, judge)


def probe(_name: str, _settings: PlatformSettings) -> Probe:
    """There is nothing to look for."""
    return Probe()


def read_probe(name: str, _settings: PlatformSettings, _answer: ProbeAnswer) -> PlatformReported:
    """Say how it is answered."""
    return PlatformReported(platform=name, available=True, detail="a person: farebox answer TASK -", models=(MODEL,))


def check(name: str, settings: PlatformSettings) -> None:
    """Refuse settings that cannot work. Raises BadSettings."""
    if settings.billing != "free":
        raise BadSettings(f"platforms.{name} is a person and sends no bill.", hint='Write billing = "free".')
    options_are(name, settings, {})
    for key in ("url", "argv", "key_env"):
        without(name, settings, key)


INTERACTIVE = PlatformKind(
    name="interactive",
    ask=ask_person,
    reader=read_person,
    probe=probe,
    read_probe=read_probe,
    check=check,
    defaults={"interactive": PlatformSettings(kind="interactive", billing="free", open=False, limit=10_000)},
)
