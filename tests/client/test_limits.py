"""Quotas, budgets and policies as settings: their layers and origins, and what is said about those that cannot be meant."""

from __future__ import annotations

from dataclasses import replace

import pytest

from farebox.config import load
from farebox.core.errors import BadSettings
from farebox.core.platform import PlatformKind
from farebox.core.quotas import BudgetSettings, QuotaSettings
from farebox.core.settings import PlatformSettings


def unused(*_):
    raise AssertionError("settings ask no platform")


KIND = PlatformKind(
    name="stub", ask=unused, reader=unused, probe=unused, read_probe=unused, check=lambda *_: None,
    defaults={
        "my-llm": PlatformSettings(kind="stub", billing="free", local=True),
        "plan-llm": PlatformSettings(kind="stub", billing="plan", local=False),
    },
    quotas={"my-day": QuotaSettings(platform="my-llm", window="day", limit=250, source="published", said="a page, 2026-11")},
)  # fmt: skip
DAY = '[quotas.own]\nplatform = "my-llm"\nwindow = "day"\nlimit = 60\n'


@pytest.fixture
def loaded(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "project").mkdir()

    def read(project="", limits="", environment=None, flags=None, kinds=(KIND,)):
        (tmp_path / "project" / "farebox.toml").write_text(project)
        if limits:
            (tmp_path / "home" / "limits.toml").write_text(limits)
        environment = {"FAREBOX_HOME": str(tmp_path / "home"), **(environment or {})}
        return load(folder=tmp_path / "project", environment=environment, flags=flags, kinds=kinds)

    return read


def test_what_a_provider_published_is_built_in_with_its_source(loaded):
    found = loaded()
    assert found.settings.quotas["my-day"].said == "a page, 2026-11"
    assert found.origins["quotas.my-day.limit"] == "built in"


def test_who_gives_another_figure_than_the_published_one_gives_his_own(loaded):
    quota = loaded("[quotas.my-day]\nlimit = 500\n").settings.quotas["my-day"]
    assert (quota.limit, quota.source, quota.said, quota.window) == (500, "configured", "", "day")
    kept = loaded('[quotas.my-day]\nlimit = 500\nsource = "published"\n').settings.quotas["my-day"]
    assert (kept.source, kept.said) == ("published", "")


def test_limits_set_by_command_win_over_files_and_lose_to_variables(loaded, tmp_path):
    limits = '[quotas.own]\nlimit = 40\n[budgets.month]\nlimit_usd = "5"\n'
    found = loaded(DAY, limits)
    assert (found.settings.quotas["own"].limit, found.settings.quotas["own"].window) == (40, "day")
    assert found.origins["quotas.own.limit"] == str(tmp_path / "home" / "limits.toml")
    assert found.origins["quotas.own.window"].endswith("farebox.toml")
    assert found.settings.budgets == {"month": BudgetSettings(limit_usd="5")}
    environment = {"FAREBOX_QUOTAS__OWN__LIMIT": "30", "FAREBOX_BUDGETS__MONTH__LIMIT_USD": "7.50"}
    found = loaded(DAY, limits, environment, {"engine.on_quota": "spill"})
    assert found.settings.quotas["own"].limit == 30
    assert found.origins["budgets.month.limit_usd"] == "FAREBOX_BUDGETS__MONTH__LIMIT_USD"
    assert (found.settings.budgets["month"].limit_usd, found.settings.on_quota) == ("7.50", "spill")


def test_a_command_writes_limits_and_nothing_else(loaded):
    with pytest.raises(BadSettings, match=r"limits.toml: unknown section \[engine\]"):
        loaded(limits="[engine]\nattempts_max = 3\n")


def test_limits_of_platforms_that_are_only_in_another_project_are_left_out(loaded):
    elsewhere = '[quotas.far]\nplatform = "far"\nwindow = "day"\n'
    with pytest.raises(BadSettings, match="names 'far', which is no platform"):
        loaded(elsewhere)
    assert set(loaded(limits=elsewhere).settings.quotas) == {"my-day"}
    assert loaded("[engine]\ndiscover = false\n").settings.quotas == {}


def test_amounts_are_exact_however_they_are_written(loaded):
    toml = "[budgets.a]\nlimit_usd = 5\n[budgets.b]\nlimit_usd = 0.1\n[policies.p]\nmax_cost_usd = 2.5\n"
    settings = loaded(toml + DAY.replace("60", "12.5")).settings
    assert [settings.budgets[name].limit_usd for name in "ab"] == ["5", "0.1"]
    assert (settings.policies["p"].max_cost_usd, settings.quotas["own"].limit) == ("2.5", "12.5")


def test_a_client_does_not_look_into_limits(loaded):
    assert loaded(DAY.replace("day", "fortnight"), kinds=()).settings.quotas == {}


