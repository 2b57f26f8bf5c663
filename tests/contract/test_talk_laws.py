"""The small talk beside the log: live text, questions, large contents. In every world."""

import asyncio
import hashlib
import os

import pytest

from farebox.core.errors import LogDamaged, NotReachable
from farebox.core.terms import Ref

EVERYWHERE = pytest.mark.parametrize("world", ["memory", "server", "cluster"], indirect=True)


async def test_who_listens_hears_from_now_on_what_its_pattern_matches(world):
    speaker, hearer = await world.open(), await world.open()
    heard = asyncio.Queue()
    await hearer.publish("farebox.live.adapter.chunk.openai.c.t", b"too early")
    subscription = await hearer.listen("farebox.live.adapter.*.*.c.t", lambda *said: heard.put_nowait(said))
    for task, body in (("t2", b"other"), ("t", b"one"), ("t", b"two")):
        await speaker.publish(f"farebox.live.adapter.chunk.openai.c.{task}", body)
    async with asyncio.timeout(100):
        assert [await heard.get(), await heard.get()] == [
            ("farebox.live.adapter.chunk.openai.c.t", b) for b in (b"one", b"two")
        ]
    await subscription.close()
    await subscription.close()
    await speaker.publish("farebox.live.adapter.chunk.openai.c.t", b"too late")
    await hearer.publish("farebox.live.adapter.chunk.openai.c.t", b"too late")
    assert heard.empty()


async def test_who_listens_to_facts_hears_them_at_once_but_also_what_is_refused(world, entry):
    speaker, hearer = await world.open(), await world.open()
    heard = asyncio.Queue()
    await hearer.listen("farebox.log.*.completed.>", lambda _, body: heard.put_nowait(body))
    lane = "adapter.*.openai.c.t"
    await speaker.append([entry("adapter.completed.openai.c.t", b"stored", lane, 0)])
    refused = await asyncio.gather(
        speaker.append([entry("adapter.completed.openai.c.t", b"refused", lane, 0)]), return_exceptions=True
    )
    assert isinstance(refused[0], Exception)
    async with asyncio.timeout(100):
        assert [await heard.get(), await heard.get()] == [b"stored", b"refused"]


@EVERYWHERE
async def test_a_question_is_answered_by_one_of_those_who_serve(world):
    asker = await world.open()
    served = []

    async def serve(number):
        async def handler(body):
            served.append(number)
            return body + b"!"

        log = await world.open()
        return await log.serve("farebox.api.echo", handler)

    subscriptions = [await serve(number) for number in range(3)]
    answers = await asyncio.gather(*(asker.request("farebox.api.echo", b"%d" % n, 25) for n in range(30)))
    assert answers == [b"%d!" % n for n in range(30)]
    assert len(served) == 30
    for subscription in subscriptions:
        await subscription.close()
    with pytest.raises(NotReachable):
        await asker.request("farebox.api.echo", b"", 1)


async def test_a_question_nobody_serves_fails_at_once(log):
    async with asyncio.timeout(100):
        with pytest.raises(NotReachable, match=r"farebox\.api\.nobody"):
            await log.request("farebox.api.nobody", b"", 30)


async def test_a_question_without_an_answer_in_time_fails(world):
    asker, server = await world.open(), await world.open()
    freed = asyncio.Event()

    async def handler(_):
        await freed.wait()
        return b""

    await server.serve("farebox.api.slow", handler)
    with pytest.raises(NotReachable):
        await asker.request("farebox.api.slow", b"", 0.1)
    freed.set()


@pytest.mark.parametrize("size", [0, 1, 131_072, 131_073, 3_000_000])
async def test_a_large_content_comes_back_whole_under_its_hash(world, size):
    writer, reader = await world.open(), await world.open()
    body = os.urandom(size)
    ref = await writer.put_blob(body)
    digest = hashlib.sha256(body).hexdigest()
    assert ref == Ref(ref=digest, sha256=digest, bytes=size)
    assert await reader.get_blob(ref) == body


@EVERYWHERE
async def test_the_same_content_is_kept_once_also_by_two_at_a_time(world):
    logs = [await world.open() for _ in range(3)]
    body = os.urandom(200_000)
    refs = await asyncio.gather(*(log.put_blob(body) for log in logs))
    assert len(set(refs)) == 1
    assert await logs[0].put_blob(body) == refs[0]
    assert await logs[1].get_blob(refs[0]) == body


async def test_a_content_that_is_missing_or_has_another_hash_is_damage(log):
    ref = await log.put_blob(b"x" * 1000)
    with pytest.raises(LogDamaged, match="missing"):
        await log.get_blob(Ref(ref="0" * 64, sha256="0" * 64, bytes=1))
    with pytest.raises(LogDamaged, match="not what was stored"):
        await log.get_blob(Ref(ref=ref.ref, sha256="0" * 64, bytes=1000))


async def test_a_closed_log_says_so_and_may_be_closed_twice(log, entry):
    await log.close()
    await log.close()
    for doing in (
        log.last("farebox.log.a.b"),
        log.position(),
        log.put_blob(b""),
        log.get_blob(Ref(ref="0" * 64, sha256="0" * 64, bytes=1)),
        log.request("farebox.api.x", b"", 1),
        log.listen("farebox.live.>", print),
        log.consume("adapter-openai", print),
    ):
        with pytest.raises(NotReachable):
            await doing
