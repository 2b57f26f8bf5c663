"""What the runtime promises (the docstring of runtime/worker.py), one test for each number, over a memory log that is unkind
and, where the server's own behaviour matters, over a real one.
"""

import asyncio

import pytest

from farebox.core import events, subjects, wire
from farebox.core.errors import AppendRefused
from farebox.core.settings import PlatformSettings
from farebox.engines import actors
from farebox.log.memory import Fate
from farebox.log.port import Entry, Fence
from farebox.posting import say_first

INLINE = PlatformSettings(kind="rehearsal", billing="rehearsal", options={"wire": "inline"})


async def _read(log, until, timeout_s=100):
    """Read the log until `until(facts)`; what nobody can read is left out."""
    facts = []
    reading = log.follow(1)
    try:
        async with asyncio.timeout(timeout_s):
            async for batch in reading:
                for one in batch:
                    try:
                        facts.append(wire.decode(one.subject, one.body, one.seq, one.at_ms))
                    except wire.BadFact:
                        continue
                if until(facts):
                    return facts
    finally:
        await reading.aclose()


@pytest.fixture(params=["memory", "server"])
async def log(request, tape):
    if request.param == "memory":
        yield tape.log()
        return
    found = await request.getfixturevalue("server_log")(["rehearsal"])
    yield found
    await found.close()


async def _submit(log, task, **fields):
    fact = events.TaskSubmitted(**{"id": task, "chain": "c1", "task": task, "prompt": f"Tell of {task}.", **fields})
    await say_first(log, fact)


async def test_promise_1_followers_meet_facts_in_log_order_and_a_poison_fact_stops_only_its_task(log, engines, monkeypatch):
    engine = await engines.make(log, start=False)
    heard = []
    hear = engine.board.hear
    monkeypatch.setattr(engine.board, "hear", lambda fact: (heard.append(fact.seq), hear(fact)))
    await engine.start()
    for number in range(20):
        if number % 5 == 0:
            poison = b'{"fact":"TaskSubmitted","chain":"c1","task":"p","prompt":7}'
            await log.append([Entry(f"farebox.log.client.submitted.-.c1.p{number}", poison)])
        await _submit(log, f"t{number}")
    done = await _read(log, lambda facts: sum(isinstance(fact, events.TaskCompleted) for fact in facts) == 24)
    ends = {fact.task: fact for fact in done if isinstance(fact, events.TaskCompleted)}
    assert {task for task, end in ends.items() if end.status == "completed"} == {f"t{number}" for number in range(20)}
    assert {end.fault.error_class for task, end in ends.items() if task.startswith("p")} == {"quarantined"}
    assert heard == sorted(heard)


async def test_promise_1_workers_meet_each_reserved_task_at_least_once(make_tape, workers):
    """The first to have it goes away in silence; the next one gets it."""
    tape = make_tape(ack_wait_s=0.1)
    taken = asyncio.Event()
    silent = await tape.log().consume("adapter-rehearsal", lambda _delivery: taken.set())
    tape.reserve()
    await taken.wait()
    await silent.close()
    await workers.make(tape)
    assert (await tape.end_of()).status == "completed"


async def test_promise_2_all_facts_of_one_decision_or_none(log):
    """A decision of several facts: one fence that refuses keeps all of them out."""
    subject = "farebox.log.client.submitted.-.c1"
    await log.append([Entry(f"{subject}.t3", b"{}")])
    before = (await log.position()).last_seq
    with pytest.raises(AppendRefused):
        await log.append([Entry(f"{subject}.t{n}", b"{}", Fence(f"{subject}.t{n}", 0)) for n in range(1, 6)])
    assert (await log.position()).last_seq == before
    seqs = await log.append([Entry(f"{subject}.t{n}", b"{}", Fence(f"{subject}.t{n}", 0)) for n in range(10, 15)])
    assert seqs == tuple(range(before + 1, before + 6))


async def test_promise_3_every_append_that_guards_anything_carries_its_fence(tape, engines, monkeypatch):
    log = tape.log()
    seen: list[Entry] = []
    in_flight = peak = 0
    append = log.append

    async def watched(entries):
        nonlocal in_flight, peak
        seen.extend(entries)
        quota = entries[0].subject.startswith("farebox.log.quota.")
        in_flight += quota
        peak = max(peak, in_flight)
        try:
            return await append(entries)
        finally:
            in_flight -= quota

    monkeypatch.setattr(log, "append", watched)
    await engines.make(log)
    for number in range(60):
        tape.submit(f"t{number}")
    await tape.until(lambda: tape.count("recorded") == 60 and tape.count("settled") == 60)
    first_of_a_writer = {"quota": False}
    for entry in seen:
        fact = wire.decode(entry.subject, entry.body)
        writer = subjects.parse(entry.subject).writer
        guard = subjects.fence_filter(writer, fact)
        if guard is not None and not (writer == "quota" and entry.fence is None and first_of_a_writer["quota"]):
            assert entry.fence is not None, entry.subject
            assert entry.fence.filter == guard
        first_of_a_writer["quota"] = writer == "quota"
    assert peak == 1


