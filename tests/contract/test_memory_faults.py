"""What only the memory log can do: play the network and the disk, under a clock that is given."""

import asyncio

import pytest

from farebox.core.errors import AppendBusy, AppendRefused, AppendUnknown, LogDamaged, LogFull, LogUnfit, NotReachable
from farebox.core.terms import Ref
from farebox.log.memory import Fate, MemoryLog, MemoryStore
from farebox.log.names import HANDED_OUT_MAX, TRIES_MAX, matches
from farebox.log.port import Entry, Fence

OWN = "farebox.log.quota.reserved.openai.c.t"


def fact(number=0, fence=None):
    return Entry(f"{OWN}{number}", b"%d" % number, fence)


class Clock:
    now_ms = 1_000_000

    def __call__(self):
        return self.now_ms


def test_the_same_calls_under_the_same_clock_give_the_same_log():
    clock = Clock()
    stores = [MemoryStore(clock), MemoryStore(clock)]
    for store in stores:
        clock.now_ms = 1_000_000
        for number in range(5):
            store.append([fact(number)])
            clock.now_ms += 10
    assert stores[0].facts == stores[1].facts
    assert [one.at_ms for one in stores[0].facts] == [1_000_000, 1_000_010, 1_000_020, 1_000_030, 1_000_040]


@pytest.mark.parametrize(
    ("fate", "error", "kept"),
    [(Fate.LOST, AppendUnknown, 0), (Fate.ANSWER_LOST, AppendUnknown, 1), (Fate.BUSY, AppendBusy, 0), (Fate.ARRIVES, None, 1)],
)
def test_fate_decides_what_is_stored_and_what_is_learnt(fate, error, kept):
    store = MemoryStore(fate=lambda _: fate)
    if error is None:
        assert store.append([fact()]) == (1,)
    else:
        with pytest.raises(error):
            store.append([fact()])
    assert len(store.facts) == kept


def test_a_lost_refusal_is_unknown_too():
    fates = iter([Fate.ARRIVES, Fate.ANSWER_LOST])
    store = MemoryStore(fate=lambda _: next(fates))
    store.append([fact()])
    with pytest.raises(AppendUnknown) as unknown:
        store.append([fact(0, Fence(f"{OWN}0", 0))])
    assert isinstance(unknown.value.__cause__, AppendRefused)
    assert len(store.facts) == 1


def test_a_full_store_stores_nothing_of_a_batch():
    store = MemoryStore(bytes_max=10)
    store.append([Entry("a.b", b"12345")])
    with pytest.raises(LogFull):
        store.append([Entry("a.b", b"123"), Entry("a.b", b"456")])
    assert store.position().last_seq == 1
    store.append([Entry("a.b", b"12345")])


def test_a_lost_tail_uses_its_sequences_again_and_forgets_its_fences():
    store = MemoryStore()
    for number in range(4):
        store.append([fact(number)])
    durable = store.durable("adapter-openai")
    assert [durable.take(0)[0].seq for _ in range(4)] == [1, 2, 3, 4]
    store.lose_tail(2)
    assert store.position().last_seq == 2
    assert store.last(f"{OWN}3") is None
    assert store.append([fact(9, Fence(f"{OWN}3", 0))]) == (3,)
    assert durable.take(0)[0].body == b"9"
    store.lose_tail(3)
    assert store.position().last_seq == 0
    assert store.append([fact()]) == (1,)


def test_the_last_below_a_filter_is_found_without_reading_the_log():
    store = MemoryStore()
    for subject in ("a.b.c", "a.b", "a.x.c", "a.x.d", "a.b.c"):
        store.append([Entry(subject, b"")])
    asked = {"a.b.c": 5, "a.b": 2, "a.*.c": 5, "a.x.*": 4, "a.>": 5, ">": 5, "a.b.>": 5, "a": 0, "z.*": 0, "a.b.c.>": 0, "*": 0}
    assert {pattern: store.last_below(pattern) for pattern in asked} == asked
    for pattern, last in asked.items():
        assert max((fact.seq for fact in store.facts if matches(pattern, fact.subject)), default=0) == last


def test_a_durable_hands_out_so_many_and_gives_up_after_so_many_tries():
    store = MemoryStore(Clock(), ack_wait_s=0.001)
    for start in range(0, HANDED_OUT_MAX + 1, 1000):
        store.append([fact(start + number) for number in range(1000)])
    durable = store.durable("adapter-openai")
    for _ in range(HANDED_OUT_MAX):
        assert durable.take(0) is not None
    assert durable.take(0) is None
    durable.ack(1)
    assert durable.take(0)[0].seq == HANDED_OUT_MAX + 1
    tries = 1
    while (taken := durable.take(1000 * tries + 1000)) is not None and tries < TRIES_MAX * 2000:
        tries += 1
        assert taken[1] <= TRIES_MAX
    assert len(durable.dead) >= 1
    assert durable.dead[0][1] == f"{TRIES_MAX} tries"


def test_a_durable_forgets_what_was_acked_or_ended_before_it_was_due():
    store = MemoryStore(Clock())
    store.append([fact(1), fact(2)])
    durable = store.durable("adapter-openai")
    durable.take(0)
    durable.take(0)
    durable.ack(1)
    durable.term(2, "poison")
    durable.term(2, "twice")
    durable.nak(2, 0, 0)
    assert durable.due_ms() is None
    assert durable.dead == [(2, "poison")]


def test_only_platforms_have_durables():
    with pytest.raises(LogUnfit):
        MemoryStore().durable("router")


async def test_a_hole_is_damage_and_names_the_place():
    store = MemoryStore()
    store.append([fact(number) for number in range(5)])
    del store.facts[2]
    with pytest.raises(LogDamaged, match="After sequence 2 comes 4"):
        await anext(MemoryLog(store).follow(1))
    filtered = await anext(MemoryLog(store).follow(1, "farebox.log.quota.>"))
    assert [one.seq for one in filtered] == [1, 2, 4, 5]


async def test_the_log_may_begin_later_but_not_behind_what_was_read():
    store = MemoryStore()
    store.append([fact(number) for number in range(5)])
    del store.facts[:3]
    assert [one.seq for one in await anext(MemoryLog(store).follow(1))] == [4, 5]
    with pytest.raises(LogDamaged, match="begins at 4, but 3 was not read"):
        await anext(MemoryLog(store).follow(3))


async def test_a_damaged_content_is_noticed():
    log = MemoryLog(MemoryStore())
    ref = await log.put_blob(b"whole")
    log.store.blobs[ref.ref] = b"broken"
    with pytest.raises(LogDamaged):
        await log.get_blob(ref)
    with pytest.raises(LogDamaged):
        await log.get_blob(Ref(ref="0" * 64, sha256="0" * 64, bytes=0))


async def test_an_append_to_a_closed_log_stores_nothing():
    store = MemoryStore()
    log = MemoryLog(store)
    await log.close()
    with pytest.raises(NotReachable):
        await log.append([fact()])
    assert store.facts == []


async def test_closing_one_log_leaves_the_others_working():
    store = MemoryStore()
    one, other = MemoryLog(store), MemoryLog(store)
    held = asyncio.Queue()
    await one.consume("adapter-openai", lambda _: pytest.fail("closed"))
    await other.consume("adapter-openai", held.put_nowait)
    await one.close()
    await other.append([fact()])
    async with asyncio.timeout(100):
        assert (await held.get()).stored.seq == 1
    await other.close()
