"""The settings that are facts: the same settings are the same bytes, and what does not read is not obeyed by half."""

import pytest

from farebox.core.policies import PolicySettings
from farebox.core.quotas import BudgetSettings, QuotaSettings
from farebox.core.settings import LONG_S, PlatformSettings, Settings, canonical, restore, unread


def test_settings_survive_their_adoption():
    settings = Settings(platforms={"a": PlatformSettings(kind="x", limit=3, argv=("b", "c"), tier=4)}, attempts_max=3)
    plain, sha256 = canonical(settings)
    assert restore(plain) == settings
    assert canonical(restore(plain)) == (plain, sha256)
    assert canonical(Settings())[1] != sha256


GOOD = {"kind": "x", "limit": 3}


@pytest.mark.parametrize(
    ("plain", "named"),
    [
        ({"later": 1}, ["engine"]),
        ({"attempts_max": 0}, ["engine"]),
        ({"attempts_max": 0, "platforms": {"b": {**GOOD, "later": 1}}}, ["engine", "platforms.b"]),
        ({"platforms": [1]}, ["platforms does not read"]),
    ],
)
def test_what_is_set_for_all_and_does_not_read_closes_every_platform(plain, named):
    whole = {"retry_wait_max_s": 9.0, **plain}
    if isinstance(whole.get("platforms", {}), dict):
        whole["platforms"] = {"a": GOOD, **whole.get("platforms", {})}
    assert restore(whole).platforms == {}
    assert [one.partition(":")[0] for one in unread(whole)] == named


@pytest.mark.parametrize("section", [{**GOOD, "budget_usd": "5"}, {**GOOD, "limit": "many"}, {}, {"kind": 1}, 7])
def test_a_platform_that_does_not_read_is_left_out_and_the_others_stay(section):
    plain = {"attempts_max": 3, "platforms": {"a": GOOD, "b": section}}
    assert restore(plain) == Settings(attempts_max=3, platforms={"a": PlatformSettings(kind="x", limit=3)})
    (named,) = unread(plain)
    assert named.startswith("platforms.b: ")
    assert unread({"platforms": {"a": GOOD}}) == ()


def test_a_setting_of_a_later_farebox_is_named():
    assert "budget_usd" in unread({"platforms": {"b": {**GOOD, "budget_usd": "5"}}})[0]


QUOTA = {"platform": "a", "window": "day", "limit": 3}
TWO = {"a": {**GOOD, "account": "me"}, "b": {**GOOD, "account": "me"}, "c": GOOD}


@pytest.mark.parametrize(
    ("section", "entry", "left"),
    [
        ("quotas", QUOTA, {"a", "b", "c"}),
        ("quotas", {**QUOTA, "later": 1}, {"c"}),
        ("quotas", {**QUOTA, "window": "quarter"}, {"c"}),
        ("quotas", {**QUOTA, "platform": "c", "limit": 10**16}, {"a", "b"}),
        ("quotas", {"later": 1}, set()),
        ("quotas", 7, set()),
        ("budgets", {"limit_usd": "5", "later": 1}, set()),
        ("budgets", {"limit_usd": "5", "window": "quarter"}, set()),
        ("policies", {"later": 1}, set()),
    ],
)
def test_a_limit_that_does_not_read_closes_what_it_would_have_bounded(section, entry, left):
    plain = {"platforms": TWO, section: {"x": entry}}
    assert set(restore(plain).platforms) == left
    assert [one.partition(":")[0].split()[-1] for one in unread(plain)] == ([] if len(left) == 3 else [f"{section}.x"])


def test_limits_and_policies_survive_their_adoption():
    settings = Settings(
        platforms={"a": PlatformSettings(kind="x")},
        quotas={"q": QuotaSettings(platform="a", window="5h", unit="percent", limit=90)},
        budgets={"month": BudgetSettings(limit_usd="5", window="month")},
        policies={"p": PolicySettings(types=("review",), order=("a",))},
    )
    assert restore(canonical(settings)[0]) == settings


def test_free_comes_before_plan_before_metered_unless_a_tier_is_set():
    tiers = [PlatformSettings(kind="x", billing=b).cost_tier for b in ("free", "rehearsal", "plan", "metered")]
    assert tiers == [0, 0, 1, 2]
    assert PlatformSettings(kind="x", billing="free", tier=9).cost_tier == 9


def test_a_person_is_asked_before_a_program_is_repeated_unless_somebody_says_otherwise():
    assert PlatformSettings(kind="command").interrupt_policy == "ask"
    assert PlatformSettings(kind="compatible").interrupt_policy == "retry"
    assert PlatformSettings(kind="command", on_interrupt="retry").interrupt_policy == "retry"


def test_a_person_is_asked_before_a_long_attempt_is_repeated_unless_somebody_says_otherwise():
    assert PlatformSettings(kind="compatible").policy_for(LONG_S - 1) == "retry"
    assert PlatformSettings(kind="compatible").policy_for(LONG_S) == "ask"
    assert PlatformSettings(kind="compatible", on_interrupt="fail").policy_for(LONG_S) == "fail"


def test_a_person_is_asked_before_what_worked_on_files_is_repeated_unless_somebody_says_otherwise():
    assert [PlatformSettings(kind="codex").policy_for(1, directory) for directory in ("", "/p")] == ["retry", "ask"]
    assert PlatformSettings(kind="codex", on_interrupt="retry").policy_for(1, "/p") == "retry"
    assert PlatformSettings(kind="codex", options={"directory": "/p"}).policy_for(1) == "ask"
