"""Room for answers: without it no call is made, the task waits, and status says so; what cannot be spooled goes from memory."""

import asyncio
import json
import os
import subprocess
import sys
import textwrap

import pytest

from farebox.core import events
from farebox.runtime import spool as module

SMALL_DISK = textwrap.dedent("""
    import asyncio, json, os, subprocess, sys
    from pathlib import Path
    from farebox.core.platform import CallEnded, Verdict
    from farebox.runtime import spool as module

    folder = Path(sys.argv[1])
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "small", folder], check=True)
    module.LOOK_S = 0.02

    async def main():
        seen = {}
        spool = module.Spool(folder / "spool" / "journal")
        seen["empty"] = spool.has_room()
        ballast = folder / "ballast"
        ballast.write_bytes(b"x" * (5 << 20))
        seen["filled"] = spool.has_room()
        seen["trouble"] = str(spool.trouble())
        waiting = asyncio.ensure_future(spool.waited_for_room(asyncio.Event()))
        await asyncio.sleep(0.1)
        seen["waits"] = not waiting.done()
        await spool.mark_sending("p.c.t.1")
        with ballast.open("ab") as file:
            try:
                while True:
                    file.write(b"x" * 4096), file.flush()
            except OSError:
                pass
        outcome = CallEnded(epoch=1, cause="x", attempt=1, verdict=Verdict(ok=True, charged="known"), text="y" * 100_000)
        try:
            await spool.keep("p.c.t.1", outcome)
        except OSError as error:
            seen["kept"] = error.errno
        seen["in memory"] = spool.outcomes["p.c.t.1"].text == outcome.text
        ballast.unlink()
        seen["waited"] = await asyncio.wait_for(waiting, 5)
        await spool.keep("p.c.t.1", outcome)
        again = module.Spool(folder / "spool" / "journal")
        seen["kept at last"] = again.outcomes["p.c.t.1"] == outcome
        await spool.close()
        await again.close()
        print(json.dumps(seen))

    asyncio.run(main())
    """)


def own_mounts():
    """Return the command that gives a program mounts of its own, empty where this machine lets nobody have them."""
    command = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]
    tried = subprocess.run([*command, "mount", "-t", "tmpfs", "small", "/mnt"], check=False, capture_output=True)
    return command if tried.returncode == 0 else []


@pytest.mark.fault(17)
@pytest.mark.skipif(sys.platform != "linux" or not own_mounts(), reason="needs mounts of its own")
def test_on_a_small_disk_room_is_seen_to_go_and_to_come_back(tmp_path):
    ran = subprocess.run(
        [*own_mounts(), sys.executable, "-c", SMALL_DISK, tmp_path], capture_output=True, text=True, timeout=25, check=False
    )
    assert ran.returncode == 0, ran.stderr
    seen = json.loads(ran.stdout)
    trouble = seen.pop("trouble")
    assert trouble.startswith("The disk of the spool is full: less than 8 MiB free for ")
    assert seen == {
        "empty": True, "filled": False, "waits": True, "kept": 28, "in memory": True, "waited": True, "kept at last": True,
    }  # fmt: skip


@pytest.fixture
def disk(monkeypatch):
    """A disk whose free space is said here."""

    class Disk:
        full = True

        def statvfs(self, path):
            real = os_statvfs(path)
            return os.statvfs_result((*real[:4], 0, *real[5:])) if self.full else real

    os_statvfs = os.statvfs
    found = Disk()
    monkeypatch.setattr(module.os, "statvfs", found.statvfs)
    monkeypatch.setattr(module, "LOOK_S", 0.02)
    return found


@pytest.mark.fault(17)
async def test_without_room_no_call_is_made_and_with_room_again_it_is(disk, tape, workers, stand_in):
    provider, settings = await stand_in()
    worker = await workers.make(tape, settings=settings)
    tape.reserve()
    async with asyncio.timeout(5):
        while not worker.running:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)  # five looks
    assert tape.said(events.TaskStarted) == []
    assert provider.books.lines == []
    disk.full = False
    assert (await tape.end_of("t1")).status == "completed"
    assert len(tape.said(events.TaskStarted)) == 1


async def test_who_waits_for_room_can_be_cancelled(disk, tape, workers):
    worker = await workers.make(tape)
    tape.reserve()
    async with asyncio.timeout(5):
        while not worker.running:
            await asyncio.sleep(0.01)
    tape.say("client", events.TaskCancelRequested(chain="c1", task="t1"))
    assert (await tape.end_of("t1")).status == "cancelled"


async def test_who_waits_for_room_stops_with_the_engine_and_loses_nothing(disk, tape, workers):
    worker = await workers.make(tape)
    tape.reserve()
    async with asyncio.timeout(5):
        while not worker.running:
            await asyncio.sleep(0.01)
    await worker.stop()
    assert tape.said(events.TaskStarted) == []
    disk.full = False
    await workers.make(tape, home="two")
    assert (await tape.end_of("t1")).status == "completed"


async def test_status_says_that_no_call_is_made(disk, tape, engines):
    disk.full = False
    await engines.make(tape.log())
    from farebox import api

    assert await api.trouble(tape.log()) is None
    disk.full = True
    trouble = await api.trouble(tape.log())
    assert (trouble.code, trouble.exit_code) == ("FB113", 3)
    assert "No call is made" in trouble.message


async def test_a_disk_that_cannot_be_asked_has_room_until_writing_tells(tmp_path):
    found = module.Spool(tmp_path / "spool" / "journal")
    await found.close()
    (tmp_path / "spool").rename(tmp_path / "gone")
    assert found.has_room()
