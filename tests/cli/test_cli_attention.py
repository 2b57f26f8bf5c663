"""decide, dead, and what status says about them: each command over a real engine on the memory log."""

from __future__ import annotations

import asyncio
import dataclasses
from contextlib import asynccontextmanager
from typing import get_type_hints

import msgspec
import pytest

from farebox.cli import attention, cells, main, session
from farebox.client import Client
from farebox.config import platform_kinds
from farebox.core import events, subjects, wire
from farebox.core.platform import InlineCall, Piece, PlatformKind, Verdict
from farebox.core.pricing import PriceList
from farebox.core.settings import PlatformSettings, Settings
from farebox.core.terms import Fault
from farebox.engines import actors
from farebox.log.memory import MemoryLog, MemoryStore
from farebox.log.port import Entry
from farebox.runtime.engine import Engine
from farebox.views.desk import Desk

INLINE = PlatformSettings(kind="rehearsal", billing="rehearsal", options={"wire": "inline"})
(REHEARSAL,) = (kind for kind in platform_kinds() if kind.name == "rehearsal")
STALLED = Verdict(ok=False, fault=Fault(error_class="stalled", message="No byte for 120 s."), charged="possible")


class Half:
    """Reads half an answer, then nothing."""

    def head(self, _head):
        return []

    def feed(self, data):
        return [Piece(data.decode())]

    def end(self, _end):
        return STALLED


STALLING = PlatformKind(
    name="rehearsal", ask=lambda _ask: InlineCall(chunks=(b"Half an answer",)), reader=lambda _ask: Half(),
    probe=REHEARSAL.probe, read_probe=REHEARSAL.read_probe, check=REHEARSAL.check, defaults={},
)  # fmt: skip


def sick_actors(over):
    """The real actors, but the router breaks over the tasks named in `over`."""
    healthy = next(actor for actor in actors() if actor.name == "router")

    def decide(state, heard):
        if heard.task in over:
            raise KeyError(f"no {heard.task}")
        return healthy.decide(state, heard)

    decide.__annotations__ = get_type_hints(healthy.decide)
    return tuple(dataclasses.replace(one, decide=decide) if one is healthy else one for one in actors())


class World:
    """A log in memory, and what each command's engine is made of."""

    def __init__(self, folder):
        self.store = MemoryStore()
        self.folder = folder
        self.over = set()

    @asynccontextmanager
    async def opened(self, _common, _need):
        engine = Engine(
            MemoryLog(self.store), Settings(platforms={"rehearsal": INLINE}), actors=sick_actors(self.over),
            kinds={"rehearsal": STALLING}, prices=PriceList(list_id="none"), views=Desk(self.folder / "ledger.duckdb"),
            folder=self.folder, secret=b"s" * 32, about={"version": "test"}, environ={},
        )  # fmt: skip
        await engine.start()
        client = Client(MemoryLog(self.store), patience_s=2)
        try:
            await self._quiet(engine)
            yield client
            await self._quiet(engine)
        finally:
            await client.close()
            await engine.stop(0)

    async def _quiet(self, engine):
        """Until each task has ended, or waits for somebody, and the views know it."""
        async with asyncio.timeout(25):
            while not all(mind.idle for mind in engine.minds) or engine.running:
                await asyncio.sleep(0.01)
            await engine.projection.wait_for((await engine.log.position()).last_seq, 25)

    def write(self, subject, body):
        return self.store.append([Entry(subject, body)])[0]

    def submit(self, task, **fields):
        fact = events.TaskSubmitted(**{"chain": task, "task": task, "prompt": "Hello.", "on_interrupt": "ask", **fields})
        return self.write(subjects.subject_of("client", fact), wire.encode(fact))


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


