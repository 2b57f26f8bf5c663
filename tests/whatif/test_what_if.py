"""What would have been: the log's own policy repeats what happened, another one moves tasks, money, waits and windows."""

from __future__ import annotations

import logging

import msgspec
import pytest

from actors import ACTORS
from farebox.core import subjects, wire
from farebox.core.errors import BadInput
from farebox.core.events import (
    AttemptFailed,
    CostRecorded,
    PlatformReported,
    PriceListAdopted,
    QuotaLearned,
    QuotaReserved,
    SettingsAdopted,
    TaskCancelRequested,
    TaskCompleted,
    TaskRouted,
    TaskStarted,
    TaskSubmitted,
)
from farebox.core.pricing import DatedPrice, ModelPrices, PriceList, ProviderPrices, Rates
from farebox.core.pricing import canonical as canonical_prices
from farebox.core.quotas import QuotaSettings
from farebox.core.settings import PlatformSettings, Settings, canonical
from farebox.core.terms import CallRecord, Candidate, Fault, Usage
from farebox.log.port import Stored
from farebox.simulation.chances import CALM
from farebox.simulation.world import World as Simulated
from farebox.whatif.reading import Reading, what_if

NOON_MS = 1_774_000_000_000
PRICES = PriceList(
    list_id="prices",
    providers=(
        ProviderPrices(
            id="all",
            match=(("^m",),),
            models=(ModelPrices(id="m1", match=(("=m1",),), prices=(DatedPrice(rates=Rates(input="0.001", output="0.01")),)),),
        ),
    ),
)
OWN = Settings(
    platforms={
        "plan": PlatformSettings(kind="rehearsal", billing="plan", limit=1, model="m1"),
        "paid": PlatformSettings(kind="rehearsal", billing="metered", limit=9, model="m1"),
    }
)


class Log:
    """A finished log of six tasks on a plan, one after the other, written by hand."""

    def __init__(self, tasks: int = 6, *, failing: bool = False) -> None:
        self.stored: list[Stored] = []
        self.now_ms = NOON_MS
        plain, sha256 = canonical(OWN)
        prices, prices_sha256 = canonical_prices(PRICES)
        self.say("engine", SettingsAdopted(settings=plain, sha256=sha256))
        self.say("engine", PriceListAdopted(list_id="prices", sha256=prices_sha256, prices=prices))
        for name in OWN.platforms:
            self.say("adapter", PlatformReported(platform=name, available=True, models=("m1",)))
        for number in range(tasks):
            self.say("client", TaskSubmitted(chain="c", task=f"t{number}", prompt="a prompt", timeout_s=600))
        for number in range(tasks):
            self.attempt(f"t{number}", "plan", 1, failed=failing)
            if failing:
                self.attempt(f"t{number}", "paid", 2)

    def say(self, writer, fact):
        seq = len(self.stored) + 1
        fact = msgspec.structs.replace(fact, id=f"f{seq}")
        self.stored.append(Stored(subjects.subject_of(writer, fact), wire.encode(fact), seq, self.now_ms))
        return seq

    def attempt(self, task, platform, number, *, failed=False):
        envelope = {"chain": "c", "task": task, "attempt": number}
        own = {"platform": platform, "billing": OWN.platforms[platform].billing, "model": "m1"}
        self.say("router", TaskRouted(**envelope, candidates=(Candidate(platform=platform),)))
        self.say("quota", QuotaReserved(**envelope, **own, in_use=1, limit=1))
        self.say("adapter", TaskStarted(**envelope, **own))
        self.now_ms += 60_000
        usage = Usage(input_tokens=100, output_tokens=10)
        ended = {**envelope, **own, "usage": usage, "calls": (CallRecord(status=200),), "charged": "known"}
        if failed:
            fault = Fault(error_class="refused", message="no")
            self.say("adapter", AttemptFailed(**{**ended, "usage": None, "charged": "none"}, fault=fault))
            return
        self.say("adapter", TaskCompleted(**ended, status="completed", output="an answer"))
        paid = {"paid_usd": "0", "plan_value_usd": "0.2"} if own["billing"] == "plan" else {"paid_usd": "0.2"}
        self.say("cost", CostRecorded(**envelope, **own, status="priced", usage=usage, **paid))

    def read(self):
        reading = Reading()
        reading.read(self.stored)
        return reading


def with_own(recorded):
    return recorded


def always(other):
    return lambda _: other


def replaced(**platforms):
    return always(msgspec.structs.replace(OWN, platforms={**OWN.platforms, **platforms}))


def test_the_own_policy_repeats_what_happened():
    found = what_if(Log().read(), ACTORS, with_own, {})
    assert (found.changed, found.borrowed, found.left_out, found.attempts) == (0, 0, 0, 6)
    assert found.hypothetical["platforms"] == found.happened["platforms"]
    assert found.hypothetical["plan_value_usd"] == "1.2"


@pytest.fixture
def calm():
    """A log of real followers and workers over the simulated network, in which nothing goes wrong by accident."""
    logging.disable(logging.WARNING)
    world = Simulated(13)
    world.chances = CALM
    world.run()
    yield world.store.facts
    world.loop.let_go()
    logging.disable(logging.NOTSET)


