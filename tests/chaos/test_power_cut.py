"""A power cut: the image of a file system is copied while everything on it stands still, and mounted in place of the old one.

What had not reached the disk by then is gone, as it would be. Needs root and loop devices.
"""

from __future__ import annotations

import asyncio
import functools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from farebox.core.trail import id_of

IMAGE_MB = 256
BOUND_S = 1.0
"""Under 100ms nothing is lost that was acknowledged longer ago than this."""


class Disk:
    """An ext4 image, mounted at `place`."""

    def __init__(self, folder: Path) -> None:
        self.image = folder / "disk.img"
        self.place = folder / "disk"
        self.place.mkdir()

    def make(self) -> None:
        with self.image.open("wb") as file:
            file.truncate(IMAGE_MB << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", self.image], check=True)
        self.mount()

    def mount(self) -> None:
        subprocess.run(["mount", "-o", "loop", self.image, self.place], check=True, capture_output=True)

    def unmount(self) -> None:
        subprocess.run(["umount", "--lazy", self.place], check=False, capture_output=True)

    def copy(self) -> Path:
        """What is on the disk at this moment."""
        aside = self.image.with_name("cut.img")
        subprocess.run(["cp", "--sparse=always", self.image, aside], check=True)
        return aside

    def put_back(self, aside: Path) -> None:
        """Mount what was on the disk when the power went."""
        self.unmount()
        aside.replace(self.image)
        self.mount()


@functools.cache
def why_not() -> str:
    """Why there can be no power cut here, empty where there can."""
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        return "a power cut needs root and mkfs.ext4"
    with tempfile.TemporaryDirectory() as folder:
        disk = Disk(Path(folder))
        try:
            disk.make()
        except (subprocess.CalledProcessError, OSError) as error:
            return f"no loop device can be mounted here: {error}"
        disk.unmount()
    return ""


@pytest.fixture
def disk(tmp_path):
    if why_not():
        pytest.skip(why_not())
    made = Disk(tmp_path)
    made.make()
    yield made
    made.unmount()


async def cut(scene, disk):
    """Take the power away and give it back. Returns the moment of the cut, seconds since 1970."""
    server = scene.server()
    server.send_signal(signal.SIGSTOP)
    scene.engine.send_signal(signal.SIGSTOP)
    at_s = time.time()
    aside = await asyncio.to_thread(disk.copy)
    server.kill()
    scene.engine.kill()
    await scene.engine.wait()
    await asyncio.to_thread(server.wait, 10)
    await asyncio.to_thread(disk.put_back, aside)
    scene.cut = True
    return at_s


async def lived_through(scene, disk, durability, after_s):
    """A batch with a power cut in it. Returns the facts that stood in the log right after the cut, and when it was."""
    scene.store = disk.place / "store"
    scene.options = ["--durability", durability]
    scene.accident = {"point": "", "how": "nothing"}
    await scene.open(delay_ms=100, limit=8, billed=9)
    specs = [{"prompt": f"Power {n}: count the owls.", "max_tokens": 400} for n in range(240)]
    async with scene.joined() as bus:
        batch = bus.batch(specs, parallel=30)

        async def consume():
            async for _ in batch:
                pass

        running = asyncio.ensure_future(consume())
        await asyncio.wait({running}, timeout=after_s)
        assert not running.done(), "the cut must come in the middle"
        at_s = await cut(scene, disk)
        await scene.up()
        stored = await scene.stored()
        async with asyncio.timeout(60):
            await running
    return stored, at_s


@pytest.mark.chaos
@pytest.mark.fault(6)
@pytest.mark.timeout(150)
@pytest.mark.parametrize("after_s", [0.4, 2.0])
async def test_a_power_cut_loses_no_acknowledged_fact_under_always(scene, disk, after_s):
    stored, _ = await lived_through(scene, disk, "always", after_s)
    found = {one.seq: id_of(one.body) for one in stored}
    lost = {seq: told for seq, told in scene.acknowledged().items() if seq <= stored[-1].seq and found.get(seq) != told}
    assert lost == {}
    await scene.verify(240)
    assert await scene.stop() == 0


@pytest.mark.chaos
@pytest.mark.fault(6)
@pytest.mark.timeout(150)
@pytest.mark.parametrize("after_s", [1.2, 1.6, 2.0])
async def test_a_power_cut_under_100ms_loses_only_what_was_acknowledged_in_the_last_second(scene, disk, after_s):
    stored, at_s = await lived_through(scene, disk, "100ms", after_s)
    found = {one.seq: id_of(one.body) for one in stored}
    old = scene.acknowledged(before_s=at_s - BOUND_S)
    assert len(old) > 20
    assert {seq: told for seq, told in old.items() if found.get(seq) != told} == {}
    await scene.verify(240)
    assert await scene.stop() == 0
