"""What a worker has in its hands: each attempt once, and a cancel meets the attempts of its own task only."""

import asyncio

from farebox.runtime import hands as module
from farebox.runtime.hands import Hands


def test_a_cancel_meets_every_attempt_of_its_task_and_no_other():
    hands = Hands()
    held = {name: hands.hold(name) for name in ("c1.t1.1", "c1.t1.2", "c1.t10.1", "c2.t1.1")}
    hands.cancel("c1", "t1")
    assert [name for name, running in held.items() if running.cancelled.is_set()] == ["c1.t1.1", "c1.t1.2"]
    assert hands.is_cancelled("c1", "t1")
    assert not hands.is_cancelled("c1", "t10")
    assert len({running.number for running in held.values()}) == 4


def test_only_so_many_cancels_are_remembered_and_the_oldest_goes_first(monkeypatch):
    monkeypatch.setattr(module, "CANCELS_MAX", 2)
    hands = Hands()
    for task in ("t1", "t2", "t3"):
        hands.cancel("c1", task)
    assert [hands.is_cancelled("c1", task) for task in ("t1", "t2", "t3")] == [False, True, True]


async def test_whoever_wants_an_attempt_waits_until_nobody_has_it():
    hands, order = Hands(), []
    hands.hold("c1.t1.1")

    async def want(who):
        async with hands.holding("c1.t1.1"):
            order.append(who)
            await asyncio.sleep(0)

    waiting = [asyncio.ensure_future(want(who)) for who in "ab"]
    await asyncio.sleep(0)
    assert order == []
    hands.let_go("c1.t1.1")
    await asyncio.gather(*waiting)
    assert sorted(order) == ["a", "b"]
    assert hands.running == {}
