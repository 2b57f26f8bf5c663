"""The order of candidates: tiers first, then cost, health and the user's order; and what travels with them."""

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import lessons, router
from farebox.core import estimates
from farebox.core.events import TaskCompleted, TaskRouted
from farebox.core.policies import PolicySettings
from farebox.core.quotas import BudgetSettings
from farebox.core.settings import TIERS
from farebox.core.terms import Allowance, Constraints, Usage

CLOUDS = {name: {"billing": "metered", "model": name} for name in ("a", "b", "c")}


def test_within_a_tier_the_cheapest_comes_first_and_who_has_no_price_last(story, routing):
    one = story(CLOUDS)
    one.tell(routing.prices(b="0.002", c="0.001"))
    (said,) = one.hear(routing.task())
    assert routing.names(said) == ["c", "b", "a"]
    assert [candidate.estimate_usd for candidate in said.candidates] == ["0.401", "0.802", None]


def test_a_candidate_brings_tokens_and_dollars_from_least_to_most(story, routing):
    one = story({"c": CLOUDS["c"]}, answer_tokens_max=1000)
    one.tell(routing.prices(c="0.001"))
    (said,) = one.hear(routing.task(system="x" * 345))
    (candidate,) = said.candidates
    assert (candidate.input_tokens, candidate.input_tokens_max) == (99, 198)
    assert (candidate.output_tokens, candidate.output_tokens_max) == (400, 1000)
    assert (candidate.low_usd, candidate.estimate_usd, candidate.bound_usd) == ("0.069", "0.499", "1.198")
    (said,) = one.hear(routing.task("u", max_tokens=30))
    (candidate,) = said.candidates
    assert (candidate.output_tokens, candidate.output_tokens_max) == (30, 30)


def test_a_platform_may_be_priced_as_another_model(story, routing):
    one = story({"mine": {"model": "own-name", "price_model": "c"}})
    one.tell(routing.prices(c="0.001"))
    (said,) = one.hear(routing.task())
    assert said.candidates[0].estimate_usd == "0.401"


def test_plans_cost_nothing_more_whatever_their_list_price(story, routing):
    one = story({name: {"billing": "plan", "model": name} for name in ("a", "b")})
    one.tell(routing.prices(a="5", b="0.1"))
    (said,) = one.hear(routing.task())
    assert routing.names(said) == ["a", "b"]


def test_the_order_of_a_policy_comes_before_that_of_the_settings(story, routing):
    platforms = {name: {"billing": "plan"} for name in ("a", "b", "c", "d")}
    one = story(platforms, policies={"mine": PolicySettings(order=("d", "b"))})
    (said,) = one.hear(routing.task())
    assert routing.names(said) == ["d", "b", "a", "c"]


def test_a_platform_that_failed_others_comes_after_its_equals(story, routing):
    one = story({"a": {"billing": "plan"}, "b": {"billing": "plan"}, "home": {"billing": "free"}})
    for name in ("1", "2"):
        one.tell(routing.task(name))
        one.tell(TaskRouted(chain="c", task=name, attempt=1))
        one.tell(routing.done(name, "a", status="failed", fault=routing.failed(error_class="timeout").fault))
    (said,) = one.hear(routing.task())
    assert routing.names(said) == ["home", "b", "a"]
    assert said.candidates[-1].health == 640


def test_estimates_follow_what_ended_tasks_used(story, routing):
    one = story({"home": {"billing": "free", "model": "m"}})
    for number in range(20):
        routing.routed(one, name=f"t{number}", system="x" * 3500)
        one.tell(routing.done(f"t{number}", usage=(2_000, 50), duration_ms=1_234))
    (said,) = one.hear(routing.task(system="x" * 3500))
    (candidate,) = said.candidates
    assert candidate.input_tokens == 2_000
    assert 32 <= candidate.output_tokens < 64
    assert candidate.latency_ms == 1_200


@pytest.mark.parametrize(
    "end",
    [
        {"usage": None},
        {"usage": (None, None)},
        {"usage": (10, 10), "source": "estimated"},
        {"usage": (10, 10), "platform": "gone"},
        {"usage": (10, 10), "status": "failed"},
        {"usage": (10, 10), "platform": "-"},
    ],
)
def test_what_was_guessed_or_cut_teaches_nothing_about_tokens(story, routing, end):
    one = story()
    routing.routed(one)
    usage, source = end.pop("usage"), end.pop("source", "provider")
    told = usage and Usage(input_tokens=usage[0], output_tokens=usage[1], source=source)
    one.tell(msgspec.structs.replace(routing.done(usage=None, **end), usage=told))
    assert one.state.estimator == estimates.Estimator()


def test_a_task_that_nobody_knows_teaches_nothing(story, routing):
    one = story()
    one.tell(routing.done("unknown"))
    assert one.state.estimator == estimates.Estimator()
    assert one.state.health == {}


def test_a_chain_stays_where_it_succeeded_if_its_policy_says_so(story, routing):
    one = story(policies={"stay": PolicySettings(sticky=True, chains=("c",))})
    routing.routed(one)
    one.tell(routing.done(platform="cloud"))
    (said,) = one.hear(routing.task("next"))
    assert routing.names(said) == ["cloud", "home", "plan"]
    (said,) = one.hear(routing.task("asked", platform="plan"))
    assert routing.names(said) == ["plan", "cloud", "home"]
    (said,) = one.hear(msgspec.structs.replace(routing.task("other"), chain="d"))
    assert routing.names(said) == ["home", "plan", "cloud"]


