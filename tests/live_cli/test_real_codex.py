"""The real codex, the whole way: every outcome of a call against a scripted server, in both modes, without a login."""

import asyncio
import time

import psutil
import pytest

from actors.platforms.codex import CODEX
from farebox.core.settings import PlatformSettings
from farebox.runtime import caller
from tests.live_cli import codex_wire
from tests.live_cli.upstream import Upstream

pytestmark = pytest.mark.cli
ANSWER = "".join(codex_wire.TEXT)
MODES = ("app-server", "exec")
KEY = {"CODEX_TEST_KEY": "sk-test-1"}


def settings(upstream, mode="app-server", **options):
    return PlatformSettings(
        kind="codex", url=f"{upstream.url}/v1", key_env="CODEX_TEST_KEY", model=codex_wire.MODEL,
        options={"mode": mode, **options},
    )  # fmt: skip


def script(case):
    return lambda _request: codex_wire.CASES[case]


def children():
    return {child.pid for child in psutil.Process().children(recursive=True) if child.status() != psutil.STATUS_ZOMBIE}


@pytest.mark.parametrize("mode", MODES)
async def test_an_answer_comes_with_its_tokens(run, environ, mode):
    pieces = []
    async with Upstream(script("ok")) as upstream:
        called = await run(settings(upstream, mode), environ("codex", **KEY), on_piece=pieces.append)
    usage = called.verdict.usage
    assert (called.verdict.ok, called.text, "".join(pieces)) == (True, ANSWER, ANSWER)
    assert (usage.input_tokens, usage.output_tokens, usage.cached_tokens, usage.reasoning_tokens) == (1200, 340, 1000, 120)
    assert len(pieces) == (2 if mode == "app-server" else 1)
    (request,) = upstream.asked()
    assert request.headers["authorization"] == "Bearer sk-test-1"


async def test_the_windows_of_a_plan_are_learned(run, environ):
    async with Upstream(script("ok")) as upstream:
        called = await run(settings(upstream), environ("codex", **KEY))
    assert {(fact.window_s, fact.used, fact.resets_at_ms) for fact in called.learned} == {
        (5 * 3600, 43, 1795258409_000), (7 * 86_400, 12, 1795858409_000),
    }  # fmt: skip


