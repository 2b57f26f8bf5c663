"""The engine: all actors together, started, stopped and started again, over a log in memory and over a real server."""

import asyncio

import msgspec
import pytest

from farebox.core import events, money
from farebox.core.errors import LogDamaged
from farebox.core.settings import PlatformSettings
from farebox.engines import actors
from farebox.log.port import Entry
from farebox.runtime import engine as module

INLINE = PlatformSettings(kind="rehearsal", billing="rehearsal", options={"wire": "inline"})
ENDS = events.TaskCompleted
ABSENT = PlatformSettings(kind="command", billing="free", argv=("no-such-program-anywhere",))


@pytest.fixture(params=["memory", "server"])
async def log(request, tape):
    if request.param == "memory":
        yield tape.log()
        return
    found = await request.getfixturevalue("server_log")(["rehearsal", "first", "second", "absent"])
    yield found
    await found.close()


@pytest.fixture
def follow(log):
    """Read the log until a condition holds; returns all facts."""

    async def until(condition, timeout_s=100):
        facts = []
        reading = log.follow(1)
        try:
            async with asyncio.timeout(timeout_s):
                async for batch in reading:
                    from farebox.core import wire

                    facts += [wire.decode(one.subject, one.body, one.seq, one.at_ms) for one in batch]
                    if condition(facts):
                        return facts
        finally:
            await reading.aclose()

    return until


async def submit(log, task, **fields):
    from farebox.posting import say_first

    fact = events.TaskSubmitted(**{"id": task, "chain": "c1", "task": task, "prompt": f"Tell of {task}.", **fields})
    await say_first(log, fact)


def of(facts, kind, **fields):
    return [
        fact for fact in facts if isinstance(fact, kind) and all(getattr(fact, name) == value for name, value in fields.items())
    ]


async def test_a_task_goes_all_the_way_to_its_cost(log, follow, engines):
    await engines.make(log)
    await submit(log, "t1")
    facts = await follow(lambda facts: of(facts, events.CostRecorded) and of(facts, events.QuotaSettled))
    names = [type(fact).__name__ for fact in facts if fact.task == "t1"]
    assert names[:5] == ["TaskSubmitted", "TaskRouted", "QuotaReserved", "TaskStarted", "TaskCompleted"]
    assert sorted(names[5:]) == ["CostRecorded", "QuotaSettled"]
    ids = [fact.id for fact in facts]
    assert len(set(ids)) == len(ids)
    by_id = {fact.id: fact for fact in facts}
    for name, cause in [("TaskRouted", "TaskSubmitted"), ("QuotaReserved", "TaskRouted"), ("TaskStarted", "QuotaReserved"),
                        ("TaskCompleted", "TaskStarted"), ("CostRecorded", "TaskCompleted")]:  # fmt: skip
        (fact,) = [fact for fact in facts if type(fact).__name__ == name]
        assert type(by_id[fact.cause]).__name__ == cause
    (end,) = of(facts, ENDS)
    assert end.status == "completed"
    assert "Tell of t1." in end.output


async def test_a_batch_is_completed_with_the_right_sums(log, follow, engines):
    await engines.make(log)
    from farebox.posting import say_first

    await say_first(log, events.BatchSubmitted(id="b", batch="b1", count=40))
    await asyncio.gather(*(submit(log, f"b1-{n}", chain="b1", batch="b1") for n in range(1, 41)))
    facts = await follow(lambda facts: of(facts, events.BatchCompleted))
    (done,) = of(facts, events.BatchCompleted)
    ends, costs = of(facts, ENDS), of(facts, events.CostRecorded)
    assert (done.count, done.completed, done.failed, done.cancelled) == (40, 40, 0, 0)
    assert done.output_tokens == sum(end.usage.output_tokens for end in ends)
    assert done.input_tokens == sum(end.usage.input_tokens for end in ends)
    assert len(costs) == 40
    assert done.unpriced == sum(cost.status == "unpriced" for cost in costs)
    paid = [money.parse(cost.paid_usd) for cost in costs if cost.paid_usd is not None]
    assert done.paid_usd == (money.text(money.total(paid)) if paid else None)