def test_only_so_many_chains_are_remembered(story, routing, monkeypatch):
    monkeypatch.setattr(lessons, "STICKY_MAX", 2)
    one = story(policies={"stay": PolicySettings(sticky=True)})
    for chain in ("a", "b", "a", "c"):
        task = one.tell(msgspec.structs.replace(routing.task(f"t{len(one.facts)}"), chain=chain))
        one.tell(msgspec.structs.replace(routing.done(task.task), chain=chain))
    assert one.state.sticky == {"a": "home", "c": "home"}


def test_without_policy_or_constraint_the_allowance_is_not_even_written(story, routing):
    (said,) = story().hear(routing.task(tags={"team": "a"}))
    assert said.allowance == Allowance()
    assert b"allowance" not in msgspec.json.encode(said)


def test_the_allowance_is_the_tasks_then_the_policys_then_the_settings(story, routing):
    one = story(on_quota="spill", last_resort="plan", budgets={"team": BudgetSettings(limit_usd="5", scope="tag", key="team")})
    one.tell(routing.prices(**{"": "0.1"}))
    (said,) = one.hear(routing.task(tags={"team": "a"}, platform="home"))
    assert said.allowance == Allowance(on_quota="spill", last_resort="plan", tags={"team": "a"})
    one = story(on_quota="spill", policies={"p": PolicySettings(on_quota="stop", last_resort="cloud", max_cost_usd="7")})
    (said,) = one.hear(routing.task())
    assert said.allowance == Allowance(policy="p", on_quota="stop", max_cost_usd="7")
    bounds = Constraints(
        on_quota="wait", max_cost_usd="20", batch_max_cost_usd="30", chain_max_cost_usd="40", allow_unpriced=True
    )
    (said,) = one.hear(routing.task("u", constraints=bounds))
    assert said.allowance == Allowance(
        policy="p", last_resort="cloud", max_cost_usd="7", batch_max_cost_usd="30", chain_max_cost_usd="40", allow_unpriced=True
    )


def test_a_last_resort_that_may_not_do_the_task_is_none(story, routing):
    (said,) = story(last_resort="plan").hear(routing.task(constraints=Constraints(deny=("plan",))))
    assert said.allowance.last_resort == ""


NAMES = ("a", "b", "c", "d")
PLATFORM = st.fixed_dictionaries(
    {"billing": st.sampled_from(list(TIERS)), "model": st.sampled_from(["m", "n", "unknown"])},
    optional={"enabled": st.booleans(), "open": st.booleans(), "context_tokens": st.sampled_from([1, 10_000])},
)
CONSTRAINTS = st.builds(
    Constraints,
    tier=st.sampled_from(["", "free", "plan", "metered"]),
    deny=st.lists(st.sampled_from(NAMES), max_size=1).map(tuple),
    max_cost_usd=st.sampled_from([None, "0.01", "100"]),
)
POLICY = st.builds(
    PolicySettings,
    tiers=st.lists(st.sampled_from(list(TIERS)), max_size=2).map(tuple),
    order=st.lists(st.sampled_from(NAMES), max_size=2, unique=True).map(tuple),
    allow=st.lists(st.sampled_from(NAMES), max_size=3).map(tuple),
)


@given(
    platforms=st.dictionaries(st.sampled_from(NAMES), PLATFORM),
    hint=st.sampled_from(["", "a"]),
    fallback=st.booleans(),
    constraints=CONSTRAINTS,
    policies=st.dictionaries(st.just("p"), POLICY),
    ends=st.lists(st.tuples(st.sampled_from(NAMES), st.booleans()), max_size=8),
)
def test_law_everybody_is_a_candidate_or_rejected_and_cheaper_tiers_come_first(
    told, routing, platforms, hint, fallback, constraints, policies, ends
):
    one = told.Story(router.ACTOR)
    one.tell(told.adopted(platforms, policies=policies), routing.prices(m="0.001", n="0.002"), *told.reported(*NAMES))
    for number, (name, good) in enumerate(ends):
        one.tell(routing.task(f"e{number}"))
        fault = None if good else routing.failed(error_class="timeout").fault
        one.tell(routing.done(f"e{number}", name, fault=fault, status="completed" if good else "failed"))
    (said,) = one.hear(routing.task(platform=hint, fallback=fallback, constraints=constraints))
    if isinstance(said, TaskCompleted):
        assert said.fault.error_class in {"invalid", "unavailable", "policy", "context_too_long"}
        return
    assert sorted([*routing.names(said), *routing.reasons(said)]) == sorted(platforms)
    assert all(routing.reasons(said).values())
    at_once = [one for one in said.candidates if not one.not_before_ms]
    assert list(said.candidates[: len(at_once)]) == at_once, "who is spared comes last"
    for group in (at_once, said.candidates[len(at_once) :]):
        tiers = [candidate.tier for candidate in group if candidate.platform != hint]
        assert tiers == sorted(tiers)
    assert all(0 <= candidate.health <= 1000 for candidate in said.candidates)
    for candidate in said.candidates:
        if candidate.estimate_usd is not None:
            assert Decimal(candidate.low_usd) <= Decimal(candidate.estimate_usd) <= Decimal(candidate.bound_usd)
    assert told.same(one.state, one.replayed())
    kept = msgspec.json.decode(msgspec.json.encode(one.state), type=type(one.state))
    assert router.ACTOR.decide(kept, one.facts[-1]) == [said], "a snapshot decides the same"
