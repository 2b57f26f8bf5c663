"""What platforms can do, and which of them keep a task on this machine."""

import pytest

from actors.platforms import PLATFORMS
from farebox.core import capabilities
from farebox.core.directories import why_not
from farebox.core.settings import PlatformSettings


def test_every_kind_that_farebox_brings_has_its_line():
    assert {kind.name for kind in PLATFORMS} == set(capabilities.CAN)


def test_whoever_works_on_files_says_so():
    for kind, can in capabilities.CAN.items():
        settings = PlatformSettings(kind=kind, options={"directories": "/src"})
        allowed = not why_not(settings, "/src")
        assert allowed == ("files" in can) or kind == "antigravity"


def test_a_section_says_more_than_its_kind():
    assert capabilities.can(PlatformSettings(kind="compatible", capabilities=("vision",))) == capabilities.MODEL | {"vision"}
    assert "tools" in capabilities.can(PlatformSettings(kind="codex"))
    assert capabilities.can(PlatformSettings(kind="unheard-of")) == {"text"}


@pytest.mark.parametrize(
    ("fields", "local"),
    [
        ({"kind": "compatible", "url": "http://127.0.0.1:11434/v1"}, True),
        ({"kind": "compatible", "url": "http://127.12.0.9"}, True),
        ({"kind": "compatible", "url": "http://localhost:1234/v1"}, True),
        ({"kind": "compatible", "url": "http://box.localhost./v1"}, True),
        ({"kind": "compatible", "url": "http://[::1]:8000"}, True),
        ({"kind": "compatible", "url": "http://127.0.0.1.example.com/v1"}, False),
        ({"kind": "compatible", "url": "http://[::1"}, False),
        ({"kind": "compatible", "url": "https://api.example.com"}, False),
        ({"kind": "compatible", "url": "https://api.example.com", "local": True}, True),
        ({"kind": "command"}, True),
        ({"kind": "command", "local": False}, False),
        ({"kind": "rehearsal"}, True),
        ({"kind": "interactive"}, True),
        ({"kind": "claude-code"}, False),
    ],
)
def test_local_is_what_stays_on_this_machine(fields, local):
    assert capabilities.is_local(PlatformSettings(**fields)) is local
