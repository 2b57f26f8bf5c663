"""What a reading of the log promises, in every world."""

import asyncio

import pytest

from farebox.core.errors import LogDamaged

EVERYWHERE = pytest.mark.parametrize("world", ["memory", "server", "cluster"], indirect=True)


@pytest.mark.parametrize("start", [0, 1, 2, 5, 9])
async def test_a_reading_starts_at_any_sequence_and_goes_on_as_facts_come(log, entry, reading, start):
    await log.append([entry(f"router.routed.-.c.t{n}") for n in range(1, 9)])
    reader = reading(log, start)
    await log.append([entry("router.routed.-.c.t9")])
    first = max(start, 1)
    facts = await reader.until(10 - first)
    assert [fact.seq for fact in facts] == list(range(first, 10))
    await log.append([entry("router.routed.-.c.t10")])
    assert (await reader.until(11 - first))[-1].subject == "farebox.log.router.routed.-.c.t10"


async def test_a_reading_of_an_empty_log_waits_for_the_first_fact(log, entry, reading):
    reader = reading(log)
    await log.append([entry("router.routed.-.c.t", b"first")])
    assert [(fact.seq, fact.body) for fact in await reader.until(1)] == [(1, b"first")]


async def test_a_reading_with_a_filter_gets_only_what_it_asked_for_in_order(log, entry, reading):
    for n in range(6):
        await log.append([entry(f"router.routed.-.c.t{n}"), entry(f"quota.reserved.openai.c.t{n}")])
    quota = await reading(log, 1, "farebox.log.quota.>").until(6)
    assert [fact.seq for fact in quota] == [2, 4, 6, 8, 10, 12]
    task = await reading(log, 3, "farebox.log.*.*.*.c.t4").until(2)
    assert [fact.seq for fact in task] == [9, 10]


@EVERYWHERE
async def test_several_readings_each_see_everything(world, entry, reading):
    one, two = await world.open(), await world.open()
    readers = [reading(one), reading(two)]
    for n in range(20):
        await one.append([entry(f"router.routed.-.c.t{n}")])
        if n == 9:
            readers.append(reading(two, 11))
    for reader, start in zip(readers, (1, 1, 11), strict=True):
        facts = await reader.until(21 - start)
        assert [fact.seq for fact in facts] == list(range(start, 21))


@EVERYWHERE
async def test_thousands_of_facts_come_in_order_without_a_gap(log, entry, reading):
    for n in range(5):
        await log.append([entry(f"router.routed.-.c.t{n}x{m}", b"x" * 300) for m in range(1000)])
    facts = await reading(log).until(5000)
    assert [fact.seq for fact in facts] == list(range(1, 5001))


@pytest.mark.fault(35)
async def test_a_slow_reader_loses_nothing(log, entry):
    for n in range(6):
        await log.append([entry(f"router.routed.-.c.t{n}x{m}") for m in range(1000)])
    seqs = []
    async for facts in log.follow(1):
        seqs.extend(fact.seq for fact in facts)
        await asyncio.sleep(0.01)
        if len(seqs) >= 6000:
            break
    assert seqs == list(range(1, 6001))


async def test_a_reading_beyond_the_end_of_the_log_is_damage(log, entry):
    """A view that read further than the log now goes would skip new facts in silence."""
    await log.append([entry("router.routed.-.c.t1"), entry("router.routed.-.c.t2")])
    with pytest.raises(LogDamaged, match="ends at 2"):
        await anext(log.follow(7))


async def test_a_reading_ends_when_the_log_is_closed(log, entry, reading):
    await log.append([entry("router.routed.-.c.t1")])
    reader = reading(log)
    await reader.until(1)
    await log.close()
    async with asyncio.timeout(100):
        await reader.end()
