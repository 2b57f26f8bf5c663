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
        promises = [spool.promise() for _ in range(8)]
        seen["promised"] = sum(one is not None for one in promises)
        seen["trouble"] = str(spool.trouble())
        waiting = asyncio.ensure_future(spool.wait_for_room(asyncio.Event()))
        await asyncio.sleep(0.1)
        seen["waits"] = not waiting.done()
        ballast = folder / "ballast"
        with ballast.open("ab") as file:
            try:
                while True:
                    file.write(b"x" * 4096), file.flush()
            except OSError:
                pass

        def outcome(number, size):
            verdict = Verdict(ok=True, charged="known")
            return CallEnded(epoch=number, cause="x", attempt=1, verdict=verdict, text="y" * size)

        async def answered(number, size, promise):
            await spool.mark_sending(f"p.c.t{number}.{number}", promise)
            try:
                await spool.keep(f"p.c.t{number}.{number}", outcome(number, size), promise)
            except OSError as error:
                return error.errno
            return "kept"

        granted = [one for one in promises if one is not None]
        # On a full disk: a large answer is refused, and takes nothing from those that were promised room.
        answers = [answered(9, 3_000_000, granted[0])]
        answers += [answered(number, 1_000_000, one) for number, one in enumerate(granted[1:], start=1)]
        seen["answers"] = await asyncio.gather(*answers)
        seen["in memory"] = spool.outcomes["p.c.t9.9"].text == outcome(9, 3_000_000).text
        ballast.unlink()
        for one in granted:
            one.give_back()
        await asyncio.wait_for(waiting, 100)
        await spool.keep("p.c.t9.9", outcome(9, 3_000_000))
        again = module.Spool(folder / "spool" / "journal")
        seen["in the next life"] = len(again.outcomes)
        seen["kept at last"] = again.outcomes["p.c.t9.9"] == outcome(9, 3_000_000)
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
        [*own_mounts(), sys.executable, "-c", SMALL_DISK, tmp_path], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    seen = json.loads(ran.stdout)
    trouble = seen.pop("trouble")
    assert trouble.startswith("The disk of the spool is full: less than 8 MiB would be free for ")
    assert seen == {
        "empty": True, "promised": 3, "waits": True, "answers": [28, "kept", "kept"], "in memory": True,
        "in the next life": 3, "kept at last": True,
    }  # fmt: skip


@pytest.fixture
def disk(monkeypatch):
    """A disk whose free space is said here."""

    class Disk:
        full = True
        free = None

        def statvfs(self, path):
            real = os_statvfs(path)
            blocks = 0 if self.full else real.f_bavail if self.free is None else self.free // real.f_frsize
            return os.statvfs_result((*real[:4], blocks, *real[5:]))

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
    async with asyncio.timeout(100):
        while not worker.running:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)  # five looks
    assert tape.said(events.TaskStarted) == []
    assert provider.books.lines == []
    disk.full = False
    assert (await tape.end_of("t1")).status == "completed"
    assert len(tape.said(events.TaskStarted)) == 1


@pytest.mark.fault(17)
async def test_of_many_calls_at_once_only_so_many_start_as_have_room_and_the_others_follow(disk, tape, workers, stand_in):
    provider, settings = await stand_in(delay_ms=100)
    worker = await workers.make(tape, settings=settings)
    disk.full = False
    disk.free = 8 * 2**20 + 2 * 2**20
    worker._spool._reserve._allocate = lambda *_: False  # counted: the disk of this test is not a real one
    for number in range(6):
        tape.reserve(f"t{number}")
    most = 0
    async with asyncio.timeout(100):
        while len(tape.said(events.TaskCompleted)) < 6:
            most = max(most, len(tape.said(events.TaskStarted)) - len(tape.said(events.TaskCompleted)))
            await asyncio.sleep(0.005)
    assert most == 2
    assert provider.seen == 6


async def test_who_waits_for_room_can_be_cancelled(disk, tape, workers):
    worker = await workers.make(tape)
    tape.reserve()
    async with asyncio.timeout(100):
        while not worker.running:
            await asyncio.sleep(0.01)
    tape.say("client", events.TaskCancelRequested(chain="c1", task="t1"))
    assert (await tape.end_of("t1")).status == "cancelled"


async def test_who_waits_for_room_stops_with_the_engine_and_loses_nothing(disk, tape, workers):
    worker = await workers.make(tape)
    tape.reserve()
    async with asyncio.timeout(100):
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
    assert "No further call is made" in trouble.message


async def test_a_disk_that_cannot_be_asked_has_room_until_writing_tells(tmp_path):
    found = module.Spool(tmp_path / "spool" / "journal")
    await found.close()
    (tmp_path / "spool").rename(tmp_path / "gone")
    assert found.has_room()
