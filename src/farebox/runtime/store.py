"""The store: the folder in which one engine keeps its server's files, views, keys and who it is. One engine at a time owns it.

nats/  views/  spool/  snapshots/        folders, 0700
nats.conf  users.conf  users.json        the server's configuration; the seeds of its users, 0600
engine.json  client.json  server.json    who runs here, how clients reach it, the server's process, 0600
client.nk                                the seed of clients alone, as the tools of NATS want it, 0600
key                                      32 random bytes from which the ids of facts are made, 0600
lock                                     held as long as the engine lives; says by whom, for people
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
import stat
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from farebox.core.errors import BadSettings, FareboxError, LogFull, LogUnfit, StoreInUse
from farebox.log.login import Tls
from farebox.log.seeds import is_seed, new_seed

KEY_BYTES = 32
FOLDERS = ("nats", "views", "spool", "snapshots")
_FULL = {errno.ENOSPC, errno.EDQUOT}
_ELSEWHERE = "Give another folder with FAREBOX_HOME."


class Process(Struct, frozen=True, kw_only=True):
    """A process that cannot be mistaken for a later one with the same number: `born_s` is its start (s since 1970)."""

    pid: int
    born_s: float

    @staticmethod
    def of(pid: int) -> Process:
        """Return the process `pid`. Raises ProcessLookupError when it is gone."""
        import psutil  # noqa: PLC0415 - 15 ms that a short command need not pay

        try:
            return Process(pid=pid, born_s=psutil.Process(pid).create_time())
        except psutil.NoSuchProcess as error:
            raise ProcessLookupError(f"There is no process {pid}.") from error

    def runs(self) -> bool:
        """Say whether it is still there; a zombie is not."""
        import psutil  # noqa: PLC0415

        try:
            process = psutil.Process(self.pid)
            return process.create_time() == self.born_s and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


class EngineRecord(Struct, frozen=True, kw_only=True):
    """engine.json: the engine that runs here. `started_ms` is when it started (ms since 1970), `born_s` as in Process."""

    pid: int
    born_s: float
    url: str
    credentials: str
    started_ms: int

    @property
    def process(self) -> Process:
        """The engine's process."""
        return Process(pid=self.pid, born_s=self.born_s)


class ClientRecord(Struct, frozen=True, kw_only=True):
    """client.json: how a client logs in. `password` is a seed, which never leaves this machine (seeds.py).

    On a server of somebody else it may be a password.
    """

    url: str
    user: str
    password: str
    inbox_prefix: str
    credentials: str = ""
    tls: Tls = Tls()


class ServerRecord(Struct, frozen=True, kw_only=True):
    """server.json: the port of the server, kept over restarts, and its process, None when it was stopped in order."""

    port: int
    process: Process | None = None


class _Holder(Struct, frozen=True, kw_only=True):
    pid: int
    since: str


