"""A submitted task: its text streams, its result comes charged, nothing is missed and nothing comes twice."""

from __future__ import annotations

import asyncio

import pytest

from farebox.client import Client
from farebox.core import events, subjects
from farebox.core.errors import BadInput, NotReachable
from farebox.handle import LiveText, ResultTimeout
from farebox.log.memory import MemoryLog, MemoryStore


async def joined(handle) -> tuple[str, int]:
    text, restarts = "", 0
    async for chunk in handle.chunks():
        text = chunk.text if chunk.restart else text + chunk.text
        restarts += chunk.restart
    return text, restarts


async def test_a_task_streams_and_its_result_is_charged(fb):
    handle = await fb.submit("hello world", platform="rehearsal", timeout_s=60)
    assert await joined(handle) == ("HELLO WORLD", 0)
    result = await handle.result()
    assert (result.status, result.ok, result.output, result.cost.paid_usd) == ("completed", True, "HELLO WORLD", "0.0125")
    assert (result.task_id, result.chain_id, handle.partial) == (handle.task_id, handle.chain_id, "HELLO WORLD")
    assert await handle.status() == "completed"


@pytest.mark.parametrize("prompt", ["gap in the middle", "shuffled and one comes twice", "late with its charge"])
async def test_text_that_came_badly_is_read_whole_once(fb, prompt):
    assert await joined(await fb.submit(prompt)) == (prompt.upper(), 0)


async def test_a_second_attempt_begins_anew(fb):
    assert await joined(await fb.submit("twice tried")) == ("TWICE TRIED", 1)


async def test_a_handle_that_came_too_late_to_hear_gets_the_whole_text(fb):
    handle = await fb.submit("hello")
    await handle.result()
    again = fb.handle(handle.chain_id, handle.task_id)
    assert await joined(again) == ("HELLO", 0)
    assert (await fb.find(handle.task_id)).chain_id == handle.chain_id


async def test_a_failed_task_is_a_result_and_not_an_exception(fb):
    result = await (await fb.submit("fail please")).result()
    assert (result.status, result.error.error_class, result.cost.paid_usd) == ("failed", "server_error", None)


async def test_cancelling_the_caller_keeps_what_streamed_and_reading_goes_on_where_it_stopped(fb):
    handle = await fb.submit("slow one")
    seen: list[str] = []

    async def read() -> None:
        async for chunk in handle.chunks():
            seen.append(chunk.text)
            if "".join(seen) == "so far":
                caller.cancel()

    caller = asyncio.create_task(read())
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert handle.partial == "so far"
    assert await handle.status() == "running"
    await handle.cancel("enough")
    await handle.cancel("asking twice is asking once")
    assert [chunk.text async for chunk in handle.chunks()] == []
    result = await handle.result()
    assert (result.status, result.partial_output) == ("cancelled", "so far")


async def test_waiting_no_longer_than_asked_leaves_the_task_running(fb):
    handle = await fb.submit("slow one")
    with pytest.raises(ResultTimeout, match=r"has not ended after 0\.05 s; it goes on"):
        await handle.result(timeout_s=0.05)
    await handle.cancel()
    assert (await handle.result(timeout_s=25)).status == "cancelled"


async def test_without_an_engine_a_wait_ends_with_the_command_that_starts_one():
    client = Client(MemoryLog(MemoryStore()), patience_s=0)
    handle = await client.submit("hello", platform="unknown-but-nobody-can-tell")
    with pytest.raises(NotReachable, match="farebox up --detach") as caught:
        await handle.result()
    assert caught.value.code == "FB101"


async def test_an_engine_that_comes_back_is_asked_again(store, engine):
    client = Client(MemoryLog(store), patience_s=20)
    await engine.stop()
    handle = await client.submit("hello")
    waiting = asyncio.create_task(handle.result())
    await asyncio.sleep(0.1)
    again = type(engine)(store)
    await again.start()
    assert (await waiting).output == "HELLO"
    await again.stop()


@pytest.mark.fault(6, 73)
async def test_a_task_whose_submission_the_log_lost_is_submitted_again(store, engine, monkeypatch):
    monkeypatch.setattr("farebox.client.POLL_S", 0.05)
    client = Client(MemoryLog(store), patience_s=20)
    await engine.stop()
    handle = await client.submit("hello")
    store.lose_tail(1)
    again = type(engine)(store)
    await again.start()
    assert (await handle.result()).output == "HELLO"
    assert sum(".submitted." in one.subject for one in store.facts) == 1
    await again.stop()
    await client.close()


@pytest.mark.fault(30)
async def test_ids_of_another_shape_are_refused(fb):
    for bad in ("a.b", "a*", "x/y", "..", "A", "", "é", "a" * 10_240):
        with pytest.raises(BadInput, match="not usable"):
            fb.handle("chain", bad)
        with pytest.raises(BadInput):
            await fb.find(bad)
    with pytest.raises(BadInput, match="chain"):
        await fb.submit("hello", chain="a.b")


async def test_a_task_that_nobody_knows_is_said_so(fb):
    with pytest.raises(BadInput, match="There is no task nothing-here"):
        await fb.find("nothing-here")


def test_live_text_of_an_older_attempt_and_after_the_end_is_dropped():
    live = LiveText()

    def chunk(attempt, number, text):
        return live.hear(events.ChunkStreamed(platform="p", attempt=attempt, number=number, text=text))

    assert [one.text for one in chunk(2, 1, "new")] == ["new"]
    assert chunk(1, 1, "old") == []
    assert [(one.text, one.restart) for one in live.heal("other")] == [("other", True)]
    assert chunk(2, 2, "late") == []
    assert live.text == "other"


async def test_live_text_that_cannot_be_read_is_healed(fb, store):
    handle = await fb.submit("slow one")
    subject = subjects.live_subject(events.ChunkStreamed(chain=handle.chain_id, task=handle.task_id, platform="rehearsal"))
    store.bus.say(subject, b"garbage")
    await handle.cancel()
    assert (await joined(handle))[0] == "so far"