@pytest.mark.parametrize("fate", [Fate.LOST, Fate.ANSWER_LOST])
async def test_promise_4_unknown_is_resolved_by_reading_back(tape, engines, stand_in, fate):
    """Each kind of fact once lost, or once stored without an answer: the same facts in the end, and one call."""
    provider, settings = await stand_in()
    await engines.make(tape.log(), {"first": settings})
    tokens = ["routed", "reserved", "started", "completed", "settled", "recorded"]
    tape.fates.of = {token: [fate] for token in tokens}
    tape.submit()
    await tape.until(lambda: tape.said(events.CostRecorded) and tape.said(events.QuotaSettled))
    names = tape.names(task="t1")
    assert names[:5] == ["TaskSubmitted", "TaskRouted", "QuotaReserved", "TaskStarted", "TaskCompleted"]
    assert sorted(names[5:]) == ["CostRecorded", "QuotaSettled"]
    assert not any(tape.fates.of.values())
    assert sum(line.charged for line in provider.books.lines) == 1


async def test_promise_5_the_log_answers_what_was_done_not_a_consumers_position(tape, engines, stand_in):
    """Every ack is lost and the durable begins again at the first fact: nothing is called or said again."""
    provider, settings = await stand_in()
    first = await engines.make(tape.log(), {"first": settings})
    for number in range(10):
        tape.submit(f"t{number}")
    await tape.until(lambda: len(tape.said(events.CostRecorded)) == 10 and len(tape.said(events.QuotaSettled)) == 10)
    await engines.stop(first)
    facts, calls = len(tape.store.facts), len(provider.books.lines)
    tape.store._durables.clear()
    await engines.make(tape.log(), {"first": settings})
    durable = tape.store.durable("adapter-first")
    async with asyncio.timeout(100):
        while durable._held or durable._seen < len(tape.store.facts):
            await asyncio.sleep(0.01)
    assert len(tape.store.facts) == facts
    assert len(provider.books.lines) == calls == 10


async def test_promise_6_a_call_leaves_only_after_its_start_is_in_the_log_and_its_mark_on_the_disk(
    tape, workers, stand_in, monkeypatch, tmp_path
):
    provider, settings = await stand_in()
    seen = []
    answer = provider._answer

    async def look_first(client, question):
        started = tape.said(events.TaskStarted)
        journal = (tmp_path / "one" / "journal").read_text()
        seen.append((len(started), f'"rehearsal.c1.t1.{started[-1].seq}","what":"sending"' in journal))
        await answer(client, question)

    monkeypatch.setattr(provider, "_answer", look_first)
    tape.fates.of["started"] = [Fate.LOST, Fate.LOST]
    await workers.make(tape, settings=settings)
    tape.reserve()
    assert (await tape.end_of()).status == "completed"
    assert seen == [(1, True)]


async def test_promise_7_under_load_many_decisions_share_one_commit(tape, engines):
    await engines.make(tape.log(), {"rehearsal": PlatformSettings(
        kind="rehearsal", billing="rehearsal", limit=200, options={"wire": "inline"})})  # fmt: skip
    tape.fates.appends.clear()
    entries = []
    for number in range(400):
        fact = events.TaskSubmitted(id=f"t{number}", chain="c1", task=f"t{number}", prompt="x")
        entries.append(Entry(subjects.subject_of("client", fact), wire.encode(fact)))
    tape.store.append(entries)
    await tape.until(lambda: tape.count("recorded") == 400)
    routed = [tokens for tokens in tape.fates.appends if "routed" in tokens]
    assert max(map(len, routed)) >= 16
    assert len(routed) < 100


async def test_promise_7_at_most_one_decision_of_a_task_in_each(tape, engines):
    await engines.make(tape.log())
    for number in range(100):
        tape.submit(f"t{number}")
    await tape.until(lambda: tape.count("recorded") == 100)
    place = {}
    for one in tape.store.facts:
        place.setdefault((subjects.parse(one.subject).writer, one.subject), []).append(one.seq)
    for tokens in tape.fates.appends:
        assert len(tokens) <= 1000
    assert all(len(seqs) == 1 for (writer, _), seqs in place.items() if writer in {"router", "cost"})


async def test_promise_8_nothing_polls(server_log, engines, monkeypatch):
    """An engine at rest over a real server asks it nothing but what its standing requests are renewed for."""
    log = await server_log(["rehearsal"])
    await engines.make(log)
    await _submit(log, "t1")
    await _read(log, lambda facts: {"CostRecorded", "QuotaSettled"} <= {type(fact).__name__ for fact in facts})
    client = log._connection.client
    async with asyncio.timeout(100):  # what was begun comes to rest; who polls never does
        asked = 100
        while asked > 2:
            before = client.stats["out_msgs"]
            await asyncio.sleep(0.8)
            asked = client.stats["out_msgs"] - before
    await log.close()


def test_all_eight_promises_have_a_test():
    from farebox.runtime import worker

    numbers = {int(line.split(".")[0]) for line in worker.__doc__.splitlines() if line[:1].isdigit()}
    tested = {int(name.split("_")[2]) for name in globals() if name.startswith("test_promise_")}
    assert numbers == tested == set(range(1, 9))
    assert len(actors()) >= 5