def test_a_limit_for_another_billing_contradicts_nothing(loaded):
    assert loaded(DAY + DAY.replace("own", "other") + 'billing = "metered"\n').settings.quotas["other"].limit == 60


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        (DAY.replace('"day"', '"fortnight"'), "quotas.own.window: 'fortnight' is no window. Choose minute"),
        (DAY.replace("60", "-1"), "quotas.own.limit is -1; no limit is below 0. 0 allows nothing."),
        (DAY.replace("60", "true"), "quotas.own.limit: Expected int"),
        (DAY.replace("60", "nan"), "quotas.own.limit: Expected str matching regex"),
        (DAY.replace("60", "10000000000000000"), "quotas.own.limit: A limit of 10000000000000000 is absurd"),
        (DAY.replace("60", "101") + 'unit = "percent"\n', "quotas.own.limit is 101 percent. The most is 100"),
        (DAY + 'zone = "Europe/Berln"\n', "quotas.own.zone 'Europe/Berln' is no time zone. Did you mean \"Europe/Berlin\"?"),
        (DAY + 'zone = "../../etc/passwd"\n', "is no time zone"),
        (DAY.replace("my-llm", "my-lm"), "quotas.own.platform names 'my-lm', which is no platform. Did you mean \"my-llm\"?"),
        (DAY + DAY.replace("own", "other"), "quotas.other.limit says the same as [quotas.own]: both are about my-llm/day/"),
        ('[quotas.own]\nwindow = "day"\n', '[quotas.own] needs platform, for example platform = "gemini".'),
        ('[quotas.own]\nplatfrm = "x"\n', "[quotas.own] has no setting 'platfrm'. Did you mean \"platform\"?"),
        ('[quotas."a b"]\nlimit = 1\n', "quota 'a b' is not usable."),
        ("[budgets.month]\nlimit = 1\n", "[budgets.month] has no setting 'limit'. Did you mean \"limit_usd\"?"),
        ('[budgets.month]\nwindow = "day"\n', '[budgets.month] needs limit_usd, for example limit_usd = "20".'),
        ("[budgets.month]\nlimit_usd = -5\n", "budgets.month.limit_usd is -5; no limit is below 0."),
        ('[budgets.month]\nlimit_usd = "5"\nwindow = "y"\n', "budgets.month.window: 'y' is no window."),
        ('[budgets.task]\nlimit_usd = "5"\n', "has a name that submissions use themselves. Give it another one."),
        ('[budgets.t]\nlimit_usd = "5"\nscope = "tag"\nkey = "team"\n', "t.key is 'team'. With scope tag it is NAME=VALUE."),
        ('[budgets.t]\nlimit_usd = "5"\nkey = "team"\n', "budgets.t.key is 'team'. Scope all takes none: leave it out."),
        ('[budgets.t]\nlimit_usd = "5"\nscope = "platform"\nkey = "plan-lm"\n', 'Did you mean "plan-llm"?'),
        ('[policies.p]\norder = ["my-lm"]\n', "policies.p.order names 'my-lm', which is no platform."),
        ('[policies.p]\nchains = ["A b"]\n', "policies.p.chains: chain 'A b' is not usable."),
        ('[policies.p]\nlast_resort = "my-llm"\n', "billed free, not on a plan. Choose wait or one of: plan-llm."),
        ('[engine]\nlast_resort = "plan-lm"\n', "'plan-lm', which is no platform. Did you mean \"plan-llm\"?"),
        ('[engine]\nlast_resort = "zzz"\n', 'Write "wait", or the name of a platform on a plan.'),
        (
            '[policies.p]\ndeny = ["my-llm"]\ntiers = ["free"]\n',
            "[policies.p] allows no platform at all. my-llm: deny; plan-llm: plan is not in tiers.",
        ),
        ('[policies.p]\ncapabilities = ["telepathy"]\n', "my-llm: cannot do telepathy; plan-llm: cannot do telepathy."),
        (
            '[policies.p]\nallow = ["plan-llm"]\nlocal = true\n',
            "[policies.p] allows no platform at all. my-llm: not in allow; plan-llm: not local.",
        ),
    ],
)  # fmt: skip
def test_a_limit_that_nobody_can_mean_is_refused_with_its_file_and_key(loaded, toml, words):
    with pytest.raises(BadSettings) as caught:
        loaded(toml)
    assert words in str(caught.value)
    assert "farebox.toml: " in str(caught.value)
    assert caught.value.exit_code == 3


def test_a_policy_may_use_what_is_local_and_a_last_resort_on_a_plan(loaded):
    toml = '[engine]\nlast_resort = "plan-llm"\n[policies.p]\nlocal = true\nlast_resort = "wait"\n'
    assert loaded(toml).settings.policies["p"].local
    assert loaded(toml.replace('"wait"', '"plan-llm"')).settings.policies["p"].last_resort == "plan-llm"


def test_without_a_plan_only_waiting_is_a_last_resort(loaded):
    free = replace(KIND, defaults={"my-llm": KIND.defaults["my-llm"]})
    with pytest.raises(BadSettings, match='Write "wait"'):
        loaded('[engine]\nlast_resort = "my-llm"\n', kinds=(free,))
