"""Audit, copies, restore, accept and init over real stores, with engines that run and without."""

from __future__ import annotations

import asyncio
import shutil
import sys

import pytest

from farebox import client, discovery, engines, keeping
from farebox.config import load, platform_kinds
from farebox.core import events
from farebox.core.errors import BackupUnfit, BadInput, LogDamaged, LogMissing, LogShortened, LogUnfit, NotReachable, StoreInUse
from farebox.log.port import Entry
from farebox.runtime import backup, witness
from farebox.runtime.audit import audit
from farebox.runtime.backup import check
from farebox.runtime.parts import Parts
from farebox.runtime.permissions import inbox_prefix
from farebox.runtime.store import ServerRecord, Store
from farebox.views.desk import Desk

pytestmark = pytest.mark.timeout(60)
LARGE = "owl " * 100_000


async def audited(place, **options):
    async with keeping.opened(place.store, place.config) as kept:
        position = await kept.log.position()
        return await audit(kept.log, position, trail=keeping.trail_of(place.store, position), **options)


async def backed_up(place, folder):
    async with keeping.opened(place.store, place.config) as kept:
        return await keeping.copied(kept, folder)


async def everything(place):
    async with place.as_init() as log:
        last, found = (await log.position()).last_seq, []
        reading = log.follow(1)
        async for batch in reading:
            found += batch
            if batch[-1].seq >= last:
                break
        await reading.aclose()
        return found


def views_digest(place):
    desk = Desk(place.store / "views" / "ledger.duckdb")
    try:
        return desk.digest(), desk.checkpoint
    finally:
        desk.close()


async def test_a_log_that_real_engines_wrote_is_found_whole(place):
    report = await audited(place)
    assert report.faults == ()
    assert report.facts == report.mark.seq > 200
    _, mark = views_digest(place)
    assert (mark.seq, mark.digest) == (report.mark.seq, report.mark.digest)


async def test_an_audit_works_beside_the_engine_that_runs(small):
    async with small.up(), client.joined(discovery.of_store(small.store)) as found:
        await (await found.submit(LARGE, platform="rehearsal")).result()
        async with keeping.opened(small.store, small.config) as kept:
            assert kept.running
            report = await audit(kept.log, await kept.log.position())
    assert report.faults == ()
    assert report.blobs == 1


@pytest.mark.fault(11)
async def test_row_11_the_audit_names_the_first_fact_that_cannot_be_read(place):
    block = place.blocks[0]
    body = bytearray(block.read_bytes())
    body[4_000_000] ^= 1
    block.write_bytes(body)
    (fault,) = (await audited(place)).faults
    assert fault.code == "FB801"
    assert fault.seq == int(fault.text.split("After sequence ")[1].split()[0]) + 1


@pytest.mark.fault(10)
async def test_row_10_the_audit_names_an_end_that_cannot_be_read(place, monkeypatch):
    """A clean stop notes how long the log is, so the server still promises what it cannot give."""
    monkeypatch.setattr("farebox.runtime.audit.SILENCE_S", 0.5)
    block = place.blocks[-1]
    body = bytearray(block.read_bytes())
    body[-40] ^= 1
    block.write_bytes(body)
    report = await audited(place)
    assert [fault.code for fault in report.faults] == ["FB801"]
    assert "cannot be read, though the log ends at" in report.faults[0].text
    assert report.good_to == report.mark.seq


async def test_a_range_has_a_digest_of_its_own(small):
    whole, part = await audited(small), await audited(small, first=3, last=5)
    assert (part.first, part.facts, part.mark.seq) == (3, 3, 5)
    assert part.faults == ()
    assert part.mark.digest != whole.mark.digest
    assert (await audited(small, last=5)).mark.digest != part.mark.digest


