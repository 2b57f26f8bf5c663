"""Budgets in US dollars: reserved by the bound, settled by the bill, for whom they are, and what is remembered of them."""

import pytest

from actors import quota
from farebox.core.actor import Wake
from farebox.core.events import (
    AttemptFailed,
    CostRecorded,
    QuotaDeferred,
    QuotaRefused,
    QuotaReserved,
    TaskCompleted,
    TaskRouted,
)
from farebox.core.quotas import BudgetSettings, QuotaSettings
from farebox.core.terms import Allowance, CallRecord, Candidate, Fault

FULL = {"input_tokens_max": 10, "output_tokens_max": 10, "bound_usd": "0.5"}


@pytest.fixture
def story(told):
    def tell(platforms, **more):
        one = told.Story(quota.ACTOR)
        one.now_ms = 1_774_741_500_000
        one.tell(told.adopted(platforms, **more))
        return one

    return tell


def limited(limit, unit="requests", window="hour", platform="p", **more):
    return QuotaSettings(platform=platform, window=window, unit=unit, limit=limit, **more)


def routed(task, *platforms, billing="plan", chain="c", attempt=1, batch="", priority=0, fields=FULL, **allowed):
    candidates = tuple(
        one if isinstance(one, Candidate) else Candidate(platform=one, billing=billing, **fields) for one in platforms
    )
    return TaskRouted(
        chain=chain, task=task, attempt=attempt, batch=batch, candidates=candidates, priority=priority,
        allowance=Allowance(**allowed),
    )  # fmt: skip


def metered(name, **fields):
    return Candidate(platform=name, billing="metered", **{**FULL, **fields})


def done(task, platform="p", chain="c", attempt=1, calls=1, **fields):
    records = (CallRecord(status=200),) * calls
    told = {"chain": chain, "task": task, "platform": platform, "attempt": attempt, "calls": records, "charged": "known"}
    return TaskCompleted(**{**told, "status": "completed", **fields})


def bill(ended, paid="0.1", status="priced", **fields):
    return CostRecorded(
        chain=ended.chain, task=ended.task, attempt=ended.attempt, platform=ended.platform, cause=ended.id, paid_usd=paid,
        status=status, **fields,
    )  # fmt: skip


def names(said):
    return [(type(fact).__name__, fact.task) for fact in said]


def grants(said):
    return [(fact.task, fact.platform) for fact in said if isinstance(fact, QuotaReserved)]


def test_a_budget_is_reserved_by_its_bound_settled_by_the_bill_and_corrected_by_a_later_one(story):
    one = story({"m": {"billing": "metered", "limit": 9}}, budgets={"day": BudgetSettings(limit_usd="1", window="day")},
                warn_at_percent=100)  # fmt: skip
    (granted,) = one.all_said(one.tell(routed("a", metered("m"))))
    assert (granted.takes[0].quota, granted.takes[0].amount, granted.output_tokens_max) == ("budget:day/day/usd", "0.5", 10)
    ended = one.tell(done("a", "m"))
    assert names(one.all_said(ended)) == [("QuotaSettled", "a")]
    assert one.state.uses.use("budget:day/day/usd", one.now_ms) == (5 * 10**11, 5 * 10**11)
    cost = one.tell(bill(ended, None, "possible"))
    (settled,) = one.all_said(cost)
    assert (settled.cause, settled.takes[0].amount) == (cost.id, "0.5")
    (settled,) = one.all_said(one.tell(bill(ended, "0.2", late=True, id="late")))
    assert settled.takes[0].amount == "0.2"
    assert one.all_said(one.tell(bill(ended, "0.2", late=True, id="late"))) == [], "what stands twice counts once"
    assert one.state.uses.use("budget:day/day/usd", one.now_ms) == (2 * 10**11, 0)
    assert one.all_said(one.tell(bill(done("zzz", "m")))) == []


def test_a_budget_of_a_chain_stops_its_chain_and_no_other(story):
    one = story({"m": {"billing": "metered", "limit": 9}}, warn_at_percent=100,
                budgets={"each": BudgetSettings(limit_usd="0.9", scope="chain", window="day")})  # fmt: skip
    for chain in ("c", "c", "d"):
        one.tell(routed(f"t{len(one.facts)}", metered("m"), chain=chain))
    said = one.all_said(Wake(one.now_ms))
    assert [fact.chain for fact in said if isinstance(fact, QuotaReserved)] == ["c", "d"]
    ended = one.tell(done(said[0].task, "m"))
    one.all_said(ended)
    assert [fact.chain for fact in one.all_said(one.tell(bill(ended, "0.1"))) if isinstance(fact, QuotaReserved)] == ["c"]


def test_bounds_of_a_task_its_batch_and_its_chain_end_it_with_what_to_type(story):
    one = story({"m": {"billing": "metered", "limit": 9}})
    (said,) = one.all_said(one.tell(routed("a", metered("m"), max_cost_usd="0.4")))
    assert (type(said), said.fault.error_class) == (QuotaRefused, "policy")
    assert "$0 of $0.4 is used or reserved" in said.fault.message
    assert "--max-cost" in said.fault.message
    one.all_said(one.tell(routed("b", metered("m"), batch="x", batch_max_cost_usd="9", chain_max_cost_usd="0.7")))
    waits = one.tell(routed("d", metered("m"), batch="x", chain_max_cost_usd="8"))
    assert one.all_said(waits) == [], "it waits for a bill"
    ended = one.tell(done("b", "m"))
    one.all_said(ended)
    said = one.all_said(one.tell(bill(ended, "0.6")))
    assert [type(fact) for fact in said][-1] is QuotaRefused
    assert said[0].takes[-1].amount == "0.6"


