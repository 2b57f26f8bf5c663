"""What a person sees of a log that is not believed: one line, what to type, the exit code; and the commands of who keeps it."""

from __future__ import annotations

import asyncio
import json
import os
import sys

import pytest

from farebox import client, discovery
from farebox.core import events, wire
from farebox.core.errors import LogDamaged, LogUnfit
from farebox.log.port import Entry
from farebox.runtime import founding
from farebox.runtime.store import Store

pytestmark = pytest.mark.timeout(90)


async def farebox(place, *arguments):
    """Run a command as a person does. Returns code, stdout, stderr."""
    _ = place.config
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "farebox", *arguments, "--config", str(place.path / "farebox.toml"),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "HOME": str(place.path), "FAREBOX_HOME": str(place.store)},
    )  # fmt: skip
    out, errors = await asyncio.wait_for(child.communicate(), 60)
    return child.returncode, out.decode(), errors.decode()


@pytest.mark.chaos
async def test_up_and_status_say_in_one_line_why_there_is_no_engine(small):
    block = small.blocks[-1]
    block.write_bytes(block.read_bytes()[:-7])
    small.forget_index()
    for command in (["up"], ["up", "--detach"], ["status"], ["costs"]):
        code, out, errors = await farebox(small, *command)
        assert (code, out) == (8, "")
        last = errors.strip().splitlines()[-1]
        assert last.startswith("FB806 The log ends at fact ")
        assert "farebox log restore DIR --store NEW — or go on with what is there: farebox log accept" in last
        assert "Traceback" not in errors
    code, out, _ = await farebox(small, "audit", "verify", "--json")
    assert (code, json.loads(out)["ok"]) == (0, True)  # whole as far as it goes: only the witness knows of more
    code, out, _ = await farebox(small, "log", "accept")
    assert code == 0
    assert "is believed from now on" in out
    assert (await farebox(small, "status"))[0] == 0


@pytest.mark.chaos
async def test_audit_backup_and_restore_from_the_command_line(small, tmp_path):
    code, out, _ = await farebox(small, "audit", "verify")
    assert code == 0
    digest = out.split("digest ")[1].strip()
    assert out.startswith("✓ ")
    assert (await farebox(small, "audit", "verify", "--digest", digest[:8]))[0] == 0
    code, out, _ = await farebox(small, "audit", "verify", "--digest", "00" * 32)
    assert (code, out.split()[1]) == (8, "FB807")
    code, out, _ = await farebox(small, "log", "backup", str(tmp_path / "copy"), "--prove")
    assert (code, digest in out, out.count("✓")) == (0, True, 2)
    code, out, _ = await farebox(small, "log", "restore", str(tmp_path / "copy"), "--store", str(tmp_path / "new"))
    assert (code, digest in out) == (0, True)
    code, out, errors = await farebox(small, "log", "restore", str(tmp_path / "nothing"), "--store", str(tmp_path / "newer"))
    assert (code, out) == (8, "")
    assert errors.startswith("FB810 There is no copy of a log in ")
    code, out, _ = await farebox(small, "init", "--json", "--store", str(tmp_path / "new"))
    assert (code, json.loads(out)["platforms"]) == (0, ["interactive", "rehearsal"])


@pytest.mark.parametrize(
    "words",
    [
        ("audit", "verfy"), ("audit", "verify", "--from", "0"), ("audit", "verify", "--from", "5", "--to", "4"),
        ("audit", "verify", "--digest", "abc"), ("log", "burn"), ("log", "backup"), ("log", "accept", "somewhere"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused_before_anything_happens(words, tmp_path, capsys):
    from farebox.cli import main

    assert main([*words, "--store", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.startswith("FB40")
    assert not (tmp_path / "none").exists()


@pytest.mark.fault(14)
async def test_row_14_a_stream_that_is_deleted_under_a_running_engine_stops_it_and_is_told_later(small):
    async with small.up() as hosted, client.joined(discovery.of_store(small.store)) as found:
        await (await found.submit("hello", platform="rehearsal")).result()
        init = await _as_init(small, hosted.url)
        await init._streams._api("STREAM.DELETE.FAREBOX", {})
        with pytest.raises(LogUnfit):
            await asyncio.wait_for(hosted.wait(), 100)
        await init.close()
    code, _, errors = await farebox(small, "status")
    assert (code, errors.strip().splitlines()[-1][:5]) == (8, "FB804")


async def test_a_broken_chain_stops_its_task_and_no_other(small, caplog):
    async with small.up() as hosted, client.joined(discovery.of_store(small.store)) as found:
        await (await found.submit("first", platform="rehearsal")).result()
        init = await _as_init(small, hosted.url)
        last = (await init.position()).last_seq
        forged = events.TaskCompleted(id="forged", chain="forged", task="forged", status="completed", prev=last)
        await init.append([Entry("farebox.log.router.completed.-.forged.forged", wire.encode(forged))])
        await init.close()
        assert (await (await found.submit("hello", platform="rehearsal")).result()).output
        assert hosted.engine._follower.quarantined == 1
    assert f"was written on top of fact {last}" in caplog.text


async def test_why_an_engine_stopped_is_kept_with_its_code(tmp_path):
    place = Store(tmp_path)
    founding.note_stop(tmp_path, ValueError("not the log"))
    founding.check_stopped(place)
    founding.note_stop(tmp_path, LogDamaged("A hole.", hint="Type.", code="FB808"))
    with pytest.raises(LogDamaged, match=r"A hole\. Type\.") as told:
        founding.check_stopped(place)
    assert told.value.code == "FB808"


async def _as_init(place, url):
    from farebox import keeping
    from farebox.log.jetstream import JetStreamLog

    where = keeping._init_of(Store(place.store), url)
    return await JetStreamLog.connect(url, user="init", password=where.password, inbox_prefix=where.inbox_prefix)
