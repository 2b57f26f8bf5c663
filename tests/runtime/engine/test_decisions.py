"""A person decides: what waits is shown, the first word counts, also over kills of the engine, on memory and a real server."""

import asyncio

import msgspec
import pytest

from farebox.client import Client
from farebox.core import events, subjects, wire
from farebox.core.errors import AppendUnknown, BadInput
from farebox.core.platform import Verdict
from farebox.core.terms import Fault, Usage
from farebox.deciding import say
from farebox.log.memory import Fate
from farebox.log.port import Entry, Fence

STALLED = Verdict(
    ok=False, fault=Fault(error_class="stalled", message="No byte for 120 s."), charged="possible",
    usage=Usage(input_tokens=3, output_tokens=2),
)  # fmt: skip


@pytest.fixture
async def interrupted(opened, engines, kind_of):
    """An engine whose only platform breaks off after half an answer, a client, and a task that waits for a decision."""

    class Waiting:
        def __init__(self, chunks=(b"Half an ", b"answer")) -> None:
            self.kinds = {"rehearsal": kind_of(*chunks, verdict=STALLED)}

        async def start(self):
            self.log = opened()
            self.engine = await engines.make(self.log, kinds=self.kinds)
            self.client = Client(opened(), patience_s=25)
            return self

        async def submit(self, **fields):
            self.handle = await self.client.submit("A long story.", on_interrupt="ask", **fields)
            return await self.waits()

        async def waits(self, attempt=1):
            async with asyncio.timeout(100):
                while True:
                    card = await self.client.status(self.handle.task_id) if await self._known() else {}
                    question = card.get("decision") or {"attempt": 0}
                    if question["attempt"] == attempt and question["cost_status"] != "pending":
                        return card
                    await asyncio.sleep(0.02)

        async def _known(self):
            return (await self.handle.status()) != "unknown"

        async def anew(self):
            """Kill the engine without a word and start it again."""
            await engines.stop(self.engine)
            self.engine = await engines.make(self.log, kinds=self.kinds)

        async def said(self, kind):
            stored = [await self.log.at(seq) for seq in range(1, (await self.log.position()).last_seq + 1)]
            facts = [wire.decode(one.subject, one.body, one.seq, one.at_ms) for one in stored]
            return [fact for fact in facts if isinstance(fact, kind) and fact.task == self.handle.task_id]

    made = []

    async def make(**options):
        made.append(await Waiting(**options).start())
        return made[-1]

    yield make
    for one in made:
        await one.handle.close()


async def test_what_waits_is_shown_with_what_happened_and_what_it_may_have_cost(interrupted):
    one = await interrupted()
    card = await one.submit()
    question = card["decision"]
    assert (question["task_id"], question["attempt"], question["platform"]) == (one.handle.task_id, 1, "rehearsal")
    assert (question["error_class"], question["message"]) == ("stalled", "No byte for 120 s.")
    assert question["partial_output"] is True
    assert (await one.client.status())["decisions"] == [(await one.client.status(one.handle.task_id))["decision"]]
    assert (await one.client.info())["decisions"] == [one.handle.task_id]


async def test_accept_makes_the_partial_output_the_answer_and_keeps_its_possible_cost(interrupted):
    one = await interrupted()
    await one.submit()
    await one.handle.decide("accept")
    result = await one.handle.result(timeout_s=100)
    assert (result.status, result.output, result.attempts) == ("completed", "Half an answer", 1)
    assert result.cost.status == "possible"
    card = await one.client.status(one.handle.task_id)
    assert card["decision"] is None
    with pytest.raises(BadInput, match="was decided already: accept") as late:
        await one.client.decide(one.handle.task_id, "retry")
    assert late.value.code == "FB412"


async def test_fail_ends_it_and_the_partial_output_stays(interrupted):
    one = await interrupted()
    await one.submit()
    await one.handle.decide("fail")
    result = await one.handle.result(timeout_s=100)
    assert (result.status, result.error.error_class, result.partial_output) == ("failed", "policy", "Half an answer")


async def test_retry_routes_it_again_and_asks_again_only_within_the_bounds(interrupted):
    one = await interrupted()
    await one.submit()
    await one.handle.decide("retry")
    result = await one.handle.result(timeout_s=100)
    assert (result.status, result.error.error_class, result.attempts) == ("failed", "exhausted", 2)


