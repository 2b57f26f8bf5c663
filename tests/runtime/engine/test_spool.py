"""The spool: what was confirmed is there after any crash, what was not harms nobody, and a full disk is told."""

import asyncio
import os
import subprocess
import sys
import textwrap

import pytest

from farebox.runtime.spool import Spool

KEY = "openai.c1.t1.7"


@pytest.fixture
async def spool(tmp_path):
    found = Spool(tmp_path / "spool" / "journal")
    yield found
    await found.close()


async def test_a_mark_and_an_outcome_are_there_in_the_next_life(spool, tmp_path, ended):
    await spool.mark_sending(KEY)
    await spool.mark_sending("openai.c1.t2.8")
    await spool.keep(KEY, ended(7))
    again = Spool(tmp_path / "spool" / "journal")
    assert again.sending == {KEY, "openai.c1.t2.8"}
    assert again.outcomes == {KEY: ended(7)}
    assert again.owner == spool.owner
    await again.close()


async def test_what_is_done_is_forgotten(spool, tmp_path, ended):
    await spool.mark_sending(KEY)
    await spool.keep(KEY, ended(7))
    spool.forget(KEY)
    await spool.mark_sending("openai.c1.t2.8")
    again = Spool(tmp_path / "spool" / "journal")
    assert (again.sending, again.outcomes) == ({"openai.c1.t2.8"}, {})
    assert KEY not in (tmp_path / "spool" / "journal").read_text()
    await again.close()


async def test_many_marks_share_a_sync(spool, tmp_path):
    synced = []
    real = os.fdatasync
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("farebox.runtime.spool.os.fdatasync", lambda file: (synced.append(file), real(file)))
        await asyncio.gather(*(spool.mark_sending(f"openai.c1.t{n}.{n}") for n in range(200)))
    assert len(spool.sending) == 200
    assert len(synced) <= 3


async def test_a_torn_last_line_was_never_confirmed_and_costs_nothing(spool, tmp_path):
    await spool.mark_sending(KEY)
    with (tmp_path / "spool" / "journal").open("ab") as journal:
        journal.write(b'0badf00d {"key":"openai.c1.t9.9","what":"send')
    again = Spool(tmp_path / "spool" / "journal")
    assert again.sending == {KEY}
    assert again.owner == spool.owner
    await again.close()


async def test_damage_in_the_middle_or_a_lost_journal_makes_another_owner(spool, tmp_path):
    await spool.mark_sending(KEY)
    await spool.mark_sending("openai.c1.t2.8")
    journal = tmp_path / "spool" / "journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(lines[0].replace(b"openai", b"openAI") + lines[1])
    damaged = Spool(journal)
    assert damaged.sending == {"openai.c1.t2.8"}
    assert damaged.owner != spool.owner
    await damaged.close()
    journal.unlink()
    lost = Spool(journal)
    assert lost.owner not in {spool.owner, damaged.owner}
    await lost.close()


async def test_a_line_of_another_form_is_left_out(tmp_path):
    import zlib

    data = b'{"key":"a.b.c.1","what":"shipped"}'
    (tmp_path / "journal").write_bytes(b"%08x %s\n" % (zlib.crc32(data), data))
    found = Spool(tmp_path / "journal")
    assert (found.sending, found.outcomes) == (set(), {})
    await found.close()


async def test_the_journal_does_not_grow_without_end(tmp_path, ended):
    found = Spool(tmp_path / "journal", compact_bytes=20_000)
    await found.mark_sending("openai.c1.open.1")
    await found.keep("openai.c1.open.1", ended(1))
    for number in range(2, 200):
        key = f"openai.c1.t{number}.{number}"
        await found.mark_sending(key)
        await found.keep(key, ended(number, text="a long answer " * 20))
        found.forget(key)
        assert (tmp_path / "journal").stat().st_size < 30_000
    await asyncio.gather(*(found.mark_sending(f"openai.c2.t{n}.{n}") for n in range(500)))
    await found.close()
    again = Spool(tmp_path / "journal")
    assert again.outcomes == {"openai.c1.open.1": ended(1)}
    assert again.sending == {"openai.c1.open.1", *(f"openai.c2.t{n}.{n}" for n in range(500))}
    await again.close()


async def test_who_stops_waiting_does_not_take_the_others_along(spool):
    waiting = [asyncio.ensure_future(spool.mark_sending(f"openai.c1.t{n}.{n}")) for n in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spool, "_append", _fails)
        done = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(done[0], asyncio.CancelledError)
    assert all(one is None or isinstance(one, OSError) for one in done[1:])
    await spool.mark_sending("openai.c1.t9.9")


