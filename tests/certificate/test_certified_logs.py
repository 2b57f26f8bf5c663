"""A certificate is made of a whole log: one without its beginning has none, and a word that nobody can read breaks it."""

from __future__ import annotations

import asyncio
import logging

import msgspec
import pytest

from farebox.certificate import reading
from farebox.certificate.fold import Fold
from farebox.core.errors import LogBeheaded, LogDamaged
from farebox.core.events import QuotaReserved, QuotaSettled
from farebox.core.trail import BEGIN
from farebox.log.memory import MemoryLog, MemoryStore
from farebox.log.port import Entry
from farebox.simulation.world import World as Simulated
from farebox.whatif.reading import recorded

RESERVED = "farebox.log.quota.reserved.p.c.t"


def log_of(*entries):
    store = MemoryStore()
    for subject, body in entries:
        store.append([Entry(subject, body, None)])
    return MemoryLog(store)


async def test_an_empty_log_is_certified():
    log = log_of()
    found = await reading.certify(log, await log.position())
    assert (found.holds, found.facts, found.digest) == (True, 0, BEGIN.hex())


async def test_a_word_of_quota_that_nobody_can_read_breaks_the_certificate_another_one_does_not():
    log = log_of(("farebox.log.client.submitted.-.c.t", b"{"), (RESERVED, b"{"))
    found = await reading.certify(log, await log.position())
    assert [(breach.seq, breach.kind) for breach in found.breaches] == [(2, "unread")]


@pytest.mark.parametrize("read", [reading.certify, recorded])
async def test_a_log_without_its_beginning_is_none(read):
    log = log_of((RESERVED, b"{"))
    position = msgspec.structs.replace(await log.position(), first_seq=2, last_seq=2)
    with pytest.raises(LogBeheaded):
        await read(log, position)


@pytest.mark.parametrize("read", [reading.certify, recorded])
async def test_a_fact_that_does_not_come_is_a_hole(read, monkeypatch):
    monkeypatch.setattr("farebox.log.whole.SILENCE_S", 0.01)
    log = log_of((RESERVED, b"{"))
    position = msgspec.structs.replace(await log.position(), last_seq=2)
    async with asyncio.timeout(10):
        with pytest.raises(LogDamaged, match="Fact 2 cannot be read"):
            await read(log, position)


def test_of_a_part_of_a_log_what_came_before_is_not_blamed():
    fold = Fold(whole=False)
    fold.take(QuotaSettled(chain="c", task="t", attempt=1, platform="p", seq=7))
    fold.take(QuotaReserved(chain="c", task="u", attempt=1, platform="p", in_use=1, limit=1, seq=8))
    found = fold.certificate(facts=2, first=7, last=8, digest="")
    assert found.unplaced == 1
    assert "unasked" not in {breach.kind for breach in found.breaches}


@pytest.mark.parametrize("seed", [2, 13, 14])
def test_what_several_engines_granted_through_crashes_is_certified(seed):
    logging.disable(logging.WARNING)
    world = Simulated(seed)
    world.run()
    world.loop.let_go()
    logging.disable(logging.NOTSET)
    found = reading.Reading()
    found.read(world.store.facts)
    certificate = found.certificate()
    assert certificate.holds, certificate.breaches
    assert certificate.grants
