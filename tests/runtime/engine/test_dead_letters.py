"""Poison facts: each is visible with its reason and what it stops, goes on when it is mended, and stops nobody else."""

import asyncio
import dataclasses
from typing import get_type_hints

import msgspec
import pytest

from farebox.client import Client
from farebox.core import events, subjects, wire
from farebox.core.errors import BadInput
from farebox.core.terms import Rejected
from farebox.engines import actors
from farebox.log.port import Entry
from farebox.runtime import worker

TOO_MUCH = (Rejected(platform="p", reason="x" * 200_000),)
BY_NAME = {actor.name: actor for actor in actors()}


@pytest.fixture(params=["memory", "server"])
async def opened(request, tape):
    """Open logs over one store, in memory or on a real server."""
    if request.param == "memory":
        yield tape.log
        return
    log = await request.getfixturevalue("server_log")(["rehearsal"], ack_wait_s=0.2)
    yield lambda: log
    await log.close()


@pytest.fixture
def quick_tape(make_tape):
    return make_tape(ack_wait_s=0.05)


@pytest.fixture
def sick():
    """Make an actor that breaks over the tasks that are named in `over`."""

    def make(name, over):
        healthy = BY_NAME[name]

        def decide(state, heard):
            if getattr(heard, "task", "") in over:
                raise KeyError(f"no {heard.task}")
            return healthy.decide(state, heard)

        decide.__annotations__ = get_type_hints(healthy.decide)
        return tuple(dataclasses.replace(one, decide=decide) if one is healthy else one for one in actors())

    return make


async def submitted(log, task, **fields):
    fact = events.TaskSubmitted(**{"id": task, "chain": task, "task": task, "prompt": "Hello.", **fields})
    await log.append([Entry(subjects.subject_of("client", fact), wire.encode(fact))])
    return fact


async def until(condition, timeout_s=100):
    async with asyncio.timeout(timeout_s):
        while not (found := await condition()):
            await asyncio.sleep(0.02)
    return found


async def ended(client, task):
    return await client.handle(task, task).result(timeout_s=100)


async def letters(client, count):
    async def found():
        told = (await client.dead())["letters"]
        return told if len(told) == count else None

    return await until(found)


@pytest.mark.fault(28)
async def test_garbage_is_shown_with_its_raw_body_and_stops_nobody_else(opened, engines):
    log = opened()
    await engines.make(log)
    client = Client(opened())
    (seq,) = await log.append([Entry("farebox.log.client.answered.-.t1.t1", b'{"fact": "Ta\xff\x1b[31m')])
    await submitted(log, "t1")
    assert (await ended(client, "t1")).status == "completed"
    told = (await client.dead(ended=True))["letters"]
    assert [(one["seq"], one["kind"], one["task"], one["open"]) for one in told] == [(seq, "quarantined", "t1", False)]
    shown = await client.dead_letter(seq)
    assert shown["body"] == '{"fact": "Ta\\xff\x1b[31m'
    assert (shown["body_bytes"], shown["subject"]) == (18, "farebox.log.client.answered.-.t1.t1")
    assert shown["stops"] == "Nothing any more: task t1 has gone on, or ended."
    with pytest.raises(BadInput, match="still does not read") as refused:
        await client.retry_dead(seq)
    assert refused.value.code == "FB415"


async def test_the_task_of_a_quarantined_submission_ends_as_failed_and_says_so(opened, engines):
    log = opened()
    await engines.make(log)
    client = Client(opened())
    (seq,) = await log.append([Entry("farebox.log.client.submitted.-.t1.t1", b"{}")])
    result = await until(lambda: ended(client, "t1"))
    assert (result.status, result.error.error_class) == ("failed", "quarantined")
    assert (await client.dead())["open"] == 0
    assert [one["seq"] for one in (await client.dead(ended=True))["letters"]] == [seq]


