"""The whole way with the real `claude`: the platform's request, the caller, the program, a scripted server, the verdict."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from actors.platforms.claude_code import CLAUDE_CODE
from farebox.core.settings import PlatformSettings
from farebox.runtime import caller
from farebox.runtime.process_tree import MARK
from farebox.runtime.scratch import PREFIX
from tests.live_cli import programs, record
from tests.live_cli.anthropic_wire import CASES, MODEL, TEXT, on_plan, script
from tests.live_cli.upstream import Upstream

pytestmark = [pytest.mark.cli, pytest.mark.timeout(120)]
WHOLE = "".join(TEXT)


def settings(upstream=None, **more):
    url = upstream.url if upstream else ""
    paying = {"billing": "metered", "key_env": "ANTHROPIC_API_KEY"}
    return PlatformSettings(kind="claude-code", url=url, model=MODEL, **{**paying, **more})


@pytest.fixture
def metered(environ):
    return environ("claude", ANTHROPIC_API_KEY="dummy")


def still_running(home: str) -> list[psutil.Process]:
    """Return what lives of a call: whoever has its HOME, zombies left out."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("HOME") == home and MARK in process.environ() and process.status() != "zombie":
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


async def test_success_streams_and_has_usage_and_the_programs_own_figure(run, metered):
    pieces = []
    async with Upstream(script("ok")) as upstream:
        called = await run(settings(upstream), metered, on_piece=pieces.append)
        (asked,) = upstream.asked()
    assert called.verdict.ok, called.verdict.fault
    assert (called.text, "".join(pieces)) == (WHOLE, WHOLE)
    assert (called.verdict.usage.input_tokens, called.verdict.usage.cache_write_1h_tokens) == (1200, 30)
    assert called.verdict.provider_usd == "0.006105"
    assert (asked.json()["model"], asked.headers["x-api-key"]) == (MODEL, "dummy")


async def test_a_task_of_text_sends_little_more_than_itself_and_no_tools(run, metered):
    async with Upstream(script("ok")) as upstream:
        await run(settings(upstream), metered, prompt="hi", system="Be brief.")
        (asked,) = upstream.asked()
    assert len(asked.body) < 2500
    assert not asked.json().get("tools")
    assert "Be brief." in str(asked.json()["system"])


@pytest.mark.parametrize(
    ("case", "error_class", "charged", "requests"),
    [
        ("bad_key", "auth_missing", "none", 1),
        ("rate_limited", "rate_limited", "none", 1),
        ("quota_exhausted", "quota_exhausted", "none", 1),
        ("server_error", "server_error", "possible", 1),
        ("overloaded", "server_error", "none", 1),
        ("context_too_long", "context_too_long", "none", 1),
        ("refused", "refused", "known", 1),
        ("truncated", "truncated", "known", 4),
        ("cut", "network", "possible", 1),
        ("overloaded_in_stream", "server_error", "possible", 1),
    ],
)
async def test_each_failure_is_its_own_and_is_not_repeated_behind_our_back(run, metered, case, error_class, charged, requests):
    async with Upstream(script(case)) as upstream:
        called = await run(settings(upstream), metered)
        assert len(upstream.asked()) == requests
    assert (called.verdict.fault.error_class, called.verdict.charged) == (error_class, charged), called.verdict


async def test_an_answer_without_usage_is_estimated_and_says_so(run, metered):
    async with Upstream(script("no_usage")) as upstream:
        called = await run(settings(upstream), metered)
    assert called.verdict.ok
    assert called.verdict.usage.source == "estimated"
    assert called.verdict.usage.output_tokens > 0


async def test_a_prompt_of_a_megabyte_arrives_whole(run, metered):
    prompt = "0123456789abcdef" * 65_536
    async with Upstream(script("ok")) as upstream:
        called = await run(settings(upstream), metered, prompt=prompt)
        (asked,) = upstream.asked()
    assert called.verdict.ok, called.verdict.fault
    assert prompt in asked.body.decode()


async def test_silence_in_the_middle_is_ended_by_our_clock_and_keeps_what_came(run, metered, soon):
    async with Upstream(script("stalled")) as upstream:
        called = await run(settings(upstream), metered, idle_timeout_s=2)
        await soon(lambda: upstream.closed_at_s)
    assert called.verdict.fault.error_class == "stalled"
    assert called.text == WHOLE


