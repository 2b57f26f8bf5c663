"""The engine's answers to anybody: JSON in, JSON out, no question left hanging, no question that harms."""

import asyncio

import msgspec
import pytest

from farebox.core import events
from farebox.core.errors import LogFull
from farebox.log.memory import Fate
from farebox.runtime.service import _fitting


@pytest.fixture
async def ask(tape, engines):
    """An engine over a memory log, and how to ask it."""
    engine = await engines.make(tape.log())
    asker = tape.log()

    async def question(name, *, within_s=25, raw=None, **fields):
        body = msgspec.json.encode(fields) if raw is None else raw
        return msgspec.json.decode(await asker.request(f"farebox.api.{name}", body, within_s))

    question.engine = engine
    return question


async def test_a_task_goes_from_submit_to_its_cost_by_questions_alone(ask):
    submitted = await ask("submit", prompt="How deep is the Baltic?", platform="rehearsal", tags={"who": "me"})
    assert submitted["schema"] == "farebox.submitted/1"
    result = await ask("result", task=submitted["task"], wait_s=25)
    assert (result["status"], result["chain_id"]) == ("completed", submitted["chain"])
    assert "Baltic" in result["output"]
    assert result["cost"]["status"] != "pending"
    card = await ask("status", task=submitted["task"])
    assert card["schema"] == "farebox.task/1"
    listed = await ask("status")
    assert [row["result"]["task_id"] for row in listed["tasks"]] == [submitted["task"]]
    costs = await ask("costs", by=["platform"])
    assert [row["platform"] for row in costs["rows"]] == ["rehearsal"]


async def test_who_saw_a_task_end_finds_it_in_the_costs_and_in_the_status_at_once(ask, monkeypatch):
    monkeypatch.setattr("farebox.runtime.service.FRESH_MAX_S", 25)
    for number in range(1, 9):
        submitted = await ask("submit", prompt=f"Count {number} owls.", platform="rehearsal")
        chain, task = submitted["chain"], submitted["task"]
        assert (await ask("result", chain=chain, task=task, wait_s=25))["status"] == "completed"
        (row,) = (await ask("costs", by=["platform"]))["rows"]
        assert row["tasks"] == number
        assert (await ask("status", task=task))["result"]["status"] == "completed"


async def test_info_says_who_answers_from_which_log(ask, tape):
    info = await ask("info", raw=b"")
    assert info["schema"] == "farebox.info/1"
    assert info["log"]["last_seq"] == len(tape.store.facts)
    assert info["version"] == "test"


async def test_platforms_say_what_is_there(ask):
    (row,) = (await ask("platforms"))["platforms"]
    assert (row["platform"], row["available"], row["billing"]) == ("rehearsal", True, "rehearsal")


@pytest.mark.parametrize("fate", [Fate.LOST, Fate.ANSWER_LOST, Fate.BUSY])
async def test_an_unknown_submission_is_read_back(ask, tape, fate):
    tape.fates.of["submitted"] = [fate, fate]
    said = await ask("submit", prompt="x", task="t1")
    assert said["task"] == "t1"
    assert len(tape.said(events.TaskSubmitted)) == 1


async def test_a_submission_that_stays_unknown_says_so_and_how_to_go_on(ask, tape, monkeypatch):
    monkeypatch.setattr("farebox.runtime.service.PAUSE_S", 0)
    tape.fates.of["submitted"] = [Fate.LOST] * 20
    said = await ask("submit", prompt="x", task="t1")
    assert said["error"]["code"] == "FB112"
    assert "same id" in said["error"]["hint"]


async def test_the_same_submission_again_is_harmless_and_another_one_is_refused(ask, tape):
    for _ in range(2):
        assert (await ask("submit", prompt="x", task="t1", chain="c1"))["task"] == "t1"
    other = await ask("submit", prompt="y", task="t1", chain="c1")
    assert other["error"]["code"] == "FB401"
    assert len(tape.said(events.TaskSubmitted)) == 1


@pytest.mark.parametrize(
    ("name", "fields", "code"),
    [
        ("submit", {"prompt": "  "}, "FB401"),
        ("submit", {}, "FB401"),
        ("submit", {"prompt": "x", "task": "a.b"}, "FB401"),
        ("submit", {"prompt": "x", "chain": ">"}, "FB401"),
        ("submit", {"prompt": "x", "cause": "forged"}, "FB401"),
        ("submit", {"prompt": "x", "fact": "TaskCompleted"}, "FB401"),
        ("submit", {"prompt": "x", "timeout_s": -1}, "FB401"),
        ("submit", {"prompt": 7}, "FB401"),
        ("submit", {"prompt": "x" * 1_200_000}, "FB802"),
        ("result", {}, "FB401"),
        ("result", {"task": "t1", "wait_s": "long"}, "FB401"),
        ("status", {"task": "nobody"}, "FB409"),
        ("status", {"limit": "many"}, "FB401"),
        ("batch", {}, "FB401"),
        ("batch", {"batch": "nobody"}, "FB407"),
        ("costs", {"by": ["moon"]}, "FB401"),
        ("cancel", {}, "FB401"),
        ("cancel", {"task": "nobody"}, "FB409"),
        ("cancel", {"task": "no.body"}, "FB401"),
    ],
)
async def test_a_bad_question_gets_one_clear_answer(ask, tape, name, fields, code):
    before = len(tape.store.facts)
    said = await ask(name, **fields)
    assert said["error"]["code"] == code, said
    assert said["error"]["message"]
    assert len(tape.store.facts) == before


