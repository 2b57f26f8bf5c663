"""Records what the real `claude` says to each case of the scripted server: `python -m tests.live_cli.record [case ...]`.

The recordings go to tests/golden/platforms/claude-code/; the default suite reads them. Only what differs from run to run and
machine to machine is made the same, and lists that nobody reads are emptied.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import tempfile
from pathlib import Path

from actors.platforms.claude_code import CLAUDE_CODE
from farebox.core.events import TaskSubmitted
from farebox.core.platform import Ask, End, ProcessCall
from farebox.core.settings import PlatformSettings
from farebox.runtime import caller
from tests.live_cli import anthropic_wire, programs
from tests.live_cli.upstream import Upstream

FOLDER = Path(__file__).parents[1] / "golden" / "platforms" / "claude-code"
METERED = {"billing": "metered", "key_env": "ANTHROPIC_API_KEY"}
RUNS: dict[str, dict] = {
    **{name: {} for name in anthropic_wire.CASES if name != "stalled"},
    "plan": {"plan": True},
    "overage": {"plan": True},
    "plan_used_up": {"plan": True},
    "no_key": {"case": "ok", "plan": True, "login": ""},
    "interrupted": {"case": "stalled", "cancel": True},
    "stalled": {"idle_s": 1.5},
    "refused_connection": {"case": "ok", "url": "http://127.0.0.1:9"},
    "garbage": {"case": "ok", "options": {"arguments": "--version"}},
    "bad_argument": {"case": "ok", "options": {"arguments": "--no-such-argument"}},
}
_SAME = (
    (rb"127\.0\.0\.1:\d{2,5}", b"127.0.0.1:8000"),
    (rb"/[^\" ]*/farebox-call-[^\"/ ]*", b"/tmp/call"),
    (rb"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", b"00000000-0000-4000-8000-000000000000"),
    (rb'"(slash_commands|terminal_slash_commands|agents|skills|plugins)":\[[^\]]*\]', rb'"\1":[]'),
    (rb"x{200000}", b"<<x*200000>>"),
)


class Keeping:
    """Reads like the platform's own reader and keeps the bytes and how they ended."""

    def __init__(self, reader) -> None:
        self._reader = reader
        self.data = b""
        self.ended = End()

    def head(self, head):
        return self._reader.head(head)

    def feed(self, data: bytes):
        self.data += data
        return self._reader.feed(data)

    def end(self, end: End):
        self.ended = end
        return self._reader.end(end)


async def record(name: str, folder: Path = FOLDER) -> str:
    """Run one case, write its recording; return what the platform made of it."""
    how = RUNS[name]
    with tempfile.TemporaryDirectory() as home:
        async with Upstream(anthropic_wire.script(how.get("case", name))) as upstream:
            paying = {"billing": "plan"} if how.get("plan") else METERED
            url, options = how.get("url", upstream.url), how.get("options", {})
            of = PlatformSettings(kind="claude-code", url=url, model=anthropic_wire.MODEL, options=options, **paying)
            ask = Ask(platform="p", settings=of, model="", prompt="What does the fox do?", task=TaskSubmitted())
            call, keeping, cancelled = CLAUDE_CODE.ask(ask), Keeping(CLAUDE_CODE.reader(ask)), asyncio.Event()
            assert isinstance(call, ProcessCall)
            key = {"CLAUDE_CODE_OAUTH_TOKEN": how.get("login", "dummy")} if how.get("plan") else {"ANTHROPIC_API_KEY": "dummy"}
            path = f"{programs.path('claude').parent}{os.pathsep}{os.environ['PATH']}"
            called = await caller.call(
                call,
                keeping,
                timeout_s=60,
                first_byte_timeout_s=30,
                idle_timeout_s=how.get("idle_s", 30),
                on_piece=lambda _text: cancelled.set() if how.get("cancel") else None,
                cancelled=cancelled,
                environ={"HOME": home, "PATH": path, **{one: text for one, text in key.items() if text}},
            )
    (folder / f"{name}.txt").write_bytes(_top(call, keeping.ended) + b"\n" + _same(keeping.data))
    verdict = called.verdict
    return f"{name}: {verdict.fault or 'ok'} {verdict.charged} {verdict.usage} {verdict.provider_usd} {called.text[:60]!r}"


def _same(data: bytes) -> bytes:
    for pattern, same in _SAME:
        data = re.sub(pattern, same, data)
    return data


def _top(call: ProcessCall, end: End) -> bytes:
    told = {
        "version": programs.version("claude"),
        "argv": " ".join(word or '""' for word in call.argv),
        "cut": end.cut,
        "stderr": _same(end.stderr_tail.encode()).decode().replace("\n", "\\n"),
    }
    lines = [f"exit {end.exit_code}", *(f"{name}: {text}" for name, text in told.items() if text)]
    return "".join(f"{line}\n" for line in lines).encode()


def types_of(recording: str) -> list[str]:
    """Return how it ended and the types of its lines."""
    top, _, body = recording.partition("\n\n")
    events = [json.loads(line) for line in body.splitlines()]
    return [top.split("\n")[0], *(f"{event['type']}/{event.get('subtype', '')}" for event in events)]


async def _record_all(names: list[str]) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in names or RUNS:
        print(await record(name), flush=True)


if __name__ == "__main__":
    asyncio.run(_record_all(sys.argv[1:]))
