"""The law: whatever the real quota actor grants is certified, and a mutant of it that grants one too many is not."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from actors import ACTORS
from farebox.certificate.fold import Fold
from farebox.certificate.report import Certificate
from farebox.core.actor import Actor
from farebox.core.events import (
    AttemptFailed,
    Fact,
    PlatformReported,
    PriceListAdopted,
    QuotaLearned,
    QuotaReserved,
    SettingsAdopted,
    TaskCancelRequested,
    TaskCompleted,
    TaskSubmitted,
)
from farebox.core.pricing import DatedPrice, ModelPrices, PriceList, ProviderPrices, Rates
from farebox.core.pricing import canonical as canonical_prices
from farebox.core.quotas import BudgetSettings, QuotaSettings
from farebox.core.settings import PlatformSettings, Settings, canonical, restore
from farebox.core.terms import CallRecord, Constraints, Fault, Usage
from farebox.whatif.recording import Outcome, Recording
from farebox.whatif.tally import Tally
from farebox.whatif.world import World

BEGIN_MS = 1_774_741_500_000
"""29 March 2026, 00:45 in Berlin: 75 minutes before clocks are set forward."""
MINUTE_MS = 60_000
LATE_MS = 400_000
"""Longer than a task of 60 s may take before quota books all of it and gives its slot away."""
PRICES = PriceList(
    list_id="law",
    providers=(
        ProviderPrices(
            id="all",
            match=(("^m",),),
            models=(
                ModelPrices(id="m1", match=(("=m1",),), prices=(DatedPrice(rates=Rates(input="0.0001", output="0.001")),)),
            ),
        ),
    ),
)


class Certified(Tally):
    """Has each fact certified that comes into being."""

    def __init__(self) -> None:
        super().__init__()
        self.fold = Fold()
        self.facts: list[Fact] = []

    def take(self, fact: Fact) -> None:
        super().take(fact)
        self.facts.append(fact)
        self.fold.take(fact)

    def certificate(self) -> Certificate:
        return self.fold.certificate(facts=len(self.facts), first=1, last=len(self.facts), digest="")


def adopted(one: Settings) -> SettingsAdopted:
    plain, sha256 = canonical(one)
    return SettingsAdopted(settings=plain, sha256=sha256)


quota = st.builds(
    QuotaSettings,
    platform=st.sampled_from(["a", "b"]),
    window=st.sampled_from(["minute", "hour", "day", "90s", "5h"]),
    unit=st.sampled_from(["requests", "tokens", "tokens_out", "percent", "calls"]),
    limit=st.sampled_from([0, 1, 2, 3, 7, 40, 2000, 100_000, None]),
    kind=st.sampled_from([None, "fixed", "rolling"]),
    zone=st.sampled_from(["UTC", "Europe/Berlin"]),
    source=st.sampled_from(["configured", "published"]),
)
budget = st.builds(
    BudgetSettings,
    limit_usd=st.sampled_from(["0", "0.05", "0.2", "1", "5"]),
    scope=st.sampled_from(["all", "platform", "tag", "chain", "batch", "task"]),
    window=st.sampled_from(["all", "hour", "90s"]),
)
platform = st.builds(
    PlatformSettings,
    kind=st.just("rehearsal"),
    billing=st.sampled_from(["plan", "metered", "free", "rehearsal"]),
    limit=st.integers(1, 4),
    model=st.just("m1"),
    account=st.sampled_from(["", "org"]),
)


@st.composite
def worlds(draw: st.DrawFn, longest_ms: int = 70_000) -> tuple[Recording, Settings]:
    """What comes from outside, in time, and how each attempt goes."""
    one = Settings(
        platforms={name: draw(platform) for name in ("a", "b")},
        quotas={f"q{at}": draw(quota) for at in range(draw(st.integers(0, 3)))},
        budgets={f"b{at}": draw(budget) for at in range(draw(st.integers(0, 2)))},
        answer_tokens_max=100,
    )
    recording = Recording()
    recording.began_ms = now_ms = BEGIN_MS
    plain, sha256 = canonical_prices(PRICES)
    recording.outside = [
        ("engine", PriceListAdopted(list_id="law", sha256=sha256, prices=plain, at_ms=now_ms)),
        *(("adapter", PlatformReported(platform=name, available=True, models=("m1",), at_ms=now_ms)) for name in ("a", "b")),
    ]
    for number in range(draw(st.integers(1, 14))):
        now_ms += draw(st.sampled_from([0, 0, 1, 500, 30_000, 90_000, 40 * MINUTE_MS]))
        recording.outside.append(draw(_from_outside(recording, one, number, now_ms, longest_ms)))
    return recording, one


@st.composite
def _from_outside(
    draw: st.DrawFn, recording: Recording, one: Settings, number: int, now_ms: int, longest_ms: int
) -> tuple[str, Any]:
    kind = draw(st.sampled_from(["task"] * 8 + ["learned", "learned", "settings", "cancel"]))
    if kind == "learned":
        reset_ms = draw(st.sampled_from([None, now_ms + 1, now_ms + 40_000]))
        return "adapter", QuotaLearned(
            platform=draw(st.sampled_from(["a", "b"])), window_s=draw(st.sampled_from([0, 60, 90, 3600])),
            unit=draw(st.sampled_from(["requests", "tokens", "percent"])), limit=draw(st.sampled_from([None, 1, 3, 500])),
            used=draw(st.sampled_from([None, 0, 1, 2, 99])), resets_at_ms=reset_ms, at_ms=now_ms,
        )  # fmt: skip
    if kind == "settings":
        changed = {name: msgspec.structs.replace(entry, limit=draw(st.integers(0, 9))) for name, entry in one.quotas.items()}
        return "engine", msgspec.structs.replace(adopted(msgspec.structs.replace(one, quotas=changed)), at_ms=now_ms)
    if kind == "cancel":
        return "client", TaskCancelRequested(chain="c", task=f"t{draw(st.integers(0, number))}", at_ms=now_ms)
    key = (draw(st.sampled_from(["c", "d"])), f"t{number}")
    recording.ended.add(key)
    recording.outcomes[key] = [draw(_outcome(name, longest_ms)) for name in draw(st.permutations(["a", "b"]))]
    bounds = st.sampled_from([None, None, "0.02", "0.3"])
    constraints = Constraints(
        max_cost_usd=draw(bounds), batch_max_cost_usd=draw(bounds), chain_max_cost_usd=draw(bounds),
        on_quota=draw(st.sampled_from([None, "wait", "spill", "stop"])),
    )  # fmt: skip
    return "client", TaskSubmitted(
        id=f"id-{number}", chain=key[0], task=key[1], batch=draw(st.sampled_from(["", "n"])), at_ms=now_ms,
        priority=draw(st.integers(-1, 1)), timeout_s=60, max_tokens=draw(st.sampled_from([None, 20])), constraints=constraints,
        tags=draw(st.sampled_from([{}, {"team": "red"}])), prompt="x" * draw(st.integers(1, 400)),
    )  # fmt: skip


@st.composite
def _outcome(draw: st.DrawFn, name: str, longest_ms: int) -> Outcome:
    run_ms = draw(st.sampled_from([0, 700, 20_000, longest_ms]))
    usage = draw(st.sampled_from([None, Usage(input_tokens=30, output_tokens=10), Usage(input_tokens=3000, output_tokens=900)]))
    shared: dict[str, Any] = {
        "platform": name, "usage": usage, "duration_ms": run_ms, "calls": (CallRecord(status=200),) * draw(st.integers(0, 3)),
        "charged": draw(st.sampled_from(["known", "none", "possible"])),
    }  # fmt: skip
    if draw(st.booleans()):
        return Outcome(draw(st.sampled_from([0, 90_000])), run_ms, TaskCompleted(status="completed", **shared))
    fault = Fault(error_class=draw(st.sampled_from(["rate_limited", "server_error", "refused"])), message="no")
    return Outcome(0, run_ms, AttemptFailed(fault=fault, **shared))


def grown(recording: Recording, one: Settings, actors: tuple[Actor[Any], ...] = ACTORS) -> Certified:
    recording.outside.insert(0, ("engine", msgspec.structs.replace(adopted(one), at_ms=BEGIN_MS)))
    world = World(actors, recording, lambda recorded: recorded)
    found = world.tally = Certified()
    world.run(strict=False)
    return found


def told(found: Certified) -> str:
    return "\n".join([*(breach.text for breach in found.certificate().breaches), *(repr(fact)[:700] for fact in found.facts)])


LAW = settings(deadline=None, suppress_health_check=list(HealthCheck))


@settings(LAW, max_examples=25)
@given(worlds())
def test_whatever_quota_grants_is_certified(drawn):
    found = grown(*drawn)
    assert found.certificate().holds, told(found)


@pytest.mark.slow
@settings(LAW, max_examples=400)
@given(worlds())
def test_whatever_quota_grants_in_many_runs_is_certified(drawn):
    found = grown(*drawn)
    assert found.certificate().holds, told(found)


@pytest.mark.slow
@settings(LAW, max_examples=100, phases=[Phase.generate])
@given(worlds(longest_ms=LATE_MS))
def test_attempts_that_end_after_their_deadline_are_certified(drawn):
    found = grown(*drawn)
    assert found.certificate().holds, told(found)


def with_settings(change: Any) -> tuple[Actor[Any], ...]:
    """The actors, with a quota that reads the settings wrongly."""

    def evolve(state: Any, fact: Any) -> Any:
        if isinstance(fact, SettingsAdopted):
            plain, _ = canonical(change(restore(fact.settings)))
            fact = msgspec.structs.replace(fact, settings=plain)
        return real.evolve(state, fact)

    real = next(actor for actor in ACTORS if actor.name == "quota")
    evolve.__annotations__ = real.evolve.__annotations__
    mutant = _Mutant(real.name, real.new, real.decide, evolve, real.due, held=real.held, pace=real.pace, version=real.version)
    return tuple(mutant if actor is real else actor for actor in ACTORS)


class _Mutant(Actor[Any]):
    """Folds what the real one folds."""

    def folded(self) -> frozenset[type]:
        return next(actor for actor in ACTORS if actor.name == self.name).folded()


def with_words(change: Any) -> tuple[Actor[Any], ...]:
    """The actors, with a quota whose grants say something else than it counted."""

    def decide(state: Any, heard: Any) -> Any:
        said = real.decide(state, heard)
        return [change(fact) if isinstance(fact, QuotaReserved) and fact.takes else fact for fact in said]

    real = next(actor for actor in ACTORS if actor.name == "quota")
    mutant = _Speaker(real.name, real.new, decide, real.evolve, real.due, held=real.held, pace=real.pace, version=real.version)
    return tuple(mutant if actor is real else actor for actor in ACTORS)


class _Speaker(_Mutant):
    """Hears and says what the real one does."""

    def heard(self) -> frozenset[type]:
        return next(actor for actor in ACTORS if actor.name == self.name).heard()

    def said(self) -> frozenset[type]:
        return next(actor for actor in ACTORS if actor.name == self.name).said()


def one_more(one: Settings) -> Settings:
    return msgspec.structs.replace(
        one,
        quotas={name: msgspec.structs.replace(entry, limit=int(entry.limit or 0) + 1) for name, entry in one.quotas.items()},
    )


def one_slot_more(one: Settings) -> Settings:
    return msgspec.structs.replace(
        one, platforms={name: msgspec.structs.replace(entry, limit=entry.limit + 1) for name, entry in one.platforms.items()}
    )


def forgets_its_quotas(one: Settings) -> Settings:
    return msgspec.structs.replace(one, quotas={})


def looks_back_less(one: Settings) -> Settings:
    """The same name and another zone: its days turn an hour early."""
    return msgspec.structs.replace(
        one, quotas={name: msgspec.structs.replace(entry, zone="UTC") for name, entry in one.quotas.items()}
    )


def busy() -> tuple[Recording, Settings]:
    """Six tasks at once, six more after midnight in Berlin, of which each day may have two."""
    one = Settings(
        platforms={"a": PlatformSettings(kind="rehearsal", billing="plan", limit=3, model="m1")},
        quotas={"day": QuotaSettings(platform="a", window="day", limit=2, zone="Europe/Berlin")},
    )
    recording = Recording()
    recording.began_ms = BEGIN_MS
    recording.outside = [("adapter", PlatformReported(platform="a", available=True, models=("m1",), at_ms=BEGIN_MS))]
    for number in range(12):
        key, at_ms = ("c", f"t{number}"), BEGIN_MS + (number // 6) * 22 * 60 * MINUTE_MS
        recording.ended.add(key)
        end = TaskCompleted(platform="a", status="completed", calls=(CallRecord(status=200),), charged="known")
        recording.outcomes[key] = [Outcome(0, 1000, end)]
        task = TaskSubmitted(id=f"id-{number}", chain=key[0], task=key[1], prompt="x", timeout_s=60, at_ms=at_ms)
        recording.outside.append(("client", task))
    return recording, one


def rewritten(**change: Any) -> Any:
    """A change of each grant's parts."""

    def change_of(fact: QuotaReserved) -> QuotaReserved:
        return msgspec.structs.replace(
            fact, takes=tuple(msgspec.structs.replace(take, **change) for take in fact.takes) if change else ()
        )

    return change_of


@pytest.mark.parametrize(
    ("mutant", "kinds"),
    [
        (with_settings(one_more), {"over", "limit"}),
        (with_settings(one_slot_more), {"limit"}),
        (with_settings(forgets_its_quotas), {"left_out"}),
        (with_settings(looks_back_less), {"over"}),
        (with_words(rewritten(used="1")), {"used"}),
        (with_words(rewritten(amount="0.5")), {"amount", "used"}),
        (with_words(rewritten(limit="99")), {"limit"}),
        (with_words(rewritten()), {"left_out"}),
    ],
)
def test_a_mutant_of_quota_is_caught(mutant, kinds):
    sound = grown(*busy()).certificate()
    assert sound.holds, sound.breaches
    assert sound.grants == 12
    found = grown(*busy(), actors=mutant).certificate()
    assert kinds <= {breach.kind for breach in found.breaches}
