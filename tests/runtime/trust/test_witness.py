"""The witness: two slots, the newest whole one counts; written beside the way of a fact, and at the stop."""

from __future__ import annotations

import asyncio
import os

import pytest

from farebox.core.errors import LogUnfit
from farebox.core.trail import Mark
from farebox.log.port import Entry, Position
from farebox.runtime import witness
from farebox.runtime.witness import SLOT_BYTES, Witness, print_of

HERE = Position("2026-11-21T10:00:00Z", 1, 4)
ENTRY = Entry("farebox.log.client.submitted.-.c.t", b'{"id":"f5"}')


class Clock:
    """A clock that goes on when it is told to."""

    now_s = 0.0

    def monotonic(self):
        return self.now_s


async def seen_at(folder, seq):
    async with asyncio.timeout(100):
        while witness.read(folder).seq != seq:
            await asyncio.sleep(0.01)


async def test_the_last_acknowledged_fact_is_kept_and_found_again(tmp_path):
    one = Witness(tmp_path)
    await one.begin(HERE)
    one.saw([ENTRY, ENTRY], (4, 5))
    await one.close()
    await one.close()
    found = witness.read(tmp_path)
    assert (found.created, found.first_seq, found.seq, found.id) == (HERE.created, 1, 5, "f5")
    assert found.sha256 == print_of(ENTRY.subject, ENTRY.body)
    again = Witness(tmp_path)
    await again.begin(HERE)
    again.saw([ENTRY], (3,))
    await again.close()
    assert witness.read(tmp_path).seq == 5


async def test_it_is_written_while_the_engine_runs(tmp_path):
    one = Witness(tmp_path)
    await one.begin(HERE)
    for seq in (5, 7, 6):
        one.saw([ENTRY], (seq,))
    await seen_at(tmp_path, 7)
    await one.close()


async def test_many_facts_cost_few_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(witness, "PAUSE_S", 0.3)
    one = Witness(tmp_path)
    await one.begin(HERE)
    for seq in range(1, 2001):
        one.saw([ENTRY], (seq,))
        if not seq % 100:
            await asyncio.sleep(0)
    await seen_at(tmp_path, 2000)
    assert witness.read(tmp_path).turn < 10
    await one.close()


async def test_a_torn_slot_leaves_the_other_one(tmp_path):
    one = Witness(tmp_path)
    await one.begin(HERE)
    one.saw([ENTRY], (5,))
    await one.close()
    path, newest = tmp_path / "witness", witness.read(tmp_path).turn
    body = bytearray(path.read_bytes())
    body[(newest % 2) * SLOT_BYTES + 30] ^= 1
    path.write_bytes(body)
    assert witness.read(tmp_path).turn == newest - 1
    path.write_bytes(b"rubbish")
    with pytest.raises(LogUnfit, match="does not read"):
        witness.read(tmp_path)


async def test_under_100ms_the_youngest_second_does_not_count(tmp_path, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(witness, "time", clock)
    monkeypatch.setattr(witness, "PAUSE_S", 0.01)
    one = Witness(tmp_path, "100ms")
    await one.begin(HERE)
    one.saw([ENTRY], (5,))
    for now_s in (0.0, 0.5, 0.99):
        clock.now_s = now_s
        turn = witness.read(tmp_path).turn
        while witness.read(tmp_path).turn < turn + 3:
            await asyncio.sleep(0.01)
        assert witness.read(tmp_path).seq == 0
    clock.now_s = 1.0
    await seen_at(tmp_path, 5)
    one.saw([ENTRY], (6,))
    await one.close()
    assert witness.read(tmp_path).seq == 5


async def test_the_digest_is_noted_now_and_then(tmp_path):
    reached = 10
    one = Witness(tmp_path, known=lambda: Mark(HERE.created, reached))
    await one.begin(HERE)
    for seq, reached in ((5, 10), (6, 1200), (7, 1300)):  # noqa: B007 - `known` reads it
        one.saw([ENTRY], (seq,))
        await seen_at(tmp_path, seq)
    await one.close()
    assert [mark.seq for mark in witness.marks(tmp_path)] == [1200]
    with (tmp_path / "trail.jsonl").open("ab") as file:
        file.write(b'{"created":"2026')
    assert [mark.seq for mark in witness.marks(tmp_path)] == [1200]


async def test_another_log_begins_another_witness(tmp_path):
    one = Witness(tmp_path)
    await one.begin(HERE)
    one.saw([ENTRY], (5,))
    await one.close()
    other = Witness(tmp_path)
    await other.begin(Position("another", 0, 0))
    other.saw([ENTRY], (1,))
    await other.close()
    found = witness.read(tmp_path)
    assert (found.created, found.first_seq, found.seq) == ("another", 1, 1)


async def test_a_disk_that_takes_nothing_does_not_stop_anybody(tmp_path, monkeypatch, caplog):
    one = Witness(tmp_path)
    await one.begin(HERE)
    monkeypatch.setattr(os, "pwrite", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    one.saw([ENTRY], (5,))
    await one.close()
    assert "the witness is not written" in caplog.text
