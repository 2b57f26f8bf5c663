"""Before money is spent: what a long prompt would cost is said, and a task that quota or budget refuse ends with 5."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from actors import quota, router
from farebox import api, plan
from farebox.cli import answer_shown, submitting
from farebox.core.events import QuotaRefused, QuotaReserved, TaskCompleted, TaskRouted
from farebox.core.quotas import BudgetSettings, QuotaSettings
from farebox.core.results import ErrorShown, Result
from farebox.core.terms import Allowance, CallRecord, Candidate, Constraints

SHARE = {"platform": "openai", "billing": "metered", "tasks": 1, "unpriced": 0, "low_usd": "0.01", "bound_usd": "0.05"}


def refused(error_class, message, attempts=0):
    return Result(
        task_id="t",
        chain_id="c",
        status="failed",
        attempts=attempts,
        error=ErrorShown(error_class=error_class, message=message),
    )


@pytest.mark.parametrize(
    ("result", "code", "exit_code"),
    [
        (refused("quota_exhausted", "codex/5h/percent: 100 of 100 used"), "FB301", 5),
        (refused("policy", "openai: budget:month/month/usd: $50 of $50 is used or reserved"), "FB302", 5),
        (refused("policy", "openai: costs at least $0.02, the task may cost $0.01"), "FB302", 5),
        (refused("policy", "openai: has no price, and money is bounded: --allow-unpriced allows it"), "FB303", 5),
        (refused("policy", "openai: the task denies it"), "", 1),
        (refused("quota_exhausted", "429", attempts=1), "", 1),
        (Result(task_id="t", chain_id="c", status="completed"), "", 0),
    ],
)
def test_who_is_refused_before_anything_was_spent_has_a_code_and_ends_with_5(result, code, exit_code):
    assert (answer_shown.refusal_code(result), submitting.exit_code(result)) == (code, exit_code)
    if code:
        assert answer_shown.why(result).startswith(f"{code} {result.error.message[:10]}")
        assert answer_shown.why(result).endswith("See: farebox why t")


def _loaded(place):
    spec = importlib.util.spec_from_file_location(place.replace("/", "_"), Path(__file__).parents[1] / place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def stories():
    """What the router's and quota's own tests are made of."""
    return _loaded("actors/conftest.py"), _loaded("actors/router/conftest.py").Routing


def shown(fault):
    return refused(fault.error_class, fault.message)


@pytest.mark.parametrize(
    ("bound", "price", "allowed", "code"),
    [
        ("1", "1", {}, "FB302"), ("1", None, {}, "FB303"), ("1", None, {"allow_unpriced": True}, ""),
        (None, "1", {"on_quota": "stop"}, "FB301"),
    ],
)  # fmt: skip
def test_the_code_is_that_of_what_quota_really_says(stories, bound, price, allowed, code):
    told, _ = stories
    one = told.Story(quota.ACTOR)
    one.now_ms = 1_774_741_500_000
    billing = "metered" if bound else "plan"
    budgets = {"b": BudgetSettings(limit_usd="0.5")} if bound else {}
    quotas = {} if bound else {"q": QuotaSettings(platform="m", window="day", limit=1)}
    one.tell(told.adopted({"m": {"billing": billing, "limit": 9}}, budgets=budgets, quotas=quotas))
    may = Candidate(platform="m", billing=billing, input_tokens_max=9, output_tokens_max=9, bound_usd=price)
    said = []
    for task in ("a", "b"):
        asked = TaskRouted(chain="c", task=task, attempt=1, candidates=(may,), allowance=Allowance(**allowed))
        said += one.all_said(one.tell(asked))
        if any(isinstance(fact, QuotaReserved) and fact.task == task for fact in said):
            ended = {"chain": "c", "task": task, "platform": "m", "attempt": 1, "charged": "known", "status": "completed"}
            one.all_said(one.tell(TaskCompleted(**ended, calls=(CallRecord(status=200),))))
    faults = [fact.fault for fact in said if isinstance(fact, QuotaRefused)]
    assert {answer_shown.refusal_code(shown(fault)) for fault in faults} == ({code} if code else set())


@pytest.mark.parametrize(("price", "code"), [("0.01", "FB302"), (None, "FB303")])
def test_the_code_is_that_of_what_the_router_really_says(stories, price, code):
    told, routing = stories
    one = told.Story(router.ACTOR)
    one.tell(told.adopted({"m": {"billing": "metered", "model": "big"}}), *told.reported("m"))
    if price:
        one.tell(routing.prices(big=price))
    (said,) = one.hear(routing.task(system="long" * 100, constraints=Constraints(max_cost_usd="0.000001")))
    assert answer_shown.refusal_code(shown(said.fault)) == code


@pytest.fixture
def planned(monkeypatch):
    asked: list = []
    ask = api.ask

    async def answer(log, name, question, **options):
        if name != "plan":
            return await ask(log, name, question, **options)
        asked.append(question)
        return {"schema": "farebox.plan/1", "platforms": [SHARE]}

    monkeypatch.setattr(plan.api, "ask", answer)
    return asked


def test_a_long_prompt_says_what_it_costs_before_it_runs(cli, planned):
    ran = cli("submit", "word " * 12_000)
    assert ran.code == 0
    assert "tokens · openai · $0.0100 to $0.0500 · you pay" in ran.err
    assert planned[0]["groups"][0]["bytes"] == 60_000
    assert "word" not in str(planned)


def test_a_short_prompt_asks_nothing_and_the_setting_says_what_is_long(cli, planned, monkeypatch):
    assert cli("submit", "word " * 300).code == 0
    assert planned == []
    monkeypatch.setenv("FAREBOX_ENGINE__ESTIMATE_FROM_TOKENS", "100")
    assert cli("submit", "word " * 300, "--detach").code == 0
    assert len(planned) == 1
