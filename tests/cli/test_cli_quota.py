"""farebox quota: the table, limits that are set by command, what is said when an engine runs."""

from __future__ import annotations

import threading
from decimal import Decimal

import pytest

from farebox import limits_file, quota_setting
from farebox.cli import quota_table
from farebox.core.errors import BadInput, BadSettings
from farebox.core.quotas import BudgetSettings, QuotaSettings
from farebox.core.settings import PlatformSettings, Settings

NOW_MS = 1_790_000_000_000
QUOTAS = [
    {"quota": "gemini/now/calls", "platforms": ["gemini"], "window": "now", "unit": "calls", "limit": "2", "most": "2"},
    {
        "quota": "codex/now/calls", "platforms": ["codex"], "window": "now", "unit": "calls", "used": "1", "open": "1",
        "limit": "1", "most": "4",
    },
    {
        "quota": "codex/5h/percent", "platforms": ["codex"], "window": "5h", "unit": "percent", "used": "92", "open": "1",
        "limit": "100", "source": "learned", "evidence": "rateLimits/updated", "evidence_ms": NOW_MS - 4_000,
        "resets_at_ms": NOW_MS + 600_000,
    },
    {"quota": "gemini/day/requests", "platforms": ["gemini"], "window": "day", "used": "12", "limit": "250",
     "source": "published"},
    {"quota": "budget:month/month/usd", "window": "month", "unit": "usd", "used": "1.5", "limit": "50", "source": "configured"},
    {"quota": "openai/minute/tokens", "window": "minute", "unit": "tokens"},
]  # fmt: skip


@pytest.fixture
def engine_says(monkeypatch):
    """The engine's answers by the name of the question."""
    from farebox import client

    answers: dict = {"quota": {"schema": "farebox.quota/1", "now_ms": NOW_MS, "warn_at_percent": 90, "quotas": QUOTAS}}
    ask = client.api.ask

    async def asked(log, name, question, **options):
        return answers[name] if name in answers else await ask(log, name, question, **options)

    monkeypatch.setattr(client.api, "ask", asked)
    return answers


