"""A thousand tasks at once for the last ten units of a quota, three engines at work on one real server: exactly ten run."""

import asyncio

import pytest

from farebox.core import events, subjects, wire
from farebox.core.quotas import QuotaSettings
from farebox.log.port import Entry, Fence

pytestmark = [pytest.mark.slow, pytest.mark.fault(61)]
TASKS, UNITS, ENGINES = 1000, 10, 3


async def submit(log, number):
    fact = events.TaskSubmitted(
        chain=f"c{number % 20}", task=f"t{number}", platform="rehearsal", prompt=f"Tell of {number}.",
        constraints=events.Constraints(on_quota="stop"),
    )  # fmt: skip
    subject = subjects.subject_of("client", fact)
    await log.append([Entry(subject, wire.encode(fact), Fence(subject, 0))])


async def ended(log):
    """Return every fact once all tasks have ended."""
    facts, ends = [], 0
    async for batch in log.follow(1):
        for one in batch:
            fact = wire.decode(one.subject, one.body, one.seq, one.at_ms)
            facts.append(fact)
            ends += isinstance(fact, events.TaskCompleted)
        if ends >= TASKS:
            return facts
    raise AssertionError("the log ended")


async def test_of_a_thousand_tasks_for_the_last_ten_units_exactly_ten_run(server_log, engines):
    quotas = {"last": QuotaSettings(platform="rehearsal", window="day", limit=UNITS)}
    client = await server_log()
    logs = [client, *[await server_log() for _ in range(ENGINES)]]
    for number, log in enumerate(logs[1:]):
        await engines.make(log, quotas=quotas, folder=f"store{number}")
    await asyncio.gather(*(submit(client, number) for number in range(TASKS)))
    async with asyncio.timeout(100):
        facts = await ended(client)
    grants = [fact for fact in facts if isinstance(fact, events.QuotaReserved)]
    ends = [fact for fact in facts if isinstance(fact, events.TaskCompleted)]
    assert len(grants) == len({fact.key for fact in grants}) == UNITS
    assert [take.used for grant in grants for take in grant.takes] == [str(number) for number in range(1, UNITS + 1)]
    assert sum(end.status == "completed" for end in ends) == UNITS
    assert {end.fault.error_class for end in ends if end.fault} == {"quota_exhausted"}
    assert len(ends) == len({end.key for end in ends}) == TASKS
    for log in logs:
        await log.close()
