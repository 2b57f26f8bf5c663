"""What an append promises, in every world."""

import asyncio

import pytest

from farebox.core.errors import AppendRefused, BadFact
from farebox.log.port import BATCH_MAX, Entry, Fence

EVERYWHERE = pytest.mark.parametrize("world", ["memory", "server", "cluster"], indirect=True)


async def test_sequences_count_from_one_and_the_position_says_so(log, entry):
    empty = await log.position()
    assert (empty.first_seq, empty.last_seq) == (0, 0)
    assert await log.append([entry("client.submitted.-.c.t1")]) == (1,)
    assert await log.append([entry("client.submitted.-.c.t2"), entry("client.submitted.-.c.t3")]) == (2, 3)
    position = await log.position()
    assert (position.first_seq, position.last_seq) == (1, 3)
    assert position.created == empty.created


async def test_the_log_keeps_subject_body_sequence_and_a_time_in_milliseconds(log, entry):
    body = bytes(range(256))
    await log.append([entry("client.submitted.-.c.t", body)])
    fact = await log.last("farebox.log.client.submitted.-.c.t")
    assert (fact.subject, fact.body, fact.seq) == ("farebox.log.client.submitted.-.c.t", body, 1)
    assert 1_600_000_000_000 < fact.at_ms < 4_000_000_000_000


async def test_a_fence_on_its_own_subject_lets_only_the_first_through(log, entry):
    own = "client.submitted.-.c.t"
    await log.append([entry(own, b"1", own, 0)])
    with pytest.raises(AppendRefused) as refusal:
        await log.append([entry(own, b"2", own, 0)])
    assert refusal.value.last_seq == 1
    assert (await log.last(f"farebox.log.{own}")).body == b"1"
    assert await log.append([entry(own, b"2", own, 1)]) == (2,)


@EVERYWHERE
async def test_a_fence_with_wildcards_sees_all_that_stands_below_it(log, entry):
    lane = "adapter.*.openai.c.t"
    await log.append([entry("adapter.started.openai.c.t", b"1", lane, 0)])
    for elsewhere in ("adapter.started.ollama.c.t", "adapter.started.openai.c.t2", "late.result.openai.c.t"):
        await log.append([entry(elsewhere)])
    with pytest.raises(AppendRefused) as refusal:
        await log.append([entry("adapter.completed.openai.c.t", b"", lane, 0)])
    assert refusal.value.last_seq == 1
    assert await log.append([entry("adapter.completed.openai.c.t", b"", lane, 1)]) == (5,)


async def test_a_fence_over_everything_below_a_writer(log, entry):
    await log.append([entry("quota.reserved.openai.c.t1", b"", "quota.>", 0)])
    await log.append([entry("router.routed.-.c.t2")])
    assert await log.append([entry("quota.deferred.-.c.t2", b"", "quota.>", 1)]) == (3,)
    with pytest.raises(AppendRefused):
        await log.append([entry("quota.refused.-.c.t3", b"", "quota.>", 1)])


async def test_a_fence_need_not_cover_the_subject_it_guards(log, entry):
    await log.append([entry("quota.settled.openai.c.t")])
    assert await log.append([entry("router.routed.-.c.t", b"", "quota.settled.openai.c.t", 1)]) == (2,)
    assert await log.append([entry("router.routed.-.c.t", b"", "quota.settled.openai.c.t", 1)]) == (3,)


@pytest.mark.fault(61)
@EVERYWHERE
async def test_of_many_who_write_under_one_fence_exactly_one_is_stored(world, entry):
    logs = [await world.open() for _ in range(5)]
    lane = "adapter.*.openai.c.t"
    tries = [log.append([entry("adapter.started.openai.c.t", b"%d" % n, lane, 0)]) for n, log in enumerate(logs)]
    outcomes = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(outcome, tuple) for outcome in outcomes) == 1, outcomes
    assert (await logs[0].position()).last_seq == 1


@EVERYWHERE
async def test_a_batch_is_stored_whole_and_in_order(log, entry, reading):
    entries = [entry(f"router.routed.-.c.t{n}", b"%d" % n, f"router.*.*.c.t{n}", 0) for n in range(40)]
    assert await log.append(entries) == tuple(range(1, 41))
    facts = await reading(log).until(40)
    assert [(fact.subject, fact.body) for fact in facts] == [(item.subject, item.body) for item in entries]


@pytest.mark.parametrize("bad", [0, 7, 19])
async def test_one_refused_fence_refuses_the_whole_batch(log, entry, bad):
    await log.append([entry(f"router.routed.-.c.t{bad}")])
    batch = [entry(f"router.routed.-.c.t{n}", b"", f"router.*.*.c.t{n}", 0) for n in range(20)]
    with pytest.raises(AppendRefused):
        await log.append(batch)
    assert (await log.position()).last_seq == 1
    assert await log.last("farebox.log.router.routed.-.c.t3") is None