async def test_a_full_platform_and_a_failing_one_give_way_to_the_next(log, follow, engines, stand_in):
    failing, first = await stand_in(faults={"500": 1.0})
    _, second = await stand_in()
    await engines.make(log, {"first": first, "second": second})
    await submit(log, "t1")
    facts = await follow(lambda facts: of(facts, ENDS))
    (end,) = of(facts, ENDS)
    assert (end.status, end.platform, end.attempt) == ("completed", "second", 2)
    (broken,) = of(facts, events.AttemptFailed | events.AttemptInterrupted)
    assert (broken.platform, broken.attempt) == ("first", 1)
    assert failing.seen >= 2  # a probe and the call


@pytest.mark.fault(40)
async def test_a_429_waits_in_the_log_and_is_woken(log, follow, engines, stand_in, monkeypatch):
    monkeypatch.setattr("farebox.runtime.http_call.RETRY_S_MAX", 0.5)  # a longer wait is the router's business
    provider, first = await stand_in(faults={"429": 1.0}, attempts_max=1, retry_after_s=0.8)
    await engines.make(log, {"first": first})
    await submit(log, "t1")
    facts = await follow(lambda facts: of(facts, ENDS))
    (end,) = of(facts, ENDS)
    assert end.status == "completed", end
    deferred = of(facts, events.QuotaDeferred)
    assert deferred
    refused = of(facts, events.AttemptFailed)
    assert {fact.fault.error_class for fact in refused} == {"rate_limited"}
    for wait in deferred:
        granted = next(fact for fact in of(facts, events.QuotaReserved) if fact.seq > wait.seq)
        assert granted.at_ms >= wait.due_ms - 20
    assert sum(line.charged for line in provider.books.lines) == 1


async def test_a_task_that_nobody_may_do_fails_and_says_why(log, follow, engines):
    await engines.make(log, {"absent": ABSENT})
    await submit(log, "t1")
    facts = await follow(lambda facts: of(facts, ENDS))
    (end,) = of(facts, ENDS)
    assert (end.status, end.fault.error_class) == ("failed", "unavailable")
    assert "no-such-program-anywhere" in end.fault.message
    assert not of(facts, events.CostRecorded)


async def test_a_waiting_task_is_cancelled_and_its_slot_goes_to_the_next(log, follow, engines, stand_in):
    from farebox.posting import say_cancel

    provider, first = await stand_in(delay_ms=600)
    await engines.make(log, {"first": msgspec.structs.replace(first, limit=1)})
    for task in ("t1", "t2", "t3"):
        await submit(log, task)
    await follow(lambda facts: len(of(facts, events.TaskRouted)) == 3)
    await say_cancel(log, "c1", "t2")
    facts = await follow(lambda facts: len(of(facts, ENDS)) == 3)
    assert {end.task: end.status for end in of(facts, ENDS)} == {"t1": "completed", "t2": "cancelled", "t3": "completed"}
    assert provider.seen == 3  # a probe and two calls
    (refused,) = of(facts, events.QuotaRefused)
    assert refused.task == "t2"


async def test_no_more_than_the_limit_run_at_once(log, follow, engines, stand_in):
    _, first = await stand_in(delay_ms=30)
    await engines.make(log, {"first": msgspec.structs.replace(first, limit=3)})
    await asyncio.gather(*(submit(log, f"t{n}") for n in range(30)))
    facts = await follow(lambda facts: len(of(facts, ENDS)) == 30)
    running = peak = 0
    for fact in facts:
        running += isinstance(fact, events.TaskStarted)
        running -= isinstance(fact, ENDS)
        peak = max(peak, running)
    assert peak == 3


@pytest.mark.parametrize("with_snapshots", [True, False])
async def test_a_second_start_decides_nothing_twice(log, follow, engines, tmp_path, with_snapshots):
    """More than a thousand facts of before; then new work goes on as if nothing had been."""
    first = await engines.make(log)
    await asyncio.gather(*(submit(log, f"t{n}") for n in range(160)))
    await follow(lambda facts: len(of(facts, events.CostRecorded)) == 160 and len(of(facts, events.QuotaSettled)) == 160)
    await engines.stop(first)
    saved = sorted(path.name for path in (tmp_path / "store" / "snapshots").iterdir())
    assert saved == ["aggregator.json", "cost.json", "quota.json", "router.json"]
    if not with_snapshots:
        for path in (tmp_path / "store" / "snapshots").iterdir():
            path.unlink()
    before = (await log.position()).last_seq
    assert before > 1000
    second = await engines.make(log)
    assert [mind.seq for mind in second.minds] == [before] * 4
    assert (await log.position()).last_seq == before
    await submit(log, "new")
    facts = await follow(lambda facts: {"CostRecorded", "QuotaSettled"} <= {type(f).__name__ for f in facts if f.task == "new"})
    assert len(facts) == before + 7


