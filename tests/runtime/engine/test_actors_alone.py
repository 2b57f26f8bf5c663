"""Some actors in a process of their own, under their own login; the engine runs the others."""

from __future__ import annotations

import asyncio

import pytest

from farebox import discovery, engines
from farebox.client import joined
from farebox.core import subjects
from farebox.core.errors import BadInput
from farebox.discovery import Where
from farebox.parts import chosen
from farebox.runtime.parts import ALL_PARTS, Parts
from farebox.runtime.permissions import inbox_prefix
from farebox.runtime.store import Store

ELSEWHERE = Parts(without=frozenset({"router", "adapter-rehearsal"}))


def _login(store, url, user):
    return Where(url=url, user=user, password=Store(store).seeds([user])[user], inbox_prefix=inbox_prefix(user))


async def test_a_router_and_an_adapter_alone_carry_a_task_and_go_on_when_they_come_back(tmp_path):
    store = tmp_path / "store"
    async with engines.embedded(store, None, ELSEWHERE) as host, joined(discovery.of_store(store)) as client:

        def alone(name):
            return engines.alone(_login(store, host.url, name), tmp_path / name, Parts(only=frozenset({name})))

        async with alone("adapter-rehearsal") as lane:
            async with alone("router"):
                first = await (await client.submit("hello", platform="rehearsal")).result()
                assert (first.status, first.platform) == ("completed", "rehearsal")
            handle = await client.submit("hello again", platform="rehearsal")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(lane.wait(), 0.3)
            async with alone("router"):
                assert (await handle.result()).status == "completed"


async def test_what_was_given_to_an_adapter_elsewhere_is_left_to_it(tmp_path):
    store = tmp_path / "store"
    parts = Parts(without=frozenset({"adapter-rehearsal"}))

    def lane(host):
        return engines.alone(
            _login(store, host.url, "adapter-rehearsal"), tmp_path / "lane", Parts(only=frozenset({"adapter-rehearsal"}))
        )

    async with engines.embedded(store, None, parts) as host, joined(discovery.of_store(store)) as client:
        async with lane(host):
            assert (await (await client.submit("it is there", platform="rehearsal")).result()).status == "completed"
        handle = await client.submit("hello", platform="rehearsal")
        given = subjects.exact("quota", "reserved", handle.chain_id, handle.task_id, "rehearsal")
        async with asyncio.timeout(100):
            while await host.engine.log.last(given) is None:
                await asyncio.sleep(0.02)
    async with engines.embedded(store, None, parts) as host, joined(discovery.of_store(store)) as client, lane(host):
        result = await client.handle(handle.chain_id, handle.task_id).result()
    assert (result.status, result.attempts) == ("completed", 1)


def test_parts_are_named_or_left_out():
    actors, platforms = ("router", "quota", "adapter"), ("far",)
    assert chosen((), (), actors, platforms) == ALL_PARTS
    only = chosen(("adapter-far",), (), actors, platforms)
    assert (only.alone, only.has_lane("far"), only.has("router")) == (True, True, False)
    others = chosen((), ("router",), actors, platforms)
    assert (others.alone, others.has_lane("far"), others.has("router"), others.has("quota")) == (False, True, False, True)


@pytest.mark.parametrize(
    ("only", "without", "words"),
    [(("adapter",), (), "Choose from: router, quota, adapter-far."), (("rooter",), (), 'Did you mean "router"?'),
     (("router",), ("quota",), "exclude each other")],
)  # fmt: skip
def test_a_part_that_is_none_is_refused(only, without, words):
    with pytest.raises(BadInput) as caught:
        chosen(only, without, ("router", "quota", "adapter"), ("far",))
    assert words in str(caught.value)
