"""Probes, and readers that fail: what the caller meets that is not an answer."""

import asyncio
import dataclasses
import socket

import msgspec
import pytest

from actors.platforms import PLATFORMS
from farebox.core.platform import HttpCall, InlineCall, Verdict
from farebox.core.settings import PlatformSettings
from farebox.rehearsal.server import StandIn
from farebox.runtime import caller

KINDS = {kind.name: kind for kind in PLATFORMS}


def settings(url, **more):
    return PlatformSettings(kind="compatible", url=url, **more)


class Broken:
    """A reader of somebody else, with a fault of its own."""

    def __init__(self, where):
        self.where = where

    def head(self, head):
        return self._maybe("head")

    def feed(self, data):
        return self._maybe("feed")

    def end(self, end):
        self._maybe("end")
        return Verdict(ok=True)

    def _maybe(self, where):
        if where == self.where:
            raise ZeroDivisionError(where)
        return []


@pytest.mark.parametrize("where", ["head", "feed", "end"])
async def test_a_reader_that_fails_is_a_fault_and_not_a_crash(where):
    async with StandIn() as stand_in:
        url = f"{stand_in.url}/models"
        called = await caller.call(
            HttpCall(method="GET", url=url),
            Broken(where),
            timeout_s=25,
            first_byte_timeout_s=25,
            idle_timeout_s=25,
            on_piece=lambda _text: None,
            cancelled=asyncio.Event(),
            environ={},
        )
    assert called.verdict.fault is not None
    assert (called.verdict.fault.error_class, called.verdict.charged) == ("invalid", "possible")
    assert "ZeroDivisionError" in called.verdict.fault.message


async def test_a_reader_that_fails_ends_an_inline_answer():
    called = await caller.call(
        InlineCall(chunks=(b"a", b"b")),
        Broken("feed"),
        timeout_s=25,
        first_byte_timeout_s=25,
        idle_timeout_s=25,
        on_piece=lambda _text: None,
        cancelled=asyncio.Event(),
        environ={},
    )
    assert not called.verdict.ok


async def test_a_server_is_found_with_its_models():
    async with StandIn(models=("a", "b")) as stand_in:
        told = await caller.probe(KINDS["compatible"], "p", settings(stand_in.url), {})
    assert (told.available, told.models, told.detail) == (True, ("a", "b"), "2 models")


async def test_a_server_that_wants_a_key_is_asked_with_it_or_not_at_all():
    async with StandIn(key="right-key") as stand_in:
        of = settings(stand_in.url, key_env="KEY")
        absent = await caller.probe(KINDS["compatible"], "p", of, {})
        wrong = await caller.probe(KINDS["compatible"], "p", of, {"KEY": "wrong"})
        right = await caller.probe(KINDS["compatible"], "p", of, {"KEY": "right-key"})
    assert (stand_in.seen, absent.detail, wrong.detail) == (2, "KEY is not set", "the key was refused (401)")
    assert right.available


async def test_nobody_at_an_address_is_told_soon():
    told = await caller.probe(KINDS["compatible"], "ollama", settings("http://127.0.0.1:1/v1"), {})
    assert (told.available, told.mend) == (False, "Start it with: ollama serve")


async def test_a_server_that_says_nothing_is_not_waited_for():
    asks = KINDS["compatible"].probe
    hasty = dataclasses.replace(KINDS["compatible"], probe=lambda *of: msgspec.structs.replace(asks(*of), timeout_s=0.1))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        told = await caller.probe(hasty, "p", settings(url), {})
        assert asks("p", settings(url)).timeout_s == 1.5
    assert "no answer within 0.1 s" in told.detail


async def test_a_program_is_looked_up_on_the_path_that_it_will_have():
    of = PlatformSettings(kind="command", argv=("cat",))
    assert (await caller.probe(KINDS["command"], "p", of, {"PATH": "/usr/bin:/bin"})).available
    assert not (await caller.probe(KINDS["command"], "p", of, {"PATH": "/nowhere"})).available