async def test_two_different_decisions_at_once_have_one_outcome(interrupted):
    one = await interrupted()
    await one.submit()
    answers = await asyncio.gather(
        *(one.client.decide(one.handle.task_id, word) for word in ("fail", "accept", "fail", "accept")),
        return_exceptions=True,
    )
    result = await one.handle.result(timeout_s=100)
    (stands,) = await one.said(events.TaskDecision)
    assert result.status == {"fail": "failed", "accept": "completed"}[stands.decision]
    assert all(isinstance(answer, dict) or answer.code == "FB412" for answer in answers)
    assert any(isinstance(answer, dict) for answer in answers)
    assert len(await one.said(events.TaskCompleted)) == 1


async def test_what_waits_and_what_was_decided_survives_kills_of_the_engine(interrupted):
    one = await interrupted()
    before = (await one.submit())["decision"]
    await one.anew()
    assert (await one.waits())["decision"] == before
    await one.client.decide(one.handle.task_id, "accept")
    await one.anew()
    result = await one.handle.result(timeout_s=100)
    assert (result.status, result.output) == ("completed", "Half an answer")


async def test_a_decision_that_came_while_no_engine_ran_counts_at_the_next_start(interrupted, engines):
    one = await interrupted()
    await one.submit()
    await engines.stop(one.engine)
    fact = events.TaskDecision(chain=one.handle.chain_id, task=one.handle.task_id, attempt=1, decision="fail")
    assert (await say(one.log, fact)).decision == "fail"
    one.engine = await engines.make(one.log, kinds=one.kinds)
    assert (await one.handle.result(timeout_s=100)).status == "failed"


async def test_nothing_can_be_accepted_where_nothing_came(interrupted):
    one = await interrupted(chunks=())
    await one.submit()
    with pytest.raises(BadInput, match="left no text") as refused:
        await one.handle.decide("accept")
    assert refused.value.code == "FB414"
    await one.handle.cancel()
    assert (await one.handle.result(timeout_s=100)).status == "cancelled"


async def test_wrong_use_gives_one_clear_line(interrupted):
    one = await interrupted()
    await one.submit()
    for task, word, code in [("nobody", "retry", "FB409"), (one.handle.task_id, "retyr", "FB401"), ("A B", "retry", "FB401")]:
        with pytest.raises(BadInput) as refused:
            await one.client.decide(task, word)
        assert refused.value.code == code
    await one.handle.cancel()
    await one.handle.result(timeout_s=100)
    with pytest.raises(BadInput, match="waits for no decision: it is ") as refused:
        await one.handle.decide("retry")
    assert refused.value.code == "FB411"


async def test_who_only_reads_the_log_sees_what_waits_and_says_nothing(interrupted, engines, tape):
    one = await interrupted()
    before = (await one.submit())["decision"]
    await engines.stop(one.engine)
    seq = (await one.log.position()).last_seq
    looking = await engines.make(one.log, kinds=one.kinds, all_actors=(), start=False)
    from farebox.engines import actors

    looking._actors = []
    await looking.look(actors())
    assert (await one.client.status(one.handle.task_id))["decision"] == before
    assert (await one.log.position()).last_seq == seq


async def test_a_decision_of_unknown_outcome_is_read_back(tape):
    log = tape.log()
    fact = events.TaskDecision(id="mine", chain="c", task="t", attempt=1, decision="retry")
    tape.fates.of["decided"] = [Fate.ANSWER_LOST]
    assert (await say(log, fact)).id == "mine"
    assert tape.count("decided") == 1
    other = msgspec.structs.replace(fact, id="other", attempt=2, decision="fail")
    tape.fates.of["decided"] = [Fate.LOST, Fate.BUSY]
    assert (await say(log, other)).decision == "fail"
    assert tape.count("decided") == 2
    tape.fates.of["decided"] = [Fate.LOST]
    with pytest.raises(AppendUnknown):
        await say(log, msgspec.structs.replace(other, attempt=3), patience_s=0)


async def test_a_decision_that_nobody_can_read_decides_nothing(tape):
    log = tape.log()
    subject = subjects.exact("client", "decided", "c", "t")
    await log.append([Entry(subject, b"garbage", Fence(subject, 0))])
    fact = events.TaskDecision(id="mine", chain="c", task="t", attempt=1, decision="retry")
    assert (await say(log, fact)).id == "mine"
