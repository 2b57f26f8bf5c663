"""Who may not do a task, and whose rule says so."""

import pytest

from farebox.core.events import PlatformReported, TaskCompleted, TaskRouted
from farebox.core.policies import PolicySettings
from farebox.core.quotas import BudgetSettings
from farebox.core.terms import Constraints

MODELS = {
    "cloud": {"billing": "metered", "model": "big"},
    "home": {"billing": "free", "kind": "compatible", "url": "http://127.0.0.1:1/v1", "model": "small"},
    "plan": {"billing": "plan", "model": "big", "kind": "codex"},
}


def under(**policy):
    return {"policies": {"strict": PolicySettings(**policy)}}


@pytest.mark.parametrize(
    ("constraints", "names", "reasons"),
    [
        ({"deny": ("home",)}, ["plan", "cloud"], {"home": "the task denies it"}),
        ({"allow": ("home", "plan")}, ["home", "plan"], {"cloud": "the task allows only home, plan"}),
        ({"tier": "plan"}, ["home", "plan"], {"cloud": "the task allows nothing dearer than plan, this is metered"}),
        ({"tier": "metered"}, ["home", "plan", "cloud"], {}),
        ({"local": True}, ["home"], dict.fromkeys(("cloud", "plan"), "the task stays on this machine, this does not")),
        ({"capabilities": ("files",)}, ["plan"], dict.fromkeys(("cloud", "home"), "the task asks for files")),
        ({"allow": (*(f"p{n}" for n in range(12)), "home")}, ["home"],
         dict.fromkeys(("cloud", "plan"), "the task allows only p0, p1, p2, p3, p4, p5, p6, p7, p8, p9 and 3 more")),
    ],
)  # fmt: skip
def test_what_the_task_itself_allows(story, routing, constraints, names, reasons):
    (said,) = story(MODELS).hear(routing.task(constraints=Constraints(**constraints)))
    assert routing.names(said) == names
    assert routing.reasons(said) == reasons


@pytest.mark.parametrize(
    ("policy", "names", "reasons"),
    [
        ({"deny": ("home",)}, ["plan", "cloud"], {"home": "policy strict denies it"}),
        ({"allow": ("home",)}, ["home"], dict.fromkeys(("cloud", "plan"), "policy strict allows only home")),
        ({"tiers": ("plan",)}, ["plan"],
         {"cloud": "policy strict allows only plan, this is metered", "home": "policy strict allows only plan, this is free"}),
        ({"local": True}, ["home"], dict.fromkeys(("cloud", "plan"), "policy strict stays on this machine, this does not")),
        ({"capabilities": ("tools",)}, ["plan"], dict.fromkeys(("cloud", "home"), "policy strict asks for tools")),
        ({"capabilities": ("text",)}, ["home", "plan", "cloud"], {}),
    ],
)  # fmt: skip
def test_what_the_policy_allows(story, routing, policy, names, reasons):
    (said,) = story(MODELS, **under(**policy)).hear(routing.task())
    assert routing.names(said) == names
    assert routing.reasons(said) == reasons
    assert said.allowance.policy == "strict"


def test_a_policy_holds_for_its_tasks_only(story, routing):
    one = story(MODELS, **under(deny=("home",), types=("review",), tags={"team": "a"}))
    (said,) = one.hear(routing.task("other", type="review"))
    assert routing.names(said) == ["home", "plan", "cloud"]
    (said,) = one.hear(routing.task("meant", type="review", tags={"team": "a"}))
    assert routing.names(said) == ["plan", "cloud"]


def test_a_policy_that_allows_nothing_ends_the_task_and_says_which_rule_excluded_whom(story, routing):
    one = story(MODELS, **under(tiers=("free",), deny=("home",)))
    (said,) = one.hear(routing.task())
    assert isinstance(said, TaskCompleted)
    assert said.fault.error_class == "policy"
    assert said.fault.message == (
        "No platform may do this task (cloud: policy strict allows only free, this is metered; home: policy strict denies it; "
        "plan: policy strict allows only free, this is plan)."
    )


def test_a_rule_is_the_reason_only_where_the_platform_could_do_the_task(story, routing):
    one = story(MODELS, **under(tiers=("free",)))
    one.tell(PlatformReported(platform="home", available=False, detail="not running"))
    (said,) = one.hear(routing.task())
    assert said.fault.error_class == "policy"
    assert "home: not available: not running" in said.fault.message
    one = story({"home": MODELS["home"]}, **under(tiers=("free",)))
    one.tell(PlatformReported(platform="home", available=False, detail="not running"))
    (said,) = one.hear(routing.task("u"))
    assert said.fault.error_class == "unavailable"


@pytest.mark.parametrize("allowed", ["task", "policy"])
def test_who_is_named_as_allowed_is_asked_for_by_name(story, routing, allowed):
    platforms = {**MODELS, "toy": {"open": False, "billing": "rehearsal"}}
    settings = under(allow=("toy",)) if allowed == "policy" else {}
    asked = Constraints(allow=("toy",)) if allowed == "task" else Constraints()
    (said,) = story(platforms, **settings).hear(routing.task(constraints=asked))
    assert routing.names(said) == ["toy"]


def test_a_policy_without_fallback_keeps_to_the_platform_asked_for(story, routing):
    (said,) = story(MODELS, **under(fallback=False)).hear(routing.task(platform="cloud"))
    assert routing.names(said) == ["cloud"]
    assert set(routing.reasons(said).values()) == {"only cloud was asked for (policy strict does not fall back)"}


