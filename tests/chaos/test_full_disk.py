"""The disk below the store fills up while commands wait, and empties again: each says so, none is lost, none is paid twice."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from farebox.rehearsal.books import read as read_books

INSIDE = Path(__file__).with_name("inside_full_disk.py")
TOML = """
[platforms.far]
kind = "rehearsal"
billing = "rehearsal"
model = "gpt-5-mini"
url = "{url}"

[platforms.rehearsal]
kind = "rehearsal"
billing = "rehearsal"
enabled = false
"""


@functools.cache
def own_mounts() -> list[str]:
    """Return the command that gives a program mounts of its own, empty where this machine lets nobody have them."""
    if shutil.which("unshare") is None:
        return []
    command = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]
    tried = subprocess.run([*command, "mount", "-t", "tmpfs", "small", "/mnt"], check=False, capture_output=True)
    return [] if tried.returncode else command


async def lived_through(folder: Path) -> tuple[dict, int]:
    """Run the program inside its own mounts. Returns its report, and how many calls the provider's books hold."""
    books = folder / "books.jsonl"
    provider = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "farebox.rehearsal",
        "--books",
        str(books),
        "--models",
        "gpt-5-mini",
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        url = json.loads(await asyncio.wait_for(provider.stdout.readline(), 20))["url"]
        (folder / "farebox.toml").write_text(TOML.format(url=url))
        inside = await asyncio.create_subprocess_exec(
            *own_mounts(),
            sys.executable,
            str(INSIDE),
            str(folder),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, errors = await inside.communicate()
        assert inside.returncode == 0, errors.decode()
    finally:
        provider.terminate()
        await provider.wait()
    return json.loads(out), len(read_books(books))


@pytest.mark.slow
@pytest.mark.fault(16)
@pytest.mark.skipif(
    not own_mounts(), reason="no mounts of one's own here (Linux with unshare, as root or with user namespaces)"
)
async def test_who_waits_on_a_full_disk_is_told_and_gets_the_answer_when_there_is_room_with_one_call_each(tmp_path):
    report, calls = await lived_through(tmp_path)
    store = tmp_path / "disk" / "store"
    for name in ("submit", "large", "batch"):
        said = report[name]["said"]
        assert "FB113 The disk of the store is full: " in said, name
        assert f"free for {store}. Make room there, 64 MiB at least." in said
        assert said.count("FB113") == 1, "said once"
    for name in ("before", "submit", "large", "detached", "batch"):
        assert report[name]["code"] == 0, report[name]
    assert "farebox-blobs" not in "".join(report[name]["said"] for name in ("large", "batch"))
    trouble = json.loads(report["status"]["out"])["engine"]["trouble"]
    assert trouble["code"] == "FB113"
    assert "FB113 The disk of the store is full" in report["status_shown"]["out"]
    afterwards = json.loads(report["afterwards"]["out"])
    assert afterwards["engine"]["trouble"] is None
    assert afterwards["engine"]["log"]["views_seq"] == afterwards["engine"]["log"]["last_seq"]
    results = [row["result"] for row in afterwards["tasks"]]
    assert [result["attempts"] for result in results] == [1] * 6
    assert calls == 6, "one call a task: the one before, small, large, detached, two lines"
    log = report["engine_log"]
    assert log.count("The disk of the store is full") <= 2, "once by the eye on the disk, once by the views"
    assert "Rebuild it" not in log
    assert "There is room again: the server was started anew." in log
