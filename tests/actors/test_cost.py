"""Every attempt that may have cost something has its charge, once, under the prices of its moment."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import cost
from farebox.core import money, pricing, subjects
from farebox.core.events import (
    AttemptFailed,
    AttemptInterrupted,
    CostRecorded,
    Fact,
    LateResult,
    PriceListAdopted,
    SettingsAdopted,
    TaskCompleted,
    TaskStarted,
    TaskSubmitted,
)
from farebox.core.pricing import DatedPrice, ModelPrices, PriceList, ProviderPrices, Rates
from farebox.core.settings import PlatformSettings, Settings, canonical
from farebox.core.terms import Fault, Ref, Usage

USAGE = Usage(input_tokens=1000, output_tokens=100)
LISTED = "0.002"
FAULT = Fault(error_class="server_error")


def prices(list_id: str = "list-1", input_price: str = "0.000001") -> PriceListAdopted:
    rates = Rates(input=input_price, output="0.00001")
    sold = (ModelPrices(id="m1", match=(("=m1",),), prices=(DatedPrice(rates=rates),)),)
    seller = ProviderPrices(id="acme", match=(("^m",),), models=sold)
    plain, sha256 = pricing.canonical(PriceList(list_id=list_id, providers=(seller,)))
    return PriceListAdopted(list_id=list_id, prices=plain, sha256=sha256)


def common(**more: Any) -> dict[str, Any]:
    return {"chain": "c1", "task": "t1", "attempt": 1, "epoch": 7, "batch": "b1", "platform": "p1", "id": "end-1"} | more


def done(**more: Any) -> TaskCompleted:
    return TaskCompleted(**common(status="completed", charged="known", usage=USAGE, model="m1") | more)


def lost(**more: Any) -> AttemptInterrupted:
    return AttemptInterrupted(**common(charged="possible", fault=FAULT) | more)


def started(**more: Any) -> TaskStarted:
    return TaskStarted(**common(id="start-1", model="m1", input_tokens_estimate=500) | more)


def submitted(max_tokens: int | None = 100) -> TaskSubmitted:
    return TaskSubmitted(chain="c1", task="t1", max_tokens=max_tokens)


def fold(*facts: Fact) -> cost.Cost:
    state = cost.ACTOR.new()
    for fact in facts:
        state = cost.ACTOR.evolve(state, fact)
    return state


def answer(*facts: Fact) -> CostRecorded:
    """Fold all facts and return the one charge said about the last."""
    (said,) = cost.ACTOR.decide(fold(*facts), facts[-1])
    assert isinstance(said, CostRecorded)
    return said


def test_a_metered_answer_is_priced_with_its_reasons() -> None:
    assert answer(prices(), done()) == CostRecorded(
        cause="end-1",
        chain="c1",
        task="t1",
        attempt=1,
        epoch=7,
        batch="b1",
        platform="p1",
        model="m1",
        billing="metered",
        status="priced",
        paid_usd=LISTED,
        usage=USAGE,
        unit_prices={"input": "0.000001", "output": "0.00001"},
        price_list="list-1",
        price_model="m1",
    )


@pytest.mark.parametrize(
    ("billing", "paid", "plan_value"),
    [("metered", LISTED, None), ("plan", "0", LISTED), ("free", "0", None), ("rehearsal", LISTED, None)],
)
def test_who_pays_decides_where_the_list_price_stands(billing: Any, paid: str, plan_value: str | None) -> None:
    said = answer(prices(), done(billing=billing))
    assert (said.billing, said.status, said.paid_usd, said.plan_value_usd) == (billing, "priced", paid, plan_value)


@pytest.mark.fault(64)
@pytest.mark.parametrize(
    ("billing", "status", "paid"),
    [
        ("metered", "unpriced", None),
        ("plan", "unpriced", "0"),
        ("free", "priced", "0"),
        ("rehearsal", "unpriced", None),
    ],
)
def test_an_unknown_price_is_none_and_never_zero(billing: Any, status: str, paid: str | None) -> None:
    said = answer(prices(), done(billing=billing, model="m-unknown"))
    assert (said.status, said.paid_usd, said.plan_value_usd) == (status, paid, None)
    assert (said.unit_prices, said.price_model) == ({}, "")


def test_an_estimated_usage_makes_an_estimated_price() -> None:
    said = answer(prices(), done(usage=msgspec.structs.replace(USAGE, source="estimated")))
    assert (said.status, said.paid_usd) == ("estimated", LISTED)


def test_the_providers_own_figure_stands_beside_ours() -> None:
    assert answer(prices(), done(provider_usd="0.0021")).provider_usd == "0.0021"


def test_an_answer_without_usage_is_unpriced() -> None:
    assert answer(prices(), done(usage=None)).status == "unpriced"


@pytest.mark.parametrize("said", [done(charged="none"), done(charged="none", status="failed", fault=FAULT)])
def test_what_was_used_is_charged_even_if_the_adapter_forgot_to_say_so(said: TaskCompleted) -> None:
    assert answer(prices(), said).paid_usd == LISTED


def test_an_answer_without_usage_is_not_free_even_if_the_adapter_forgot_to_say_so() -> None:
    assert answer(prices(), done(charged="none", usage=None)).status == "unpriced"


def test_a_task_that_ended_before_its_call_cost_nothing() -> None:
    said = answer(prices(), done(status="cancelled", charged="none", usage=None))
    assert (said.status, said.paid_usd, said.unit_prices) == ("priced", "0", {})


def test_what_cannot_have_cost_anything_gets_no_charge() -> None:
    failed = AttemptFailed(**common(fault=FAULT, charged="none"))
    router_says = TaskCompleted(chain="c1", task="t1", attempt=2, id="end-1", status="failed", fault=FAULT)
    for ended in (failed, router_says, done(attempt=0)):
        assert cost.ACTOR.decide(fold(prices(), ended), ended) == ()


def test_a_failed_attempt_that_was_charged_is_booked() -> None:
    said = answer(prices(), AttemptFailed(**common(fault=FAULT, charged="known", usage=USAGE, model="m1")))
    assert (said.status, said.paid_usd) == ("priced", LISTED)


def test_a_lost_call_is_possible_and_at_most_its_upper_bound() -> None:
    said = answer(prices(), submitted(), started(), lost())
    assert (said.status, said.paid_usd, said.model) == ("possible", "0.002", "m1")


def test_a_lost_call_that_told_its_input_is_bounded_by_it() -> None:
    said = answer(prices(), submitted(), started(), lost(usage=Usage(input_tokens=10)))
    assert said.paid_usd == "0.00101"


@pytest.mark.parametrize(
    "facts",
    [
        [lost()],
        [submitted(), lost()],
        [submitted(None), started(), lost()],
        [submitted(), started(input_tokens_estimate=None), lost()],
        [submitted(), started(attempt=2), lost()],
        [submitted(), started(model="m-unknown"), lost()],
    ],
)
def test_a_lost_call_without_bounds_may_have_cost_anything(facts: list[Fact]) -> None:
    said = answer(prices(), *facts)
    assert (said.status, said.paid_usd) == ("possible", None)


def test_a_lost_call_whose_answer_was_bounded_by_its_budget_is_bounded_too() -> None:
    said = answer(prices(), submitted(None), started(output_tokens_max=submitted().max_tokens), lost())
    assert (said.status, said.paid_usd) == ("possible", "0.002")


def test_a_lost_call_on_a_plan_costs_no_money() -> None:
    said = answer(prices(), submitted(), started(), lost(billing="plan"))
    assert (said.status, said.paid_usd, said.plan_value_usd) == ("possible", "0", "0.002")


def test_a_lost_call_that_nobody_bills_is_known_to_cost_nothing() -> None:
    said = answer(prices(), submitted(), started(), lost(billing="free"))
    assert (said.status, said.paid_usd) == ("priced", "0")


def test_the_bound_of_a_second_attempt_is_known_too() -> None:
    again = common(attempt=2, id="end-2")
    said = answer(prices(), submitted(), started(), lost(), started(attempt=2), lost(**again))
    assert (said.attempt, said.paid_usd) == (2, "0.002")


def test_a_late_result_replaces_the_possible_charge() -> None:
    late = LateResult(**common(id="late-1", charged="known", usage=USAGE, model="m1", output="x"))
    state = fold(prices(), submitted(), started(), lost(), started(attempt=2, model="m2"), late)
    (said,) = cost.ACTOR.decide(state, late)
    assert (said.late, said.status, said.paid_usd, said.attempt, said.cause) == (True, "priced", LISTED, 1, "late-1")
    (first,) = cost.ACTOR.decide(state, lost())
    assert (first.late, first.status, first.attempt) == (False, "possible", 1)
    assert state.open["c1/t1"].model == "m2", "the attempt that runs is not touched"


@pytest.mark.parametrize(
    ("more", "status", "paid"),
    [
        ({}, "priced", "0"),
        ({"output": "text"}, "unpriced", None),
        ({"output_ref": Ref(ref="0" * 64, sha256="0" * 64, bytes=9)}, "unpriced", None),
        ({"usage": USAGE, "model": "m1"}, "priced", LISTED),
    ],
)
def test_a_late_result_is_booked_even_when_everything_was_forgotten(
    more: dict[str, Any], status: str, paid: str | None
) -> None:
    said = answer(prices(), LateResult(**common(**more)))
    assert (said.late, said.status, said.paid_usd) == (True, status, paid)


def test_asked_again_it_says_nothing_that_the_log_already_holds() -> None:
    state = fold(prices(), done())
    (said,) = cost.ACTOR.decide(state, done())
    assert cost.ACTOR.decide(state, done()) == (said,), "not in the log yet"
    state = cost.ACTOR.evolve(state, said)
    assert cost.ACTOR.decide(state, done()) == ()
    assert cost.ACTOR.evolve(state, said) == state


@pytest.mark.fault(64)
def test_a_price_list_adopted_after_the_end_changes_nothing() -> None:
    state = fold(prices(), done(), prices("list-2", "0.5"))
    (said,) = cost.ACTOR.decide(state, done())
    assert (said.price_list, said.paid_usd) == ("list-1", LISTED)
    assert answer(prices(), prices("list-2", "0.5"), done()).price_list == "list-2"


def test_without_any_price_list_nothing_is_priced() -> None:
    assert answer(done()).status == "unpriced"


@pytest.mark.parametrize(
    "adopted",
    [PriceListAdopted(list_id="far"), PriceListAdopted(list_id="far", prices={"providers": 1})],
)
def test_a_list_that_cannot_be_read_prices_nothing_and_is_named(adopted: PriceListAdopted) -> None:
    said = answer(prices(), adopted, done())
    assert (said.status, said.price_list) == ("unpriced", "far")


@pytest.mark.parametrize(("override", "model"), [("m1", "anything"), ("acme/m1", "anything"), ("acme/", "m1")])
def test_a_platform_may_say_whose_price_counts(override: str, model: str) -> None:
    platforms = {"p1": PlatformSettings(kind="compatible", price_model=override), "p2": PlatformSettings(kind="command")}
    plain, sha256 = canonical(Settings(platforms=platforms))
    said = answer(prices(), SettingsAdopted(settings=plain, sha256=sha256), done(model=model))
    assert (said.paid_usd, said.model, said.price_model) == (LISTED, model, "m1")


def test_settings_of_a_later_farebox_are_understood_as_far_as_money_goes() -> None:
    platforms = {"p1": {"kind": "compatible", "price_model": "m1", "budget_usd": "5"}}
    adopted = SettingsAdopted(settings={"platforms": platforms, "later": True})
    assert answer(prices(), adopted, done(model="anything")).paid_usd == LISTED
    unreadable = SettingsAdopted(settings={"platforms": {"p1": {"price_model": 1}}})
    assert answer(prices(), adopted, unreadable, done(model="anything")).status == "unpriced"


def test_a_platform_named_like_a_provider_is_asked_first() -> None:
    adopted = prices()
    adopted.prices["providers"][0]["match"] = []
    assert answer(adopted, done(platform="acme")).status == "priced"
    assert answer(adopted, done(platform="p1")).status == "unpriced"


def test_the_contract_of_the_actor_is_kept() -> None:
    assert cost.ACTOR.said() == {CostRecorded}
    assert cost.ACTOR.heard() == {TaskCompleted, AttemptFailed, AttemptInterrupted, LateResult}
    assert cost.ACTOR.heard() | cost.ACTOR.said() <= cost.ACTOR.folded()
    assert subjects.row_of("cost", answer(prices(), done())).fact is CostRecorded


endings = st.sampled_from([
    done(),
    done(charged="none", status="cancelled", usage=None),
    lost(),
    AttemptFailed(**common(fault=FAULT)),
    AttemptFailed(**common(fault=FAULT, charged="known", usage=USAGE, model="m1")),
])  # fmt: skip


@given(st.lists(st.tuples(st.integers(1, 5), endings, st.booleans()), max_size=30))
def test_nothing_is_kept_of_a_task_that_is_over_and_paid(story: list[tuple[int, Any, bool]]) -> None:
    """Attempts of five tasks end in any way, some late; each charge is said once and the state ends as it began."""
    state = fold(prices())
    said: list[CostRecorded] = []
    for place, (task, ending, late) in enumerate(story, 1):
        ids = {"task": f"t{task}", "attempt": place}
        state = cost.ACTOR.evolve(state, TaskSubmitted(chain="c1", task=f"t{task}", max_tokens=5))
        state = cost.ACTOR.evolve(state, started(**ids))
        heard = [msgspec.structs.replace(ending, **ids, id=f"e{place}")]
        if late:
            heard.append(LateResult(**common(**ids, usage=USAGE, model="m1", charged="known") | {"id": f"l{place}"}))
        for one in heard:
            state = cost.ACTOR.evolve(state, one)
        for one in heard:
            for fact in cost.ACTOR.decide(state, one):
                assert isinstance(fact, CostRecorded)
                said.append(fact)
                state = cost.ACTOR.evolve(state, fact)
                assert cost.ACTOR.decide(state, one) == ()
    for task in range(1, 6):
        state = cost.ACTOR.evolve(state, TaskCompleted(chain="c1", task=f"t{task}", status="failed"))
    assert state == fold(prices())
    assert len({(one.task, one.attempt, one.cause) for one in said}) == len(said)
    known = [Decimal(one.paid_usd) for one in said if one.paid_usd is not None and one.status != "possible"]
    assert money.total(known) == Decimal(LISTED) * sum(1 for one in known if one > 0)


def test_a_state_survives_its_snapshot() -> None:
    state = fold(prices(), submitted(), started(), done())
    assert msgspec.json.decode(msgspec.json.encode(state), type=cost.Cost) == state
