"""Waiting for a server: said once, ended by a server, by a limit, or by any other error at once."""

from __future__ import annotations

import math
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from farebox.cli import waiting as module
from farebox.cli.waiting import Waiting
from farebox.core.errors import AccessDenied, NotReachable

AWAY = "No server answers at nats://there:4222: refused."


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    monkeypatch.setattr(module, "RETRY_S", 0.001)


@pytest.fixture
def starting():
    """Make a start that fails so often, and then comes up or raises."""

    def make(failures, then=None):
        left = [NotReachable(AWAY)] * failures + ([then] if then else [])

        @asynccontextmanager
        async def start():
            if left:
                raise left.pop(0)
            yield "engine"

        return start

    return make


async def entered(limit_s, start):
    said = []
    waiting = Waiting(limit_s, said.append)
    async with AsyncExitStack() as stack:
        try:
            return await waiting.entered(stack, start), said, waiting
        except Exception as error:
            error.said = said
            raise


async def test_whoever_waits_says_it_once_and_goes_on_when_the_server_comes(starting):
    found, said, waiting = await entered(math.inf, starting(5))
    assert (found, said, waiting.waits) == ("engine", [f"{AWAY} Waiting until it does."], False)


async def test_a_server_that_is_there_is_not_waited_for(starting):
    assert (await entered(60, starting(0)))[:2] == ("engine", [])


async def test_after_the_limit_the_error_is_what_it_was(starting):
    with pytest.raises(NotReachable) as caught:
        await entered(0.02, starting(10_000))
    assert caught.value.said == [f"{AWAY} Waiting for 0.02 s at most."]


async def test_without_a_limit_above_zero_nothing_is_waited_for(starting):
    with pytest.raises(NotReachable) as caught:
        await entered(0, starting(1))
    assert caught.value.said == []


async def test_a_refused_login_is_raised_at_once_also_while_waiting(starting):
    with pytest.raises(AccessDenied):
        await entered(math.inf, starting(2, AccessDenied("no")))
