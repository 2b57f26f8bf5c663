"""The settings that are facts: the same settings are the same bytes, and what does not read is refused."""

import pytest

from farebox.core.errors import BadSettings
from farebox.core.settings import LONG_S, PlatformSettings, Settings, canonical, restore


def test_settings_survive_their_adoption():
    settings = Settings(platforms={"a": PlatformSettings(kind="x", limit=3, argv=("b", "c"), tier=4)}, attempts_max=3)
    plain, sha256 = canonical(settings)
    assert restore(plain) == settings
    assert canonical(restore(plain)) == (plain, sha256)
    assert canonical(Settings())[1] != sha256


@pytest.mark.parametrize(
    "plain", [{"unknown": 1}, {"attempts_max": 0}, {"platforms": {"a": {}}}, {"platforms": {"a": {"kind": 1}}}]
)
def test_what_does_not_read_is_refused(plain):
    with pytest.raises(BadSettings, match="do not read"):
        restore(plain)


def test_free_comes_before_plan_before_metered_unless_a_tier_is_set():
    tiers = [PlatformSettings(kind="x", billing=b).cost_tier for b in ("free", "rehearsal", "plan", "metered")]
    assert tiers == [0, 0, 1, 2]
    assert PlatformSettings(kind="x", billing="free", tier=9).cost_tier == 9


def test_a_person_is_asked_before_a_program_is_repeated_unless_somebody_says_otherwise():
    assert PlatformSettings(kind="command").interrupt_policy == "ask"
    assert PlatformSettings(kind="compatible").interrupt_policy == "retry"
    assert PlatformSettings(kind="command", on_interrupt="retry").interrupt_policy == "retry"


def test_a_person_is_asked_before_a_long_attempt_is_repeated_unless_somebody_says_otherwise():
    assert PlatformSettings(kind="compatible").policy_for(LONG_S - 1) == "retry"
    assert PlatformSettings(kind="compatible").policy_for(LONG_S) == "ask"
    assert PlatformSettings(kind="compatible", on_interrupt="fail").policy_for(LONG_S) == "fail"
