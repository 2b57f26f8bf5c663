"""The plan before a batch: what it says, when it asks, and that nothing is sent where nobody says yes."""

from __future__ import annotations

import io
import sys

import pytest

from farebox import api, plan
from farebox.cli import batch_plan
from farebox.plan import groups_of
from farebox.tasks import spec_of

NOW_MS = 1_790_000_000_000
CALM = {
    "schema": "farebox.plan/1", "now_ms": NOW_MS, "warn_at_percent": 90, "tasks": 2,
    "platforms": [{"platform": "claude-code", "billing": "plan", "tasks": 2}],
    "paid_low_usd": "0", "paid_estimate_usd": "0", "paid_bound_usd": "0", "unpriced": 0, "windows": [], "waits": 0,
    "ends_ms": None, "refused": [],
}  # fmt: skip
NEAR = CALM | {
    "platforms": [
        {"platform": "claude-code", "billing": "plan", "tasks": 1},
        {"platform": "openai", "billing": "metered", "tasks": 1},
    ],
    "paid_low_usd": "0.31", "paid_estimate_usd": "0.47", "paid_bound_usd": "0.58", "unpriced": 1,
    "windows": [
        {
            "quota": "claude-code/5h/percent", "unit": "percent", "used": "84", "limit": "100",
            "resets_at_ms": NOW_MS + 3_600_000,
            "warn_at_task": 1, "full_at_task": 2,
        }
    ],
    "waits": 1, "ends_ms": NOW_MS + 3_600_000,
}  # fmt: skip


@pytest.fixture
def plans(monkeypatch):
    """The engine's plans by `on_quota`; "" is the first one."""
    said: dict = {"": CALM}
    ask = api.ask

    async def asked(log, name, question, **options):
        if name == "plan":
            return said.get(question.get("on_quota") or "", said[""])
        return await ask(log, name, question, **options)

    monkeypatch.setattr(plan.api, "ask", asked)
    return said


@pytest.fixture
def file(tmp_path):
    (tmp_path / "p.jsonl").write_text('{"prompt": "a"}\n{"prompt": "b"}\n')
    return "p.jsonl"


@pytest.fixture
def typed(monkeypatch):
    """What a person at the terminal types."""

    def type_in(text):
        monkeypatch.setattr(sys, "stdin", io.StringIO(text))
        monkeypatch.setattr(batch_plan, "is_terminal", lambda _: True)

    return type_in


def sent(store):
    return [fact for fact in store.facts if ".submitted." in fact.subject]


def test_a_batch_with_room_is_not_asked_about(cli, plans, file, store):
    ran = cli("batch", file)
    assert ran.code == 0
    assert "2 tasks · nothing paid · 2 on claude-code" in ran.err
    assert len(sent(store)) == 2


def test_near_a_limit_and_without_a_terminal_nothing_is_sent_and_the_options_are_named(cli, plans, file, store):
    plans[""] = NEAR
    ran = cli("batch", file)
    assert (ran.code, sent(store)) == (5, [])
    assert "estimate $0.3100 to $0.5800 paid, rest on plans, 1 tasks without a known price" in ran.err
    assert "claude-code/5h/percent is at 84 % of 100 %; this batch reaches 90 % at task 1 and 100 % at task 2; it" in ran.err
    assert "1 tasks wait for a window to turn; the last could start about" in ran.err
    for words in ("FB301", "Nothing was sent.", "--on-quota wait", "--yes"):
        assert words in ran.err
    assert cli("batch", file, "--json").json["error"]["code"] == "FB301"


@pytest.mark.parametrize(("options", "on_quota"), [(("--yes",), None), (("--on-quota", "spill"), "spill")])
def test_an_option_answers_before_it_is_asked(cli, plans, file, store, options, on_quota):
    plans[""] = NEAR
    assert cli("batch", file, *options).code == 0
    facts = sent(store)
    assert len(facts) == 2
    assert all((f'"on_quota":"{on_quota}"'.encode() in one.body) is (on_quota is not None) for one in facts)


