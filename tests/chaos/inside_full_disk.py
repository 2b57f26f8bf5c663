"""A program for a mount namespace of its own: a store on a small disk that fills up under commands, and empties again.

It gets the folder to work in (farebox.toml is there) and prints one JSON document: what each command said and ended with, what
`status` said meanwhile and afterwards, and the engine's log. The disk goes away with the namespace.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

DISK_MB = 160
READY_S = 20
COMMANDS = {
    "submit": ("submit", "a small one"),
    "large": ("submit", "-", "--json"),
    "detached": ("submit", "sent only", "--detach"),
    "batch": ("batch", "prompts.jsonl", "-o", "results.jsonl"),
}
LARGE = "large one " * 60_000


class Command:
    """A command that runs, and what it has said so far on stderr."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.said = ""
        self.warned = asyncio.Event()
        self._process = process
        self._reading = [asyncio.ensure_future(self._hear()), asyncio.ensure_future(process.stdout.read())]

    async def _hear(self) -> None:
        while line := await self._process.stderr.readline():
            self.said += line.decode()
            if "FB113" in self.said:
                self.warned.set()

    async def end(self) -> dict:
        """Wait for its end and return what it came to."""
        _, out = await asyncio.gather(*self._reading)
        return {"code": await self._process.wait(), "out": out.decode(), "said": self.said}


async def started(*arguments: str, stdin: bytes = b"") -> Command:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "farebox", *arguments,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    process.stdin.write(stdin)
    process.stdin.close()
    return Command(process)


async def ran(*arguments: str) -> dict:
    return await (await started(*arguments)).end()


def fill(ballast: Path) -> None:
    """Take every byte that is left."""
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 2**20)
    with ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 512)


async def main(folder: Path) -> None:
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "small", disk], check=True)
    os.environ |= {"HOME": str(folder), "FAREBOX_HOME": str(disk / "store")}
    os.chdir(folder)
    Path("prompts.jsonl").write_text('{"prompt":"line one"}\n{"prompt":"line two"}\n')
    up = await ran("up", "--detach")
    assert up["code"] == 0, up
    report = {"before": await ran("submit", "while there is room")}
    fill(disk / "ballast")
    waiting = {name: await started(*told, stdin=LARGE.encode()) for name, told in COMMANDS.items()}
    async with asyncio.timeout(READY_S):
        await waiting["submit"].warned.wait()
        await waiting["large"].warned.wait()
        await waiting["batch"].warned.wait()
    report["status"] = await ran("status", "--json")
    report["status_shown"] = await ran("status")
    (disk / "ballast").unlink()
    report |= {name: await command.end() for name, command in waiting.items()}
    report["afterwards"] = await ran("status", "--json")
    report["engine_log"] = (disk / "store" / "engine.log").read_text()
    report["down"] = await ran("down")
    print(json.dumps(report))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
