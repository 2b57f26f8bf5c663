"""Money: exact, plain text, never a float, never more than was said."""

from decimal import Decimal, getcontext
from fractions import Fraction

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.core import money
from farebox.core.errors import BadInput
from farebox.core.events import CostRecorded

amounts = st.decimals(min_value=0, max_value=10**20, places=12, allow_nan=False)


@pytest.mark.parametrize(
    "text",
    ["NaN", "sNaN", "Infinity", "-1", "+1", "1e3", "1E-12", "1_000", " 1 ", "", ".5", "1.", "01", "1.1234567890123", "١",
     "1" * 27, "1\n"],
)  # fmt: skip
def test_what_decimal_would_take_and_no_person_means_is_refused(text):
    with pytest.raises(BadInput, match="no amount of money"):
        money.parse(text)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"fact": "CostRecorded", "paid_usd": text}, CostRecorded)


@given(amounts)
def test_every_amount_survives_its_own_text(amount):
    assert money.parse(money.text(amount)) == amount


def test_the_text_is_plain_and_short():
    assert [money.text(Decimal(one)) for one in ("0", "0E-30", "1.50", "1E-12", "1E+3")] == [
        "0",
        "0",
        "1.5",
        "0.000000000001",
        "1000",
    ]


def test_the_thirteenth_place_is_rounded_half_to_even():
    assert money.text(Decimal("0.0000000000005")) == "0"
    assert money.text(Decimal("0.0000000000015")) == "0.000000000002"


@pytest.mark.parametrize("amount", ["1e300", "1e38", "NaN", "Infinity", "-0.1", "1e27"])
def test_no_amount_is_written_that_could_not_be_read(amount):
    with pytest.raises(BadInput):
        money.text(Decimal(amount))


def test_unknown_stays_unknown():
    assert money.maybe(None) is None
    assert money.maybe("0.1") == Decimal("0.1")


@pytest.mark.fault(65)
@given(st.lists(amounts, max_size=30), st.randoms(use_true_random=False))
def test_a_sum_is_exact_in_any_order(listed, random):
    total = money.total(listed)
    random.shuffle(listed)
    assert money.total(listed) == total
    assert Fraction(total) == sum(map(Fraction, listed))


def test_a_sum_keeps_more_digits_than_python_would():
    large, small = Decimal(12345678901234567890123456), Decimal("0.000000000001")
    assert len(str(large + small)) - 1 == getcontext().prec
    assert money.total([large, small]) - large == small


def test_a_price_times_a_count_is_exact():
    assert money.times(Decimal("0.0000001"), 10**12) == Decimal(100_000)
    assert money.total([money.times(Decimal("0.1"), 1)] * 1_000_000) == Decimal(100_000)