@pytest.mark.fault(25)
async def test_what_breaks_an_actor_is_shown_and_decided_about_again_when_it_is_mended(opened, engines, sick):
    log, over = opened(), {"t1"}
    await engines.make(log, all_actors=sick("router", over))
    client = Client(opened())
    await submitted(log, "t1")
    await submitted(log, "t2")
    assert (await ended(client, "t2")).status == "completed"
    (letter,) = await letters(client, 1)
    assert (letter["kind"], letter["who"], letter["task"], letter["open"]) == ("undecided", "router", "t1", True)
    assert letter["reason"] == "KeyError: 'no t1'"
    assert (await client.status())["dead"] == [letter]
    shown = await client.dead_letter(letter["seq"])
    assert '"prompt":"Hello."' in shown["body"]
    assert shown["stops"] == "router has not answered it: task t1 stays where it is, unless somebody moves or cancels it."
    with pytest.raises(BadInput, match=r"router broke over fact \d+ again"):
        await client.retry_dead(letter["seq"])
    over.clear()
    assert (await client.retry_dead(letter["seq"]))["outcome"] == "router decided about it."
    assert (await ended(client, "t1")).status == "completed"
    assert (await client.dead())["letters"] == []


async def test_what_stayed_undecided_is_decided_about_at_the_next_start(opened, engines, sick):
    log = opened()
    first = await engines.make(log, all_actors=sick("router", {"t1"}))
    client = Client(opened())
    await submitted(log, "t1")
    await letters(client, 1)
    await engines.stop(first)
    await engines.make(log)
    assert (await ended(client, "t1")).status == "completed"


def unfolding(name, breaks):
    """Return the actors, one of which cannot take in what `breaks` says."""
    healthy = BY_NAME[name]

    def evolve(state, fact):
        if breaks(fact):
            raise KeyError(f"no {fact.task}")
        return healthy.evolve(state, fact)

    evolve.__annotations__ = get_type_hints(healthy.evolve)
    return tuple(dataclasses.replace(one, evolve=evolve) if one is healthy else one for one in actors())


@pytest.mark.fault(25)
@pytest.mark.parametrize("name", ["router", "quota", "cost"])
async def test_what_an_actor_cannot_take_in_is_shown_and_taken_in_at_the_start_of_one_that_can(opened, engines, name):
    log = opened()
    kinds = {"router": events.TaskSubmitted, "quota": events.TaskRouted, "cost": events.TaskCompleted}
    breaks = unfolding(name, lambda fact: isinstance(fact, kinds[name]) and fact.task == "t1")
    first = await engines.make(log, all_actors=breaks)
    client = Client(opened())
    await submitted(log, "t1")
    await submitted(log, "t2")
    assert (await ended(client, "t2")).status == "completed"
    (letter,) = await letters(client, 1)
    assert (letter["kind"], letter["who"], letter["task"], letter["reason"], letter["open"]) == (
        "unfolded", name, "t1", "KeyError: 'no t1'", True,
    )  # fmt: skip
    assert (await client.status())["dead"] == [letter]
    assert (await client.dead_letter(letter["seq"]))["stops"].startswith(f"{name} decides nothing about task t1 any more.")
    with pytest.raises(BadInput, match=f"{name} still cannot take in fact") as refused:
        await client.retry_dead(letter["seq"])
    assert refused.value.code == "FB415"
    await engines.stop(first)
    await engines.make(log)
    assert (await ended(client, "t1")).status == "completed"
    assert (await client.dead())["letters"] == []


