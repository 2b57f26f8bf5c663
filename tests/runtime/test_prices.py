"""The compiled list says what genai-prices says, to the digit."""

from datetime import UTC, date, datetime, time
from decimal import Decimal

import genai_prices
import pytest
from genai_prices import data, types
from hypothesis import given, settings
from hypothesis import strategies as st

from farebox.core import wire
from farebox.core.pricing import PriceList, price_of, restore
from farebox.core.terms import Usage
from farebox.runtime import prices

LISTED = prices.compile_prices()
SELLERS = [provider for provider in data.providers if provider.id in prices.PROVIDERS]
OURS = {provider.id: provider for provider in LISTED.providers}


def sold(model: types.ModelInfo) -> bool:
    """Whether both kinds of tokens have a price at all times: else we say unknown where the library says 0."""
    found = [
        ours
        for seller in SELLERS
        for theirs, ours in zip(seller.models, OURS[seller.id].models, strict=True)
        if theirs is model
    ]
    rates = [rates for one in found for price in one.prices for rates in (price.rates, *(t.rates for t in price.tiers))]
    return bool(rates) and all(one.input is not None and one.output is not None for one in rates)


def sold_for_an_hour(model: types.ModelInfo) -> bool:
    """Whether what a cache keeps for an hour has a price wherever what it keeps for five minutes has one."""
    prices = [getattr(price, "prices", price) for price in (model.prices if isinstance(model.prices, list) else [model.prices])]
    return all(price.cache_write_1h_mtok is not None or price.cache_write_mtok is None for price in prices)


def names(clause: object) -> list[str]:
    """Literal names that a clause accepts."""
    if isinstance(clause, types.ClauseOr):
        return [name for part in clause.or_ for name in names(part)]
    return [str(getattr(clause, kind)) for kind in ("equals", "starts_with", "contains") if getattr(clause, kind, None)]


PAIRS = [(seller.id, name) for seller in SELLERS for model in seller.models for name in {model.id, *names(model.match)}]


def theirs(provider: str | None, model: str, usage: Usage, at: datetime) -> tuple[str, types.ModelInfo, Decimal] | None:
    try:
        found = genai_prices.calc_price(
            genai_prices.Usage(
                input_tokens=usage.input_tokens,
                output_tokens=usage.output_tokens,
                cache_read_tokens=usage.cached_tokens,
                cache_write_tokens=usage.cache_write_tokens,
                cache_write_1h_tokens=usage.cache_write_1h_tokens,
            ),
            model,
            provider_id=provider,
            genai_request_timestamp=at,
        )
    except LookupError:
        return None
    return found.provider.id, found.model, found.total_price


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    fresh, cached, written = (draw(st.integers(0, 400_000)) for _ in range(3))
    return Usage(
        input_tokens=fresh + cached + written,
        output_tokens=draw(st.integers(0, 200_000)),
        cached_tokens=draw(st.sampled_from([cached, 0])),
        cache_write_tokens=written,
        cache_write_1h_tokens=draw(st.sampled_from([0, written // 3, written])),
    )


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(PAIRS),
    usages(),
    st.datetimes(datetime(2025, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - bounds are naive
)
def test_our_price_is_the_librarys_to_the_digit(pair: tuple[str, str], usage: Usage, at: datetime) -> None:
    provider, name = pair
    at = at.replace(microsecond=at.microsecond // 1000 * 1000)
    at_ms = round(at.timestamp() * 1000)
    expected = theirs(provider, name, usage, at)
    ours = price_of(LISTED, f"{provider}/{name}", usage, at_ms)
    if expected is None:
        assert ours is None
    elif usage.cache_write_1h_tokens and not sold_for_an_hour(expected[1]):
        known = ours and ours.unit_prices.keys()
        assert not known or "cache_write_1h" in known or "cache_write" not in known, "never the price of five minutes"
    elif sold(expected[1]):
        assert ours is not None
        assert (ours.model, ours.total) == (expected[1].id, expected[2])


def test_every_listed_name_finds_the_same_model_with_and_without_its_provider() -> None:
    usage = Usage(input_tokens=1234, output_tokens=56)
    at = datetime(2026, 11, 1, 12, tzinfo=UTC)
    compared = 0
    for provider, name in PAIRS:
        bare = theirs(None, name, usage, at)
        ours = price_of(LISTED, name, usage, round(at.timestamp() * 1000))
        if bare and bare[0] in OURS and ours and "/" not in name:
            assert (ours.model, ours.total) == (bare[1].id, bare[2]), name
            compared += 1
        led = price_of(LISTED, f"{provider}/{name}", usage, round(at.timestamp() * 1000))
        direct = price_of(LISTED, name, usage, round(at.timestamp() * 1000), provider=provider)
        assert led is None or led == direct, name
    assert compared > 200


@pytest.mark.parametrize(
    ("model", "day", "per_million"),
    [("o3", date(2025, 5, 1), (10, 40)), ("o3", date(2025, 6, 11), (2, 8)), ("gpt-5", date(2026, 1, 1), (1.25, 10))],
)
def test_a_price_depends_on_its_day(model: str, day: date, per_million: tuple[float, float]) -> None:
    at_ms = round(datetime.combine(day, time(tzinfo=UTC)).timestamp() * 1000)
    priced = price_of(LISTED, model, Usage(input_tokens=10**6, output_tokens=10**6), at_ms)
    assert priced is not None
    assert priced.total == Decimal(str(sum(per_million)))


def test_the_list_stands_inline_in_its_fact() -> None:
    fact = prices.adoption(LISTED)
    assert len(wire.encode(fact)) < wire.INLINE_BYTES_MAX
    assert restore(fact.prices) == LISTED
    assert fact.list_id == f"genai-prices-{genai_prices.__version__}"
    assert fact.sha256 == prices.adoption(prices.compile_prices()).sha256, "the same library makes the same list"


def test_models_without_token_prices_are_known_and_unpriced() -> None:
    assert price_of(LISTED, "whisper-1", Usage(input_tokens=1, output_tokens=1), 0) is None
    assert any(model.id == "whisper-1" for model in OURS["openai"].models)


def test_times_of_day_are_utc() -> None:
    only = prices.compile_prices(["deepseek"])
    assert isinstance(only, PriceList)
    (seller,) = only.providers
    chat = next(model for model in seller.models if model.id == "deepseek-chat")
    assert {(price.day_from_ms, price.day_until_ms) for price in chat.prices} >= {(30 * 60_000, 990 * 60_000)}


def test_a_model_holds_as_many_tokens_as_the_library_says():
    windows = {
        (seller.id, model.id): (model.context_window, ours.context_tokens)
        for seller in SELLERS
        for model, ours in zip(seller.models, OURS[seller.id].models, strict=True)
    }
    assert all(theirs == ours for theirs, ours in windows.values())
    assert sum(ours is not None for _, ours in windows.values()) > 200
