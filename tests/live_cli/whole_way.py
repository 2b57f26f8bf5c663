"""A real engine with one platform whose server is scripted, and the command line beside it: each a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

QUESTION = "What does the fox do?"


class Scene:
    """The command line over one store. `run` waits for the end of a command, `cancelled` presses Ctrl-C after a text."""

    def __init__(self, folder: Path, platform: str, environment: dict[str, str]) -> None:
        self.platform = platform
        self._folder = folder
        self._environment = environment

    async def run(self, *words: str) -> tuple[int, str, str]:
        """Return exit code, standard output and standard error."""
        process = await self._start(*words)
        out, errors = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(), errors.decode()

    async def json(self, *words: str) -> Any:
        """Return the JSON document that a command prints."""
        _, out, errors = await self.run(*words, "--json")
        assert out, errors
        return json.loads(out)

    async def submit(self) -> tuple[int, str, str]:
        """Send a task and stream its answer."""
        return await self.run("submit", QUESTION, "-p", self.platform, "--no-fallback", "--stream")

    async def cancelled(self, text: str) -> Any:
        """Send a task, press Ctrl-C as soon as `text` has come, and return its result."""
        process = await self._start("submit", QUESTION, "-p", self.platform, "--no-fallback", "--stream")
        assert process.stdout is not None
        seen = b""
        while text not in seen.decode("utf-8", "replace"):
            piece = await process.stdout.read(4096)
            assert piece, (seen, await process.communicate())
            seen += piece
        process.send_signal(signal.SIGINT)
        _, errors = await process.communicate()
        assert process.returncode == 130, errors.decode()
        task = errors.decode().rpartition("· task ")[2].split()[0]
        return await self.json("status", task)

    async def _start(self, *words: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "farebox", *words, cwd=self._folder, env=self._environment,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip


@asynccontextmanager
async def engine(folder: Path, platform: str, environ: dict[str, str], **settings: str) -> AsyncGenerator[Scene]:
    """Run an engine with one platform of the kind `platform`, paid per token with a key that is none."""
    lines = "\n".join(f"{name} = {json.dumps(value)}" for name, value in settings.items())
    text = f'[engine]\ndiscover = false\n[platforms.{platform}]\nkind = "{platform}"\nbilling = "metered"\n{lines}\n'
    (folder / "farebox.toml").write_text(text)
    home = {"HOME": str(folder), "FAREBOX_HOME": str(folder / "store"), "LANG": "C.UTF-8", "PATH": os.environ["PATH"]}
    scene = Scene(folder, platform, {**home, "TMPDIR": str(folder), **environ})
    code, _, errors = await scene.run("up", "--detach")
    assert code == 0, errors
    try:
        yield scene
    finally:
        await scene.run("down")
