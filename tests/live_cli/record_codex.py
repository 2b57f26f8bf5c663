"""Records what the real codex prints for each scripted case: `uv run python -m tests.live_cli.record_codex FOLDER`.

Two folders come out, `codex` (app-server) and `codex-exec`. Names and paths of the machine that recorded are struck out.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import tempfile
from pathlib import Path

from actors.platforms.codex import CODEX
from farebox.core.events import TaskSubmitted
from farebox.core.platform import Ask, End
from farebox.core.settings import PlatformSettings
from farebox.runtime import caller
from tests.live_cli import codex_wire, programs
from tests.live_cli.upstream import Upstream

NEVER_READ = (
    (re.compile(rb"/[^\"\\ ]*farebox-call-[^\"\\ /]*"), b"/scratch"),
    (re.compile(rb"127\.0\.0\.1:\d+"), b"127.0.0.1:1"),
    (re.compile(rb"x{200000}"), b"<<x*200000>>"),
)


class Tape:
    """Hears everything the reader hears."""

    def __init__(self, reader, cancelled, *, stops):
        self._reader, self._cancelled, self._stops = reader, cancelled, stops
        self.body, self.ended = bytearray(), End()

    def head(self, head):
        return self._reader.head(head)

    def feed(self, data):
        self.body += data
        said = self._reader.feed(data)
        if self._stops and (b"agentMessage/delta" in self.body or b"turn.started" in self.body):
            self._cancelled.set()
        return said

    def end(self, end):
        self.ended = end
        return self._reader.end(end)


class TalkTape(Tape):
    def interrupt(self):
        return self._reader.interrupt()


def shortened(body: bytes) -> bytes:
    """Return the recording without what nobody reads and what tells of a machine."""
    lines = []
    for line in body.split(b"\n"):
        if b'"configWarning"' in line or b'"remoteControl/' in line or not line.strip():
            continue
        told = json.loads(line)
        if told.get("method") == "thread/started":
            continue
        result = told.get("result", {})
        if "thread" in result:
            told["result"] = {"thread": {"id": result["thread"]["id"]}, "model": result["model"]}
        if "userAgent" in result:
            told["result"] = {"platformOs": "linux"}
        lines.append(json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode())
    text = b"\n".join(lines) + b"\n"
    for words, instead in NEVER_READ:
        text = words.sub(instead, text)
    return text


def settings_of(url: str, mode: str) -> PlatformSettings:
    return PlatformSettings(
        kind="codex", url=f"{url}/v1", key_env="CODEX_TEST_KEY", model=codex_wire.MODEL, options={"mode": mode},
        argv=(str(programs.path("codex")),),
    )  # fmt: skip


async def record(case: str, mode: str, folder: Path) -> None:
    """Run one case and write what came."""
    answer = codex_wire.CASES["stall" if case == "interrupted" else case if case in codex_wire.CASES else "ok"]
    with tempfile.TemporaryDirectory() as home:
        environ = {"HOME": home, "PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
        if case != "no_key":
            environ["CODEX_TEST_KEY"] = "sk-test-1"
        async with Upstream(lambda _request: answer) as upstream:
            url = "http://127.0.0.1:9" if case == "no_server" else upstream.url
            ask = Ask(platform="p", settings=settings_of(url, mode), model="", prompt="What?", task=TaskSubmitted())
            cancelled = asyncio.Event()
            tape = (Tape if mode == "exec" else TalkTape)(CODEX.reader(ask), cancelled, stops=case == "interrupted")
            called = await caller.call(
                CODEX.ask(ask), tape, timeout_s=30, first_byte_timeout_s=20, idle_timeout_s=2, on_piece=lambda _text: None,
                cancelled=cancelled, environ=environ,
            )  # fmt: skip
    end = tape.ended
    head = [f"exit {end.exit_code}", *([f"cut: {end.cut}"] if end.cut else []), f"version: {programs.version('codex')}"]
    (folder / f"{case}.txt").write_bytes("\n".join(head).encode() + b"\n\n" + shortened(bytes(tape.body)))
    verdict = called.verdict
    why = f"{verdict.fault.error_class}: {verdict.fault.message[:90]!r}" if verdict.fault else "ok"
    print(mode, case, verdict.charged, why, repr(called.text[:40]), verdict.usage, len(called.learned), verdict.retry_after_ms)


async def main(place: Path) -> None:
    """Record every case in both modes."""
    for mode, name in (("app-server", "codex"), ("exec", "codex-exec")):
        folder = place / name
        folder.mkdir(parents=True, exist_ok=True)
        for case in [*codex_wire.CASES, "interrupted", "no_key", "no_server"]:
            await record(case, mode, folder)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
