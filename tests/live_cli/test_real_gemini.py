"""The real `gemini`, from npm, against a scripted server: every way a run can end, who pays, what is left behind."""

import asyncio
import dataclasses
import time

import psutil
import pytest

from actors.platforms.gemini_cli import GEMINI_CLI
from farebox.core.settings import PlatformSettings
from farebox.runtime import caller
from tests.live_cli import google_wire
from tests.live_cli.upstream import Upstream

pytestmark = [pytest.mark.cli, pytest.mark.timeout(120)]
KEY = {"GEMINI_API_KEY": "k-123456789"}


def settings(url, **more):
    given = {"billing": "metered", "key_env": "GEMINI_API_KEY", "model": google_wire.MODEL, **more}
    return PlatformSettings(kind="gemini-cli", url=url, **given)


async def test_an_answer_comes_with_text_and_usage_and_leaves_nothing_behind(environ, run, tmp_path):
    pieces = []
    async with Upstream(google_wire.script("ok")) as upstream:
        called = await run(settings(upstream.url), environ("gemini", **KEY), system="Be brief.", on_piece=pieces.append)
    assert called.verdict.ok, called.verdict.fault
    assert (called.text, "".join(pieces)) == ("The quick brown fox.", "The quick brown fox.")
    usage = called.verdict.usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.cached_tokens, usage.reasoning_tokens) == (1200, 340, 1000, 120)
    (request,) = upstream.requests
    assert request.headers["x-goog-api-key"] == KEY["GEMINI_API_KEY"]
    assert request.json()["systemInstruction"]["parts"][0]["text"].startswith("Be brief.")
    assert len(request.body) < 2500, "a lean request"
    assert list((tmp_path / "tmp").iterdir()) == []
    assert list((tmp_path / "home").rglob("*")) == []


@pytest.mark.parametrize(
    ("case", "error_class", "charged"),
    [
        ("bad_key", "auth_missing", "none"),
        ("unauthorized", "auth_missing", "none"),
        ("no_model", "unavailable", "none"),
        ("rate_limited", "rate_limited", "none"),
        ("quota_exhausted", "quota_exhausted", "none"),
        ("server_error", "server_error", "possible"),
        ("overloaded", "server_error", "none"),
        ("context_too_long", "context_too_long", "none"),
        ("refused", "refused", "known"),
        ("refused_at_once", "refused", "known"),
        ("truncated", "truncated", "known"),
        ("empty", "invalid", "known"),
        ("cut", "network", "possible"),
        ("ended", "network", "possible"),
        ("error_in_stream", "network", "possible"),
    ],
)
async def test_what_goes_wrong_is_named_asked_for_once_and_leaves_nothing_behind(
    environ, run, tmp_path, case, error_class, charged
):
    async with Upstream(google_wire.script(case)) as upstream:
        called = await run(settings(upstream.url), environ("gemini", **KEY))
    assert called.verdict.fault is not None
    assert (called.verdict.fault.error_class, called.verdict.charged) == (error_class, charged), called.verdict.fault
    assert len(upstream.requests) == 1
    assert (called.verdict.retry_after_ms or 0) == (7000 if case == "rate_limited" else 0)
    assert list((tmp_path / "tmp").iterdir()) == []


async def test_without_a_key_nothing_is_asked(environ, run):
    async with Upstream(google_wire.script("ok")) as upstream:
        called = await run(settings(upstream.url), environ("gemini"))
    assert called.verdict.fault is not None
    assert (called.verdict.fault.error_class, called.verdict.charged, upstream.requests) == ("auth_missing", "none", [])


async def test_a_server_that_is_not_there_is_named_though_the_program_does_not_say_that_nothing_was_sent(environ, run):
    async with Upstream(google_wire.script("ok")) as upstream:
        url = upstream.url
    called = await run(settings(url), environ("gemini", **KEY))
    assert called.verdict.fault is not None
    assert (called.verdict.fault.error_class, called.verdict.charged) == ("network", "possible"), called.verdict.fault