async def test_an_engine_that_is_stopped_during_a_call_books_it_and_goes_on_after(log, follow, engines, stand_in):
    provider, first = await stand_in(delay_ms=60_000)
    engine = await engines.make(log, {"first": first})
    await submit(log, "t1")
    async with asyncio.timeout(100):
        while not provider.open:
            await asyncio.sleep(0.01)
    assert engine.running == 1
    assert await engines.stop(engine) == 1
    facts = await follow(lambda facts: of(facts, events.CostRecorded))
    (broken,) = of(facts, events.AttemptInterrupted)
    (cost,) = of(facts, events.CostRecorded)
    assert (broken.charged, cost.status, cost.attempt) == ("possible", "possible", 1)
    _, quick = await stand_in()
    await engines.make(log, {"first": quick})
    facts = await follow(lambda facts: of(facts, ENDS))
    (end,) = of(facts, ENDS)
    assert (end.status, end.attempt) == ("completed", 2)
    assert len(of(facts, events.TaskStarted)) == 2
    assert provider.seen == 2  # a probe and the one call


async def test_changed_settings_are_adopted_at_the_next_start_and_waiting_tasks_follow_them(log, follow, engines, stand_in):
    _, slow = await stand_in(delay_ms=60_000)
    first = await engines.make(log, {"first": msgspec.structs.replace(slow, limit=1)})
    await submit(log, "t1")
    await submit(log, "t2")
    await follow(lambda facts: len(of(facts, events.TaskRouted)) == 2 and of(facts, events.TaskStarted))
    await engines.stop(first)
    await engines.make(log, {"second": INLINE})
    facts = await follow(lambda facts: len(of(facts, ENDS)) == 2)
    assert len(of(facts, events.SettingsAdopted)) == 2
    assert {end.task: (end.status, end.platform) for end in of(facts, ENDS)} == {
        "t1": ("completed", "second"),
        "t2": ("completed", "second"),
    }


async def test_a_submission_that_cannot_be_believed_ends_as_failed(tape, engines):
    engine = await engines.make(tape.log())
    bad = b'{"fact":"TaskSubmitted","chain":"c1","task":"t1","prompt":7}'
    tape.store.append([Entry("farebox.log.client.submitted.-.c1.t1", bad)])
    tape.store.append([Entry("farebox.log.client.whatever", b"\xff")])
    (end,) = await tape.until(lambda: tape.said(ENDS))
    assert (end.status, end.fault.error_class, end.task) == ("failed", "quarantined", "t1")
    tape.submit("t2")
    await tape.until(lambda: tape.said(events.CostRecorded, task="t2"))
    assert engine._follower.quarantined == 2


async def test_a_log_that_is_damaged_ends_the_engine_loudly(tape, engines):
    engine = await engines.make(tape.log())
    waiting = asyncio.ensure_future(engine.wait())
    tape.store._next += 1  # a sequence that nobody wrote
    tape.submit()
    with pytest.raises(LogDamaged):
        await asyncio.wait_for(waiting, 100)


async def test_a_log_that_is_damaged_from_the_start_lets_no_engine_start(tape, engines):
    for number in range(3):
        tape.submit(f"t{number}")
    del tape.store.facts[1]
    with pytest.raises(LogDamaged):
        await engines.make(tape.log())


async def test_a_log_that_lost_its_end_lets_no_engine_start_that_has_seen_it(tape, engines):
    first = await engines.make(tape.log())
    tape.submit()
    await tape.until(lambda: tape.said(events.CostRecorded))
    await engines.stop(first)
    tape.store.lose_tail(3)
    before = len(tape.store.facts)
    with pytest.raises(LogDamaged, match="its end is gone"):
        await engines.make(tape.log())
    assert len(tape.store.facts) == before


