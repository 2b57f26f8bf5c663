"""Windows: when they begin and turn, in zones whose clocks are set forward and back."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from actors.windows import LAST_MS, span, window_of
from farebox.core.errors import BadInput

HOUR_MS = 3_600_000


def at(zone, *moment):
    return round(datetime(*moment, tzinfo=ZoneInfo(zone)).timestamp() * 1000)


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", (2026, 3, 29), 23),
        ("Europe/Berlin", (2026, 10, 25), 25),
        ("America/Los_Angeles", (2026, 3, 8), 23),
        ("America/Los_Angeles", (2026, 11, 1), 25),
        ("UTC", (2026, 3, 29), 24),
        ("Africa/Cairo", (2026, 4, 24), 23),
    ],
)
def test_a_day_lasts_as_long_as_the_clocks_of_its_zone_say(zone, day, hours):
    found = span(window_of("day", zone=zone), at(zone, *day, 12))
    assert found.turn_ms - found.start_ms == hours * HOUR_MS
    assert span(window_of("day", zone=zone), found.turn_ms).start_ms == found.turn_ms
    assert span(window_of("day", zone=zone), found.turn_ms - 1) == found


@given(
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/Los_Angeles", "Asia/Kathmandu", "Australia/Lord_Howe"]),
    name=st.sampled_from(["minute", "hour", "day", "week", "month", "5h", "90s", "3d"]),
    at_ms=st.integers(1_760_000_000_000, 1_800_000_000_000),
)
@example(zone="Europe/Berlin", name="hour", at_ms=1_793_491_200_000)
def test_every_moment_lies_in_its_window_and_time_goes_on(zone, name, at_ms):
    window = window_of(name, "fixed", zone)
    found = span(window, at_ms)
    assert found.start_ms <= at_ms < found.turn_ms
    later = span(window, at_ms + 7_000_000)
    assert later.start_ms >= found.start_ms


def test_months_and_weeks_begin_at_midnight_of_their_first_day():
    zone = "Europe/Berlin"
    moment = at(zone, 2026, 10, 28, 13)
    assert span(window_of("month", zone=zone), moment).start_ms == at(zone, 2026, 10, 1)
    assert span(window_of("month", zone=zone), moment).turn_ms == at(zone, 2026, 11, 1)
    assert span(window_of("week", zone=zone), moment).start_ms == at(zone, 2026, 10, 26)


def test_a_clock_gone_mad_and_a_zone_that_is_nowhere_break_nothing():
    assert span(window_of("month"), 2**53).start_ms <= LAST_MS
    assert span(window_of("day", zone="Mars/Olympus"), 5) == span(window_of("day"), 5)
    assert span(window_of("day", zone="../etc"), -5).start_ms == 0
    with pytest.raises(BadInput):
        window_of("fortnight")
