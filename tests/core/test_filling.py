"""From when on a log takes no new tasks, and what is said about it."""

import pytest

from farebox.core.errors import LogFilling
from farebox.core.filling import MIB, Filling


@pytest.mark.parametrize(
    ("held", "percent", "said", "refused"),
    [(0, 0, False, False), (7_999, 79, False, False), (8_000, 80, True, False), (8_999, 89, True, False),
     (9_000, 90, True, True), (10_000, 100, True, True), (10_500, 105, True, True)],
)  # fmt: skip
def test_four_fifths_are_said_and_nine_tenths_refuse(held, percent, said, refused):
    filling = Filling(held, 10_000)
    assert filling.percent == percent
    assert (filling.warning() is not None, filling.refusal() is not None) == (said, refused)


def test_a_log_without_a_limit_is_never_full():
    assert (Filling(10**15, 0).percent, Filling(10**15, 0).warning(), Filling().refusal()) == (0, None, None)


def test_the_words_say_how_full_it_is_and_what_to_do():
    almost, full = Filling(8_512 * MIB, 10_240 * MIB).warning(), Filling(9_216 * MIB, 10_240 * MIB).warning()
    assert str(almost) == (
        "The log is 83 % full (8,512.0 of 10,240 MiB); at 90 % it takes no new tasks. "
        "Give it more: bus.log_mib in farebox.toml, then start the engine again."
    )
    assert "90 % full (9,216.0 of 10,240 MiB) and takes no new tasks" in str(full)
    assert isinstance(full, LogFilling)
    assert (full.code, full.exit_code) == ("FB114", 3)
