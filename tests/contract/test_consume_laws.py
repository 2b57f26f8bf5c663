"""What competing consumers may rely on, in every world."""

import asyncio
import contextlib
import itertools

import pytest

from farebox.core.errors import LogUnfit

EVERYWHERE = pytest.mark.parametrize("world", ["memory", "server", "cluster"], indirect=True)


class Hands:
    """Keeps deliveries; a condition instead of a sleep."""

    def __init__(self):
        self.held = asyncio.Queue()

    def __call__(self, delivery):
        self.held.put_nowait(delivery)

    async def next(self, wait_s=100):
        async with asyncio.timeout(wait_s):
            return await self.held.get()

    async def quiet(self, wait_s):
        with pytest.raises(TimeoutError):
            await self.next(wait_s)

    async def empty(self, wait_s):
        """Take and ack what comes until nothing does for so long."""
        with contextlib.suppress(TimeoutError):
            while True:
                await (await self.next(wait_s)).ack()


class Holder:
    """Who held a fact longer than the ack wait, because the machine stood still, has lost it: that proves nothing."""

    def __init__(self, world, log):
        self._world, self._log = world, log
        self.since_s = self._now_s()

    @staticmethod
    def _now_s():
        return asyncio.get_running_loop().time()

    async def was_in_time(self):
        """Whether the server had heard all that was said when the ack wait could not be over yet; it begins anew."""
        await self._log.position()  # the same connection: what was said before it was heard before it
        since_s, self.since_s = self.since_s, self._now_s()
        return self.since_s - since_s < self._world.ack_wait_s * 0.9


async def seen(world, hands, once):
    """Try `once(task)` with other tasks until it could be seen, which it says."""
    for number in itertools.count():
        if await once(f"t{number}"):
            return
        await hands.empty(world.ack_wait_s * 2)


def reserved(entry, *tasks, platform="openai"):
    return [entry(f"quota.reserved.{platform}.c.{task}", task.encode()) for task in tasks]


async def test_each_reserved_task_of_the_platform_is_handed_out_with_its_sequence(log, entry):
    hands = Hands()
    await log.append(reserved(entry, "before"))
    await log.consume("adapter-openai", hands)
    await log.append([*reserved(entry, "other", platform="ollama"), *reserved(entry, "after"), entry("router.routed.-.c.x")])
    found = []
    while len(found) < 2:
        held = await hands.next()
        await held.ack()
        found += [held] if held.tries == 1 else []  # a second time only if a machine stood still for the ack wait
    assert [(one.stored.body, one.stored.seq, one.tries) for one in found] == [(b"before", 1, 1), (b"after", 3, 1)]
    assert found[0].stored.subject == "farebox.log.quota.reserved.openai.c.before"
    with contextlib.suppress(TimeoutError):
        assert (await hands.next(0.2)).tries > 1


@pytest.mark.fault(21)
@EVERYWHERE
async def test_what_nobody_acked_is_handed_out_again_and_counts_its_tries(world, log, entry):
    hands = Hands()
    await log.consume("adapter-openai", hands)

    async def once(task):
        holder = Holder(world, log)
        await log.append(reserved(entry, task))
        first = await hands.next()
        again = await hands.next()
        assert (first.tries, again.tries) == (1, 2)
        assert again.stored == first.stored
        holder.since_s += world.ack_wait_s
        await again.ack()
        if await holder.was_in_time():
            await hands.quiet(world.ack_wait_s * 1.6)
            return True
        return False

    await seen(world, hands, once)


async def test_a_late_ack_still_counts(world, log, entry):
    hands = Hands()
    await log.consume("adapter-openai", hands)

    async def once(task):
        holder = Holder(world, log)
        await log.append(reserved(entry, task))
        first = await hands.next()
        await hands.next()
        holder.since_s += world.ack_wait_s
        await first.ack()
        if await holder.was_in_time():
            await hands.quiet(world.ack_wait_s * 1.6)
            return True
        return False

    await seen(world, hands, once)


@pytest.mark.fault(22)
async def test_a_nak_brings_it_back_after_the_delay_and_not_before(world, log, entry):
    hands = Hands()
    await log.consume("adapter-openai", hands)

    async def once(task):
        holder = Holder(world, log)
        await log.append(reserved(entry, task))
        await (await hands.next()).nak(world.ack_wait_s * 2)
        if not await holder.was_in_time():
            return False
        await hands.quiet(world.ack_wait_s)
        again = await hands.next()
        assert again.tries == 2
        await again.ack()
        return True

    await seen(world, hands, once)


async def test_progress_keeps_it_with_its_holder(world, log, entry):
    hands = Hands()
    await log.consume("adapter-openai", hands)

    async def once(task):
        holder = Holder(world, log)
        await log.append(reserved(entry, task))
        held = await hands.next()
        for _ in range(5):
            await held.progress()
            if not await holder.was_in_time():
                return False
            await asyncio.sleep(world.ack_wait_s / 3)
        await held.ack()
        if not await holder.was_in_time():
            return False
        await hands.quiet(world.ack_wait_s * 1.4)
        return True

    await seen(world, hands, once)


async def test_a_terminated_fact_never_comes_back(world, log, entry):
    hands = Hands()
    await log.consume("adapter-openai", hands)

    async def once(task):
        holder = Holder(world, log)
        await log.append(reserved(entry, task))
        await (await hands.next()).term("poison: it crashes\r\nevery hand")
        if await holder.was_in_time():
            await hands.quiet(world.ack_wait_s * 1.6)
            return True
        return False

    await seen(world, hands, once)


@EVERYWHERE
async def test_competing_consumers_share_the_work_and_nothing_is_done_twice(world, entry):
    one, two = await world.open(), await world.open()
    left, right = Hands(), Hands()
    done = []

    async def work(hands):
        while True:
            held = await hands.held.get()
            done.append((held.stored.body, held.tries))
            await held.ack()

    for log, hands in ((one, left), (two, right)):
        await log.consume("adapter-openai", hands)
    workers = [asyncio.ensure_future(work(hands)) for hands in (left, right)]
    await asyncio.gather(*(one.append(reserved(entry, f"t{n}")) for n in range(60)))
    async with asyncio.timeout(100):
        while len({body for body, _ in done}) < 60:
            await asyncio.sleep(0.01)
    await asyncio.sleep(world.ack_wait_s * 1.3)
    for worker in workers:
        worker.cancel()
    given = [body for body, tries in done if tries == 1]  # a second time only if a machine stood still for the ack wait
    assert (len(given), len(set(given))) == (60, 60)


async def test_what_a_closed_consumer_held_goes_to_another(world, entry):
    one, two = await world.open(), await world.open()
    left, right = Hands(), Hands()
    subscription = await one.consume("adapter-openai", left)
    await one.append(reserved(entry, "t"))
    await left.next()
    await subscription.close()
    await subscription.close()
    await two.consume("adapter-openai", right)
    assert (await right.next()).stored.body == b"t"
    assert left.held.empty()


async def test_a_durable_that_is_not_there_is_said_at_once(log):
    for name in ("adapter-unknown", "router"):
        if name == "adapter-unknown" and type(log).__name__ == "MemoryLog":
            continue  # memory makes durables of platforms when asked
        with pytest.raises(LogUnfit):
            await log.consume(name, print)