@pytest.mark.parametrize("raw", [b"{", b"[]", b"7", b"\xff", b"[" * 100_000])
async def test_a_question_that_is_no_object_is_answered_too(ask, raw):
    assert (await ask("result", raw=raw))["error"]["code"] == "FB401"


async def test_a_question_that_breaks_us_is_answered_and_harms_nobody(ask, monkeypatch, caplog):
    monkeypatch.setattr(ask.engine.projection.views, "tasks", lambda **_: 1 / 0)
    assert (await ask("status"))["error"]["code"] == "FB000"
    assert "a question failed" in caplog.text
    assert (await ask("info"))["schema"] == "farebox.info/1"


async def test_an_unknown_task_is_unknown_after_the_wait(ask):
    said = await ask("result", task="nobody", wait_s=0.05)
    assert said["status"] == "unknown"
    assert ask.engine.projection._watched == {}


async def test_who_asks_before_the_task_exists_is_answered_when_it_ends(ask, tape):
    asking = asyncio.ensure_future(ask("result", task="t1", wait_s=25))
    await asyncio.sleep(0)
    tape.submit("t1", platform="rehearsal")
    assert (await asking)["status"] == "completed"


async def test_no_result_is_slept_over_however_fast_it_comes(ask, tape):
    """Each question waits for a result that comes at about the same moment; a missed one would wait 20 s."""

    async def one(number):
        tape.submit(f"t{number}", platform="rehearsal")
        await asyncio.sleep(number % 10 / 200)
        return await ask("result", chain="c1", task=f"t{number}", wait_s=20)

    async with asyncio.timeout(100):
        results = await asyncio.gather(*(one(number) for number in range(60)))
    assert {result["status"] for result in results} == {"completed"}


async def test_a_waiting_task_is_cancelled_by_its_id_alone(ask, tape, engines):
    await engines.stop(ask.engine)
    first = await engines.make(tape.log(), {}, folder="second")  # no platform: nothing runs, but it is known
    tape.submit("t1", needs=())
    assert (await ask("result", task="t1", wait_s=25))["status"] == "failed"
    said = await ask("cancel", task="t1", reason="too late anyway")
    assert said == {"schema": "farebox.cancelled/1", "chain": "c1", "task": "t1"}
    assert (await ask("cancel", task="t1", chain="c1"))["task"] == "t1"
    assert len(tape.said(events.TaskCancelRequested)) == 1
    assert first.running == 0


@pytest.mark.fault(60)
async def test_a_replay_gives_the_same_digest_while_tasks_go_on(ask, tape):
    for number in range(30):
        tape.submit(f"t{number}", platform="rehearsal")
    replays = [await ask("replay") for _ in range(3)]
    await tape.until(lambda: len(tape.said(events.CostRecorded)) == 30)
    replays.append(await ask("replay"))
    assert all(replay["same_as_before"] for replay in replays), replays
    assert replays[-1]["facts"] >= 30 * 6
    assert replays[-1]["digest"] == (await ask("replay"))["digest"]


async def test_results_of_a_batch_come_in_the_order_of_their_ends(ask, tape):
    tape.say("client", events.BatchSubmitted(id="b", batch="b1", count=5))
    for number in range(1, 6):
        tape.say(
            "client",
            events.TaskSubmitted(chain="b1", task=f"b1-{number}", batch="b1", prompt=f"Line {number}.", platform="rehearsal"),
        )
    await tape.until(lambda: tape.said(events.BatchCompleted))
    await ask("result", task="b1-5", wait_s=25)
    found = (await ask("results", batch="b1"))["results"]
    assert len(found) == 5
    assert [row["seq"] for row in found] == sorted(row["seq"] for row in found)
    assert len((await ask("results", batch="b1", after=found[2]["seq"]))["results"]) == 2
    assert (await ask("batch", batch="b1"))["schema"] == "farebox.batch/1"


async def test_who_waits_when_the_engine_stops_learns_that_he_must_ask_again(ask, engines):
    asking = asyncio.ensure_future(ask("result", task="t1", wait_s=30))
    async with asyncio.timeout(100):
        while not ask.engine.projection._watched:
            await asyncio.sleep(0.005)
    await engines.stop(ask.engine)
    said = await asyncio.wait_for(asking, 100)
    assert said["error"]["code"] == "FB101"


async def test_info_says_what_keeps_facts_from_being_stored(ask):
    assert (await ask("info"))["trouble"] is None
    ask.engine._service._trouble = lambda: LogFull("The disk of the store is full.", hint="Make room.")
    told = {"code": "FB113", "message": "The disk of the store is full.", "hint": "Make room."}
    assert (await ask("info"))["trouble"] == told
    assert (await ask("status"))["engine"]["trouble"] == told


async def test_an_answer_never_grows_beyond_one_message(ask):
    async def large(_question):
        return {"text": "x" * 1_000_000}

    said = msgspec.json.decode(await ask.engine._service._handler(large)(b"{}"))
    assert said["error"]["code"] == "FB401"
    assert "1,000,011 bytes" in said["error"]["message"]


def test_so_many_results_as_fit_into_one_message_are_given_and_one_at_least():
    some = [{"output": "x" * 200_000}] * 5
    assert (len(_fitting(some)), len(_fitting(some[:2]))) == (2, 2)
    assert len(_fitting([{"output": "x" * 900_000}] * 2)) == 1
    assert _fitting([]) == []


async def test_a_key_of_costs_that_is_no_list_is_told(ask):
    assert "is a list of one key" in (await ask("costs", by="platform"))["error"]["message"]