@pytest.mark.fault(25)
async def test_a_quota_that_breaks_is_shown_gives_nobody_a_slot_and_goes_on_when_it_is_mended(opened, engines):
    log, healthy, over = opened(), BY_NAME["quota"], {"t1"}

    def decide(state, heard):
        if any(waiting.task in over for waiting in state.waiting.values()):
            raise KeyError("no t1")
        return healthy.decide(state, heard)

    decide.__annotations__ = get_type_hints(healthy.decide)
    sick_quota = tuple(dataclasses.replace(one, decide=decide) if one is healthy else one for one in actors())
    engine = await engines.make(log, all_actors=sick_quota)
    client = Client(opened())
    await submitted(log, "t1")
    await submitted(log, "t2")
    (letter,) = await letters(client, 1)
    assert (letter["kind"], letter["who"], letter["reason"]) == ("halted", "quota", "KeyError: 'no t1'")
    assert (await client.dead_letter(letter["seq"]))["stops"].startswith("quota decides about no task any more.")
    with pytest.raises(BadInput, match=r"quota broke over fact \d+ again"):
        await client.retry_dead(letter["seq"])
    assert not engine._following.done(), "the engine goes on"
    over.clear()
    (letter,) = await letters(client, 1)
    assert (await client.retry_dead(letter["seq"]))["outcome"] == "quota decided about it."
    assert [(await ended(client, task)).status for task in ("t1", "t2")] == ["completed", "completed"]
    assert (await client.dead())["letters"] == []


async def test_a_quota_without_one_of_its_own_words_needs_an_update_and_says_so(tape, engines):
    tape.say("quota", events.QuotaReserved(chain="t1", task="t1", platform="rehearsal", attempt=1))
    await engines.make(tape.log(), all_actors=unfolding("quota", lambda fact: isinstance(fact, events.QuotaReserved)))
    client = Client(tape.log())
    (letter,) = [one for one in (await client.dead())["letters"] if one["kind"] == "halted"]
    with pytest.raises(BadInput, match="quota cannot go on without fact 1: KeyError") as refused:
        await client.retry_dead(1)
    assert (letter["seq"], refused.value.hint) == (
        1,
        "Update this farebox, then start the engine: it reads the whole log again.",
    )


@pytest.mark.fault(29)
async def test_a_fact_that_follows_none_stops_its_task_and_is_shown(opened, engines):
    """Row 29, FB809: somebody with the right to write there wrote without a fence."""
    log = opened()
    await engines.make(log)
    client = Client(opened())
    fact = events.TaskRouted(chain="t1", task="t1", attempt=1, prev=77)
    (seq,) = await log.append([Entry(subjects.subject_of("router", fact), wire.encode(fact))])
    cancel = events.TaskCancelRequested(chain="t3", task="t3", prev=77)
    (passed,) = await log.append([Entry(subjects.subject_of("client", cancel), wire.encode(cancel))])
    await submitted(log, "t1")
    await submitted(log, "t2")
    assert (await ended(client, "t2")).status == "completed"
    (letter,) = (await client.dead())["letters"]
    assert (letter["seq"], letter["kind"], letter["who"], letter["task"]) == (seq, "unchained", "router", "t1")
    assert letter["reason"].startswith("FB809 TaskRouted was written on top of fact 77")
    assert (await client.dead_letter(seq))["stops"] == "FB809: nobody decides about task t1 any more."
    assert (await client.dead_letter(passed))["stops"] == "Nothing: it is passed over."
    assert [one["seq"] for one in (await client.status())["dead"]] == [seq]
    with pytest.raises(BadInput, match="follows one that is not there, and always will"):
        await client.retry_dead(seq)
    facts = [wire.decode(one.subject, one.body) for number in range(1, 30) if (one := await log.at(number))]
    assert [type(one).__name__ for one in facts if one.task == "t1"] == ["TaskRouted", "TaskSubmitted"]