async def test_what_is_not_believed_is_named(small):
    async with small.as_init() as log:
        first = (await log.position()).last_seq + 1
        good = events.TaskSubmitted(id="a", chain="c", task="t", prompt="x")
        from farebox.core import wire

        await log.append([Entry("farebox.log.client.submitted.-.c.t", b"\xff{", None)])
        await log.append([Entry("farebox.log.client.submitted.-.c.u", wire.encode(good), None)])
        for number in (1, 2):
            end = events.TaskCompleted(id="same", chain="c", task="t", status="failed", prev=0 if number == 1 else first + 2)
            await log.append([Entry("farebox.log.router.completed.-.c.t", wire.encode(end), None)])
        lost = events.TaskCompleted(id="lost", chain="c", task="v", status="failed", prev=first)
        await log.append([Entry("farebox.log.router.completed.-.c.v", wire.encode(lost), None)])
    faults = (await audited(small)).faults
    assert [(fault.seq - first, fault.code) for fault in faults] == [
        (0, "FB802"), (1, "FB802"), (3, "FB807"), (3, "FB807"), (4, "FB809"),
    ]  # fmt: skip
    assert {fault.text.split(maxsplit=2)[2].split(" fact ")[0] for fault in faults[2:4]} == {
        "has the id of",
        "ends the task that",
    }


async def test_a_large_content_that_is_gone_is_named(small):
    await small.run(LARGE)
    async with small.as_init() as log:
        await log._streams._api("STREAM.PURGE.OBJ_farebox-blobs", {})
    (fault,) = (await audited(small)).faults
    assert "is missing" in fault.text


async def test_a_fact_that_was_exchanged_is_noticed_by_the_noted_digests(small):
    """No hole, no bad checksum: only who wrote down the digest can tell."""
    report = await audited(small)
    async with keeping.opened(small.store, small.config) as kept:
        position = await kept.log.position()
        changed = await audit(kept.log, position, trail={5: "00" * 32, report.mark.seq: report.mark.digest})
    assert [(fault.seq, fault.code) for fault in changed.faults] == [(1, "FB807")]
    assert "up to 5, is not what it was" in changed.faults[0].text


@pytest.mark.fault(73)
async def test_row_73_a_copy_comes_back_with_sequences_bodies_and_times(small, tmp_path):
    await small.run(LARGE)
    made = await backed_up(small, tmp_path / "copy")
    assert made.contents == 1
    other = small.copied(tmp_path / "other")
    shutil.rmtree(other.store)
    manifest = await keeping.put_back(tmp_path / "copy", other.store, other.config)
    assert await everything(other) == await everything(small)
    report = await audited(other)
    assert (report.faults, report.mark.digest, report.blobs) == ((), manifest.mark.digest, 1)
    await other.run()
    await small.run()
    assert (await audited(small)).faults == ()
    assert views_digest(other)[1].created != views_digest(small)[1].created


@pytest.mark.fault(73)
async def test_row_73_the_views_of_a_restored_log_say_the_same(small, tmp_path):
    before, mark = views_digest(small)
    await backed_up(small, tmp_path / "copy")
    other = small.copied(tmp_path / "other")
    shutil.rmtree(other.store)
    await keeping.put_back(tmp_path / "copy", other.store, other.config)
    async with engines.offline(other.store, other.config) as hosted:
        assert await hosted.engine.projection.ask(hosted.engine._views.digest) == before
        assert hosted.engine._views.checkpoint.digest == mark.digest
    assert len(await other.run("and on")) == 1
    assert (await audited(other)).faults == ()


async def test_a_copy_is_brought_up_to_date_while_the_engine_runs(small, tmp_path):
    folder = tmp_path / "copy"
    async with small.up(), client.joined(discovery.of_store(small.store)) as found:
        first = await backed_up(small, folder)
        assert (await backed_up(small, folder)).facts == 0
        await (await found.submit(LARGE, platform="rehearsal")).result()
        second = await backed_up(small, folder)
    assert (first.contents, second.contents) == (0, 1)
    assert second.facts == second.manifest.mark.seq - first.manifest.mark.seq > 0
    assert sorted(path.name for path in folder.iterdir()) == ["contents", second.manifest.file, "key", "manifest.json"]
    assert {path.stat().st_mode & 0o077 for path in (folder, *folder.rglob("*"))} == {0}
    await keeping.proven(folder, small.config)
    assert not (folder / ".proof").exists()
    async with keeping.opened(small.store, small.config) as kept:
        report = await audit(kept.log, await kept.log.position(), last=second.manifest.mark.seq)
    assert report.mark.digest == second.manifest.mark.digest