def test_the_own_policy_repeats_what_real_engines_did(calm):
    reading = Reading()
    reading.read(calm)
    found = what_if(reading, ACTORS, with_own, {})
    assert reading.recording.happened.runs
    assert found.changed == 0


def test_the_same_log_and_policy_give_the_same_digest():
    log = Log()
    first, second, third = (
        what_if(log.read(), ACTORS, with_own, {}),
        what_if(log.read(), ACTORS, with_own, {}),
        what_if(log.read(), ACTORS, replaced(plan=msgspec.structs.replace(OWN.platforms["plan"], limit=2)), {}),
    )
    assert first.digest == second.digest != third.digest


def test_without_the_plan_all_is_paid_with_the_usage_that_was_recorded_and_nobody_waits():
    found = what_if(Log().read(), ACTORS, replaced(plan=msgspec.structs.replace(OWN.platforms["plan"], enabled=False)), {})
    assert found.hypothetical["paid_usd"] == "1.2"
    assert found.happened["paid_usd"] == "0"
    assert (found.changed, found.borrowed, found.attempts) == (6, 6, 6)
    assert found.document()["extrapolated_share"] == 1.0
    assert found.happened["platforms"]["plan"]["wait_max_ms"] == 300_000
    assert found.hypothetical["platforms"]["paid"]["wait_max_ms"] == 0


def test_a_failure_of_a_platform_happens_there_again_and_nowhere_else():
    log = Log(1, failing=True)
    again = what_if(log.read(), ACTORS, with_own, {})
    assert again.changed == 0
    assert again.hypothetical["paid_usd"] == again.happened["paid_usd"] == "0.2"
    third = PlatformSettings(kind="rehearsal", billing="free", model="m1")
    free = what_if(log.read(), ACTORS, replaced(third=third), {"third": third})
    assert free.assumed == ("third",)
    assert free.hypothetical["platforms"]["third"]["completed"] == 1
    assert free.hypothetical["paid_usd"] == "0"


def test_a_window_empties_when_its_limit_is_reached_and_the_rest_waits_until_it_turns():
    quotas = {"q": QuotaSettings(platform="plan", window="hour", limit=2)}
    found = what_if(Log().read(), ACTORS, lambda recorded: msgspec.structs.replace(recorded, quotas=quotas), {})
    moments = found.hypothetical["windows"]["plan/hour/requests"]
    assert len(moments) == 3
    assert found.happened["windows"] == {}
    assert found.hypothetical["platforms"]["plan"]["wait_max_ms"] > 3_600_000
    assert found.hypothetical["paid_usd"] == "0"


def test_a_policy_that_allows_nothing_says_which_rule_excluded_each_platform():
    nothing = {name: msgspec.structs.replace(one, enabled=False) for name, one in OWN.platforms.items()}
    with pytest.raises(BadInput, match=r"plan: disabled") as refused:
        what_if(Log().read(), ACTORS, replaced(**nothing), {})
    assert refused.value.code == "FB309"
    assert "paid: disabled" in refused.value.message


def test_tasks_that_have_not_ended_are_left_out_and_cancelled_ones_are_cancelled():
    log = Log(1)
    log.say("client", TaskSubmitted(chain="c", task="open", prompt="x"))
    log.say("client", TaskCancelRequested(chain="c", task="early"))
    log.say("client", TaskSubmitted(chain="c", task="early", prompt="x"))
    log.say("router", TaskCompleted(chain="c", task="early", status="cancelled"))
    found = what_if(log.read(), ACTORS, with_own, {})
    assert (found.left_out, found.changed, found.hypothetical["tasks"]) == (1, 0, 2)


def test_a_task_that_is_cancelled_while_it_would_run_elsewhere_ends_there_as_cancelled():
    log = Log(1)
    log.now_ms = NOON_MS + 1000
    log.say("client", TaskCancelRequested(chain="c", task="t0"))
    off = replaced(plan=msgspec.structs.replace(OWN.platforms["plan"], enabled=False))
    found = what_if(log.read(), ACTORS, off, {})
    assert found.hypothetical["platforms"]["paid"]["completed"] == 0


def test_limits_that_a_provider_told_hold_but_what_was_used_there_does_not():
    log = Log(0)
    log.say("adapter", QuotaLearned(platform="plan", window_s=3600, limit=1, used=1))
    log.say("client", TaskSubmitted(chain="c", task="t0", prompt="a prompt", timeout_s=600))
    log.attempt("t0", "plan", 1)
    found = what_if(log.read(), ACTORS, with_own, {})
    assert found.changed == 0
    assert list(found.hypothetical["windows"]) == ["plan/hour/requests"]


def test_bytes_that_are_no_fact_are_passed_over():
    log = Log(1)
    log.stored.append(Stored("farebox.log.client.submitted.-.c.bad", b"{", len(log.stored) + 1, log.now_ms))
    assert what_if(log.read(), ACTORS, with_own, {}).changed == 0