OUTCOMES = {
    "bad_key": ("auth_missing", "none"),
    "forbidden": ("auth_missing", "none"),
    "no_model": ("unavailable", "none"),
    "rate_limited": ("rate_limited", "none"),
    "quota_exhausted": ("quota_exhausted", "none"),
    "server_error": ("server_error", "possible"),
    "overloaded": ("server_error", "none"),
    "context_too_long": ("context_too_long", "none"),
    "too_large": ("context_too_long", "none"),
    "refused": ("refused", "known"),
    "cut": ("network", "possible"),
    "garbage": ("network", "possible"),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", OUTCOMES)
async def test_each_failure_has_its_class_after_one_request(run, environ, case, mode):
    async with Upstream(script(case)) as upstream:
        called = await run(settings(upstream, mode), environ("codex", **KEY))
    assert (called.verdict.fault.error_class, called.verdict.charged) == OUTCOMES[case], called.verdict
    assert len(upstream.asked()) == 1


async def test_what_came_before_a_limit_or_a_cut_is_kept(run, environ):
    for case in ("truncated", "cut"):
        async with Upstream(script(case)) as upstream:
            called = await run(settings(upstream), environ("codex", **KEY))
        assert (called.text, called.verdict.fault.error_class) == (
            codex_wire.TEXT[0], "network" if case == "cut" else "truncated",
        )  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
async def test_silence_ends_by_our_clock_and_nothing_lives_on(run, environ, mode):
    before = children()
    async with Upstream(script("stall")) as upstream:
        called = await run(settings(upstream, mode), environ("codex", **KEY), idle_timeout_s=1.5)
    assert called.verdict.fault.error_class == "stalled"
    assert called.text == (codex_wire.TEXT[0] if mode == "app-server" else "")
    assert children() <= before


@pytest.mark.parametrize("mode", MODES)
async def test_a_cancelled_turn_stops_upstream_and_keeps_its_text(run, environ, soon, mode):
    before, cancelled, pieces = children(), asyncio.Event(), []
    async with Upstream(script("stall")) as upstream:
        of, variables = settings(upstream, mode), environ("codex", **KEY)
        task = asyncio.create_task(run(of, variables, cancelled=cancelled, on_piece=pieces.append))
        await soon(lambda: pieces if mode == "app-server" else upstream.streaming.is_set(), 20)
        cancelled.set()
        asked_at_s = time.monotonic()
        called = await task
        gone_s = time.monotonic() - asked_at_s
        await soon(lambda: upstream.closed_at_s)
    assert (called.verdict.fault.error_class, called.verdict.charged) == ("cancelled", "possible")
    assert called.text == (codex_wire.TEXT[0] if mode == "app-server" else "")
    assert gone_s < 5
    assert upstream.closed_at_s[0] - asked_at_s < 5
    assert children() <= before


@pytest.mark.parametrize("mode", MODES)
async def test_a_prompt_of_a_megabyte_arrives_whole(run, environ, mode):
    prompt = "0123456789abcde " * 62_500
    async with Upstream(script("ok")) as upstream:
        called = await run(settings(upstream, mode), environ("codex", **KEY), prompt=prompt)
    assert called.verdict.ok, called.verdict
    texts = [part["text"] for item in upstream.asked()[0].json()["input"] for part in item["content"]]
    assert prompt in texts or prompt.strip() in texts


@pytest.mark.parametrize("mode", MODES)
async def test_a_prompt_above_its_limit_is_refused_before_anything_is_sent(run, environ, mode):
    async with Upstream(script("ok")) as upstream:
        called = await run(settings(upstream, mode), environ("codex", **KEY), prompt="x" * 1_100_000)
    assert (called.verdict.fault.error_class, called.verdict.charged) == ("context_too_long", "none")
    assert upstream.asked() == []


@pytest.mark.parametrize("mode", MODES)
async def test_a_server_that_is_not_there_is_said_at_once(run, environ, mode):
    async with Upstream(script("ok")) as upstream:
        of = settings(upstream, mode)
    called = await run(of, environ("codex", **KEY))
    assert called.verdict.fault.error_class == "network"
    assert called.duration_ms < 10_000


@pytest.mark.parametrize("mode", MODES)
async def test_without_its_key_nothing_is_sent(run, environ, mode):
    async with Upstream(script("ok")) as upstream:
        called = await run(settings(upstream, mode), environ("codex"))
    assert (called.verdict.fault.error_class, called.verdict.charged, upstream.asked()) == ("auth_missing", "none", [])


@pytest.mark.parametrize("mode", MODES)
async def test_a_task_of_text_sends_little_besides_its_prompt_and_no_tools(run, environ, mode):
    async with Upstream(script("ok")) as upstream:
        called = await run(settings(upstream, mode, arguments="--strict-config"), environ("codex", **KEY), system="Be brief.")
    assert called.verdict.ok, called.verdict
    (request,) = upstream.asked()
    assert len(request.body) < 3000
    assert not request.json().get("tools")
    assert "Be brief." in request.body.decode()


async def test_on_a_plan_nothing_is_sent_by_somebody_who_is_not_logged_in(run, environ):
    variables = environ("codex", OPENAI_API_KEY="sk-test-1", CODEX_API_KEY="sk-test-1")
    called = await run(CODEX.defaults["codex"], variables)
    assert (called.verdict.fault.error_class, called.verdict.charged) == ("auth_missing", "none")
    assert "not logged in" in called.verdict.fault.message


async def test_on_a_plan_a_login_with_a_key_is_refused(run, environ, tmp_path, cli_path):
    home = tmp_path / "codex-home"
    home.mkdir()
    login = await asyncio.create_subprocess_exec(
        str(cli_path("codex")), "login", "--with-api-key", stdin=-1, stdout=-3, stderr=-3,
        env={**environ("codex"), "CODEX_HOME": str(home)},
    )  # fmt: skip
    await login.communicate(b"sk-test-1\n")
    of = PlatformSettings(kind="codex", billing="plan", options={"home": str(home)})
    called = await run(of, environ("codex"))
    assert (called.verdict.fault.error_class, called.verdict.charged) == ("auth_missing", "none")
    report = await caller.probe(CODEX, "codex", of, environ("codex"))
    assert (report.available, report.detail) == (False, "0.169.0, its login is an API key, which is billed by token")


async def test_what_is_missing_is_found_out(environ):
    report = await caller.probe(CODEX, "codex", CODEX.defaults["codex"], environ("codex"))
    assert (report.available, report.detail, report.mend) == (False, "0.169.0, not logged in", "codex login")


COMMAND = '{"cmd":"touch made-by-codex"}'


@pytest.mark.parametrize("approvals", ["decline", "accept"])
async def test_a_command_in_a_directory_waits_for_nobody(run, environ, tmp_path, approvals):
    place = tmp_path / "project"
    place.mkdir()
    answers = [
        codex_wire.called("exec_command", COMMAND_OUTSIDE if approvals == "accept" else COMMAND),
        codex_wire.said(*codex_wire.TEXT),
    ]
    async with Upstream(lambda _request: answers.pop(0)) as upstream:
        called = await run(settings(upstream, directory=str(place), approvals=approvals), environ("codex", **KEY))
    assert (called.verdict.ok, called.text) == (True, ANSWER), called.verdict
    assert called.verdict.usage.input_tokens == 2400
    assert (place / "made-by-codex").exists() == (approvals == "accept")


COMMAND_OUTSIDE = '{"cmd":"touch made-by-codex","sandbox_permissions":"require_escalated","justification":"a test"}'


async def test_a_retry_that_codex_means_to_make_itself_does_not_happen(run, environ):
    retries = "-c model_providers.farebox.stream_max_retries=5"
    for case, error_class in (("rate_limited", "rate_limited"), ("cut", "network")):
        async with Upstream(script(case)) as upstream:
            called = await run(settings(upstream, arguments=retries), environ("codex", **KEY))
        assert called.verdict.fault.error_class == error_class, called.verdict
        assert called.text in {"", codex_wire.TEXT[0]}
        assert len(upstream.asked()) == 1


@pytest.mark.parametrize("mode", MODES)
async def test_a_text_task_on_a_login_runs_nothing_that_its_home_asks_for(run, environ, tmp_path, mode):
    home, told = tmp_path / "codex-home", tmp_path / "told"
    home.mkdir()
    (home / "config.toml").write_text(f'developer_instructions = "LEAKED"\nnotify = ["touch", "{told}"]\n')
    async with Upstream(script("ok")) as upstream:
        called = await run(settings(upstream, mode, home=str(home)), environ("codex", **KEY))
    assert called.verdict.ok, called.verdict
    assert "LEAKED" not in upstream.asked()[0].body.decode()
    assert not told.exists()
