"""The lookout: what starts later is used, what is busy is not given up at once, and a person who asks is told what is there."""

import asyncio
from urllib.parse import urlsplit

import pytest

from farebox.client import Client
from farebox.config import platform_kinds
from farebox.core import events
from farebox.core.settings import PlatformSettings
from farebox.runtime import lookout as module
from farebox.runtime.lookout import Lookout

SECRET = b"s" * 32
KINDS = {kind.name: kind for kind in platform_kinds()}
INLINE = PlatformSettings(kind="rehearsal", billing="rehearsal", options={"wire": "inline"})
ABSENT = PlatformSettings(kind="command", billing="free", argv=("no-such-program-anywhere",))


def program(folder, name="late"):
    path = folder / name
    path.write_text("#!/bin/sh\ncat >/dev/null; echo found\n")
    path.chmod(0o700)
    return path


@pytest.fixture
def later(tmp_path):
    """Settings of a program that is not there yet."""
    return PlatformSettings(kind="command", billing="free", argv=(str(tmp_path / "late"),))


@pytest.fixture
async def watching(tape):
    """Make lookouts over the tape."""
    made = []

    def make(platforms, **environ):
        made.append(Lookout(tape.log(), KINDS, platforms, SECRET, {"PATH": "/bin:/usr/bin", **environ}))
        return made[-1]

    yield make
    for one in made:
        await one.close()


def said(tape, platform):
    return [fact.available for fact in tape.said(events.PlatformReported, platform=platform)]


async def test_what_was_found_out_is_said_when_it_changes(tape, watching):
    platforms = {"here": INLINE, "absent": ABSENT, "off": PlatformSettings(kind="command", argv=("x",), enabled=False)}
    for _ in range(2):
        lookout = watching(platforms)
        await lookout.look()
    assert {name: report.available for name, report in lookout.reports.items()} == {"here": True, "absent": False}
    assert sorted(fact.platform for fact in tape.said(events.PlatformReported)) == ["absent", "here"]
    platforms["absent"] = PlatformSettings(kind="command", billing="free", argv=("sh",))
    await watching(platforms).look()
    assert said(tape, "absent") == [False, True]


async def test_a_program_that_is_installed_later_is_used_without_a_restart(tape, engines, later, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "AGAIN_S", 0.02)
    log = tape.log()
    await engines.make(log, {"late": later})
    client = Client(log)
    first = await (await client.submit("anybody?")).result()
    assert (first.status, said(tape, "late")) == ("failed", [False])
    program(tmp_path)
    await tape.until(lambda: said(tape, "late") == [False, True])
    second = await (await client.submit("and now?")).result()
    assert (second.status, second.output, second.platform) == ("completed", "found", "late")


async def test_a_server_that_starts_later_is_there_when_a_person_asks(tape, engines, stand_in):
    provider, settings = await stand_in()
    await provider.close()
    log = tape.log()
    await engines.make(log, {"local": settings})
    client = Client(log)

    async def there():
        (row,) = (await client.platforms())["platforms"]
        return row["available"]

    assert not await there()
    await provider.start(urlsplit(settings.url).port)
    assert await there()
    await provider.close()
    assert not await there()
    assert said(tape, "local") == [False, True, False]


async def test_one_miss_is_not_believed_unless_a_person_asks(tape, watching, later, tmp_path):
    lookout = watching({"late": later})
    path = program(tmp_path)
    await lookout.look()
    path.unlink()
    await lookout.look(misses_max=2)
    assert lookout.reports["late"].available
    await lookout.look(misses_max=2)
    assert said(tape, "late") == [True, False]
    program(tmp_path)
    await lookout.look(misses_max=2)
    path.unlink()
    await asyncio.gather(lookout.asked(), lookout.asked())
    assert said(tape, "late") == [True, False, True, False]


async def test_what_is_far_away_is_looked_at_less_often(watching):
    far = {name: PlatformSettings(kind="compatible", url=url) for name, url in
           {"cloud": "https://llm.example/v1", "odd": "http://[", "home": "http://127.0.0.1:9/v1"}.items()}  # fmt: skip
    lookout = watching(far)
    await lookout.look(far=False)
    assert list(lookout.reports) == ["home"]


async def test_a_log_that_takes_nothing_and_a_plug_in_that_raises_hinder_nobody(tape, watching, later, monkeypatch, caplog):
    lookout = watching({"late": later})
    tape.fates.down = True
    await lookout.asked()
    assert "could not be said" in caplog.text
    tape.fates.down = False

    async def broken(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(module, "probe", broken)
    monkeypatch.setattr(module, "AGAIN_S", 0.01)
    lookout.start()
    async with asyncio.timeout(100):
        while caplog.text.count("looking for platforms broke") < 2:
            await asyncio.sleep(0.01)
    monkeypatch.undo()