@pytest.fixture
def cli(world, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("FAREBOX_HOME", str(tmp_path))

    def run(*arguments):
        token = session.OPENER.set(world.opened)
        try:
            code = main([str(argument) for argument in arguments])
        finally:
            session.OPENER.reset(token)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def document(ran):
    return msgspec.json.decode(ran[1].splitlines()[-1])


def waiting(world, cli, task="t1"):
    """Submit a task and let it come to its question."""
    world.submit(task)
    cli("status")
    return document(cli("status", "--json"))["decisions"]


def test_status_says_what_waits_and_what_to_type(world, cli):
    (question,) = waiting(world, cli)
    told = (
        "! task t1 waits for your decision: attempt 1 on rehearsal was interrupted (stalled: No byte for 120 s) and may have"
        " cost nothing. Type: farebox decide t1 retry|fail|accept"
    )
    assert cli("status")[1].splitlines()[-1] == told
    assert told in cli("status", "t1")[1].splitlines()
    assert document(cli("status", "t1", "--json"))["decision"] == question


@pytest.mark.parametrize(
    ("word", "status", "said"),
    [
        ("accept", "completed", "task t1 completed; attempt 1 may have cost nothing"),
        ("fail", "failed", "task t1 failed; attempt 1 may have cost nothing"),
        ("retry", "pending", "task t1 is tried again; attempt 1 may have cost nothing. Watch it: farebox status t1"),
    ],
)
def test_a_decision_is_answered_with_what_came_of_it(world, cli, word, status, said):
    waiting(world, cli)
    assert cli("decide", "t1", word) == (0, said + "\n", "")
    waiting(world, cli, "t2")
    told = document(cli("decide", "t2", word, "--json"))
    assert (told["schema"], told["decision"], told["status"]) == ("farebox.decided/1", word, status)
    assert told["attempt"] == 1


def test_wrong_use_of_decide_is_one_line(world, cli):
    waiting(world, cli)
    for arguments, begins in [
        (("t1", "retyr"), 'FB401 "retyr" is no decision. Did you mean "retry"?'),
        (("nobody", "retry"), "FB409 There is no task"),
        (("t1",), "FB400 "),
    ]:
        code, _, err = cli("decide", *arguments)
        assert (code, err.count("\n")) == (2, 1)
        assert err.startswith(begins)
    assert cli("decide", "t1", "fail")[0] == 0
    code, _, err = cli("decide", "t1", "retry")
    assert (code, err) == (2, "FB412 Attempt 1 of task t1 was decided already: fail. See: farebox status t1\n")


def test_dead_letters_are_listed_shown_and_retried(world, cli):
    assert cli("dead") == (0, "Nothing is stopped.\n", "")
    world.over.add("t1")
    seq = world.submit("t1")
    garbage = world.write("farebox.log.client.answered.-.t2.t2", b"\x1b[31m\xff")
    listed = cli("dead", "list")[1].splitlines()
    assert [line.split()[:4] for line in listed[1:3]] == [
        [str(garbage), "quarantined", "client", "t2"], [str(seq), "undecided", "router", "t1"],
    ]  # fmt: skip
    assert listed[3] == f"See one: farebox dead show {garbage}"
    assert "! 2 facts are stopped, and what hangs on them: farebox dead list" in cli("status")[1]
    shown = cli("dead", "show", garbage)[1]
    assert "\x1b" not in shown
    assert "    \ufffd[31m\\xff" in shown.splitlines()
    assert f"farebox dead retry {garbage}" in shown
    assert document(cli("dead", "show", seq, "--json"))["kind"] == "undecided"
    code, _, err = cli("dead", "retry", seq)
    assert (code, err.split(" again")[0]) == (2, f"FB415 router broke over fact {seq}")
    world.over.clear()
    assert document(cli("dead", "--json"))["open"] == 1, "decided about at the next start"
    code, _, err = cli("dead", "retry", garbage)
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith(f"FB415 Fact {garbage} still does not read")


def test_a_letter_that_is_over_is_listed_only_when_asked_for(world, cli):
    world.write("farebox.log.client.submitted.-.t1.t1", b"{}")
    cli("status")
    assert cli("dead")[1] == "Nothing is stopped.\n"
    assert "quarantined, over" in cli("dead", "--all")[1]


def test_wrong_use_of_dead_is_one_line(cli):
    for arguments, begins in [
        (("lits",), 'FB401 "lits" cannot be done. Did you mean "list"?'),
        (("list", "3"), "FB401 The list takes no number. farebox dead show 3"),
        (("show",), "FB401 Which fact? farebox dead show NUMBER"),
        (("show", "999"), "FB413 Fact 999 is no dead letter."),
    ]:
        code, _, err = cli("dead", *arguments)
        assert (code, err.count("\n")) == (2, 1)
        assert err.startswith(begins)


def test_many_parked_tasks_are_counted_not_listed():
    letters = [{"seq": n, "kind": "parked", "task": f"t{n}"} for n in range(1, 8)]
    letters += [{"seq": 9, "kind": "parked", "task": "-"}, {"seq": 8, "kind": "given_up", "task": "t8"}]
    told = attention.lines({"dead": letters})
    assert told[0] == "! task t1 is parked at fact 1: written by a newer farebox, upgrade this one"
    assert told[-2:] == [
        "! 3 more are parked: farebox dead list",
        "! 1 fact is stopped, and what hangs on it: farebox dead list",
    ]
    assert attention.lines({"dead": letters[-2:-1]}) == [
        "! The log is not understood from fact 9: written by a newer farebox, upgrade this one"
    ]


def test_an_actor_that_stopped_and_a_broken_chain_have_a_line_of_their_own():
    halted = {"seq": 7, "kind": "halted", "who": "quota", "task": "", "reason": "KeyError: 'x'."}
    unchained = {"seq": 8, "kind": "unchained", "who": "router", "task": "t8", "reason": "FB809 it follows none"}
    told = attention.lines({"dead": [unchained, halted, {**halted, "seq": 6, "who": "router"}]})
    assert told == [
        "! quota gives nobody a slot any more since fact 7 (KeyError: 'x'); what runs goes on: farebox dead show 7",
        "! router decides about nothing any more since fact 6 (KeyError: 'x'); what runs goes on: farebox dead show 6",
        "! task t8 is stopped at fact 8, which follows one that is not there (FB809): farebox dead show 8",
        "! 1 fact is stopped, and what hangs on it: farebox dead list",
    ]


def test_what_may_have_been_paid_is_never_a_zero_that_nobody_knows():
    assert cells.at_most({"billing": "metered", "possible_usd": "0.0042"}) == "at most $0.0042"
    assert cells.at_most({"billing": "metered", "possible_usd": None}) == "an unknown amount"
    assert cells.at_most({"billing": "plan", "possible_usd": None}) == "a part of the plan"
    assert cells.at_most({"billing": "free"}) == "nothing"


def test_an_answer_may_come_from_stdin_and_is_no_option(world, cli, monkeypatch):
    monkeypatch.setattr("farebox.cli.answer.text_file", lambda _path: "From stdin.")
    waiting(world, cli)
    code, _, told = cli("answer", "t1", "-")
    assert (code, told.startswith("FB420 Task t1 waits for no person: it is ")) == (2, True), told
    code, _, told = cli("answer", "t1", "--jsn")
    assert (code, "Unknown option: --jsn" in told) == (2, True)