def test_a_text_goes_where_it_fits(story, routing):
    one = story({**MODELS, "wide": {"billing": "metered", "model": "wide", "context_tokens": 10_000}})
    one.tell(routing.prices(big="0.001", windows={"big": 100}))
    (said,) = one.hear(routing.task(system="x" * 3500))
    assert routing.names(said) == ["home", "wide"], "what is not known to be too narrow may do it"
    assert routing.reasons(said) == dict.fromkeys(("cloud", "plan"), "about 1,001 tokens do not fit into its 100")


def test_a_text_that_fits_nowhere_ends_the_task_with_the_widest_window(story, routing):
    one = story({"a": {"context_tokens": 100}, "b": {"context_tokens": 1_000}, "c": {"context_tokens": 500}})
    (said,) = one.hear(routing.task(system="x" * 7000))
    assert said.fault.error_class == "context_too_long"
    assert said.fault.message == (
        "The task is too long for all that may do it. The widest window is that of b: "
        "about 2,001 tokens do not fit into its 1,000."
    )


def test_too_long_is_not_the_reason_where_a_rule_excluded_others(story, routing):
    one = story({"a": {"context_tokens": 1}, "b": {}})
    (said,) = one.hear(routing.task(system="long" * 10, constraints=Constraints(deny=("b",))))
    assert said.fault.error_class == "policy"


@pytest.mark.parametrize(
    ("bound", "who"),
    [("max_cost_usd", "the task"), ("batch_max_cost_usd", "its batch"), ("chain_max_cost_usd", "its chain")],
)
def test_who_costs_more_than_a_bound_even_at_best_is_out(story, routing, bound, who):
    one = story(MODELS)
    one.tell(routing.prices(big="0.01"))
    (said,) = one.hear(routing.task(constraints=Constraints(**{bound: "0.1"})))
    assert routing.names(said) == ["home", "plan"], "a plan costs nothing more"
    assert routing.reasons(said) == {"cloud": f"costs at least $0.2, {who} may cost $0.1"}
    (said,) = one.hear(routing.task("u", constraints=Constraints(**{bound: "0.2"})))
    assert routing.names(said) == ["home", "plan", "cloud"], "exactly at the bound is allowed"


def test_the_bound_of_a_policy_counts_too_and_a_rehearsal_is_bound_like_a_call_that_costs(story, routing):
    toys = {"toy": {"billing": "rehearsal", "model": "big"}}
    one = story(toys, **under(max_cost_usd="0.1"))
    one.tell(routing.prices(big="0.01"))
    (said,) = one.hear(routing.task())
    assert said.fault.message == "No platform may do this task (toy: costs at least $0.2, policy strict may cost $0.1)."


def test_a_model_without_a_price_is_no_match_for_a_bound_unless_told(story, routing):
    asked = Constraints(max_cost_usd="1")
    one = story(MODELS)
    (said,) = one.hear(routing.task(constraints=asked))
    assert routing.names(said) == ["home", "plan"]
    assert routing.reasons(said) == {"cloud": "has no price, and money is bounded: --allow-unpriced allows it"}
    (said,) = one.hear(routing.task("u", constraints=Constraints(max_cost_usd="1", allow_unpriced=True)))
    assert routing.names(said) == ["home", "plan", "cloud"]
    assert said.allowance.allow_unpriced


@pytest.mark.parametrize(
    ("budget", "counts"),
    [
        ({}, True),
        ({"scope": "platform"}, True),
        ({"scope": "task"}, True),
        ({"scope": "batch"}, False),
        ({"scope": "chain"}, True),
        ({"scope": "chain", "key": "c"}, True),
        ({"scope": "chain", "key": "other"}, False),
        ({"scope": "tag", "key": "team=a"}, True),
        ({"scope": "tag", "key": "team"}, True),
        ({"scope": "tag", "key": "team=b"}, False),
        ({"scope": "tag", "key": "who=a"}, False),
    ],
)
def test_a_model_without_a_price_has_no_place_in_a_budget_that_counts(story, routing, budget, counts):
    one = story(MODELS, budgets={"mine": BudgetSettings(limit_usd="5", **budget)})
    (said,) = one.hear(routing.task(tags={"team": "a"}))
    assert ("cloud" in routing.reasons(said)) is counts


def test_after_a_failure_the_end_tells_who_was_tried_and_not_the_rules(story, routing):
    one = story(MODELS)
    routing.routed(one, constraints=Constraints(allow=("home",)))
    (said,) = one.hear(routing.failed(error_class="refused"))
    assert (said.fault.error_class, said.fault.message) == ("refused", "Tried home: refused: no")


def test_the_same_question_is_answered_anew_when_something_changed(story, routing):
    one = story(MODELS)
    assert isinstance(one.hear(routing.task("a"))[0], TaskRouted)
    one.tell(PlatformReported(platform="home", available=False, detail="gone"))
    (said,) = one.hear(routing.task("b"))
    assert routing.reasons(said) == {"home": "not available: gone"}


def test_only_so_many_answers_are_kept(story, routing, monkeypatch):
    monkeypatch.setattr("actors.ranking.MEMO_MAX", 2)
    one = story(MODELS)
    for name in ("a", "b", "c"):
        (said,) = one.hear(routing.task(name, platform="home", model=f"m-{name}"))
        assert {candidate.model for candidate in said.candidates} == {f"m-{name}"}
    assert len(one.state.memo) == 1
