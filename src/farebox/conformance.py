r"""Recorded answers and what they mean: whoever writes a platform proves with them that its reader is right.

A folder holds one platform's recordings, `<case>.txt`, and `expected.toml` with what each means. A recording begins like
`HTTP/1.1 200 OK` with its headers, or like `exit 1` with what is known of the run (`stderr`, with \n for its line ends; `cut`
where farebox ended it), then an empty line and the bytes. `<<x*200000>>` in it stands for so many x.

    assert conformance.wrong(Path("recordings"), MY_PLATFORM) == []
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from farebox.core.events import QuotaLearned, TaskSubmitted
from farebox.core.platform import Ask, End, Head, Piece, PlatformKind, Read, Reader, Verdict
from farebox.core.settings import PlatformSettings
from farebox.core.terms import Usage

CASES = frozenset({
    "ok", "unicode", "no_usage", "unknown_events", "huge_line", "empty", "refused", "truncated", "cut", "bad_key", "no_key",
    "no_model", "rate_limited", "quota_exhausted", "server_error", "overloaded", "context_too_long", "interrupted", "garbage",
})  # fmt: skip
"""Each platform has a recording of these, or says in `[not_applicable]` why there is none."""
SMALL_BYTES = 20_000
"""Above so many bytes a body is not read byte by byte."""
GARBAGE = (
    b"\x00" * 100, b"\xff\xfe\n", b"{}\n" * 50, b"[" * 2000, b"null\ntrue\n1e999\n", b'{"type":{"type":[]}}\n', b"data: \n\n",
)  # fmt: skip
_MANY = re.compile(rb"<<(.)\*(\d+)>>", re.DOTALL)
_COMPARED = ("model", "finish_reason", "retry_after_ms", "provider_usd")


@dataclass(frozen=True)
class Heard:
    """What a reader made of a recording."""

    verdict: Verdict
    pieces: str
    learned: tuple[QuotaLearned, ...]


@dataclass(frozen=True)
class Recording:
    """One recorded answer: who gave it, how it ended, its bytes, and what it means. `name` is `folder/case`."""

    name: str
    kind: PlatformKind
    settings: PlatformSettings
    head: Head | None
    end: End
    body: bytes
    means: Mapping[str, Any]

    def reader(self) -> Reader:
        """Return a new reader for it."""
        ask = Ask(platform="p", settings=self.settings, model="", prompt="What?", task=TaskSubmitted())
        return self.kind.reader(ask)

    def read(self, parts: Sequence[bytes] | None = None, end: End | None = None) -> Heard:
        """Read it with a new reader: whole, or in the given `parts`, or as if it had ended otherwise."""
        reader = self.reader()
        said: list[Read] = [] if self.head is None else list(reader.head(self.head))
        for part in [self.body] if parts is None else parts:
            said += reader.feed(part)
        return Heard(
            reader.end(self.end if end is None else end),
            "".join(item.text for item in said if isinstance(item, Piece)),
            tuple(item for item in said if isinstance(item, QuotaLearned)),
        )


def expectations(folder: Path) -> dict[str, Any]:
    """Return what `expected.toml` of a folder says."""
    return tomllib.loads((folder / "expected.toml").read_text("utf-8"))


def recorded(folder: Path, case: str, *kinds: PlatformKind) -> Recording:
    """Return a recording. `[settings]` names its kind; else it is the only one of `kinds`, or the one called as the folder."""
    top, _, body = (folder / f"{case}.txt").read_bytes().partition(b"\n\n")
    first, *lines = top.decode().split("\n")
    told = dict(line.split(": ", 1) for line in lines if ": " in line)
    body = _MANY.sub(lambda many: many[1] * int(many[2]), body)
    expected = expectations(folder)
    default = kinds[0].name if len(kinds) == 1 else folder.name
    settings = msgspec.convert({"kind": default, **expected.get("settings", {})}, PlatformSettings)
    (kind,) = (kind for kind in kinds if kind.name == settings.kind)
    head, end = None, End()
    if first.startswith("HTTP/"):
        head = Head(status=int(first.split()[1]), headers=told)
    else:
        tail = told.get("stderr", "").replace("\\n", "\n")
        ended = {"exit_code": int(first.split()[1]), "stderr_tail": tail, "cut": told.get("cut", "")}
        end = msgspec.convert(ended, End)
    return Recording(f"{folder.name}/{case}", kind, settings, head, end, body, expected.get(case, {}))


def cases(folder: Path) -> list[str]:
    """Return which cases a folder has recordings of."""
    return sorted(path.stem for path in folder.glob("*.txt"))


def wrong(folder: Path, *kinds: PlatformKind) -> list[str]:
    """Return all that is wrong with the recordings of a folder, or with how they are read; empty when nothing is."""
    found = [*unexplained(folder)]
    if not found:
        for case in cases(folder):
            recording = recorded(folder, case, *kinds)
            found += [*misread(recording), *unlike_when_cut(recording)]
        ok = recorded(folder, "ok", *kinds)
        found += [*succeeds_too_early(ok), *breaks(ok)]
    return found


def unexplained(folder: Path) -> Iterator[str]:
    """Say which cases are neither recorded nor excused, and which recordings mean nothing."""
    expected, have = expectations(folder), set(cases(folder))
    excused = expected.get("not_applicable", {})
    for case in sorted(CASES - have - set(excused)):
        yield f"{folder.name}: there is no recording {case}.txt, and [not_applicable] does not say why"
    for case in sorted(have & set(excused)):
        yield f"{folder.name}/{case}: recorded, and not applicable"
    for case in sorted(case for case, reason in excused.items() if len(reason) <= 10):
        yield f"{folder.name}: why is {case} not applicable?"
    for case in sorted((set(expected) - {"settings", "not_applicable"}) ^ have):
        yield f"{folder.name}/{case}: a recording and what it means belong together"


def misread(recording: Recording) -> Iterator[str]:
    """Say where the reader's verdict is not what `expected.toml` says, or a success lacks what it must have."""
    means, heard = recording.means, recording.read()
    verdict = heard.verdict
    fault = verdict.fault
    usage = msgspec.convert(means["usage"], Usage) if "usage" in means else None
    compared: list[tuple[str, object, object]] = [
        ("class", means["class"], fault.error_class if fault else ""),
        ("ok", means["class"] == "", verdict.ok),
        ("charged", means["charged"], verdict.charged),
        ("usage", usage, verdict.usage),
        *((name, means[name], getattr(verdict, name)) for name in _COMPARED if name in means),
    ]
    if "text" in means:
        compared.append(("text", means["text"], heard.pieces if verdict.text is None else verdict.text))
    if "learned" in means:
        compared.append(("learned", means["learned"], len(heard.learned)))
    yield from (f"{recording.name}: {name} is {is_!r}, not {meant!r}" for name, meant, is_ in compared if meant != is_)
    if means.get("words", "") not in (fault.message if fault else ""):
        yield f"{recording.name}: {means['words']!r} is not in {fault}"
    if verdict.ok and not ((verdict.text or heard.pieces) and verdict.usage and verdict.usage.output_tokens):
        yield f"{recording.name}: success has text and usage"
    if verdict.ok and verdict.charged != "known":
        yield f"{recording.name}: what a success used is known"


