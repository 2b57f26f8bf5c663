"""farebox doctor: what is fine, who would pay, what is wrong, and what to type; no model is asked."""

from __future__ import annotations

from contextlib import asynccontextmanager

import msgspec
import pytest

from farebox import doctor
from farebox.cli import doctor as command
from farebox.cli import main, session
from farebox.core.errors import LogDamaged, NotReachable
from farebox.doctor import Finding

INFO = {
    "log": {"last_seq": 4849, "views_seq": 4849, "bytes": 12 << 20}, "store": "/s", "bus": "nats://x",
    "trouble": None, "warning": None,
}  # fmt: skip


def row(name, **fields):
    told = {
        "platform": name, "kind": "compatible", "enabled": True, "billing": "metered", "tier": 2, "limit": 2, "available": True,
        "only_by_name": False, "detail": "3 models", "mend": "", "models": [],
    }  # fmt: skip
    return told | fields


def test_an_engine_that_is_well_is_one_line():
    (found,) = doctor.of_engine(INFO, 1 << 40)
    assert (found.mark, found.detail) == ("ok", "4849 facts, 12.0 MiB · /s")


def test_an_engine_that_is_not_well_says_what_and_what_to_type():
    told = {"code": "FB113", "message": "The disk is full.", "hint": "Make room."}
    info = INFO | {"trouble": told, "warning": told, "log": INFO["log"] | {"last_seq": 99_999}}
    marks = [(one.mark, one.what, one.mend) for one in doctor.of_engine(info, 5 << 20)]
    assert marks == [
        ("ok", "log", ""),
        ("warning", "views", "farebox status"),
        ("warning", "disk", "Make room there."),
        ("problem", "engine", "Make room."),
        ("warning", "engine", "Make room."),
    ]


def test_what_is_missing_is_a_problem_only_where_somebody_wrote_it_down():
    rows = [row("ollama", available=False, mend="ollama serve"), row("mine", available=False, mend="Start it."), row("groq")]
    found = {one.what: (one.mark, one.mend) for one in doctor.of_platforms(rows, ["mine"], [])}
    assert found == {"ollama": ("absent", "ollama serve"), "mine": ("problem", "Start it."), "groq": ("ok", "")}


def test_who_pays_is_said_and_a_key_beside_a_plan_is_told():
    rows = [row("claude-code", kind="claude-code", billing="plan"), row("codex", kind="codex", billing="plan")]
    found = doctor.of_platforms(rows, [], ["ANTHROPIC_API_KEY"])
    assert [(one.mark, one.what, one.pays) for one in found] == [
        ("ok", "claude-code", "your plan"),
        ("warning", "claude-code", ""),
        ("ok", "codex", "your plan"),
    ]
    assert "so that the plan pays" in found[1].detail


def test_a_machine_on_which_nothing_could_do_a_task_has_a_problem():
    rows = [row("interactive", only_by_name=True), row("off", enabled=False, available=False)]
    assert [(one.mark, one.what) for one in doctor.of_platforms(rows, [], [])] == [
        ("ok", "interactive"),
        ("problem", "platforms"),
    ]


def test_long_lines_are_wrapped_and_what_is_wrong_is_summed_up(monkeypatch):
    monkeypatch.setattr(command, "width", lambda: 60)
    lines = command.report(
        [
            Finding(mark="ok", what="log", detail="fine", mend="not shown"),
            Finding(mark="problem", what="x", detail="word " * 20, pays="you", mend="farebox up"),
            Finding(mark="warning", what="y", detail="odd"),
        ]
    )
    assert all(len(line) <= 60 for line in lines)
    assert lines[0] == " ✓ log            fine"
    assert lines[-3].strip() == "farebox up"
    assert lines[-1] == " 1 warning, 1 problem"
    assert command.report([Finding(mark="ok", what="log", detail="fine")])[-1] == " nothing is wrong"


@pytest.fixture
def alone(monkeypatch, tmp_path):
    """Only what is asked for by name, and no engine."""
    monkeypatch.setenv("FAREBOX_ENGINE__DISCOVER", "false")
    monkeypatch.setenv("FAREBOX_HOME", str(tmp_path / "store"))


def test_a_new_machine_is_told_where_to_begin(alone, capsys):
    assert main(["doctor"]) == 3
    told = capsys.readouterr().out
    assert "– log" in told
    assert "farebox up --detach" in told
    assert "✗ platforms      none is there that could do a task" in told


def test_a_document_for_programs(cli, monkeypatch, tmp_path):
    monkeypatch.setenv("FAREBOX_ENGINE__DISCOVER", "false")
    (tmp_path / "store" / "nats").mkdir(parents=True)
    ran = cli("doctor", "--json")
    told = msgspec.json.decode(ran.out)
    assert (ran.code, told["schema"], told["problems"]) == (3, "farebox.doctor/1", 1)
    assert [one["what"] for one in told["findings"]][:2] == ["farebox", "log"]


@pytest.mark.parametrize(("error", "code"), [(NotReachable("Nobody."), 4), (LogDamaged("A hole at 7.", hint="Restore it."), 8)])
def test_a_log_that_cannot_be_looked_at_or_believed_is_said_and_the_rest_is_looked_at(alone, capsys, tmp_path, error, code):
    (tmp_path / "store" / "nats").mkdir(parents=True)

    @asynccontextmanager
    async def broken(_common, _need):
        raise error
        yield

    token = session.OPENER.set(broken)
    try:
        assert main(["doctor"]) == code
    finally:
        session.OPENER.reset(token)
    told = capsys.readouterr().out
    assert f"✗ log            {error.code} {error.message}" in told
    assert "interactive" in told


def test_what_waits_for_a_person_is_a_warning_and_platforms_are_the_engines(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(command, "_where", lambda *_: object())
    monkeypatch.setattr(command, "width", lambda: 120)

    class Told:
        async def status(self, **_):
            questions = [{"task_id": "t1", "prompt": "Which?"}]
            return {"engine": INFO, "questions": questions}

        async def platforms(self):
            return {"platforms": [row("groq")]}

    @asynccontextmanager
    async def opened(_common, _need):
        yield Told()

    token = session.OPENER.set(opened)
    try:
        assert main(["doctor", "--store", str(tmp_path / "none")]) == 0
    finally:
        session.OPENER.reset(token)
    told = capsys.readouterr().out
    assert '! waits          task t1 waits for an answer: "Which?" Type: farebox answer t1 -' in told
    assert " ✓ groq           3 models · pays: you, per token" in told
    assert told.endswith(" 1 warning\n")


def test_platforms_that_cannot_be_asked_about_are_a_problem(alone, capsys, tmp_path):
    (tmp_path / "farebox.toml").write_text('[platforms.x]\nkind = "nothing"\n')
    assert main(["doctor", "--config", str(tmp_path / "farebox.toml")]) == 3
    assert "✗ platforms" in capsys.readouterr().out