@EVERYWHERE
async def test_fences_of_a_batch_are_checked_against_the_log_before_it(log, entry):
    await log.append([entry("quota.reserved.openai.c.t0", b"", "quota.>", 0)])
    twins = [entry("quota.settled.openai.c.t0", b"", "quota.>", 1), entry("quota.reserved.openai.c.t1", b"", "quota.>", 1)]
    assert await log.append(twins) == (2, 3)
    chained = [entry("quota.settled.openai.c.t1", b"", "quota.>", 3), entry("quota.reserved.openai.c.t2", b"", "quota.>", 4)]
    with pytest.raises(AppendRefused):
        await log.append(chained)
    assert (await log.position()).last_seq == 3


@EVERYWHERE
async def test_a_batch_of_a_thousand_is_stored_whole(log, entry):
    seqs = await log.append([entry(f"router.routed.-.c.t{n}", b"x" * 100, f"router.*.*.c.t{n}", 0) for n in range(BATCH_MAX)])
    assert seqs == tuple(range(1, BATCH_MAX + 1))
    assert (await log.position()).last_seq == BATCH_MAX
    assert (await log.last("farebox.log.router.routed.-.c.t999")).seq == BATCH_MAX


async def test_more_than_a_thousand_or_nothing_is_our_own_mistake(log, entry):
    with pytest.raises(AssertionError):
        await log.append([entry(f"a.b.-.c.t{n}") for n in range(BATCH_MAX + 1)])
    with pytest.raises(AssertionError):
        await log.append([])


async def test_a_batch_that_fences_a_subject_it_writes_itself_is_our_own_mistake(log, entry):
    """The server would call it busy for ever."""
    own = "cost.recorded.openai.c.t"
    with pytest.raises(AssertionError, match="writes itself"):
        await log.append([entry(own, b"1", own, 0), entry(own, b"2", own, 0)])
    assert (await log.position()).last_seq == 0


async def test_many_appends_at_once_are_all_stored(log, entry):
    seqs = await asyncio.gather(*(log.append([entry(f"client.submitted.-.c.t{n}")]) for n in range(100)))
    assert sorted(seq for (seq,) in seqs) == list(range(1, 101))


async def test_batches_and_singles_at_once_never_mix(world, entry, reading):
    one, two = await world.open(), await world.open()
    singles = [one.append([entry(f"client.submitted.-.c.s{n}", b"single")]) for n in range(30)]
    batches = [two.append([entry(f"router.routed.-.c.b{n}x{m}", b"%d" % n) for m in range(5)]) for n in range(6)]
    await asyncio.gather(*singles, *batches)
    facts = await reading(one).until(60)
    assert [fact.seq for fact in facts] == list(range(1, 61))
    for n in range(6):
        seqs = [fact.seq for fact in facts if fact.body == b"%d" % n]
        assert seqs == list(range(seqs[0], seqs[0] + 5))


async def test_the_last_of_a_subject_is_the_latest_and_none_where_nothing_stands(log, entry):
    subject = "cost.recorded.openai.c.t"
    assert await log.last(f"farebox.log.{subject}") is None
    for body in (b"1", b"2", b"3"):
        await log.append([entry(subject, body)])
    assert (await log.last(f"farebox.log.{subject}")).body == b"3"
    assert await log.last("farebox.log.cost.recorded.openai.c") is None


@pytest.mark.fault(32)
async def test_a_body_above_the_limit_is_refused_and_the_connection_survives(log, entry):
    with pytest.raises(BadFact, match="larger"):
        await log.append([entry("client.submitted.-.c.t", b"x" * 1_000_001)])
    assert await log.append([entry("client.submitted.-.c.t", b"x" * 1_000_000)]) == (1,)


@pytest.mark.parametrize(
    "subject",
    [
        "farebox.log.router.*",
        "farebox.log.>",
        "farebox.log.a b.c",
        "farebox.log..x",
        "",
        "farebox.log.a\r\nPUB x 0",
        "x.ü",
        "a\0",
    ],
)
async def test_a_subject_with_wildcards_blanks_or_gaps_never_reaches_the_log(log, subject):
    with pytest.raises(BadFact):
        await log.append([Entry(subject, b"")])
    assert (await log.position()).last_seq == 0


async def test_a_filter_that_smuggles_a_header_is_refused(log):
    with pytest.raises(BadFact):
        await log.append([Entry("farebox.log.a", b"", Fence("farebox.log.a\r\nNats-Rollup: all", 0))])
