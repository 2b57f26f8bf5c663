"""farebox why: the whole way of a task on one screen, from its facts alone."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from farebox.cli import why_shown
from farebox.core import events as e
from farebox.core.pricing import DatedPrice, ModelPrices, PriceList, ProviderPrices, Rates, price_of
from farebox.core.terms import Allowance, Candidate, Constraints, Fault, Rejected, Take, Usage

AT_MS = 1_790_000_000_000
OPENAI = Candidate(
    platform="openai", model="m", billing="metered", tier=2, input_tokens=800, output_tokens=200, low_usd="0.001",
    estimate_usd="0.002", bound_usd="0.004", health=900,
)  # fmt: skip
USAGE = Usage(input_tokens=1000, output_tokens=200, cached_tokens=400)
PRICES = {"input": "0.000002", "output": "0.00001", "cached": "0.000001"}
STORY = (
    e.TaskSubmitted(
        prompt="secret words", bytes=12, type="review", tags={"team": "x"}, constraints=Constraints(deny=("a", "b")),
    ),
    e.TaskRouted(
        attempt=1, candidates=(Candidate(platform="claude-code", billing="plan", bound_usd="0.1", low_usd="0.05"), OPENAI),
        rejected=(Rejected(platform="a", reason="the task denies it"),),
        allowance=Allowance(policy="reviews", on_quota="spill"),
    ),
    e.QuotaDeferred(due_ms=AT_MS + 60_000, reason="claude-code/5h/percent is at 100 of 100", quota="claude-code/5h/percent"),
    e.QuotaReserved(
        attempt=1, platform="openai", in_use=1, limit=10, as_of=7,
        takes=(
            Take(quota="openai/day/requests", amount="1", used="12", limit="250", source="published"),
            Take(quota="budget:month/month/usd", amount="0.004", used="1.5", limit="50", source="configured"),
            Take(quota="openai/minute/tokens", amount="1200", used="1200"), Take(quota="x/day/usd", amount="0"),
        ),
    ),
    e.TaskStarted(attempt=1, platform="openai", model="m"),
    e.AttemptFailed(attempt=1, platform="openai", fault=Fault(error_class="server_error", message="503")),
    e.TaskCompleted(attempt=2, platform="openai", status="completed", charged="known", usage=USAGE, duration_ms=4100),
    e.QuotaSettled(attempt=1, platform="openai", takes=(Take(quota="openai/day/requests", amount="1"),), expired=True),
    e.CostRecorded(
        attempt=2, platform="openai", status="priced", paid_usd="0.0036", usage=USAGE, unit_prices=PRICES, price_list="list-1",
        price_model="m",
    ),
    e.CostRecorded(attempt=1, platform="openai", status="possible", paid_usd="0.004", unit_prices=PRICES),
    e.CostRecorded(attempt=3, platform="claude-code", billing="plan", paid_usd="0", plan_value_usd="0.2", status="estimated"),
    e.QuotaRefused(fault=Fault(error_class="quota_exhausted", message="all used")),
    e.TaskCancelRequested(),
    e.TaskDecision(decision="retry"),
)  # fmt: skip


@pytest.fixture
def found():
    facts = [msgspec.to_builtins(fact) | {"seq": seq, "at_ms": AT_MS + seq} for seq, fact in enumerate(STORY, start=1)]
    facts.append({"seq": 99, "at_ms": AT_MS, "fact": "unread", "reason": "later"})
    return {
        "task_id": "t1", "chain_id": "c1", "status": "pending", "waiting": "for capacity", "due_ms": AT_MS + 60_000,
        "facts": facts,
        "left_out": 3, "limits": [
            {"quota": "openai/day/requests", "window": "day", "used": "12", "limit": "250", "source": "published"},
            {"quota": "openai/now/calls", "window": "now"},
            {"quota": "openai/minute/tokens", "window": "minute", "unit": "tokens"},
        ],
    }  # fmt: skip


def test_the_whole_way_is_told_with_its_reasons(found):
    told = "\n".join(why_shown.lines_of(found, 160))
    missing = [words for words in (
        "task t1 · pending · chain c1", "it waits until ", "submitted: review, 12 bytes, team=x", "allows: deny a, b",
        "routed, attempt 1: policy reviews, on quota spill", "1. claude-code · plan · list price $0.0500 to $0.1000",
        "2. openai/m · metered · about 800→200 tok · $0.0010 to $0.0040, likely $0.0020 · health 90 %",
        "– a: the task denies it", "claude-code/5h/percent is at 100 of 100", "slot 1 of 10, limits as known at fact 7",
        "takes 1 of openai/day/requests: then 12 of 250 (published)", "then $1.5000 of $50.0000 (configured)",
        "takes 1 200 of openai/minute/tokens: then 1 200 of unknown", "attempt 1 starts on openai m", "server_error: 503",
        "attempt 2 completed · after 4.1 s · 1 000→200 tok (provider)", "because nobody ended it in time",
        "paid $0.0036 · priced · price list list-1 (m)", "600 input tokens x $0.000002 = $0.0012",
        "400 tokens from a cache x $0.000001 = $0.00040", "200 output tokens x $0.00001 = $0.0020",
        "possibly charged, at most $0.0040", "input: $0.000002 each", "worth $0.2000 of a plan",
        "no capacity: quota_exhausted: all used", "cancel asked for: no reason given", "a person decided: retry", "unread",
        "and 3 facts between them", "openai/day/requests: 12 of 250 published", "openai/minute/tokens: 0 of unknown",
    ) if words not in told]  # fmt: skip
    assert not missing
    assert "openai/now" not in told


def test_no_text_of_a_fact_can_steer_a_terminal_and_lines_fit(found):
    found["facts"][1]["rejected"][0]["reason"] = "x" * 500 + "\x1b[2J"
    assert all(len(text) <= 100 and "\x1b" not in text for text in why_shown.lines_of(found, 100))


@pytest.mark.parametrize(
    "usage",
    [
        Usage(input_tokens=1000, output_tokens=5),
        Usage(input_tokens=1000, output_tokens=5, cached_tokens=100, cache_write_tokens=300, cache_write_1h_tokens=50),
    ],
)
@pytest.mark.parametrize("rates", [{}, {"cached": "0.1"}, {"cached": "0.1", "cache_write": "0.3", "cache_write_1h": "0.5"}])
def test_the_road_leads_to_the_very_dollars_that_were_booked(usage, rates):
    whole = Rates(input="0.25", output="1.5", request="0.01", **rates)
    model = ModelPrices(id="m", match=(("=m",),), prices=(DatedPrice(rates=whole),))
    prices = PriceList(list_id="x", providers=(ProviderPrices(id="p", match=(("=m",),), models=(model,)),))
    priced = price_of(prices, "m", usage, AT_MS)
    assert priced is not None
    parts = why_shown.parts_of(msgspec.to_builtins(usage), priced.unit_prices)
    assert sum(count * Decimal(priced.unit_prices.get(name, "0")) for name, count in parts.items()) == priced.total


def test_an_unknown_task_is_said(cli):
    ran = cli("why", "nobody")
    assert ran.code != 0