def resolve(given: str | Path | None = None, environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of the store: the argument, else FAREBOX_HOME, else the usual place of this system."""
    chosen = given or environment.get("FAREBOX_HOME")
    if chosen:
        return Path(chosen).expanduser().absolute()
    import platformdirs  # noqa: PLC0415

    return Path(platformdirs.user_data_dir("farebox"))


class Store:
    """The folder at `path`. Reading needs no more; `open` makes it one's own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    def open(self) -> None:
        """Make the folder if need be and own it until `close` or the end of this process.

        Raises StoreInUse when another engine owns it, BadSettings when others may write there, LogFull, LogUnfit.
        """
        with speaking(self.path):
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            _refuse_shared(self.path)
            self._own()
            for folder in FOLDERS:
                (self.path / folder).mkdir(mode=0o700, exist_ok=True)

    def close(self) -> None:
        """Let go of it. Safe to call twice."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def free_bytes(self) -> int:
        """Return how many bytes are free where the store lies."""
        with speaking(self.path):
            return shutil.disk_usage(self.path).free

    def key(self) -> bytes:
        """Return the key from which the ids of facts are made; it is drawn once. Raises LogUnfit when it is damaged."""
        path = self.path / "key"
        if not path.exists():
            self.write("key", secrets.token_bytes(KEY_BYTES))
        with speaking(path):
            found = path.read_bytes()
        if len(found) != KEY_BYTES:
            raise LogUnfit(f"{path} holds {len(found)} bytes instead of {KEY_BYTES}.", hint="Put the backup back.")
        return found

    def seeds(self, names: Iterable[str]) -> dict[str, str]:
        """Return a seed for each name; those that have none yet get one, the others keep theirs.

        What is no seed is the password of an older farebox: it counts for nothing any more.
        """
        known = self.read("users.json", dict[str, str]) or {}
        held = {name: seed for name, seed in known.items() if is_seed(seed)}
        held |= {name: new_seed() for name in names if name not in held}
        if held != known:
            self.write("users.json", msgspec.json.encode(held))
        return held

    def engine(self) -> EngineRecord | None:
        """Return the engine that runs here, None if none does: what a crashed one left behind does not count."""
        record = self.read("engine.json", EngineRecord)
        return record if record is not None and record.process.runs() else None

    def read[Kind](self, name: str, kind: type[Kind]) -> Kind | None:
        """Return what a JSON file of the store holds, None if there is none. Raises LogUnfit when it does not read."""
        path = self.path / name
        with speaking(path):
            try:
                return msgspec.json.decode(path.read_bytes(), type=kind)
            except FileNotFoundError:
                return None
            except msgspec.MsgspecError as error:
                raise LogUnfit(f"{path} does not read: {error}.", hint="Stop the engine and remove the file.") from error

    def write(self, name: str, content: Struct | bytes) -> Path:
        """Write a file, 0600, whole or not at all, also over a power cut. Returns its path. Raises LogFull, LogUnfit."""
        body = content if isinstance(content, bytes) else msgspec.json.encode(content)
        path = self.path / name
        draft = path.with_name(f".{name}.{os.getpid()}")
        with speaking(path):
            try:
                _write_synced(draft, body)
                draft.replace(path)
                _sync(self.path)
            finally:
                draft.unlink(missing_ok=True)
        return path

    def remove(self, name: str) -> None:
        """Remove a file of the store, if it is there."""
        with speaking(self.path / name):
            (self.path / name).unlink(missing_ok=True)

    def _own(self) -> None:
        """The lock belongs to the open file and dies with the process; what stands in it is for people only."""
        lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            holder = _Holder(pid=os.getpid(), since=datetime.now(UTC).isoformat(timespec="seconds"))
            os.ftruncate(lock, 0)
            os.pwrite(lock, msgspec.json.encode(holder), 0)
        except BlockingIOError:
            who = _holder(os.pread(lock, 200, 0))
            os.close(lock)
            raise StoreInUse(f"{self.path} is in use{who}.", hint="Stop that engine: farebox down") from None
        except BaseException:
            os.close(lock)
            raise
        self._lock = lock


@contextmanager
def speaking(path: Path) -> Generator[None]:
    """Turn what the file system refuses into one line. Raises LogFull for no space left, else LogUnfit."""
    try:
        yield
    except OSError as error:
        raise refusal(path, error) from error


def refusal(path: Path, error: OSError) -> FareboxError:
    """Return the error that says why the file system refused."""
    if error.errno in _FULL:
        return LogFull(f"No space left for {path}.", hint="Make room and start again; nothing that was stored is lost.")
    return LogUnfit(f"{path} is not usable: {error.strerror or error}.", hint=_ELSEWHERE)


def _refuse_shared(path: Path) -> None:
    if path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise BadSettings(f"Others may write to {path}; keys and costs are kept there.", hint=f"Run: chmod 700 {path}")


def _holder(body: bytes) -> str:
    try:
        found = msgspec.json.decode(body, type=_Holder)
    except msgspec.MsgspecError:
        return " by another engine"
    return f" by process {found.pid} since {found.since}"


def _write_synced(path: Path, body: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(body)
        file.flush()
        os.fsync(handle)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
