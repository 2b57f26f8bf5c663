"""What an engine tells about a task and about quotas: its facts without its texts; settings that change while it runs."""

from __future__ import annotations

import msgspec
import pytest

from farebox.core.quotas import QuotaSettings


@pytest.fixture
async def ask(tape, engines):
    engine = await engines.make(tape.log())
    asker = tape.log()

    async def question(name, **fields):
        return msgspec.json.decode(await asker.request(f"farebox.api.{name}", msgspec.json.encode(fields), 25))

    question.engine = engine
    return question


async def test_why_holds_every_fact_of_the_task_and_none_of_its_texts(ask, monkeypatch):
    monkeypatch.setattr("farebox.runtime.reasons.FRESH_S", 25)
    said = await ask("submit", prompt="A very private question", platform="rehearsal")
    await ask("result", task=said["task"], wait_s=25)
    found = await ask("why", task=said["task"])
    assert (found["schema"], found["status"]) == ("farebox.why/1", "completed")
    kinds = [fact["fact"] for fact in found["facts"]]
    assert kinds[:4] == ["TaskSubmitted", "TaskRouted", "QuotaReserved", "TaskStarted"]
    assert [fact["seq"] for fact in found["facts"]] == sorted(fact["seq"] for fact in found["facts"])
    assert "private" not in str(found)
    assert (await ask("why", task="nobody"))["error"]["code"] == "FB409"


async def test_a_long_story_is_told_from_both_ends(ask, monkeypatch):
    monkeypatch.setattr("farebox.runtime.reasons.FACTS_MAX", 2)
    monkeypatch.setattr("farebox.runtime.reasons.FRESH_S", 25)
    said = await ask("submit", prompt="x", platform="rehearsal")
    await ask("result", task=said["task"], wait_s=25)
    found = await ask("why", task=said["task"])
    assert len(found["facts"]) == 2
    assert found["left_out"] >= 4


async def test_new_limits_are_adopted_while_the_engine_runs(ask, tape):
    engine = ask.engine
    assert "error" in await ask("settings_reload")
    new = msgspec.structs.replace(
        engine.settings, quotas={"day": QuotaSettings(platform="rehearsal", window="day", limit=1)}, attempts_max=3
    )
    capacity = engine._service._more["settings_reload"].__self__
    capacity._reload = lambda: new
    found = await ask("settings_reload")
    assert (found["schema"], found["changed"], found["needs_restart"]) == ("farebox.settings/1", ["quotas"], False)
    assert (found["quotas"]["day"]["limit"], found["budgets"]) == (1, {})
    last = await engine.log.last("farebox.log.engine.settings.-.-.-")
    assert last is not None
    assert found["adopted_seq"] == last.seq
    assert msgspec.json.decode(last.body)["settings"]["quotas"]["day"]["limit"] == 1
    assert engine.settings.attempts_max != 3
    again = await ask("settings_reload")
    assert (again["changed"], again["adopted_seq"]) == ([], found["adopted_seq"])
    assert (await ask("quota"))["schema"] == "farebox.quota/1"


async def test_a_plan_asks_the_router_for_tasks_that_nobody_submitted_and_leaves_no_trace(ask, tape):
    before = len(tape.store.facts)
    groups = [
        {"count": 3, "bytes": 7000, "task": {"platform": "rehearsal"}},
        {"count": 2, "task": {"platform": "nobody", "fallback": False}},
    ]
    found = await ask("plan", groups=groups)
    assert (found["schema"], found["tasks"]) == ("farebox.plan/1", 5)
    (share,) = found["platforms"]
    assert (share["platform"], share["tasks"]) == ("rehearsal", 3)
    (refused,) = found["refused"]
    assert refused["tasks"] == 2
    assert len(tape.store.facts) == before
    assert (await ask("plan", groups=[{"count": 2_000_000}]))["error"]["code"] == "FB401"
    assert "does not read" in (await ask("plan", groups=[{"count": 1, "task": {"priority": "x"}}]))["error"]["message"]
    assert "at most" in (await ask("plan", groups=[{"count": 600_000}] * 2))["error"]["message"]
    ask.engine.minds[:] = [mind for mind in ask.engine.minds if mind.actor.name != "router"]
    assert "No router runs" in (await ask("plan", groups=[]))["error"]["message"]