@pytest.mark.parametrize(("words", "on_quota"), [("s\n", "spill"), ("\n", "spill"), ("what?\nw\n", "wait")])
def test_a_person_chooses(cli, plans, file, store, typed, words, on_quota):
    plans |= {"": NEAR, "wait": CALM | {"ends_ms": NOW_MS + 3_600_000, "waits": 1}}
    typed(words)
    ran = cli("batch", file)
    assert ran.code == 0
    assert "s  spill: 1 on claude-code, 1 on openai, about $0.4700, at most $0.5800, 1 tasks without a known price" in ran.err
    assert "w  wait: 2 on claude-code, nothing paid, the last starts about" in ran.err
    assert all(f'"on_quota":"{on_quota}"'.encode() in one.body for one in sent(store))


@pytest.mark.parametrize("words", ["x\n", ""])
def test_a_person_stops_and_so_does_the_end_of_the_input(cli, plans, file, store, typed, words):
    plans[""] = NEAR
    typed(words)
    assert (cli("batch", file).code, sent(store)) == (5, [])


def test_tasks_that_nobody_may_do_for_another_reason_are_told_of_and_end_by_themselves(cli, plans, file, store):
    plans[""] = CALM | {"refused": [{"reason": "the task denies it", "tasks": 2, "code": ""}]}
    ran = cli("batch", file)
    assert (ran.code, "2 tasks could not run: the task denies it" in ran.err) == (0, True)
    assert len(sent(store)) == 2


def test_without_the_dollars_of_it_enter_does_not_spill(cli, file, store, typed, monkeypatch):
    async def only_once(_client, _specs, on_quota=None):
        return None if on_quota else NEAR

    monkeypatch.setattr(batch_plan, "looked_ahead", only_once)
    typed("\nw\n")
    ran = cli("batch", file)
    assert (ran.code, "s  spill: what it costs cannot be said now" in ran.err) == (0, True)
    assert all(b'"on_quota":"wait"' in one.body for one in sent(store))


def test_money_beyond_the_bound_is_asked_about_and_tasks_that_quota_refuses_too(cli, plans, file, store):
    plans[""] = CALM | {"paid_estimate_usd": "0.47"}
    ran = cli("batch", file, "--max-cost", "0.40")
    assert (ran.code, "about $0.4700, and --max-cost is $0.4000" in ran.err) == (5, True)
    plans[""] = CALM | {"refused": [{"reason": "m: has no price", "tasks": 2, "code": "FB303"}]}
    ran = cli("batch", file)
    assert (ran.code, "FB303" in ran.err, "2 tasks could not run: m: has no price." in ran.err) == (5, True, True)
    assert sent(store) == []
    plans[""] = CALM
    assert cli("batch", file, "--max-cost", "0.40").code == 0
    assert all(b'"batch_max_cost_usd":"0.4"' in one.body for one in sent(store))


def test_dry_run_shows_the_same_and_checks_names(cli, plans, file, store, tmp_path):
    plans[""] = NEAR
    ran = cli("batch", file, "--dry-run")
    assert (ran.code, "this batch reaches 90 % at task 1" in ran.out) == (0, True)
    assert cli("batch", file, "--dry-run", "--json").json["plan"]["paid_bound_usd"] == "0.58"
    (tmp_path / "q.jsonl").write_text('{"prompt": "a", "platform": "rehersal"}\n')
    wrong = cli("batch", "q.jsonl", "--dry-run")
    assert (wrong.code, "q.jsonl line 1" in wrong.err) == (2, True)
    alone = cli("batch", file, "--dry-run", "--server", "nats://nobody:1")
    assert (alone.code, "No engine runs: platforms, models and limits were not looked at." in alone.err) == (0, True)
    assert sent(store) == []


def test_tasks_alike_become_one_line_of_the_question(monkeypatch):
    kinds = ((5, "review"), (6, "review"), (900, "review"), (5, "general"))
    specs = [spec_of({"prompt": "x" * size, "type": kind}) for size, kind in kinds]
    asked = groups_of([*specs, spec_of({"prompt": "x", "context": {"a": 1}, "chain": "c"})])
    assert [one["count"] for one in asked] == [2, 1, 1, 1]
    assert [one["bytes"] for one in asked] == [5, 900, 5, 9]
    assert asked[-1]["task"]["chain"] == "c"
    assert "prompt" not in str(asked)
    monkeypatch.setattr(plan, "GROUPS_MAX", 1)
    assert [one["count"] for one in groups_of([specs[0], specs[3], specs[1]])] == [2, 1]