async def test_an_engine_without_actors_only_looks(tape, engines):
    first = await engines.make(tape.log())
    tape.submit()
    await tape.until(lambda: tape.said(events.CostRecorded))
    await engines.stop(first)
    looking = await engines.make(tape.log(), folder="other", start=False)
    looking._actors = ()
    await looking.look()
    assert looking.projection.seq == len(tape.store.facts)
    body = await tape.log().request("farebox.api.status", b"{}", 25)
    assert msgspec.json.decode(body)["tasks"][0]["result"]["status"] == "completed"
    assert looking.running == 0


async def test_an_engine_without_an_adapter_starts_no_worker(tape, engines):
    engine = await engines.make(tape.log(), all_actors=tuple(actor for actor in actors() if actor.perform is None))
    assert engine.workers == []
    tape.submit()
    await tape.until(lambda: tape.said(events.QuotaReserved))


async def test_snapshots_that_cannot_be_written_only_cost_time(tape, engines, tmp_path, caplog):
    engine = await engines.make(tape.log())
    (tmp_path / "store" / "snapshots").write_text("a file where the folder should be")
    await engines.stop(engine)
    assert "no snapshot of router" in caplog.text


async def test_an_engine_that_never_started_can_be_stopped(tape, engines):
    engine = await engines.make(tape.log(), start=False)
    assert await engines.stop(engine) == 0


async def test_a_server_that_is_gone_for_good_does_not_keep_an_engine_from_stopping(own_server, engines, monkeypatch):
    from farebox.log.jetstream import JetStreamLog

    monkeypatch.setattr("farebox.runtime.worker.BREAK_OFF_S", 0.5)
    monkeypatch.setattr("farebox.runtime.committer.CLOSE_S", 0.5)
    monkeypatch.setattr("farebox.log.connection.Connection.connected.__defaults__", (0.5,))
    log = await JetStreamLog.connect(own_server.url)
    await log.prepare("always", ["rehearsal"])
    engine = await engines.make(log)
    await submit(log, "t1")
    async with asyncio.timeout(100):
        while engine.projection.seq < 8:
            await asyncio.sleep(0.01)
    own_server.kill()
    await engines.stop(engine)
    await log.close()


async def test_minds_that_are_never_idle_are_not_waited_for(tape, engines, monkeypatch):
    engine = await engines.make(tape.log())
    monkeypatch.setattr(module, "SETTLE_S", 0.05)
    engine.minds[0]._busy[("x", "y")] = None  # type: ignore[assignment]  # a decision whose answer never comes
    await engine._settle()
    engine.minds[0]._busy.clear()


@pytest.mark.fault(62)
async def test_what_was_handed_to_a_dead_engine_goes_on_at_the_next_start(tape, engines):
    """Long before the ack wait is over: a reservation that was handed out and never begun."""
    first = await engines.make(tape.log(), all_actors=tuple(actor for actor in actors() if actor.perform is None))
    taken = asyncio.Event()
    dead = await tape.log().consume("adapter-rehearsal", lambda _delivery: taken.set())
    tape.submit()
    await taken.wait()
    await dead.close()
    await engines.stop(first)
    await engines.make(tape.log())
    (end,) = await tape.until(lambda: tape.said(ENDS), timeout_s=100)
    assert end.status == "completed"


async def test_the_end_of_a_broken_off_call_is_booked_before_the_engine_stops_however_late_it_is_read(tape, engines, stand_in):
    """Who has not read it yet has nothing to do, and is no reason to stop."""
    provider, slow = await stand_in(delay_ms=60_000)
    engine = await engines.make(tape.log(), {"first": slow})
    tape.submit()
    async with asyncio.timeout(100):
        while not provider.open:
            await asyncio.sleep(0.01)
    fold, held = engine._follower._fold, []

    def late(batch):
        """What was read lies in a buffer for a while, as under load."""
        if held or any(".interrupted." in one.subject for one in batch):
            held.extend(batch)
            asyncio.get_running_loop().call_later(0.3, lambda: (fold(batch), engine._follower._pump()))
        else:
            fold(batch)

    engine._follower._fold = late
    assert await engines.stop(engine) == 1
    assert [cost.status for cost in tape.said(events.CostRecorded)] == ["possible"]
