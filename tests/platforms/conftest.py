"""Recorded answers, one folder a platform: what came over the wire, and in expected.toml what it means.

A recording begins like `HTTP/1.1 200 OK` with its headers, or like `exit 1` with what is known of the run (`stderr`, with \\n
for its line ends; `cut` where farebox ended it), then an empty line and the bytes. `<<x*200000>>` in it stands for so many x.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from actors.platforms import PLATFORMS
from farebox.core.events import QuotaLearned, TaskSubmitted
from farebox.core.platform import Ask, End, Head, Piece, Verdict
from farebox.core.settings import PlatformSettings

FOLDER = Path(__file__).parent.parent / "golden" / "platforms"
KINDS = {kind.name: kind for kind in PLATFORMS}
_MANY = re.compile(rb"<<(.)\*(\d+)>>", re.DOTALL)


@dataclass(frozen=True)
class Heard:
    """What a reader made of a recording."""

    verdict: Verdict
    pieces: str
    learned: tuple[QuotaLearned, ...]


@dataclass(frozen=True)
class Recording:
    """One recorded answer: who gave it, how it ended, its bytes, and what it means."""

    name: str
    settings: PlatformSettings
    head: Head | None
    end: End
    body: bytes
    means: dict

    def reader(self):
        ask = Ask(platform="p", settings=self.settings, model="", prompt="What?", task=TaskSubmitted())
        return KINDS[self.settings.kind].reader(ask)

    def read(self, parts=None, end=None) -> Heard:
        reader, said = self.reader(), []
        if self.head is not None:
            said += reader.head(self.head)
        for part in [self.body] if parts is None else parts:
            said += reader.feed(part)
        return Heard(
            reader.end(self.end if end is None else end),
            "".join(item.text for item in said if isinstance(item, Piece)),
            tuple(item for item in said if isinstance(item, QuotaLearned)),
        )


def expectations(folder: str) -> dict:
    return tomllib.loads((FOLDER / folder / "expected.toml").read_text("utf-8"))


def settings_of(folder: str) -> PlatformSettings:
    return msgspec.convert({"kind": folder, **expectations(folder).get("settings", {})}, PlatformSettings)


def recorded(name: str) -> Recording:
    """Return the recording `folder/case`."""
    folder, case = name.split("/")
    top, _, body = (FOLDER / f"{name}.txt").read_bytes().partition(b"\n\n")
    first, *lines = top.decode().split("\n")
    told = dict(line.split(": ", 1) for line in lines if ": " in line)
    body = _MANY.sub(lambda many: many[1] * int(many[2]), body)
    head, end = None, End()
    if first.startswith("HTTP/"):
        head = Head(status=int(first.split()[1]), headers=told)
    else:
        tail = told.get("stderr", "").replace("\\n", "\n")
        end = End(exit_code=int(first.split()[1]), stderr_tail=tail, cut=told.get("cut", ""))  # type: ignore[arg-type]
    return Recording(name, settings_of(folder), head, end, body, expectations(folder).get(case, {}))


@pytest.fixture(name="recorded", scope="session")
def recorded_fixture():
    return recorded


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`recording` runs over all recordings, `folder` over all folders."""
    if "recording" in metafunc.fixturenames:
        names = sorted(f"{path.parent.name}/{path.stem}" for path in FOLDER.glob("*/*.txt"))
        metafunc.parametrize("recording", [recorded(name) for name in names], ids=names)
    if "folder" in metafunc.fixturenames:
        metafunc.parametrize("folder", sorted(path.name for path in FOLDER.iterdir() if path.is_dir()))
