"""A person answers: the task waits in status, the first answer counts, also one that was said while no engine ran."""

import asyncio

import pytest

from farebox.answering import answer
from farebox.cli import attention, status
from farebox.client import Client
from farebox.config import platform_kinds
from farebox.core import subjects, wire
from farebox.core.errors import BadInput, NotReachable
from farebox.core.events import TaskAnswered
from farebox.log.port import Entry, Fence
from farebox.posting import new_id

(KIND,) = (kind for kind in platform_kinds() if kind.name == "interactive")
PERSON = KIND.defaults["interactive"]
IN_MEMORY = pytest.mark.parametrize("opened", ["memory"], indirect=True)


@pytest.fixture
async def asked(opened, engines):
    """An engine with a person behind it, a client, and a task that waits for an answer."""

    class Asked:
        async def start(self, **fields):
            self.log = opened()
            await self.up()
            self.client = Client(opened(), patience_s=25)
            self.handle = await self.client.submit("Which of the two logos?", platform="rehearsal", **fields)
            return self

        async def up(self):
            self.engine = await engines.make(self.log, {"rehearsal": PERSON}, attempts_max=3)

        async def down(self):
            if self.engine is not None:
                await engines.stop(self.engine)
            self.engine = None

        async def waits(self, attempt=1):
            async with asyncio.timeout(100):
                while True:
                    found = await self.client.status()
                    if [one["attempt"] for one in found["questions"]] == [attempt]:
                        return found
                    await asyncio.sleep(0.02)

        async def waits_no_more(self):
            async with asyncio.timeout(100):
                while (await self.client.status())["questions"]:
                    await asyncio.sleep(0.02)

        async def answer(self, text):
            return await answer(self.client, self.handle.task_id, text)

    made = []

    async def make(**fields):
        made.append(await Asked().start(**fields))
        return made[-1]

    yield make
    for one in made:
        await one.down()
        await one.client.close()


async def test_a_task_waits_for_a_person_and_takes_the_answer(asked):
    one = await asked()
    found = await one.waits()
    task = one.handle.task_id
    assert (
        attention.lines(found)[-1]
        == f'! task {task} waits for an answer: "Which of the two logos?" Type: farebox answer {task} -'
    )
    shown = "\n".join(status.card(await one.client.status(task)))
    assert shown.endswith("\n\nWhich of the two logos?")
    assert await one.answer("The second.\n") == {"task_id": task, "chain_id": one.handle.chain_id, "attempt": 1}
    result = await one.handle.result(timeout_s=100)
    assert (result.status, result.output, result.model, result.cost.paid_usd) == ("completed", "The second.", "person", "0")
    await one.waits_no_more()


@IN_MEMORY
async def test_the_first_answer_counts_and_a_task_that_ended_takes_none(asked):
    one = await asked()
    await one.waits()
    await one.answer("The first.")
    with pytest.raises(BadInput) as refused:
        await one.answer("The second.")
    assert refused.value.code in {"FB420", "FB421"}
    assert (await one.handle.result(timeout_s=100)).output == "The first."
    await one.waits_no_more()
    with pytest.raises(BadInput, match="waits for no person: it is completed") as refused:
        await one.answer("The third.")
    assert refused.value.code == "FB420"


@IN_MEMORY
async def test_an_answer_to_an_answered_attempt_is_refused(asked, monkeypatch):
    one = await asked()
    await one.waits()
    monkeypatch.setattr("farebox.runtime.person_call.Person._answer", lambda _self: asyncio.sleep(0))
    await one.answer("The first.")
    with pytest.raises(BadInput, match="was answered before") as refused:
        await one.answer("The second.")
    assert refused.value.code == "FB421"


@IN_MEMORY
async def test_an_empty_answer_is_none(asked):
    one = await asked()
    await one.waits()
    with pytest.raises(BadInput, match="The answer is empty"):
        await one.answer(" \n")


@IN_MEMORY
async def test_a_large_answer_arrives_whole(asked):
    one = await asked()
    await one.waits()
    await one.answer("x" * 600_000)
    assert len((await one.handle.result(timeout_s=100)).output) == 600_000


@IN_MEMORY
async def test_a_cancel_ends_the_waiting(asked):
    one = await asked()
    await one.waits()
    await one.handle.cancel("not needed")
    assert (await one.handle.result(timeout_s=100)).status == "cancelled"


@IN_MEMORY
async def test_a_task_that_says_its_own_time_waits_no_longer(asked):
    one = await asked(timeout_s=0.3)
    result = await one.handle.result(timeout_s=100)
    assert (result.status, result.error.error_class) == ("failed", "timeout")
    assert "Nobody answered in time." in result.error.message


@IN_MEMORY
async def test_an_engine_that_was_killed_asks_again_and_finds_what_was_answered_meanwhile(asked):
    one = await asked()
    await one.waits()
    await one.down()
    fact = TaskAnswered(id=new_id(), chain=one.handle.chain_id, task=one.handle.task_id, attempt=1, answer="Said to nobody.")
    subject = subjects.subject_of("client", fact)
    await one.log.append([Entry(subject, wire.encode(fact), Fence(subject, 0))])
    await one.up()
    assert (await one.handle.result(timeout_s=100)).output == "Said to nobody."


@IN_MEMORY
async def test_an_answer_that_nobody_heard_is_found_by_looking(asked, monkeypatch):
    monkeypatch.setattr("farebox.runtime.person_call.LOOK_AGAIN_S", 0.05)
    heard = "farebox.runtime.person_call.Person._listen"
    monkeypatch.setattr(heard, lambda _self: asyncio.sleep(0))
    one = await asked()
    await one.waits()
    await one.answer("Found.")
    assert (await one.handle.result(timeout_s=100)).output == "Found."


@IN_MEMORY
async def test_a_log_that_cannot_be_read_for_a_while_is_asked_again(asked, monkeypatch):
    from farebox.runtime import person_call

    monkeypatch.setattr(person_call, "LOOK_AGAIN_S", 0.05)
    broken = [True, True]
    person = person_call.Person._answer

    async def answer_later(self):
        if broken:
            broken.pop()
            self = person_call.Person(Broken(), self_started)
        return await person(self)

    class Broken:
        async def last(self, _subject):
            raise NotReachable("away")

        async def listen(self, _subject, _on):
            raise NotReachable("away")

    from farebox.core.events import TaskStarted

    self_started = TaskStarted(chain="c", task="t", platform="rehearsal")
    assert await person_call.Person(Broken(), self_started)._listen() is None
    monkeypatch.setattr(person_call.Person, "_answer", answer_later)
    one = await asked()
    await one.waits()
    await one.answer("Later.")
    assert (await one.handle.result(timeout_s=100)).output == "Later."
    assert not broken
