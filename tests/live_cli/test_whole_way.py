"""From `farebox submit` to the bill: a real engine, the vendors' real programs and APIs, their servers scripted."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from decimal import Decimal

import pytest

from farebox.core.settings import PlatformSettings
from farebox.runtime import caller
from tests.live_cli import anthropic_wire, codex_wire, google_wire
from tests.live_cli.upstream import Upstream, json_answer
from tests.live_cli.whole_way import engine

pytestmark = pytest.mark.timeout(120)
FOX = "The quick brown fox."
PROGRAMS = {"claude-code": "claude", "codex": "codex", "gemini-cli": "gemini"}
WIRES = {
    "claude-code": (anthropic_wire, "", "stalled"),
    "anthropic": (anthropic_wire, "", "stalled"),
    "codex": (codex_wire, "/v1", "stall"),
    "openai": (codex_wire, "/v1", "stall"),
    "gemini-cli": (google_wire, "", "stalled"),
    "gemini": (google_wire, "", "stalled"),
}
KEYS = {"anthropic": "ANTHROPIC_API_KEY", "openai": "OPENAI_API_KEY", "gemini": "GEMINI_API_KEY"}
KEY_OF = {**KEYS, "claude-code": "ANTHROPIC_API_KEY", "codex": "CODEX_TEST_KEY", "gemini-cli": "GEMINI_API_KEY"}
EACH = [
    *(pytest.param(name, marks=pytest.mark.cli) for name in PROGRAMS),
    *(pytest.param(name, marks=pytest.mark.slow) for name in KEYS),
]


def answers(wire, state):
    """Answer every prompt with the case of `state` that is set now, a question for models with the one there is."""
    models = {
        "data": [{"id": wire.MODEL, "type": "model", "object": "model"}],
        "models": [{"name": f"models/{wire.MODEL}", "supportedGenerationMethods": ["generateContent"]}],
    }

    def script(request):
        if request.method == "GET" and request.path.split("?")[0].endswith("/models"):
            return json_answer(models)
        asked = request.method == "POST" and any(
            part in request.path for part in ("/messages", "/responses", ":streamGenerateContent")
        )
        return wire.CASES[state["case"] if asked else "no_model"]

    return script


@pytest.mark.parametrize("platform", EACH)
async def test_a_task_streams_is_charged_and_cancelled_with_its_text_kept(platform, tmp_path, cli_path):
    wire, path, stalled = WIRES[platform]
    state = {"case": "ok"}
    whole, begun = {
        anthropic_wire: ("".join(anthropic_wire.TEXT), anthropic_wire.TEXT[0].strip()),
        codex_wire: ("".join(codex_wire.TEXT), codex_wire.TEXT[0].strip()),
        google_wire: (FOX, "The quick"),
    }[wire]
    environ = {KEY_OF[platform]: "sk-none-at-all"}
    if platform in PROGRAMS:
        environ["PATH"] = f"{cli_path(PROGRAMS[platform]).parent}{os.pathsep}{os.environ['PATH']}"
    async with Upstream(answers(wire, state)) as upstream:
        told = {"url": upstream.url + path, "key_env": KEY_OF[platform], "model": wire.MODEL}
        async with engine(tmp_path, platform, environ, **told) as scene:
            code, out, errors = await scene.submit()
            assert (code, out.rstrip("\n")) == (0, whole), errors
            assert f"{platform} · metered: you pay per token" in errors
            assert "200→340 tok · " in errors
            (row,) = (await scene.json("costs"))["rows"]
            assert (row["platform"], row["input_tokens"], row["output_tokens"]) == (platform, 1200, 340)
            assert 0 < Decimal(row["paid_usd"]) < Decimal("0.1")

            state["case"] = stalled
            result = (await scene.cancelled(begun))["result"]
            assert (result["status"], result["platform"]) == ("cancelled", platform)
            assert result["partial_output"].startswith(begun)
            assert result["cost"]["status"] in {"possible", "priced", "estimated"}


async def test_a_limit_in_the_headers_is_told_while_the_answer_still_hangs(run):
    """Over real sockets. The real claude tells of windows and overage after the text, before its result (2.1.329)."""
    cancelled, told = asyncio.Event(), []

    def learn(fact):
        told.append((fact.unit, fact.limit))
        cancelled.set()

    named = {"limit": "50", "remaining": "49", "reset": "2026-11-21T20:00:00Z"}
    headers = {f"anthropic-ratelimit-requests-{name}": text for name, text in named.items()}
    stalled = anthropic_wire.CASES["stalled"]
    answer = dataclasses.replace(stalled, headers={**stalled.headers, **headers})
    async with Upstream(lambda _request: answer) as upstream:
        of = PlatformSettings(kind="anthropic", url=upstream.url, model=anthropic_wire.MODEL, key_env="ANTHROPIC_API_KEY")
        called = await run(of, {"ANTHROPIC_API_KEY": "sk-none-at-all"}, cancelled=cancelled, on_learned=learn)
        await caller.close()
    assert told == [("requests", 50)]
    assert called.verdict.fault.error_class == "cancelled", called.verdict