async def test_what_no_view_can_hold_is_shown_until_the_views_are_made_anew(tape, engines, monkeypatch):
    monkeypatch.setattr("farebox.runtime.projection.AGAIN_S", 0.005)
    engine = await engines.make(tape.log())
    ingest, over = engine.projection.views.ingest, {"t1"}

    def breaks(batch):
        if any("submitted" in one.subject and one.subject.rpartition(".")[2] in over for one in batch):
            raise ValueError("no such shape")
        return ingest(batch)

    engine.projection.views.ingest = breaks
    client = Client(tape.log())
    await submitted(tape.log(), "t1")
    await submitted(tape.log(), "t2")
    assert (await ended(client, "t2")).status == "completed"
    (letter,) = await letters(client, 1)
    assert (letter["kind"], letter["who"], letter["task"]) == ("unfolded", "views", "t1")
    assert letter["reason"] == "The tables cannot hold it: ValueError: no such shape"
    assert (await client.status())["alarm"] is None, "nobody said what is not his to say"
    assert (await client.dead_letter(letter["seq"]))["stops"].startswith("Results and costs leave it out")
    assert "farebox replay" in (await client.retry_dead(letter["seq"]))["outcome"]
    over.clear()
    await engine.projection.rebuild(tape.log())
    assert (await client.dead())["letters"] == []


async def test_what_cannot_be_stored_stays_undecided_and_visible(tape, engines):
    healthy = BY_NAME["router"]

    def decide(state, heard):
        return [
            msgspec.structs.replace(one, traceparent="x" * 900_000, rejected=TOO_MUCH) for one in healthy.decide(state, heard)
        ]

    decide.__annotations__ = get_type_hints(healthy.decide)
    liar = dataclasses.replace(healthy, decide=decide)
    log = tape.log()
    await engines.make(log, all_actors=tuple(liar if one is healthy else one for one in actors()))
    await submitted(log, "t1")
    (letter,) = await letters(Client(tape.log()), 1)
    assert (letter["kind"], letter["who"]) == ("undecided", "router")


@pytest.mark.fault(25)
async def test_a_reservation_that_breaks_the_adapter_again_and_again_ends_its_task(request, opened, engines, sick):
    if "memory" in request.node.name:
        opened = request.getfixturevalue("quick_tape").log
    log = opened()
    await engines.make(log, all_actors=sick("adapter", {"t1"}))
    client = Client(opened())
    await submitted(log, "t1")
    await submitted(log, "t2")
    assert (await ended(client, "t2")).status == "completed"
    result = await ended(client, "t1")
    assert (result.status, result.error.error_class, result.cost.status) == ("failed", "quarantined", "none")
    assert f"The adapter broke over it {worker.BROKEN_TRIES} times" in result.error.message

    async def over():
        return (await client.dead(ended=True))["letters"]

    (letter,) = await until(over)
    assert (letter["kind"], letter["who"], letter["task"]) == ("given_up", "adapter-rehearsal", "t1")
    assert not (await client.dead())["letters"]
    with pytest.raises(BadInput, match="stops nothing any more"):
        await client.retry_dead(letter["seq"])


@pytest.mark.fault(26)
async def test_what_was_given_up_while_nobody_listened_is_found_and_handed_out_again(opened, engines, monkeypatch):
    """Row 26: the dead stream keeps what nobody heard; the task has no end, so its letter is open."""
    log = opened()

    def refuse(_worker, delivery):
        refusing.append(asyncio.ensure_future(delivery.term("a hand that no longer is")))

    refusing = []
    monkeypatch.setattr(worker.Worker, "_on_delivery", refuse)
    await engines.make(log)
    client = Client(opened())
    await submitted(log, "t1")
    (letter,) = await letters(client, 1)
    assert (letter["kind"], letter["who"], letter["task"], letter["reason"], letter["open"]) == (
        "given_up", "adapter-rehearsal", "t1", "a hand that no longer is", True,
    )  # fmt: skip
    assert "keeps its slot" in (await client.dead_letter(letter["seq"]))["stops"]
    told = await client.retry_dead(letter["seq"])
    assert told["outcome"] == "The adapter of rehearsal was handed task t1 again."
    assert (await ended(client, "t1")).status == "completed"


async def test_an_unknown_number_gives_one_clear_line(opened, engines):
    await engines.make(opened())
    client = Client(opened())
    for ask in (client.dead_letter, client.retry_dead):
        with pytest.raises(BadInput, match="Fact 999 is no dead letter") as refused:
            await ask(999)
        assert refused.value.code == "FB413"