def _fails(_data):
    raise OSError(28, "No space left on device")


FULL = """
    import asyncio, resource, signal, sys
    from pathlib import Path
    from farebox.core.platform import CallEnded, Verdict
    from farebox.runtime.spool import Spool

    async def main():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        spool = Spool(Path(sys.argv[1]))
        await spool.mark_sending("openai.c1.before.1")
        resource.setrlimit(resource.RLIMIT_FSIZE, (150, resource.RLIM_INFINITY))
        outcome = CallEnded(epoch=1, cause="x", attempt=1, verdict=Verdict(ok=True), text="paid for " * 100)
        try:
            await spool.keep("openai.c1.before.1", outcome)
        except OSError as error:
            print("refused", error.errno, spool.outcomes["openai.c1.before.1"] == outcome)
        try:
            await spool.mark_sending("openai.c1.refused.2")
        except OSError:
            print("not marked", "openai.c1.refused.2" not in spool.sending)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        await spool.mark_sending("openai.c1.after.3")

    asyncio.run(main())
"""


@pytest.mark.fault(17)
async def test_a_full_disk_is_told_and_what_it_tore_swallows_nothing_written_later(tmp_path):
    child = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FULL), str(tmp_path / "journal")],
        check=False,
        capture_output=True,
        text=True,
        timeout=25,
    )
    assert child.stdout.splitlines() == ["refused 27 True", "not marked True"], child.stderr
    again = Spool(tmp_path / "journal")
    assert {"openai.c1.before.1", "openai.c1.after.3"} <= again.sending
    await again.close()


async def test_what_is_allocated_for_answers_does_not_show_in_the_journal_and_is_given_back_at_the_end(spool, tmp_path, ended):
    promises = [spool.promise() for _ in range(3)]
    await spool.keep(KEY, ended(7), promises[0])
    journal = tmp_path / "spool" / "journal"
    assert journal.read_bytes().count(b"\0") == 0
    await spool.close()
    assert journal.stat().st_blocks * 512 < 64 * 1024


async def test_a_journal_that_cannot_be_begun_anew_grows_on_and_loses_nothing(tmp_path, ended, monkeypatch, caplog):
    found = Spool(tmp_path / "journal", compact_bytes=500)
    await found.keep(KEY, ended(7, text="a" * 600))
    with monkeypatch.context() as patch:
        patch.setattr("farebox.runtime.spool.os.fsync", lambda _: _fails(b""))
        await found.keep(KEY, ended(7, text="x" * 600))
    assert "cannot be begun anew" in caplog.text
    assert [path.name for path in tmp_path.glob("journal*")] == ["journal"]
    await found.mark_sending(KEY)
    await found.close()
    again = Spool(tmp_path / "journal")
    assert (again.sending, again.outcomes[KEY]) == ({KEY}, ended(7, text="x" * 600))
    await again.close()


async def test_large_outcomes_that_are_open_are_not_written_anew_with_each_line(tmp_path, ended):
    found = Spool(tmp_path / "journal", compact_bytes=500)
    await found.keep(KEY, ended(7, text="x" * 100_000))
    begun = 0
    for number in range(200):
        before = (tmp_path / "journal").stat().st_ino
        await found.mark_sending(f"openai.c1.t{number}.1")
        begun += (tmp_path / "journal").stat().st_ino != before
    assert begun == 1
    await found.close()
    again = Spool(tmp_path / "journal")
    assert (len(again.sending), again.outcomes[KEY]) == (200, ended(7, text="x" * 100_000))
    await again.close()


@pytest.mark.fault(6)
async def test_under_100ms_what_the_log_acknowledged_is_kept_a_while_because_a_power_cut_may_take_it_back(tmp_path, ended):
    spool = Spool(tmp_path / "journal", linger_s=0.2)
    await spool.mark_sending("p.c.t.1")
    await spool.keep("p.c.t.1", ended(1, "s"))
    spool.forget("p.c.t.1")
    await spool.mark_sending("p.c.t.2")  # a sync after it
    again = Spool(tmp_path / "journal")
    assert set(again.outcomes) == {"p.c.t.1"}
    await again.close()
    spool = Spool(tmp_path / "journal", linger_s=0.2)
    spool.forget("p.c.t.1")
    async with asyncio.timeout(100):
        while spool.outcomes:
            await asyncio.sleep(0.01)
    assert spool.sending == {"p.c.t.2"}
    spool.forget("p.c.t.2")
    await spool.close()
    await asyncio.sleep(0.3)
    assert spool.sending == {"p.c.t.2"}, "closed meanwhile: the next start has its second look"
