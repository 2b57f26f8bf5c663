"""What a program says of its version is believed while its file stays; and a start does not wait for what is known."""

import asyncio
import os

from farebox.core import events
from farebox.core.platform import PlatformKind, Probe
from farebox.core.settings import PlatformSettings
from farebox.runtime import lookout as lookout_module
from farebox.runtime import versions
from farebox.runtime.lookout import Lookout

SAYS = '#!/bin/sh\necho "$1" >>{folder}/asked\nif [ "$1" = --version ]; then echo {version}; fi\n{more}\n'
PROBE = Probe(program="it", ask=(("--version",), ("login", "status")), timeout_s=25)


def program(folder, version="1.0", more=""):
    path = folder / "it"
    path.write_text(SAYS.format(folder=folder, version=version, more=more))
    path.chmod(0o700)
    return str(path)


async def ask(path):
    return [answer.out.strip() for answer in await versions.ask(path, PROBE, {"PATH": os.defpath})]


def asked(folder):
    return sorted((folder / "asked").read_text().split())


async def test_a_version_is_asked_for_once_and_all_else_each_time(tmp_path):
    path = program(tmp_path)
    assert [await ask(path), await ask(path)] == [["1.0", ""]] * 2
    assert asked(tmp_path) == ["--version", "login", "login"]


async def test_a_program_installed_anew_is_asked_anew_and_so_is_one_after_a_while(tmp_path, monkeypatch):
    assert (await ask(program(tmp_path)))[0] == "1.0"
    assert (await ask(program(tmp_path, "2.0.0")))[0] == "2.0.0"
    monkeypatch.setattr(versions, "BELIEVED_S", 0.0)
    await ask(str(tmp_path / "it"))
    assert asked(tmp_path).count("--version") == 3


async def test_a_version_that_was_not_told_is_asked_for_again(tmp_path):
    path = program(tmp_path, more="exit 3")
    await ask(path)
    await ask(path)
    assert asked(tmp_path).count("--version") == 2
    assert [answer.exit_code for answer in await versions.ask(str(tmp_path / "gone"), PROBE, {})] == [None, None]


def kind_of(folder):
    return PlatformKind(
        name="slow", ask=None, reader=None, check=lambda *_: None, defaults={},
        probe=lambda _name, _settings: Probe(program=str(folder / "it"), ask=(("wait",),), timeout_s=25),
        read_probe=lambda name, _settings, answer: events.PlatformReported(
            platform=name, available=bool(answer.said), detail=answer.said[0].out.strip()
        ),
    )  # fmt: skip


async def test_a_start_waits_for_what_is_new_and_not_for_what_is_known(tape, tmp_path, monkeypatch):
    program(tmp_path, more="echo first")
    environ = {"PATH": os.defpath}
    platforms = {"it": PlatformSettings(kind="slow", billing="free")}
    one = Lookout(tape.log(), {"slow": kind_of(tmp_path)}, platforms, b"s" * 32, environ)
    await one.first()
    assert [fact.detail for fact in tape.said(events.PlatformReported)] == ["first"]

    os.mkfifo(tmp_path / "go")
    program(tmp_path, more=f"cat {tmp_path}/go")
    monkeypatch.setattr(lookout_module, "FIRST_S", 0.05)
    other = Lookout(tape.log(), {"slow": kind_of(tmp_path)}, platforms, b"s" * 32, environ)
    await other.first()
    assert (other.reports["it"].available, other.reports["it"].detail) == (True, "first")
    asking = asyncio.ensure_future(other.asked())
    await asyncio.to_thread((tmp_path / "go").write_text, "second\n")
    await asking
    assert other.reports["it"].detail == "second"
    await other.close()


async def test_a_report_that_does_not_read_is_looked_for_again(tape, tmp_path):
    program(tmp_path, more="echo found")
    tape.say("adapter", events.PlatformReported(platform="it"), body=b"{}")
    platforms = {"it": PlatformSettings(kind="slow", billing="free")}
    lookout = Lookout(tape.log(), {"slow": kind_of(tmp_path)}, platforms, b"s" * 32, {"PATH": os.defpath})
    assert not await lookout._recalled("it")
