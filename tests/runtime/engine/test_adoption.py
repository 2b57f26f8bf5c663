"""Adoption: what is known becomes a fact once, again only when it changed, and whatever becomes of an answer."""

import pytest

from farebox.core import events
from farebox.core.errors import AppendUnknown
from farebox.core.pricing import PriceList
from farebox.core.settings import PlatformSettings, Settings
from farebox.log.memory import Fate
from farebox.runtime import adoption

SECRET = b"s" * 32
INLINE = PlatformSettings(kind="rehearsal", billing="rehearsal", options={"wire": "inline"})
PRICES = PriceList(list_id="none")


async def test_settings_and_prices_are_said_once(tape):
    for _ in range(3):
        await adoption.adopt(tape.log(), Settings(platforms={"rehearsal": INLINE}), PRICES, SECRET)
    assert tape.names() == ["SettingsAdopted", "PriceListAdopted"]


async def test_changed_settings_are_said_again_and_name_what_they_replace(tape):
    await adoption.adopt(tape.log(), Settings(), PRICES, SECRET)
    await adoption.adopt(tape.log(), Settings(attempts_max=3), PRICES, SECRET)
    first, second = tape.said(events.SettingsAdopted)
    assert (second.cause, second.prev) == (first.id, first.seq)
    assert second.settings["attempts_max"] == 3
    await adoption.adopt(tape.log(), Settings(), PRICES, SECRET)
    assert len({fact.id for fact in tape.said(events.SettingsAdopted)}) == 3


@pytest.mark.parametrize("fate", [Fate.LOST, Fate.ANSWER_LOST])
async def test_an_unknown_outcome_is_read_back(tape, fate):
    tape.fates.of["settings"] = [fate]
    await adoption.adopt(tape.log(), Settings(), PRICES, SECRET)
    assert tape.names() == ["SettingsAdopted", "PriceListAdopted"]


async def test_two_engines_that_start_at_once_agree(tape):
    log = tape.log()
    append, raced = log.append, []

    async def race(entries):
        if not raced:
            raced.append(1)
            await adoption.adopt(tape.log(), Settings(attempts_max=3), PRICES, b"other")
        return await append(entries)

    log.append = race
    await adoption.adopt(log, Settings(), PRICES, SECRET)
    assert [fact.settings.get("attempts_max") for fact in tape.said(events.SettingsAdopted)] == [3, None]


async def test_a_log_that_never_answers_is_given_up(tape):
    tape.fates.down = True
    with pytest.raises(AppendUnknown, match="SettingsAdopted"):
        await adoption.adopt(tape.log(), Settings(), PRICES, SECRET)