def unlike_when_cut(recording: Recording) -> Iterator[str]:
    """Say where the reader comes to something else when the same bytes come in other pieces."""
    whole, body = recording.read(), recording.body
    if len(body) <= SMALL_BYTES and recording.read([bytes([byte]) for byte in body]) != whole:
        yield f"{recording.name}: read byte by byte it is something else"
    for place in sorted({*range(0, len(body) + 1, max(1, len(body) // 40)), len(body)}):
        if recording.read([body[:place], b"", body[place:]]) != whole:
            yield f"{recording.name}: cut at byte {place} it is something else"


def succeeds_too_early(ok: Recording) -> Iterator[str]:
    """Say where the recording of a success, broken off, still is one though something is missing, or loses what came.

    `final_word = false` beside its meaning: of this program the exit code is all there is.
    """
    text = _text(ok.read())
    network = End(cut="network", detail="reset")
    for place in _places(ok.body):
        heard = ok.read([ok.body[:place]], network)
        if heard.verdict.ok and _text(heard) != text:
            yield f"{ok.name}: broken off at byte {place} it is a success without the whole text"
        if not heard.verdict.ok and heard.pieces:
            if not _text(heard).startswith(heard.pieces):
                yield f"{ok.name}: broken off at byte {place} it loses text"
            if heard.verdict.charged == "none":
                yield f"{ok.name}: broken off at byte {place} it says that nothing was charged"
    if ok.head is None and ok.means.get("final_word", True):
        for place in _places(ok.body):
            heard = ok.read([ok.body[:place]], End(exit_code=0))
            if heard.verdict.ok and _text(heard) != text:
                yield f"{ok.name}: a run that ends well at byte {place}, without its final word, is a success"


def breaks(ok: Recording) -> list[str]:
    """Say which bytes make the reader succeed without reason. What it raises goes on."""
    bad = [body for body in GARBAGE if ok.read([body], End(cut="network")).verdict.ok]
    return [f"{ok.name}: {body[:20]!r} is a success" for body in bad]


def _text(heard: Heard) -> str:
    return heard.pieces if heard.verdict.text is None else heard.verdict.text


def _places(body: bytes) -> list[int]:
    """Return where to break off: all over, and at each byte of the end."""
    return sorted({*range(0, len(body), max(1, len(body) // 300)), *range(max(0, len(body) - 200), len(body))})
