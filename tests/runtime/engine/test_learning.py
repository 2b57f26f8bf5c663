"""What a provider tells about quota: facts while the call still goes on, in order, and nothing waits for them."""

import asyncio
import json
import logging
import sys
from dataclasses import replace

from farebox.core import events
from farebox.core.platform import Piece, ProcessCall, Verdict
from farebox.core.terms import Fault, Usage
from farebox.log.memory import Fate
from farebox.runtime import learning as module

TELLS = """
import sys
for limit in (5, 7, 9):
    print(limit, flush=True)
print("text", flush=True)
import time
time.sleep(60)
"""


class Telling:
    """Reads numbers as limits; its program never ends by itself."""

    def head(self, head):
        raise AssertionError(head)

    def feed(self, data):
        return [
            events.QuotaLearned(platform="p", limit=json.loads(line)) if line.isdigit() else Piece(line.decode())
            for line in data.split(b"\n")
            if line
        ]

    def end(self, end):
        return Verdict(ok=False, fault=Fault(error_class=end.cut, message="cut"), charged="possible")


def silent_after_telling(kind_of):
    call = ProcessCall(argv=(sys.executable, "-S", "-c", TELLS))
    return replace(kind_of(ask=lambda _ask: call), reader=lambda _ask: Telling())


def limits(tape):
    return [(fact.platform, fact.limit) for fact in tape.said(events.QuotaLearned)]


async def test_limits_are_facts_in_their_order_while_the_call_still_hangs(tape, workers, kind_of):
    await workers.make(tape, kind=silent_after_telling(kind_of))
    tape.reserve()
    await tape.until(lambda: tape.count("quota_learned") == 3)
    assert limits(tape) == [("rehearsal", 5), ("rehearsal", 7), ("rehearsal", 9)]
    assert tape.names() == ["TaskSubmitted", "QuotaReserved", "TaskStarted", *["QuotaLearned"] * 3]
    tape.say("client", events.TaskCancelRequested(id="x", chain="c1", task="t1"))
    assert (await tape.end_of()).fault.error_class == "cancelled"
    assert tape.count("quota_learned") == 3


async def test_each_is_said_once_for_its_own_lane_and_what_no_fact_can_hold_is_passed_over(tape, workers, kind_of, caplog):
    learned = [
        events.QuotaLearned(platform="rehearsal", unit="requests", limit=5),
        events.QuotaLearned(platform="someone-else", unit="tokens", limit=7),
        events.QuotaLearned(platform="rehearsal", unit="tokens", limit=-7),
    ]
    worker = await workers.make(tape, kind=kind_of(b"x", learned=learned))
    tape.reserve()
    await tape.end_of()
    await tape.idle(worker)
    assert limits(tape) == [("rehearsal", 5), ("rehearsal", 7)]
    assert len({fact.id for fact in tape.said(events.QuotaLearned)}) == 2
    assert {fact.cause for fact in tape.said(events.QuotaLearned)} == {tape.said(events.TaskStarted)[0].id}
    assert "what was learned about quota is lost" in caplog.text


async def test_what_was_told_about_quota_may_be_lost_with_a_warning(tape, workers, kind_of, caplog):
    tape.fates.of["quota_learned"] = [Fate.LOST]
    worker = await workers.make(tape, kind=kind_of(b"x", learned=[events.QuotaLearned(platform="rehearsal", limit=5)]))
    tape.reserve()
    await tape.end_of()
    await tape.idle(worker)
    assert not tape.said(events.QuotaLearned)
    assert "what was learned about quota is lost" in caplog.text


async def test_a_platform_that_tells_without_end_fills_no_memory(tape, workers, kind_of, caplog, monkeypatch):
    monkeypatch.setattr(module, "WAITING_MAX", 3)
    caplog.set_level(logging.WARNING)
    learned = [events.QuotaLearned(platform="rehearsal", limit=number) for number in range(10)]
    worker = await workers.make(tape, kind=kind_of(b"x", learned=learned))
    tape.reserve()
    await tape.end_of()
    await tape.idle(worker)
    assert [limit for _, limit in limits(tape)] == [0, 1, 2]
    assert caplog.text.count("too much was told at once") == 7


async def test_a_log_that_does_not_answer_holds_up_no_call(tape, kind_of, workers):
    """The end of the attempt is on its way though what was learned before it is still unanswered."""
    answered, taken = asyncio.Event(), tape.log()
    append = taken.append

    async def slow(entries):
        if "quota_learned" in entries[0].subject:
            await answered.wait()
        return await append(entries)

    taken.append = slow
    usage = Usage(input_tokens=1, output_tokens=1)
    verdict = Verdict(ok=True, usage=usage, charged="known", finish_reason="stop")
    told = [events.QuotaLearned(platform="rehearsal", limit=5)]
    worker = await workers.make(tape, log=taken, kind=kind_of(b"x", verdict=verdict, learned=told))
    tape.reserve()
    assert (await tape.end_of()).status == "completed"
    assert not tape.said(events.QuotaLearned)
    answered.set()
    await tape.idle(worker)
    assert limits(tape) == [("rehearsal", 5)]
