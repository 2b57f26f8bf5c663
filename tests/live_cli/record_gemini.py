"""Records what the real `gemini` says to each case of the scripted server: `python -m tests.live_cli.record_gemini [case ...]`.

The recordings go to tests/golden/platforms/gemini-cli/; the default suite reads them. Only paths of the machine are made the
same, and of what it says on standard error the beginning is kept.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
from pathlib import Path

from actors.platforms.gemini_cli import GEMINI_CLI
from farebox.core.events import TaskSubmitted
from farebox.core.platform import Ask, End
from farebox.core.settings import PlatformSettings
from farebox.runtime import caller
from tests.live_cli import google_wire, programs
from tests.live_cli.upstream import Upstream

FOLDER = Path(__file__).parents[1] / "golden" / "platforms" / "gemini-cli"
STDERR_CHARS = 1500
_BUNDLE = re.compile(r"file://\S*?/bundle/")
_SCRATCH = re.compile(r"/\S*farebox-call-[^/\s]*")
CASES = (*google_wire.CASES, "no_key", "interrupted")


class Recorder:
    """The kind's reader, and beside it all bytes that it was given."""

    def __init__(self, ask: Ask) -> None:
        self._reader = GEMINI_CLI.reader(ask)
        self.raw = bytearray()
        self.ended = End()

    def head(self, head):
        return self._reader.head(head)

    def feed(self, data):
        self.raw += data
        return self._reader.feed(data)

    def end(self, end):
        self.ended = end
        return self._reader.end(end)


async def record(case: str, home: Path) -> None:
    """Run one case and write what came."""
    path = f"{programs.path('gemini').parent}{os.pathsep}{os.environ['PATH']}"
    environ = {"PATH": path, "HOME": str(home), "TMPDIR": str(home), "LANG": "C.UTF-8"}
    if case != "no_key":
        environ["GEMINI_API_KEY"] = "k-123456789"
    cancelled = asyncio.Event()
    script = google_wire.script({"no_key": "ok", "interrupted": "stalled"}.get(case, case))
    async with Upstream(script) as upstream:
        of = PlatformSettings(
            kind="gemini-cli", billing="metered", key_env="GEMINI_API_KEY", url=upstream.url, model=google_wire.MODEL
        )
        ask = Ask(platform="p", settings=of, model="", prompt="What does the fox do?", task=TaskSubmitted())
        reader = Recorder(ask)
        called = await caller.call(
            GEMINI_CLI.ask(ask),
            reader,
            timeout_s=60,
            first_byte_timeout_s=30,
            idle_timeout_s=8 if case == "stalled" else 30,
            on_piece=lambda text: cancelled.set() if case == "interrupted" and "fox" in text else None,
            cancelled=cancelled,
            environ=environ,
        )
    fault = called.verdict.fault
    print(f"{case:20}{fault.error_class if fault else 'ok':18}{called.verdict.charged}")
    (FOLDER / f"{case}.txt").write_bytes(_head(reader.ended) + bytes(reader.raw))


def _head(end: End) -> bytes:
    errors = _SCRATCH.sub("{scratch}", _BUNDLE.sub("bundle/", end.stderr_tail)).replace("\n", "\\n")[:STDERR_CHARS]
    lines = [f"exit {end.exit_code}", f"version: {programs.version('gemini')}"]
    lines += [f"cut: {end.cut}"] if end.cut else []
    lines += [f"stderr: {errors}"] if errors else []
    return ("\n".join(lines) + "\n\n").encode()


async def main(cases: list[str]) -> None:
    for case in cases or CASES:
        with tempfile.TemporaryDirectory() as home:
            await record(case, Path(home))
    await caller.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