async def test_a_damaged_log_never_takes_the_place_of_a_good_copy(place, tmp_path):
    folder = tmp_path / "copy"
    good = (await backed_up(place, folder)).manifest
    block = place.blocks[-1]
    block.write_bytes(block.read_bytes()[:-7])
    with pytest.raises(LogDamaged):
        await backed_up(place, folder)
    assert check(folder) == good


async def test_a_copy_of_another_log_is_not_written_over(small, place, tmp_path):
    await backed_up(small, tmp_path / "copy")
    with pytest.raises(BackupUnfit, match="of another log"):
        await backed_up(place, tmp_path / "copy")


@pytest.mark.parametrize("what", ["snapshot", "content", "key", "manifest", "nothing", "version"])
async def test_a_copy_that_is_not_whole_is_not_put_back(small, tmp_path, what):
    await small.run(LARGE)
    folder = tmp_path / "copy"
    manifest = (await backed_up(small, folder)).manifest
    target = {
        "snapshot": folder / manifest.file, "content": folder / "contents" / manifest.contents[0], "key": folder / "key",
        "manifest": folder / "manifest.json", "nothing": folder / "manifest.json", "version": folder / "manifest.json",
    }[what]  # fmt: skip
    if what in {"key", "nothing"}:
        target.unlink()
    elif what == "version":
        target.write_bytes(target.read_bytes().replace(b"farebox.backup/1", b"farebox.backup/9"))
    else:
        target.write_bytes(target.read_bytes()[:-1])
    with pytest.raises(BackupUnfit):
        await keeping.put_back(folder, tmp_path / "new", small.config)
    assert not (tmp_path / "new").exists()


async def test_a_copy_is_put_back_into_an_empty_store_only(small, tmp_path):
    await backed_up(small, tmp_path / "copy")
    with pytest.raises(BadInput, match="has a log already"):
        await keeping.put_back(tmp_path / "copy", small.store, small.config)


@pytest.mark.fault(14)
async def test_row_14_what_a_person_accepts_is_believed_again(place):
    block = place.blocks[-1]
    block.write_bytes(block.read_bytes()[:-7])
    place.forget_index()
    assert isinstance(await place.refusal(), LogShortened)
    async with keeping.opened(place.store, place.config) as kept:
        position = await keeping.accepted(kept)
    assert witness.read(place.store).seq == position.last_seq
    assert len(await place.run("and on")) == 1
    assert (await audited(place)).faults == ()


async def test_nothing_is_accepted_under_an_engine_that_runs(small):
    async with small.up(), keeping.opened(small.store, small.config) as kept:
        with pytest.raises(StoreInUse):
            await keeping.accepted(kept)


async def test_init_makes_a_log_once_and_never_again(small, tmp_path):
    store = tmp_path / "new"
    with pytest.raises(LogUnfit, match="farebox init"):
        async with keeping.opened(store, small.config):
            pass
    await keeping.found(store, small.config)
    await keeping.found(store, small.config)
    shutil.rmtree(store / "nats")
    (store / "nats").mkdir()
    with pytest.raises(LogMissing):
        await keeping.found(store, small.config)


