"""audit quota and replay --policy: the certificate and the counterfactual as a person and a program see them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from types import SimpleNamespace

import msgspec
import pytest

from farebox import keeping
from farebox.core import subjects, wire
from farebox.core.events import (
    CostRecorded,
    PlatformReported,
    QuotaReserved,
    QuotaSettled,
    SettingsAdopted,
    TaskCompleted,
    TaskRouted,
    TaskStarted,
    TaskSubmitted,
)
from farebox.core.quotas import QuotaSettings
from farebox.core.settings import PlatformSettings, Settings, canonical
from farebox.core.terms import CallRecord, Candidate, Take, Usage
from farebox.log.memory import MemoryLog
from farebox.log.port import Entry

DAY = "mine/day/requests"


class Writer:
    """Writes the log that commands read."""

    def __init__(self, store) -> None:
        self.store = store

    def say(self, writer, fact):
        seq = len(self.store.facts) + 1
        fact = msgspec.structs.replace(fact, id=f"f{seq}")
        self.store.append([Entry(subjects.subject_of(writer, fact), wire.encode(fact), None)])
        return seq

    def begin(self, limit=2):
        settings = Settings(
            platforms={"mine": PlatformSettings(kind="rehearsal", billing="plan", limit=3, model="m1")},
            quotas={"day": QuotaSettings(platform="mine", window="day", limit=limit)},
        )
        plain, sha256 = canonical(settings)
        self.say("engine", SettingsAdopted(settings=plain, sha256=sha256))
        self.say("adapter", PlatformReported(platform="mine", available=True, models=("m1",)))

    def task(self, name, used, *, limit=2, ends=True):
        envelope, own = {"chain": "c", "task": name, "attempt": 1}, {"platform": "mine", "billing": "plan", "model": "m1"}
        self.say("client", TaskSubmitted(chain="c", task=name, prompt="x"))
        as_of = self.say("router", TaskRouted(**envelope, candidates=(Candidate(platform="mine", billing="plan"),)))
        take = Take(quota=DAY, amount="1", used=str(used), limit=str(limit), source="configured")
        self.say("quota", QuotaReserved(**envelope, **own, in_use=1, limit=3, takes=(take,), as_of=as_of))
        if not ends:
            return
        self.say("adapter", TaskStarted(**envelope, **own))
        usage = Usage(input_tokens=5, output_tokens=5)
        ended = {**envelope, **own, "usage": usage, "calls": (CallRecord(status=200),), "charged": "known"}
        self.say("adapter", TaskCompleted(**ended, status="completed", output="y"))
        self.say("quota", QuotaSettled(**envelope, platform="mine", requests=1, takes=(Take(quota=DAY, amount="1"),)))
        self.say("cost", CostRecorded(**envelope, **own, status="priced", paid_usd="0", plan_value_usd="0.5"))


@pytest.fixture
def log(store, cli, monkeypatch):
    """The log that the commands open, in the place of that of a store."""
    _ = cli

    @asynccontextmanager
    async def opened(place, config, where=None):
        _ = place, config, where
        kept = MemoryLog(store)
        yield SimpleNamespace(log=kept)
        await kept.close()

    monkeypatch.setattr(keeping, "opened", opened)
    writer = Writer(store)
    writer.begin()
    return writer


def test_a_log_that_kept_its_limits_is_certified(log, cli):
    log.task("a", 1)
    log.task("b", 2, ends=False)
    ran = cli("audit", "quota")
    assert ran.code == 0
    assert "never exceeded" in next(line for line in ran.out.splitlines() if line.startswith(DAY))
    assert "✓ never exceeded: 2 grants in" in ran.out
    assert "1 grant is still open: c/b on mine." in ran.out
    plain = cli("audit", "quota", "--json").json
    assert (plain["schema"], plain["ok"], [line["quota"] for line in plain["quotas"]]) == (
        "farebox.audit-quota/1", True, [DAY, "mine/now/calls"],
    )  # fmt: skip


def test_the_first_grant_beyond_a_limit_is_named_with_the_word_of_who_said_it(log, cli):
    for at, name in enumerate("abc", 1):
        log.task(name, at)
    ran = cli("audit", "quota", "--window", "day")
    assert ran.code == 8
    assert f"✗ FB308 Fact 19 makes 3 of {DAY}; the limit is 2, configured by fact 1 of the engine." in ran.out
    assert "✗ over at 19" in ran.out
    assert "✗ not certified: fact 19" in ran.out
    plain = cli("audit", "quota", "--json").json
    assert (plain["ok"], plain["breaches"][0]["word"]["limit_source"]) == (False, "configured")
    assert cli("audit", "quota", "--window", "now").code == 0


def test_a_window_that_no_grant_took_of_is_named_with_what_there_is(log, cli):
    log.task("a", 1)
    ran = cli("audit", "quota", "--window", "dya")
    assert (ran.code, ran.out) == (2, "")
    assert f"Choose one of: day, {DAY}" in ran.err or 'Did you mean "day"?' in ran.err


@pytest.mark.parametrize(
    "words",
    [("audit", "qota"), ("audit", "quota", "--from", "2"), ("audit", "verify", "--window", "day")],
)
def test_what_cannot_be_asked_of_an_audit_is_refused(words, log, cli):
    _ = log
    assert cli(*words).code == 2


def test_many_contradictions_are_counted_and_few_shown(log, cli):
    for number in range(30):
        log.say("quota", QuotaSettled(chain="c", task=f"t{number}", attempt=1, platform="mine"))
    out = cli("audit", "quota").out
    assert out.count("✗ FB308") == 20
    assert "  and 10 more: --json shows up to 1,000" in out
    assert "Nothing was granted yet." in out


def test_a_counterfactual_stands_beside_what_happened_and_says_what_it_is(log, cli, tmp_path):
    log.task("a", 1)
    log.task("b", 2)
    (tmp_path / "limits.toml").write_text('[quotas.day]\nplatform = "mine"\nwindow = "day"\nlimit = 1\n')
    ran = cli("replay", "--limits", tmp_path / "limits.toml")
    assert ran.code == 0, ran.err
    assert ran.out.startswith("HYPOTHETICAL: 2 tasks of ")
    assert f"{DAY}: emptied" in ran.out
    assert "0.0 % of 2 attempts are extrapolated" in ran.out
    first = cli("replay", "--limits", tmp_path / "limits.toml", "--json").json
    assert (first["schema"], first["hypothetical"]) == ("farebox.what-if/1", True)
    assert first["digest"] in ran.out
    assert len(first["would_have"]["windows"][DAY]) == 2


def test_another_policy_moves_the_tasks_and_names_what_it_takes_for_granted(log, cli, tmp_path):
    log.task("a", 1)
    log.task("open", 2, ends=False)
    (tmp_path / "other.toml").write_text(
        '[engine]\ndiscover = false\n[platforms.other]\nkind = "rehearsal"\nbilling = "rehearsal"\nmodel = "m2"\n'
    )
    ran = cli("replay", "--policy", tmp_path / "other.toml")
    assert ran.code == 0, ran.err
    assert "1 tasks would have gone elsewhere." in ran.out
    assert "100.0 % of 1 attempts are extrapolated" in ran.out
    assert "1 tasks that have not ended are left out." in ran.out
    assert "though the log never heard of them: other." in ran.out


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("[nonsense]\na = 1\n", 3, "unknown section"),
        ("[engine]\ndiscover = false\n", 2, "FB309 Under this policy no task may run."),
    ],
)
def test_a_policy_that_cannot_be_used_says_why(text, code, said, log, cli, tmp_path):
    log.task("a", 1)
    (tmp_path / "other.toml").write_text(text)
    ran = cli("replay", "--policy", tmp_path / "other.toml")
    assert (ran.code, ran.out) == (code, "")
    assert said in ran.err


@pytest.mark.parametrize("option", ["--policy", "--limits"])
def test_a_file_that_is_not_there_is_named(option, log, cli, tmp_path):
    _ = log
    ran = cli("replay", option, tmp_path / "gone.toml")
    assert (ran.code, ran.out) == (3, "")
    assert "gone.toml: there is no such file." in ran.err
