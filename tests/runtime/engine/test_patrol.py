"""The patrol: what happens to the log of a running engine, unseen by who reads new facts, ends the engine with its code."""

import asyncio
import json

import nats
import pytest

from farebox.core import events
from farebox.core.errors import (
    AccessDenied,
    LogBeheaded,
    LogDamaged,
    LogMissing,
    LogReplaced,
    LogShortened,
    LogUnfit,
    NotReachable,
)
from farebox.log.memory import MemoryLog
from farebox.log.port import Position
from farebox.runtime import patrol as module
from farebox.runtime.patrol import Patrol

BEGIN = Position(created="then", first_seq=1, last_seq=5)


@pytest.fixture(autouse=True)
def restless(monkeypatch):
    monkeypatch.setattr(module, "LOOK_S", 0.02)
    monkeypatch.setattr(module, "AGAIN_S", (0.01, 0.01))


class Seen(MemoryLog):
    """A log whose positions are told one after the other, the last one for ever."""

    told: list

    async def position(self):
        one = self.told.pop(0) if len(self.told) > 1 else self.told[0]
        if isinstance(one, Exception):
            raise one
        return one


@pytest.fixture
def patrol(tape):
    def make(*told, begin=BEGIN, read=5):
        log = Seen(tape.store)
        log.told = list(told)
        return Patrol(log, begin, lambda: read)

    return make


@pytest.mark.parametrize(
    ("now", "kind", "words"),
    [
        (Position(created="now", first_seq=1, last_seq=5), LogReplaced, "This is another log"),
        (Position(created="then", first_seq=1, last_seq=4), LogShortened, "ends at fact 4, but fact 5 was read"),
        (Position(created="then", first_seq=0, last_seq=0), LogShortened, "ends at fact 0"),
        (Position(created="then", first_seq=3, last_seq=5), LogBeheaded, "begins at fact 3, but it began at 1"),
        (Position(created="then", first_seq=1, last_seq=5, gone=2), LogDamaged, "2 of the facts 1 to 5 are gone"),
        (LogUnfit("The stream FAREBOX is missing."), LogMissing, "is missing"),
        (LogMissing("It is gone."), LogMissing, "gone"),
    ],
)
async def test_each_thing_that_can_happen_to_a_log_is_told_by_its_own_error(patrol, now, kind, words):
    wrong = await asyncio.wait_for(patrol(BEGIN, now).run(), 100)
    assert (type(wrong), wrong.exit_code) == (kind, 8)
    assert words in str(wrong)


async def test_an_empty_log_begins_with_its_first_fact(patrol):
    empty = Position(created="then", first_seq=0, last_seq=0)
    looking = asyncio.ensure_future(patrol(empty, BEGIN, begin=empty, read=0).run())
    assert not (await asyncio.wait({looking}, timeout=0.2))[0]
    looking.cancel()


@pytest.mark.parametrize("now", [Position(created="then", first_seq=1, last_seq=4), NotReachable("away"), AccessDenied("no")])
async def test_what_is_over_at_the_next_look_ends_nothing(patrol, now):
    """A cluster's new leader, a server that is away, a user who may not ask."""
    looking = asyncio.ensure_future(patrol(now, now, BEGIN, now, BEGIN).run())
    assert not (await asyncio.wait({looking}, timeout=0.2))[0]
    looking.cancel()


@pytest.fixture
async def changed(account):
    """Change a stream's settings as an operator's hand would, past everything farebox allows."""
    link = await nats.connect(account.url, user=account.user, password=account.password)

    async def change(**settings):
        info = json.loads((await link.request("$JS.API.STREAM.INFO.FAREBOX", b"", timeout=25)).data)
        config = json.dumps({**info["config"], **settings}).encode()
        done = json.loads((await link.request("$JS.API.STREAM.UPDATE.FAREBOX", config, timeout=25)).data)
        assert "error" not in done, done

    yield change
    await link.close()


async def wait_for_its_end(engine):
    with pytest.raises(LogDamaged) as ended:
        await asyncio.wait_for(engine.wait(), 100)
    assert ended.value.exit_code == 8
    assert engine._follower._closed, "nothing is decided any more"
    return ended.value


async def is_read(engine, log):
    """Until the engine has read all there is, and all it said to it: afterwards only the patrol can see a hole."""
    seq = 0
    while seq != (seq := (await log.position()).last_seq):
        assert await engine.projection.wait_for(seq, 100)
        await asyncio.sleep(0.1)


async def say_twice(log):
    from farebox.posting import say_cancel, say_first

    for task in ("t1", "t2"):
        await say_first(log, events.TaskSubmitted(id=task, chain="c1", task=task, prompt="Hello."))
    for platform in ("first", "second", "first"):
        from farebox.core import subjects, wire
        from farebox.log.port import Entry

        fact = events.PlatformReported(platform=platform, available=True)
        await log.append([Entry(subjects.subject_of("adapter", fact), wire.encode(fact))])
    await say_cancel(log, "c1", "t2")


@pytest.mark.fault(11)
async def test_a_hole_that_comes_in_the_middle_of_a_running_engines_log_ends_it(server_log, engines, changed):
    log = await server_log()
    engine = await engines.make(log)
    await say_twice(log)
    await is_read(engine, log)
    await changed(max_msgs_per_subject=1)
    wrong = await wait_for_its_end(engine)
    assert (wrong.code, wrong.message.split(" ", 1)[1][:12]) == ("FB801", "of the facts")
    await engines.stop(engine)
    await log.close()


@pytest.mark.slow
@pytest.mark.fault(15)
async def test_facts_that_expire_under_a_running_engine_end_it(server_log, engines, changed):
    log = await server_log()
    engine = await engines.make(log)
    await say_twice(log)
    await is_read(engine, log)
    await asyncio.sleep(0.2)
    await changed(max_age=1_000_000_000, duplicate_window=1_000_000_000)
    wrong = await wait_for_its_end(engine)
    assert wrong.code in {"FB806", "FB808"}
    await engines.stop(engine)
    await log.close()
