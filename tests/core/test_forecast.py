"""What a call may cost is an interval that holds its likeliest value, under any price list."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from farebox.core import forecast, money, pricing
from farebox.core.pricing import DatedPrice, ModelPrices, PriceList, ProviderPrices, Rates, Tier
from farebox.core.terms import Usage

LOW, HIGH = Rates(input="0.001", output="0.01"), Rates(input="0.002", output="0.02")


def listed(*prices, **fields):
    model = ModelPrices(id="m", match=(("=m",),), prices=prices or (DatedPrice(rates=LOW),), **fields)
    return PriceList(list_id="test", providers=(ProviderPrices(id="acme", match=(("=m",),), models=(model,)),))


def test_the_least_is_half_the_input_and_the_most_twice_the_input_with_the_longest_answer():
    cost = forecast.dollars(listed(), "m", "acme", 100, (10, 50, 1000), 0)
    assert cost == ("0.15", "0.6", "10.2", Decimal("0.150"), Decimal("0.600"))


def test_without_a_price_nothing_is_said():
    assert forecast.dollars(listed(), "other", "acme", 100, (1, 2, 3), 0) is None
    assert forecast.dollars(listed(DatedPrice(rates=Rates(input="0.001"))), "m", "acme", 100, (1, 2, 3), 0) is None


def test_the_price_of_the_hour_is_likeliest_and_the_dearest_bounds():
    prices = listed(DatedPrice(rates=HIGH), DatedPrice(from_ms=10**6, rates=LOW))
    early, late = (forecast.dollars(prices, "m", "acme", 100, (0, 0, 0), at_ms) for at_ms in (5, 2 * 10**6))
    assert (early.estimate, late.estimate) == ("0.2", "0.1")
    assert early.bound == late.bound == "0.4"


def test_the_window_is_what_the_list_says():
    assert forecast.window(listed(context_tokens=8000), "m", "acme") == 8000
    assert forecast.window(listed(), "m", "acme") is None
    assert forecast.window(listed(), "other", "acme") is None


def test_a_list_is_adopted_under_its_name_and_equal_ones_are_one():
    plain, _ = pricing.canonical(listed())
    one, other = (pricing.adopted("mine", dict(plain)) for _ in range(2))
    assert one is other
    assert one.list_id == "mine"
    assert pricing.adopted("broken", {"providers": 5}) == PriceList(list_id="broken")


def test_a_platform_may_be_priced_as_another_model_or_as_somebodys():
    assert pricing.name_of("", "m") == "m"
    assert pricing.name_of("other", "m") == "other"
    assert pricing.name_of("acme/", "m") == "acme/m"


RATE = st.sampled_from([None, "0", "0.001", "0.02", "3"])
RATES = st.builds(Rates, input=RATE, output=RATE, cached=RATE, cache_write=RATE, request=RATE)
PRICE = st.builds(
    DatedPrice,
    from_ms=st.integers(0, 10**6),
    rates=RATES,
    tiers=st.lists(st.builds(Tier, above=st.integers(0, 300), rates=RATES), max_size=2).map(tuple),
)


@given(
    prices=st.lists(PRICE, min_size=1, max_size=3),
    tokens=st.integers(0, 1000),
    output=st.tuples(st.integers(0, 99), st.integers(0, 99), st.integers(0, 99)).map(sorted).map(tuple),
    minute=st.integers(0, 30),
)
def test_law_it_is_an_interval_around_the_price_and_below_the_bound_that_charges_have(prices, tokens, output, minute):
    whole, at_ms, (low, typical, most) = listed(*prices), minute * 60_000, output
    cost = forecast.dollars(whole, "m", "acme", tokens, output, at_ms + 59_999)
    likely = pricing.price_of(whole, "m", Usage(input_tokens=tokens, output_tokens=typical), at_ms)
    least = pricing.price_of(whole, "m", Usage(input_tokens=tokens // 2, output_tokens=low), at_ms)
    bound = pricing.upper_bound(whole, "m", 2 * tokens, most)
    if cost is None:
        assert None in (likely, least, bound)
        return
    assert cost.estimate == money.text(likely.total)
    assert Decimal(cost.low) == min(least.total, likely.total)
    assert Decimal(cost.bound) == max(bound.total, likely.total)