async def test_cancel_stops_the_server_s_work_and_keeps_text_and_usage(run, metered, soon):
    cancelled, cancelled_at_s, at_work = asyncio.Event(), [], []

    def on_piece(_text):
        if not cancelled_at_s:
            at_work.extend(still_running(metered["HOME"]))
            cancelled_at_s.append(time.monotonic())
            cancelled.set()

    async with Upstream(script("stalled")) as upstream:
        called = await run(settings(upstream), metered, cancelled=cancelled, on_piece=on_piece)
        ended_at_s = time.monotonic()
        await soon(lambda: upstream.closed_at_s, wait_s=0.2)
        took_s, closed_s = ended_at_s - cancelled_at_s[0], upstream.closed_at_s[0] - cancelled_at_s[0]
    print(f"cancel: connection closed after {closed_s:.3f} s, program gone after {took_s:.3f} s")
    assert took_s < 5
    assert at_work
    assert not still_running(metered["HOME"])
    assert called.verdict.fault.error_class == "cancelled"
    assert WHOLE.startswith(called.text)
    assert called.text
    assert called.verdict.usage.input_tokens == 1200


async def test_on_a_plan_a_key_in_the_environment_is_never_used(run, environ):
    """Seen in the wild: a scheduled run inherited a key, and the key paid for the plan's work."""
    whole = environ("claude", ANTHROPIC_API_KEY="sk-dummy", ANTHROPIC_AUTH_TOKEN="dummy", CLAUDE_CODE_OAUTH_TOKEN="login")
    async with Upstream(script("ok")) as upstream:
        called = await run(settings(upstream, billing="plan", key_env=""), whole)
        (asked,) = upstream.asked()
    assert called.verdict.ok
    assert "x-api-key" not in asked.headers
    assert asked.headers["authorization"] == "Bearer login"


async def test_without_a_login_nothing_is_asked(run, environ):
    async with Upstream(script("ok")) as upstream:
        called = await run(settings(upstream, billing="plan", key_env=""), environ("claude", ANTHROPIC_API_KEY="sk-dummy"))
        assert upstream.asked() == []
    assert (called.verdict.fault.error_class, called.verdict.charged) == ("auth_missing", "none")


async def test_a_plan_tells_its_windows_and_that_it_costs_extra(run, environ):
    plan = environ("claude", CLAUDE_CODE_OAUTH_TOKEN="login")
    answer = on_plan(CASES["ok"], "rejected", "1.0", "allowed")
    async with Upstream(lambda request: answer if request.method == "POST" else CASES["no_model"]) as upstream:
        called = await run(settings(upstream, billing="plan", key_env=""), plan)
    assert called.verdict.ok
    assert {fact.window_s for fact in called.learned} == {18_000, 604_800}
    assert all("paid overage" in fact.evidence for fact in called.learned)


async def test_the_probe_says_version_and_login_and_costs_nothing(environ):
    whole = environ("claude", CLAUDE_CODE_OAUTH_TOKEN="login")
    none = {name: text for name, text in whole.items() if not name.startswith("CLAUDE")}
    async with Upstream(script("ok")) as upstream:
        of = settings(upstream, billing="plan", key_env="")
        there = await caller.probe(CLAUDE_CODE, "p", of, whole)
        missing = await caller.probe(CLAUDE_CODE, "p", of, none)
        assert upstream.requests == []
    assert (there.available, there.release) == (True, programs.version("claude"))
    assert (missing.available, missing.mend) == (False, "claude auth login")
    assert "not logged in" in missing.detail


async def test_in_a_directory_claude_works_there_with_its_tools(run, metered, tmp_path):
    project = tmp_path / "project"
    project.mkdir()
    async with Upstream(script("ok")) as upstream:
        called = await run(settings(upstream, options={"directory": str(project), "permission_mode": "plan"}), metered)
        asked = upstream.asked()[0]
    assert called.verdict.ok, called.verdict.fault
    assert {"Read", "Edit"} <= {tool["name"] for tool in asked.json()["tools"]}
    assert str(project) in asked.body.decode()


async def test_a_cancelled_call_leaves_no_folder_behind(run, metered):
    cancelled = asyncio.Event()
    async with Upstream(script("stalled")) as upstream:
        await run(settings(upstream), metered, cancelled=cancelled, on_piece=lambda _text: cancelled.set())
    assert not list(Path(tempfile.gettempdir()).glob(f"{PREFIX}{os.getpid()}-*"))


@pytest.mark.parametrize("case", ["ok", "rate_limited", "interrupted", "plan_used_up"])
async def test_the_recordings_are_still_what_the_program_says(case, tmp_path):
    """Same types of lines in the same order: who changes the tested version records anew (python -m tests.live_cli.record)."""
    await record.record(case, tmp_path)
    now, then = ((folder / f"{case}.txt").read_text() for folder in (tmp_path, record.FOLDER))
    assert record.types_of(now) == record.types_of(then)
