"""farebox spool: paid answers that nobody claims are listed, taken out, and dropped only when somebody says so."""

from __future__ import annotations

import asyncio

import pytest

from farebox.cli import attention
from farebox.core.platform import CallEnded, Verdict
from farebox.core.terms import Fault
from farebox.runtime import journal
from farebox.runtime.spool import Spool
from farebox.runtime.store import Store

KEY = "openai.c1.t1.9"


@pytest.fixture
def kept(tmp_path):
    """A store with two answers that nobody claims, and one that the log waits for."""

    async def make():
        spool = Spool(tmp_path / "store" / journal.PLACE)
        for epoch in (9, 10, 11):
            fault = Fault(error_class="network", message="cut") if epoch == 10 else None
            verdict = Verdict(ok=fault is None, charged="known", fault=fault)
            outcome = CallEnded(epoch=epoch, cause="x", attempt=1, verdict=verdict, text="Wise \x1b[31mowls.")
            await spool.keep(f"openai.c1.t1.{epoch}", outcome)
        assert await spool.keep_unclaimed(KEY)
        assert await spool.keep_unclaimed("openai.c1.t1.10")
        assert not await spool.keep_unclaimed(KEY)
        assert not await spool.keep_unclaimed("openai.c1.unknown.1")
        await spool.close()

    asyncio.run(make())


def test_without_any_there_is_nothing_to_show(cli):
    assert cli("spool").out == "The log knows of all that is kept here.\n"
    assert cli("spool", "--json").json == {"schema": "farebox.spool/1", "answers": []}


def test_answers_are_listed_and_their_text_comes_out_as_it_is(cli, kept, needs):
    lines = cli("spool").out.splitlines()
    assert [line.split()[:4] for line in lines[1:3]] == [["openai.c1.t1.10", "t1", "openai", "1"], [KEY, "t1", "openai", "1"]]
    assert lines[3] == "Get one out: farebox spool show openai.c1.t1.10"
    assert [one["error"] for one in cli("spool", "list", "--json").json["answers"]] == ["cut", None]
    assert cli("spool", "show", KEY).out == "Wise \x1b[31mowls.\n"
    shown = cli("spool", "show", KEY, "--json").json
    assert (shown["text"], shown["bytes"], shown["task"]) == ("Wise \x1b[31mowls.", 15, "t1")
    assert needs == [], "no engine is asked: the store knows"


def test_an_answer_steers_no_terminal(cli, kept, monkeypatch):
    monkeypatch.setattr("farebox.cli.spool.is_terminal", lambda _: True)
    assert "\x1b" not in cli("spool", "show", KEY).out


def test_only_what_somebody_drops_is_gone(cli, kept, tmp_path):
    assert cli("spool", "drop", KEY).out == f"{KEY} is gone for good.\n"
    assert cli("spool", "drop", "openai.c1.t1.10", "--json").json["answer"] == "openai.c1.t1.10"
    found = journal.Journal()
    assert found.read(tmp_path / "store" / journal.PLACE)
    assert list(found.outcomes) == ["openai.c1.t1.11"], "the log waits for this one"


def test_nothing_is_dropped_under_an_engine_that_runs(cli, kept, tmp_path):
    place = Store(tmp_path / "store")
    place.open()
    try:
        ran = cli("spool", "drop", KEY)
        assert (ran.code, ran.err[:6]) == (3, "FB104 ")
        assert cli("spool", "show", KEY).code == 0
    finally:
        place.close()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("shwo",), 'FB401 "shwo" cannot be done. Did you mean "show"?'),
        (("list", KEY), "FB401 The list takes no name."),
        (("show",), "FB401 Which answer?"),
        (("show", "openai.c1.t1.11"), "FB417 There is no answer 'openai.c1.t1.11' that nobody claims."),
        (("drop", "x"), "FB417 There is no answer 'x' that nobody claims."),
    ],
)
def test_what_cannot_be_done_is_one_line(cli, kept, words, said):
    ran = cli("spool", *words)
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert ran.err.startswith(said)


def test_a_status_names_the_first_of_them_and_counts_the_others():
    answers = [{"answer": f"p.c.t{n}.1", "task": f"t{n}", "platform": "p", "bytes": 234} for n in range(7)]
    told = attention.lines({"unclaimed": answers})
    assert told[0] == (
        "! The log knows no attempt of task t0 on p; the answer to it (234 bytes) is kept. Type: farebox spool show p.c.t0.1"
    )
    assert told[5:] == ["! 2 more answers are kept for nobody: farebox spool list"]
