"""The server of an engine: it starts under our configuration, keeps its facts and its port, heals, and ends with its engine."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from contextlib import asynccontextmanager

import msgspec
import nats
import psutil
import pytest

from farebox.core.errors import LogFull, LogUnfit, StoreInUse
from farebox.log.seeds import new_seed
from farebox.runtime.embedded import EmbeddedServer, _sweep, configuration, program
from farebox.runtime.greeting import answers
from farebox.runtime.store import ClientRecord, ServerRecord, Store

ENGINE = """
import asyncio, sys
from pathlib import Path
from farebox.runtime.embedded import EmbeddedServer
from farebox.runtime.store import Store
async def main():
    store = Store(Path(sys.argv[1])); store.open()
    server = EmbeddedServer(store, ["rehearsal"])
    await server.start()
    print(server.pid, flush=True)
    await asyncio.to_thread(sys.stdin.read)
asyncio.run(main())
"""


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "a store")
    store.open()
    yield store
    store.close()


@asynccontextmanager
async def running(store, **options):
    server = EmbeddedServer(store, ["rehearsal"], **options)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def connect(server, user="init", **options):
    login = server.login(user)
    return await nats.connect(login.url, nkeys_seed_str=login.password, inbox_prefix=login.inbox_prefix, **options)


async def keep_a_fact(server):
    link = await connect(server)
    js = link.jetstream()
    await js.add_stream(name="FAREBOX", subjects=["farebox.log.>"], max_bytes=2**20)
    ack = await js.publish("farebox.log.client.submitted.-.c.t", b"kept")
    await link.close()
    return ack.seq


async def kept(server):
    link = await connect(server)
    message = await link.jetstream().get_msg("FAREBOX", 1)
    await link.close()
    return message.data


async def until(condition):
    async with asyncio.timeout(100):
        while not condition():
            await asyncio.sleep(0.01)


async def test_it_runs_with_our_configuration_in_a_folder_with_spaces(store):
    async with running(store, durability="100ms", max_file_bytes=10**9) as server:
        link = await connect(server, "sys")
        answer = await link.request("$SYS.REQ.SERVER.PING.VARZ", b"{}", timeout=25)
        seen = msgspec.json.decode(answer.data)["data"]
        await link.close()
    assert seen["jetstream"]["config"]["sync_interval"] == 100_000_000
    assert seen["jetstream"]["config"]["max_storage"] == 10**9
    assert seen["jetstream"]["config"]["store_dir"] == str(store.path / "nats" / "jetstream")
    assert (seen["host"], seen["max_payload"], seen.get("http_port", 0)) == ("127.0.0.1", 1024**2, 0)
    assert (store.path / "users.conf").stat().st_mode & 0o777 == 0o600
    assert configuration().read_bytes() == (store.path / "nats.conf").read_bytes()


async def test_always_is_what_it_says(store):
    async with running(store) as server:
        link = await connect(server, "sys")
        answer = await link.request("$SYS.REQ.SERVER.PING.VARZ", b"{}", timeout=25)
        await link.close()
    assert msgspec.json.decode(answer.data)["data"]["jetstream"]["config"]["sync_always"] is True


async def test_a_restart_keeps_facts_port_and_passwords(store):
    async with running(store) as server:
        seq = await keep_a_fact(server)
        url, login = server.url, server.login("client")
    assert seq == 1
    assert server.pid is None
    assert store.read("server.json", ServerRecord).process is None
    async with running(store) as server:
        assert (server.url, server.login("client")) == (url, login)
        assert store.read("client.json", ClientRecord) == login
        assert await kept(server) == b"kept"
        before = server.pid
        await server.restart()
        assert server.pid != before
        assert await kept(server) == b"kept"


async def test_what_cannot_be_noted_does_not_keep_it_from_stopping(store):
    lines = []
    async with running(store, report=lines.append) as server:
        pid = server.pid
        (store.path / "server.json").unlink()
        (store.path / "server.json" / "in the way").mkdir(parents=True)
        await server.stop()
    assert not psutil.pid_exists(pid)
    assert "server.json is not usable" in lines[0]


async def test_a_port_that_was_taken_is_left_to_its_taker(store):
    async with running(store) as server:
        url = server.url
    with socket.create_server(("127.0.0.1", int(url.rpartition(":")[2]))):
        async with running(store) as server:
            assert server.url != url
            assert store.read("client.json", ClientRecord).url == server.url


async def test_a_killed_server_is_healed_and_clients_go_on(store):
    lines = []
    async with running(store, report=lines.append) as server:
        await keep_a_fact(server)
        watch = asyncio.create_task(server.watch())
        link = await connect(server, reconnect_time_wait=0.02, max_reconnect_attempts=-1)
        first = server.pid
        os.kill(first, signal.SIGKILL)
        await until(lambda: any("runs again" in line for line in lines))
        assert server.pid != first
        await until(lambda: link.is_connected)
        ack = await link.jetstream().publish("farebox.log.client.submitted.-.c.t2", b"again")
        assert ack.seq == 2
        await link.close()
    async with asyncio.timeout(100):
        await watch
    assert lines[0] == "nats-server ended by itself (signal 9); it is started again."


@asynccontextmanager
async def down(server, lines):
    """Kill it, and let it come back only at the end."""
    server._free_bytes_min = 2**62
    os.kill(server.pid, signal.SIGKILL)
    await until(lambda: any("does not start: Only" in line for line in lines))
    yield int(server.url.rpartition(":")[2])
    server._free_bytes_min = 0


async def test_a_killed_server_whose_port_is_taken_waits_for_it_where_everybody_looks(store):
    lines = []
    async with running(store, report=lines.append) as server:
        await keep_a_fact(server)
        watch = asyncio.create_task(server.watch())
        link = await connect(server, reconnect_time_wait=0.02, max_reconnect_attempts=-1)
        url = server.url
        async with down(server, lines) as port:
            taker = socket.create_server(("127.0.0.1", port))
        await until(lambda: any(f"has taken port {port} of 127.0.0.1. End it" in line for line in lines))
        taker.close()
        await until(lambda: "runs again" in lines[-1])
        assert (server.url, store.read("client.json", ClientRecord).url) == (url, url)
        await until(lambda: link.is_connected)
        ack = await link.jetstream().publish("farebox.log.client.submitted.-.c.t2", b"again")
        assert ack.seq == 2
        await link.close()
    await watch


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets somebody listen beside a bound socket")
async def test_nobody_gets_the_port_of_a_killed_server_by_accident(store):
    lines = []
    async with running(store, report=lines.append) as server:
        watch = asyncio.create_task(server.watch())
        async with down(server, lines) as port:
            with socket.socket() as taker, pytest.raises(OSError, match="already in use"):
                taker.bind(("127.0.0.1", port))
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", port)
        await until(lambda: "runs again" in lines[-1])
    await watch
    with socket.socket() as after:
        after.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        after.bind(("127.0.0.1", port))


async def test_a_restart_that_fails_is_tried_again_and_the_watch_goes_on(store):
    lines = []
    async with running(store, report=lines.append) as server:
        watch, first = asyncio.create_task(server.watch()), server.pid
        server._free_bytes_min = 2**62
        restart = asyncio.create_task(server.restart())
        await until(lambda: any("does not start" in line for line in lines))
        server._free_bytes_min = 0
        await restart
        assert server.pid not in {first, None}
        os.kill(server.pid, signal.SIGKILL)
        await until(lambda: sum("runs again" in line for line in lines) == 2)
    await watch


async def test_a_server_that_cannot_start_again_is_reported_until_it_can(store):
    lines = []
    async with running(store, report=lines.append) as server:
        watch = asyncio.create_task(server.watch())
        server._free_bytes_min = 2**62
        os.kill(server.pid, signal.SIGKILL)
        await until(lambda: any("does not start: Only" in line for line in lines))
        server._free_bytes_min = 0
        await until(lambda: "runs again" in lines[-1])
        await server.stop()
        await watch


async def test_a_stop_ends_the_watch_that_tries_to_heal(store):
    lines = []
    async with running(store, report=lines.append) as server:
        watch = asyncio.create_task(server.watch())
        server._free_bytes_min = 2**62
        os.kill(server.pid, signal.SIGKILL)
        await until(lambda: any("does not start" in line for line in lines))
        await server.stop()
        async with asyncio.timeout(100):
            await watch
    assert not any("runs again" in line for line in lines)


async def test_a_frozen_server_is_killed_at_the_deadline(store):
    async with running(store) as server:
        pid = server.pid
        os.kill(pid, signal.SIGSTOP)
        await server.stop(deadline_s=0.1)
        await server.stop()
        assert not psutil.pid_exists(pid)


async def test_new_platforms_log_in_after_a_reload_and_nobody_is_disconnected(store):
    lost = []

    async def gone():
        lost.append(True)

    async with running(store) as server:
        link = await connect(server, "client", disconnected_cb=gone)
        await server.reload(["rehearsal", "ollama"])
        other = await connect(server, "adapter-ollama")
        await other.close()
        await link.flush()
        assert lost == []
        link._disconnected_cb = None
        await link.close()


async def test_a_seed_of_another_store_is_refused(store):
    async with running(store) as server:
        port = int(server.url.rpartition(":")[2])
        assert await answers(port, server.login("sys").password)
        assert not await answers(port, new_seed())


async def test_two_engines_on_one_store_are_one_too_many(store):
    async with running(store):
        with pytest.raises(StoreInUse):
            Store(store.path).open()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can end a process with its parent")
async def test_it_ends_with_its_engine(tmp_path):
    engine = subprocess.Popen(
        [sys.executable, "-c", ENGINE, str(tmp_path / "s")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    server = psutil.Process(int(await asyncio.to_thread(engine.stdout.readline)))
    engine.kill()
    engine.communicate()
    await asyncio.to_thread(psutil.wait_procs, [server], 10)
    assert not server.is_running()


async def test_a_server_left_behind_is_ended_before_the_next_start(store):
    server = EmbeddedServer(store, ["rehearsal"])
    await server.start()
    left = psutil.Process(server.pid)
    async with running(store) as second:
        assert second.url == server.url, "its port is free again"
        assert not left.is_running()
        os.kill(second.pid, 0)
    await server.stop()


async def test_a_program_that_is_missing_is_one_line_with_the_command():
    with pytest.raises(LogUnfit, match=r"nats-server is not there. Run: pip install 'farebox\[local\]'"):
        program("no_such_wheel", "/nowhere")


def test_the_program_on_the_path_serves_where_the_wheel_is_not():
    real = program()
    assert program("no_such_wheel", str(real.parent)) == real


async def test_a_frozen_server_left_behind_is_killed(store):
    server = EmbeddedServer(store, ["rehearsal"])
    await server.start()
    os.kill(server.pid, signal.SIGSTOP)
    await _sweep(store.read("server.json", ServerRecord), deadline_s=0.1)
    assert not store.read("server.json", ServerRecord).process.runs()
    await server.stop()


async def test_somebody_else_on_the_port_is_not_taken_for_our_server():
    async def greet(reader, writer):
        writer.write(b'INFO {"server_name":"farebox"}\r\n-ERR \'Authorization Violation\'\r\n')
        writer.close()

    other = await asyncio.start_server(greet, "127.0.0.1", 0)
    port = other.sockets[0].getsockname()[1]
    assert not await answers(port, new_seed())
    other.close()
    await other.wait_closed()
    assert not await answers(port, new_seed())


async def test_a_port_that_is_taken_at_the_last_moment_is_left(store):
    with socket.create_server(("127.0.0.1", 0)) as taker:
        server = EmbeddedServer(store, ["rehearsal"])
        server._port = taker.getsockname()[1]
        server._configure(("rehearsal",))
        assert await server._run(program()) is False
    assert server.pid is None


async def test_a_server_that_never_answers_is_ended(store, tmp_path):
    silent = tmp_path / "silent"
    silent.write_text("#!/bin/sh\nexec sleep 60\n")
    silent.chmod(0o700)
    server = EmbeddedServer(store, ["rehearsal"], start_s=0.1)
    with pytest.raises(LogUnfit, match=r"did not answer for 0\.1 s"):
        await server._run(silent)
    assert not store.read("server.json", ServerRecord).process.runs()


async def test_a_stop_does_not_wait_for_a_slow_start(store, tmp_path):
    silent = tmp_path / "silent"
    silent.write_text("#!/bin/sh\nexec sleep 60\n")
    silent.chmod(0o700)
    server = EmbeddedServer(store, ["rehearsal"])
    starting = asyncio.create_task(server._run(silent))
    await until(lambda: server.pid is not None)
    await server.stop()
    with pytest.raises(LogUnfit, match="was stopped while it started"):
        await starting


async def test_a_full_disk_is_said_before_anything_starts(store):
    server = EmbeddedServer(store, ["rehearsal"], free_bytes_min=2**62)
    with pytest.raises(LogFull, match="MiB are free"):
        await server.start()
    assert server.pid is None


async def test_a_server_that_does_not_start_says_why(store):
    server = EmbeddedServer(store, ["rehearsal"], max_file_bytes="no size")
    with pytest.raises(LogUnfit, match=r"does not start: nats-server: .*FAREBOX_MAX_FILE") as caught:
        await server.start()
    assert str(store.path / "nats.log") in caught.value.hint
    assert server.pid is None


async def test_a_store_directory_the_server_cannot_use_is_said(store):
    (store.path / "nats").rmdir()
    (store.path / "nats").write_bytes(b"no folder")
    with pytest.raises(LogUnfit, match=r"does not start: .*nats"):
        await EmbeddedServer(store, ["rehearsal"]).start()


async def test_a_log_that_cannot_be_written_is_said(store):
    (store.path / "nats.err").mkdir()
    with pytest.raises(LogUnfit, match="not usable: Is a directory"):
        await EmbeddedServer(store, ["rehearsal"]).start()
