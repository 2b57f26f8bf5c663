"""A price is exact, dated, tiered; what is not known stays unknown."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.core import pricing
from farebox.core.errors import BadSettings
from farebox.core.pricing import DatedPrice, ModelPrices, PriceList, ProviderPrices, Rates, Tier
from farebox.core.terms import Usage

HOUR_MS = 3_600_000
LOW = Rates(input="0.000001", output="0.00001", cached="0.0000001", cache_write="0.00000125", cache_write_1h="0.000002")
HIGH = Rates(input="0.000002", output="0.00002", cached="0.0000002", cache_write="0.0000025", cache_write_1h="0.000004")


def model(name: str, *prices: DatedPrice, match: pricing.Tests = ()) -> ModelPrices:
    return ModelPrices(id=name, match=match or ((f"={name}",),), prices=prices or (DatedPrice(rates=LOW),))


PRICES = PriceList(
    list_id="test-1",
    providers=(
        ProviderPrices(
            id="acme",
            match=(("^acme-",), ("/^z[0-9]$",)),
            models=(
                model("acme-flat"),
                model("acme-tiered", DatedPrice(rates=LOW, tiers=(Tier(above=1000, rates=HIGH),))),
                model("acme-dated", DatedPrice(rates=HIGH), DatedPrice(from_ms=5000, rates=LOW)),
                model(
                    "acme-night",
                    DatedPrice(rates=LOW),
                    DatedPrice(day_from_ms=22 * HOUR_MS, day_until_ms=2 * HOUR_MS, rates=HIGH),
                ),
                model(
                    "acme-noon",
                    DatedPrice(rates=LOW),
                    DatedPrice(day_from_ms=11 * HOUR_MS, day_until_ms=13 * HOUR_MS, rates=HIGH),
                ),
                model("acme-short", DatedPrice(rates=Rates(input="0.000001", output="0", cache_write="0.00000125"))),
                model("acme-plain", DatedPrice(rates=Rates(input="0.000001", output="0"))),
                model("acme-long", DatedPrice(rates=Rates(input="0.000001", output="0", cache_write_1h="0.000002"))),
                model("acme-embed", DatedPrice(rates=Rates(input="0.000001"))),
                model("acme-talk", DatedPrice(rates=Rates())),
                model("acme-out", DatedPrice(rates=Rates(output="0.00001"))),
                model("acme-2026-01-02"),
                model("acme-search", DatedPrice(rates=Rates(input="0.000001", output="0", request="0.005"))),
                model("acme-part", match=(("^acme-p", "$t", "~ar"),)),
            ),
        ),
        ProviderPrices(id="resale", also=("acme", "nobody"), models=(model("own"),)),
    ),
)


def cost(name: str, usage: Usage, at_ms: int = 0, provider: str = "") -> Decimal | None:
    priced = pricing.price_of(PRICES, name, usage, at_ms, provider=provider)
    return priced and priced.total


def test_cached_and_written_tokens_stand_inside_the_input() -> None:
    usage = Usage(input_tokens=1000, output_tokens=100, cached_tokens=600, cache_write_tokens=300, reasoning_tokens=90)
    assert cost("acme-flat", usage) == Decimal("0.0001") + Decimal("0.00006") + Decimal("0.000375") + Decimal("0.001")


def test_without_a_price_for_cached_tokens_they_cost_what_other_input_does() -> None:
    assert cost("acme-embed", Usage(input_tokens=10, cached_tokens=4)) == Decimal("0.00001")


def test_the_unit_prices_in_force_come_with_the_total() -> None:
    priced = pricing.price_of(PRICES, "acme-tiered", Usage(input_tokens=1001, output_tokens=0), 0)
    assert priced is not None
    assert priced.unit_prices == {
        "input": "0.000002",
        "output": "0.00002",
        "cached": "0.0000002",
        "cache_write": "0.0000025",
        "cache_write_1h": "0.000004",
    }
    assert priced.model == "acme-tiered"


def test_a_price_per_call_is_added_once() -> None:
    assert cost("acme-search", Usage(input_tokens=2, output_tokens=0)) == Decimal("0.005002")
    bound = pricing.upper_bound(PRICES, "acme-search", 2, 0)
    assert bound is not None
    assert bound.total == Decimal("0.005002")


def test_a_tier_counts_above_its_mark_and_for_all_tokens() -> None:
    assert cost("acme-tiered", Usage(input_tokens=1000, output_tokens=1)) == Decimal("0.00101")
    assert cost("acme-tiered", Usage(input_tokens=1001, output_tokens=1)) == Decimal("0.002022")


def test_the_price_of_its_date_counts() -> None:
    usage = Usage(input_tokens=1, output_tokens=0)
    assert cost("acme-dated", usage, 4999) == Decimal("0.000002")
    assert cost("acme-dated", usage, 5000) == Decimal("0.000001")


@pytest.mark.parametrize(("hour", "dear"), [(21, False), (22, True), (23, True), (0, True), (1, True), (2, False)])
def test_hours_may_go_past_midnight(hour: int, dear: bool) -> None:
    expected = "0.000002" if dear else "0.000001"
    assert cost("acme-night", Usage(input_tokens=1, output_tokens=0), 86_400_000 * 9 + hour * HOUR_MS) == Decimal(expected)


@pytest.mark.parametrize(("hour", "dear"), [(10, False), (11, True), (12, True), (13, False)])
def test_hours_within_a_day(hour: int, dear: bool) -> None:
    expected = "0.000002" if dear else "0.000001"
    assert cost("acme-noon", Usage(input_tokens=1, output_tokens=0), hour * HOUR_MS) == Decimal(expected)


@pytest.mark.parametrize(
    ("name", "usage"),
    [
        ("nobody", Usage(input_tokens=1, output_tokens=1)),
        ("acme-none", Usage(input_tokens=1, output_tokens=1)),
        ("acme-" + "x" * 300, Usage(input_tokens=1, output_tokens=1)),
        ("", Usage(input_tokens=1, output_tokens=1)),
        ("acme-flat", Usage()),
        ("acme-flat", Usage(input_tokens=1)),
        ("acme-flat", Usage(output_tokens=1)),
        ("acme-flat", Usage(input_tokens=1, output_tokens=1, cached_tokens=2)),
        ("acme-flat", Usage(input_tokens=9, output_tokens=1, cache_write_tokens=2, cache_write_1h_tokens=3)),
        ("acme-flat", Usage(input_tokens=9, output_tokens=1, cache_write_1h_tokens=3)),
        ("acme-flat", Usage(input_tokens=2, output_tokens=1, cache_write_tokens=3, cache_write_1h_tokens=3)),
        ("acme-short", Usage(input_tokens=9, output_tokens=1, cache_write_tokens=3, cache_write_1h_tokens=1)),
        ("acme-embed", Usage(input_tokens=1, output_tokens=1)),
        ("acme-talk", Usage(input_tokens=1, output_tokens=1)),
        ("acme-talk", Usage(input_tokens=0, output_tokens=0)),
        ("acme-out", Usage(input_tokens=1, output_tokens=1)),
    ],
)
def test_what_is_not_known_has_no_price(name: str, usage: Usage) -> None:
    assert cost(name, usage) is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [("acme-flat", "0.000014"), ("acme-plain", "0.00001"), ("acme-long", "0.000013"), ("acme-short", None)],
)
def test_what_a_cache_keeps_for_an_hour_has_a_price_of_its_own_and_never_that_of_five_minutes(name, expected) -> None:
    usage = Usage(input_tokens=10, output_tokens=0, cache_write_tokens=7, cache_write_1h_tokens=3)
    assert cost(name, usage) == (expected and Decimal(expected))


def test_a_model_is_found_at_the_platform_at_its_provider_or_by_its_name() -> None:
    usage = Usage(input_tokens=1, output_tokens=0)
    assert cost("own", usage) is None
    assert cost("own", usage, provider="resale") is not None
    assert cost("resale/own", usage) is not None
    assert cost("resale/", usage) is None
    assert cost("ACME-Flat", usage, provider="elsewhere") is not None
    assert cost("resale/acme-flat", usage) is not None, "it sells what acme makes"
    assert cost("resale/acme-none", usage) is None
    assert cost("acme-20260102", usage) is not None, "a compact date is the same date"
    assert cost("acme-part", usage) is not None
    assert cost("acme-paxt", usage) is None
    assert cost("z9", usage) is None, "acme claims the name but does not sell it"


@given(st.integers(0, 10**7), st.integers(0, 10**7), st.integers(0, 10**7), st.integers(0, 10**7), st.integers(0, 10**13))
def test_the_total_is_the_plain_decimal_sum(fresh: int, cached: int, written: int, output: int, at_ms: int) -> None:
    usage = Usage(input_tokens=fresh + cached + written, cached_tokens=cached, cache_write_tokens=written, output_tokens=output)
    pico = fresh * 1_000_000 + cached * 100_000 + written * 1_250_000 + output * 10_000_000
    assert cost("acme-flat", usage, at_ms) == Decimal(pico).scaleb(-12)


@given(st.integers(0, 5000), st.integers(0, 5000), st.data())
def test_no_usage_within_the_counts_costs_more_than_the_upper_bound(input_max: int, output_max: int, data) -> None:
    name = data.draw(st.sampled_from(["acme-flat", "acme-tiered", "acme-dated", "acme-night"]))
    inputs = data.draw(st.integers(0, input_max))
    cached = data.draw(st.integers(0, inputs))
    written = data.draw(st.integers(0, inputs - cached))
    usage = Usage(
        input_tokens=inputs,
        cached_tokens=cached,
        cache_write_tokens=written,
        cache_write_1h_tokens=data.draw(st.integers(0, written)),
        output_tokens=data.draw(st.integers(0, output_max)),
    )
    at_ms = data.draw(st.integers(0, 10**9))
    spent = cost(name, usage, at_ms)
    bound_now = pricing.upper_bound(PRICES, name, input_max, output_max, at_ms=at_ms)
    bound_ever = pricing.upper_bound(PRICES, name, input_max, output_max)
    assert spent is not None
    assert bound_now is not None
    assert bound_ever is not None
    assert spent <= bound_now.total <= bound_ever.total


def test_an_upper_bound_needs_a_price() -> None:
    assert pricing.upper_bound(PRICES, "nobody", 1, 1) is None
    assert pricing.upper_bound(PRICES, "acme-embed", 1, 1) is None
    assert pricing.upper_bound(PRICES, "acme-out", 1, 1) is None
    bound = pricing.upper_bound(PRICES, "own", 4, 2, provider="resale")
    assert bound is not None
    assert bound.total == Decimal("0.000028"), "the dearest input is what a cache keeps for an hour"


def test_a_list_goes_into_the_log_and_comes_back_the_same() -> None:
    plain, sha256 = pricing.canonical(PRICES)
    again = pricing.restore(plain)
    assert again == PRICES
    assert pricing.canonical(again) == (plain, sha256)
    assert {PRICES: "found"}[again] == "found"


@pytest.mark.parametrize(
    "prices",
    [
        {"providers": 3},
        {"providers": [{"id": "a", "match": [["/("]]}]},
        {"providers": [{"id": "a", "models": [{"id": "m", "match": [["x"]], "prices": [{"rates": {}}]}]}]},
        {"providers": [{"id": "a", "models": [{"id": "m", "match": [["=m"]], "prices": [{"rates": {"input": "-1"}}]}]}]},
        {"providers": [{"id": "a", "models": [{"id": "m", "match": [["=m"]], "prices": []}]}]},
    ],
)
def test_a_list_that_does_not_read_is_refused(prices: dict[str, object]) -> None:
    with pytest.raises(BadSettings, match="price list"):
        pricing.restore(prices)