def test_the_table_shows_use_limit_mark_source_age_and_reset(cli, engine_says, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    ran = cli("quota")
    assert ran.code == 0
    codex = next(line for line in ran.out.splitlines() if line.startswith("codex/5h/percent"))
    for words in ("92 %", "100 %", "██████████████████|·", "learned", "rateLimits/updated, 4.0 s ago"):
        assert words in codex
    gemini = next(line for line in ran.out.splitlines() if line.startswith("gemini/day/requests"))
    assert "·················|·" in gemini
    assert "published" in gemini
    assert "$1.5000" in ran.out
    assert "unknown" in ran.out
    assert "codex: 1 calls run, 1 at once, slowed down from 4" in ran.out
    assert "gemini: " not in ran.out
    assert cli("quota", "--json").json["quotas"] == QUOTAS


def test_without_quotas_it_says_how_to_set_one(cli, engine_says):
    engine_says["quota"] = {**engine_says["quota"], "quotas": []}
    assert "farebox quota set PLATFORM day 250" in cli("quota").out
    assert "No provider has told anything yet." in cli("quota", "learn").out


def test_learn_tells_what_providers_told_and_what_is_unknown(cli, engine_says):
    ran = cli("quota", "learn")
    assert "codex/5h/percent" in ran.out
    assert "gemini/day" not in ran.out
    assert "unknown: openai/minute/tokens. If you know it: farebox quota set openai minute LIMIT --unit tokens" in ran.out
    assert [one["quota"] for one in cli("quota", "learn", "--json").json["quotas"]] == ["codex/5h/percent"]


def adopts(quotas, budgets=None, **more):
    """What an engine answers that holds these."""
    return {"schema": "farebox.settings/1", "adopted_seq": 7, "quotas": quotas, "budgets": budgets or {}, **more}


def test_a_limit_that_is_set_is_written_and_taken_by_the_engine_at_once(cli, engine_says, tmp_path):
    engine_says["settings_reload"] = adopts(
        {"gemini-day-requests": {"platform": "gemini", "window": "day", "limit": 10, "zone": "Europe/Berlin"}},
        {"all-month": {"limit_usd": "50", "window": "month"}},
    )
    engine_says["quota"]["quotas"] = [{"quota": "gemini/day/requests", "used": "12", "limit": "10"}]
    ran = cli("quota", "set", "gemini", "day", "10", "--zone", "Europe/Berlin")
    assert ran.code == 0
    assert "in force from fact 7 on" in ran.out
    assert "gemini/day/requests: 12 of 10 is in use. Nothing is cancelled" in ran.out
    path = tmp_path / "store" / "limits.toml"
    assert limits_file.read(path)["quotas"] == {
        "gemini-day-requests": {
            "platform": "gemini", "window": "day", "unit": "requests", "limit": 10, "zone": "Europe/Berlin",
        }
    }  # fmt: skip
    told = cli("quota", "set", "all", "month", "$50", "--json").json
    assert told["in_force"] is True
    assert (told["name"], told["keys"]) == ("all-month", {"limit_usd": "50", "scope": "all", "window": "month"})
    engine_says["settings_reload"] = adopts({})
    assert cli("quota", "unset", "gemini", "day").code == 0
    assert "quotas" not in limits_file.read(path)
    gone = cli("quota", "unset", "gemini", "day")
    assert (gone.code, "was not set by command" in gone.err) == (2, True)


@pytest.mark.parametrize(
    ("quotas", "said"),
    [
        ({}, "The engine holds no [quotas.gemini-day-requests], and that counts: it reads other files."),
        (
            {"gemini-day-requests": {"platform": "gemini", "window": "day", "limit": 99}},
            "The engine holds [quotas.gemini-day-requests] with a limit of 99, and that counts",
        ),
    ],
)
def test_an_engine_that_reads_other_files_holds_another_limit_and_that_is_said(cli, engine_says, quotas, said):
    engine_says["settings_reload"] = adopts(quotas, needs_restart=True)
    ran = cli("quota", "set", "gemini", "day", "10")
    assert (ran.code, "NOT in force." in ran.out, "in force from" in ran.out) == (3, True, False)
    assert said in ran.out
    assert "Set it where that engine runs" in ran.out
    assert "counts after a restart" in ran.out
    told = cli("quota", "set", "gemini", "day", "11", "--json")
    assert (told.code, told.json["in_force"], told.json["needs_restart"]) == (3, False, True)
    cli("quota", "set", "all", "month", "$5")
    engine_says["settings_reload"] = adopts({}, {"all-month": {"limit_usd": "9"}})
    gone = cli("quota", "unset", "all", "month")
    assert (gone.code, "[budgets.all-month] with a limit of 9 usd" in gone.out) == (3, True)


def test_an_engine_that_does_not_tell_what_it_holds_is_not_said_to_hold_it(cli, engine_says):
    engine_says["settings_reload"] = {"schema": "farebox.settings/1", "adopted_seq": 7}
    ran = cli("quota", "set", "gemini", "day", "10")
    assert (ran.code, "does not say what it holds" in ran.out) == (0, True)


def test_without_an_engine_a_limit_waits_for_one(cli, engine_says):
    ran = cli("quota", "set", "gemini", "day", "10", "--server", "nats://nobody:1")
    assert (ran.code, "in force as soon as an engine that reads this file runs" in ran.out) == (0, True)


@pytest.mark.parametrize(
    ("words", "said", "code"),
    [
        (("set", "gemini", "day"), "set takes 3 words. farebox quota set PLATFORM WINDOW LIMIT", 2),
        (("show", "gemini"), "show takes no words.", 2),
        (("sett", "gemini", "day", "1"), 'Did you mean "set"?', 2),
        (("set", "gemni", "day", "1"), 'There is no platform "gemni". Did you mean "gemini"?', 2),
        (("set", "gemini", "fortnight", "1"), "'fortnight' is no window.", 2),
        (("set", "gemini", "day", "many"), "'many' is no limit. Write it like 60, 60usd, 100000tokens or 80%.", 2),
        (("set", "gemini", "day", "6bananas"), "'bananas' is no unit.", 2),
        (("set", "gemini", "day", "6usd", "--unit", "tokens"), "The limit is in usd, and --unit says tokens.", 2),
        (("set", "gemini", "day", "101%"), "is 101 percent. The most is 100", 3),
        (("set", "gemini", "day", "5", "--zone", "Mars/Base"), "'Mars/Base' is no time zone", 3),
        (("set", "all", "month", "5"), "A budget is in US dollars. farebox quota set all month 5usd", 2),
    ],
)
def test_a_limit_that_cannot_be_meant_is_refused_and_nothing_is_written(cli, engine_says, tmp_path, words, said, code):
    ran = cli("quota", *words)
    assert said in ran.err
    assert ran.code == code
    assert not (tmp_path / "store" / "limits.toml").exists()


def test_an_engine_that_does_not_take_it_is_told(cli, engine_says, monkeypatch):
    from farebox.client import Client

    async def refuse(_):
        raise BadSettings("other.toml: engine.x is wrong.")

    monkeypatch.setattr(Client, "reload_settings", refuse)
    ran = cli("quota", "set", "gemini", "day", "10")
    assert (ran.code, "but the engine did not take it: other.toml" in ran.err) == (3, True)


SETTINGS = Settings(
    platforms={"a": PlatformSettings(kind="x", account="me"), "b": PlatformSettings(kind="x", account="me", billing="plan")},
    quotas={
        "page": QuotaSettings(platform="b", window="day", limit=5, source="published"),
        "other": QuotaSettings(platform="b", window="week", limit=5, billing="free"),
    },
    budgets={"mine": BudgetSettings(limit_usd="5", scope="platform", key="a", window="month")},
)


def test_a_limit_goes_where_it_stands_already():
    place = quota_setting.place_of(SETTINGS, "a", "24h", quota_setting.parsed("9", None))
    assert (place.shown, place.keys) == ("[quotas.page]", {"limit": 9})
    place = quota_setting.place_of(SETTINGS, "a", "30d", quota_setting.parsed("9usd", None))
    assert (place.shown, place.keys) == ("[budgets.mine]", {"limit_usd": "9"})
    place = quota_setting.place_of(SETTINGS, "mine", "week", quota_setting.parsed("$9.50", None))
    assert place.keys == {"limit_usd": "9.50", "window": "week"}
    assert quota_setting.place_of(SETTINGS, "b", "week", quota_setting.parsed("9", None)).name == "b-week-requests"
    assert quota_setting.place_of(SETTINGS, "a", "week", quota_setting.parsed("9.5usd", None)).name == "a-week"


@pytest.mark.parametrize(
    ("given", "unit", "number", "meant"),
    [
        ("60", None, "60", "requests"), ("60", "tokens", "60", "tokens"), ("100_000tokens", None, "100000", "tokens"),
        ("1.5mtokens", None, "1500000", "tokens"), ("2k", None, "2000", "requests"), ("80%", None, "80", "percent"),
        ("$5", None, "5", "usd"), ("3 calls", None, "3", "calls"), ("1 request", None, "1", "requests"),
    ],
)  # fmt: skip
def test_limits_are_read_as_people_write_them(given, unit, number, meant):
    found = quota_setting.parsed(given, unit)
    assert (found.number, found.unit) == (number, meant)


def test_what_is_written_reads_as_it_was(tmp_path):
    path = tmp_path / "deep" / "limits.toml"
    values = {"limit": 5, "said": 'a "quote", \\ a tab\t, \x7f and é', "limit_usd": "0.1"}
    with limits_file.changed(path) as sections:
        sections["quotas"] = {"a": values}
    assert limits_file.read(path) == {"quotas": {"a": values}}
    assert limits_file.text({}) == ""


def test_a_change_that_breaks_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "limits.toml"
    path.write_text("[quotas.a]\nlimit = 1\n")
    with pytest.raises(BadInput), limits_file.changed(path):
        raise BadInput("no")
    assert path.read_text() == "[quotas.a]\nlimit = 1\n"
    path.write_text("broken")
    with pytest.raises(BadSettings, match="Repair it, or remove it"):
        limits_file.read(path)


def test_many_writers_lose_nothing(tmp_path):
    path = tmp_path / "limits.toml"

    def write(number):
        with limits_file.changed(path) as sections:
            sections.setdefault("quotas", {})[f"q{number}"] = {"limit": number}

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(limits_file.read(path)["quotas"]) == {f"q{number}" for number in range(8)}


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadSettings, match="it cannot be written"), limits_file.changed(tmp_path / "file" / "limits.toml"):
        pass


def test_bars_and_moments_read_well():
    assert quota_table.bar(Decimal("1.2"), 90) == "█" * 20
    assert quota_table.bar(Decimal(0), 100) == "·" * 19 + "|"
    assert quota_table.amount(Decimal("12.5"), "percent") == "12.5 %"
    assert quota_table.moment(NOW_MS + 5 * 86_400_000, NOW_MS).startswith("2026-09-")