async def test_silence_is_ended_by_our_own_clock_and_the_text_kept(environ, run):
    async with Upstream(google_wire.script("stalled")) as upstream:
        called = await run(settings(upstream.url), environ("gemini", **KEY), idle_timeout_s=10)
    assert called.verdict.fault is not None
    assert (called.verdict.fault.error_class, called.text) == ("stalled", "The quick brown fox.")


async def test_a_cancel_keeps_the_text_closes_the_connection_and_leaves_no_process(environ, run, soon):
    cancelled, began_s = asyncio.Event(), []

    def on_piece(text):
        if "fox" in text:
            began_s.append(time.monotonic())
            cancelled.set()

    before = set(psutil.Process().children(recursive=True))
    async with Upstream(google_wire.script("stalled")) as upstream:
        called = await run(settings(upstream.url), environ("gemini", **KEY), cancelled=cancelled, on_piece=on_piece)
        took_s = time.monotonic() - began_s[0]
        await soon(lambda: upstream.closed_at_s)
    assert took_s < 5
    assert upstream.closed_at_s[0] - began_s[0] < 5
    assert called.verdict.fault is not None
    assert (called.verdict.fault.error_class, called.verdict.charged) == ("cancelled", "possible")
    assert called.text == "The quick brown fox."
    assert set(psutil.Process().children(recursive=True)) - before == set()


async def test_a_prompt_of_a_megabyte_arrives_whole(environ, run):
    """The model takes its time, as models do: the program repeats the prompt and loses what is on its pipe when it exits."""
    prompt = "0123456789abcde\n" * 65_536
    slowly = dataclasses.replace(google_wire.CASES["ok"], pause_s=1.0)
    async with Upstream(lambda _request: slowly) as upstream:
        called = await run(settings(upstream.url), environ("gemini", **KEY), prompt=prompt)
    assert called.verdict.ok, called.verdict.fault
    assert called.text == "The quick brown fox."
    told = upstream.requests[0].json()["contents"][-1]["parts"]
    assert any(prompt.strip() in part["text"] for part in told)


async def test_an_answer_that_the_program_loses_on_its_pipe_is_no_success(environ, run):
    async with Upstream(google_wire.script("ok")) as upstream:
        called = await run(settings(upstream.url), environ("gemini", **KEY), prompt="0123456789abcde\n" * 65_536)
    assert len(upstream.requests) == 1
    if not called.verdict.ok:
        assert called.verdict.fault is not None
        assert (called.verdict.fault.error_class, called.verdict.charged) == ("crashed", "possible")


async def test_a_plan_is_not_paid_with_a_key_even_if_one_lies_in_a_file(environ, run, tmp_path):
    surroundings = environ("gemini", **KEY)
    (tmp_path / "home" / ".env").write_text("GEMINI_API_KEY=k-of-a-file\n")
    own = tmp_path / "home" / ".gemini"
    own.mkdir()
    (own / "settings.json").write_text('{"security":{"auth":{"selectedType":"gemini-api-key"}}}')
    called = await run(PlatformSettings(kind="gemini-cli", billing="plan"), surroundings)
    assert called.verdict.fault is not None
    assert (called.verdict.fault.error_class, called.verdict.charged) == ("auth_missing", "none"), called.verdict.fault
    assert "oauth-personal" in called.verdict.fault.message


async def test_a_probe_says_the_version_and_who_pays(environ):
    told = await caller.probe(GEMINI_CLI, "gemini-cli", settings(""), environ("gemini", **KEY))
    assert (told.available, told.detail) == (True, "version 0.61.0, paid with GEMINI_API_KEY")
    told = await caller.probe(GEMINI_CLI, "gemini-cli", PlatformSettings(kind="gemini-cli", billing="plan"), environ("gemini"))
    assert not told.available
    assert "no login found" in told.detail