def test_what_has_no_price_is_out_under_a_budget_unless_it_is_allowed(story):
    one = story({"m": {"billing": "metered", "limit": 9}}, budgets={"b": BudgetSettings(limit_usd="1")})
    (said,) = one.all_said(one.tell(routed("a", metered("m", bound_usd=None))))
    assert (said.fault.error_class, "--allow-unpriced" in said.fault.message) == ("policy", True)
    (said,) = one.all_said(one.tell(routed("b", metered("m", bound_usd=None), allow_unpriced=True)))
    assert [(take.amount, take.source) for take in said.takes] == [("0", None)]
    (said,) = one.all_said(one.tell(routed("c", metered("m", bound_usd="3"))))
    assert "[budgets.b]" in said.fault.message


@pytest.mark.parametrize(
    ("scope", "key", "billing", "quotas"),
    [
        ("all", "", "metered", ["budget:b/all/usd"]),
        ("all", "", "rehearsal", []),
        ("all", "", "plan", []),
        ("platform", "", "metered", ["budget:b=m/all/usd"]),
        ("platform", "m", "metered", ["budget:b/all/usd"]),
        ("platform", "m", "rehearsal", ["budget:b/all/usd"]),
        ("platform", "", "rehearsal", []),
        ("platform", "other", "metered", []),
        ("tag", "team=a", "metered", ["budget:b/all/usd"]),
        ("tag", "", "metered", ["budget:b=team=a/all/usd"]),
        ("tag", "", "rehearsal", []),
        ("chain", "", "rehearsal", ["budget:b=c/all/usd"]),
        ("batch", "", "metered", ["budget:b=x/all/usd"]),
        ("batch", "x", "metered", ["budget:b/all/usd"]),
        ("task", "", "metered", ["budget:b=c.a/all/usd"]),
        ("task", "a", "metered", ["budget:b/all/usd"]),
    ],
)
def test_each_budget_counts_whom_it_is_for(story, scope, key, billing, quotas):
    one = story({"m": {"billing": billing, "limit": 9}}, budgets={"b": BudgetSettings(limit_usd="1", scope=scope, key=key)})
    candidate = Candidate(platform="m", billing=billing, **FULL)
    said = one.all_said(one.tell(routed("a", candidate, batch="x", tags={"team": "a"})))
    assert [take.quota for take in said[0].takes] == quotas


def test_those_who_step_aside_come_back_one_after_the_other_and_the_next_day(story):
    budget = BudgetSettings(limit_usd="0.9", scope="chain", window="day")
    one = story({"m": {"billing": "metered", "limit": 9}}, budgets={"each": budget}, warn_at_percent=100)
    for name in "abcd":
        one.tell(routed(name, metered("m")))
    assert grants(one.all_said(Wake(one.now_ms))) == [("a", "m")]
    one.tell(TaskCompleted(chain="c", task="b", attempt=1, status="cancelled"))
    ended = one.tell(done("a", "m"))
    one.all_said(ended)
    said = one.all_said(one.tell(bill(ended, "0.45")))
    assert grants(said) == []
    (deferred, *_) = (fact for fact in said if isinstance(fact, QuotaDeferred))
    assert (deferred.task, quota.due(one.state)) == ("c", deferred.due_ms)
    one.now_ms = deferred.due_ms
    assert grants(one.all_said(Wake(one.now_ms))) == [("c", "m")]


def test_bills_of_a_task_that_is_over_and_forgotten_break_nothing(story):
    one = story({"m": {"billing": "metered", "limit": 9}})
    failed = {"charged": "possible", "fault": Fault(error_class="network")}
    one.all_said(one.tell(routed("a", metered("m"), max_cost_usd="9")))
    first = one.tell(AttemptFailed(chain="c", task="a", attempt=1, platform="m", **failed))
    one.all_said(one.tell(routed("a", metered("m"), attempt=2, max_cost_usd="9")))
    last = one.tell(done("a", "m", attempt=2))
    one.all_said(last)
    one.all_said(one.tell(bill(last, "0.1")))
    assert "budget:task=c.a/all/usd" not in one.state.uses.tallies
    for fact in (bill(first, "0.2", "possible"), bill(first, "0.3", id="late")):
        assert names(one.all_said(one.tell(fact))) == [("QuotaSettled", "a")]


def test_what_is_remembered_of_what_is_over_is_bounded(story, told, monkeypatch):
    monkeypatch.setattr("actors.holds.BOOKED_MAX", 2)
    one = story({"m": {"billing": "metered", "limit": 9}}, budgets={"b": BudgetSettings(limit_usd="100")})
    for name in "abcd":
        one.all_said(one.tell(routed(name, metered("m"))))
        ended = one.tell(done(name, "m"))
        one.all_said(ended)
        one.all_said(one.tell(bill(ended, "0.1", "possible")))
    assert list(one.state.booked) == ["c.c.1", "c.d.1"]
    for name in "ef":
        one.all_said(one.tell(routed(name, metered("m"))))
        one.tell(done(name, "m"))
    one.state.booked = {name: held for name, held in one.state.booked.items() if held.open}
    grant = QuotaReserved(chain="c", task="x", attempt=1, platform="m", takes=())
    for _ in range(quota.SLACK + 20):
        one.tell(grant, done("x", "m"))
        one.state.ended.clear()
    assert len(one.state.deadlines) <= quota.SLACK + 10
    one.tell(grant, told.adopted({"m": {"enabled": False}}), done("x", "m"))
    assert not one.state.holds