@pytest.mark.slow
async def test_init_beside_a_running_engine_makes_what_a_new_platform_needs(small):
    (small.path / "more.toml").write_text('[platforms.extra]\nkind = "rehearsal"\nbilling = "rehearsal"\n')
    more = load(file=small.path / "more.toml", kinds=platform_kinds())
    async with small.up():
        known = await keeping.found(small.store, small.config)
        assert (known.running, known.let_in) == (True, ())
        place = Store(small.store)
        record = place.read("server.json", ServerRecord)
        place.write("server.json", ServerRecord(port=record.port))
        with pytest.raises(NotReachable, match="being started anew"):
            await keeping.found(small.store, more)
        place.write("server.json", record)
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "farebox", "init", "--store", small.store, "--config", small.path / "more.toml",
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        said, _ = await child.communicate()
        assert b"\nThe engine that runs uses extra from its next start on: farebox down && farebox up --detach\n" in said
        assert (await keeping.found(small.store, more)).let_in == (), "it has one now"
        engine = discovery.of_store(small.store)
        login = discovery.Where(
            url=engine.url, user="adapter-extra", password=Store(small.store).seeds([])["adapter-extra"],
            inbox_prefix=inbox_prefix("adapter-extra"),
        )  # fmt: skip
        async with engines.alone(login, small.path / "lane", Parts(only=frozenset({"adapter-extra"})), more):
            pass  # it may hear its durable
        async with client.joined(engine) as bus:
            assert (await (await bus.submit("hello", platform="rehearsal")).result()).ok, "whoever was there goes on"
    async with engines.embedded(small.store, more), client.joined(discovery.of_store(small.store)) as bus:
        assert (await (await bus.submit("hello", platform="extra")).result()).platform == "extra"


async def test_an_empty_log_can_be_copied_and_put_back(small, tmp_path):
    store = tmp_path / "new"
    await keeping.found(store, small.config)
    async with keeping.opened(store, small.config) as kept:
        made = await keeping.copied(kept, tmp_path / "copy")
    assert made.manifest.mark.seq == 0
    await keeping.put_back(tmp_path / "copy", tmp_path / "again", small.config)
    assert backup.read(tmp_path / "copy") == made.manifest


async def test_a_log_on_a_server_elsewhere_is_kept_like_any_other(own_server, small, tmp_path):
    where = discovery.Where(url=own_server.url)
    store, copy = tmp_path / "new", tmp_path / "copy"
    await keeping.found(store, small.config, where)
    async with engines.joined(where, store, small.config), client.joined(discovery.of_store(store)) as found:
        await (await found.submit(LARGE, platform="rehearsal")).result()
        async with keeping.opened(store, small.config) as kept:
            assert kept.url == own_server.url
            made = await keeping.copied(kept, copy)
    async with keeping.opened(store, small.config) as kept:
        await keeping.copied(kept, copy)
        await keeping.accepted(kept)
        await kept.log._streams._api("STREAM.DELETE.FAREBOX", {})
    with pytest.raises(LogMissing, match="was made once"):
        await keeping.found(store, small.config, where)
    with pytest.raises(LogMissing):
        async with engines.joined(where, store, small.config):
            pass
    manifest = await keeping.put_back(copy, tmp_path / "again", small.config, where)
    assert manifest.mark.seq >= made.manifest.mark.seq
    async with engines.joined(where, tmp_path / "again", small.config):
        pass


async def test_under_100ms_a_short_loss_makes_the_views_anew_and_stops_nobody(small, caplog):
    """The witness of this store is older than what was lost, as it is under 100ms."""
    seen = witness.read(small.store)
    await small.run("later")
    faster = load(file=small.path / "farebox.toml", kinds=platform_kinds(), flags={"engine.durability": "100ms"})
    block = small.blocks[-1]
    block.write_bytes(block.read_bytes()[:-7])
    small.forget_index()
    (small.store / "witness").write_bytes(witness._framed(seen))
    assert isinstance(await small.refusal(), LogShortened)
    async with engines.embedded(small.store, faster):
        pass
    assert "they are made anew" in caplog.text
    assert (await audited(small)).faults == ()


@pytest.mark.fault(57, 58)
async def test_rows_57_and_58_views_that_are_damaged_or_deleted_are_made_anew_with_the_same_digest(small):
    before, mark = views_digest(small)
    path = small.store / "views" / "ledger.duckdb"
    for damage in (path.unlink, lambda: path.write_bytes(b"garbage" * 1000)):
        damage()
        async with engines.offline(small.store, small.config):
            pass
        after, found = views_digest(small)
        assert (after, found.digest) == (before, mark.digest)
