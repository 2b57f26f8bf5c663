"""What Anthropic's Messages API says, case by case, for the scripted server.

Format: https://docs.anthropic.com/en/docs/build-with-claude/streaming and .../api/errors, read 2026-11-21.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.live_cli.upstream import Answer, Request, event_stream, json_answer, sse

MODEL = "claude-sonnet-4-5"
TEXT = ("The quick brown fox ", "jumps over the lazy dog.")
USAGE = {
    "input_tokens": 150,
    "cache_creation_input_tokens": 50,
    "cache_read_input_tokens": 1000,
    "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 30},
    "output_tokens": 1,
    "service_tier": "standard",
}


def start(usage: dict[str, Any] | None = USAGE) -> bytes:
    message = {
        "id": "msg_01", "type": "message", "role": "assistant", "model": MODEL, "content": [],
        "stop_reason": None, "stop_sequence": None, "usage": usage or {"input_tokens": 0, "output_tokens": 0},
    }  # fmt: skip
    return sse("message_start", {"type": "message_start", "message": message})


def block(*texts: str, index: int = 0, ended: bool = True) -> tuple[bytes, ...]:
    """Return the events of one block of text."""
    opened = {"type": "content_block_start", "index": index, "content_block": {"type": "text", "text": ""}}
    deltas = (
        sse(
            "content_block_delta",
            {"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": text}},
        )
        for text in texts
    )
    closed = (sse("content_block_stop", {"type": "content_block_stop", "index": index}),) if ended else ()
    return (sse("content_block_start", opened), *deltas, *closed)


def stop(reason: str = "end_turn", output_tokens: int | None = 340) -> tuple[bytes, ...]:
    usage = {} if output_tokens is None else {"usage": {"output_tokens": output_tokens}}
    delta = {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, **usage}
    return (sse("message_delta", delta), sse("message_stop", {"type": "message_stop"}))


def said(*texts: str, reason: str = "end_turn", tokens: int | None = 340, usage: dict[str, Any] | None = USAGE) -> Answer:
    """Return a whole streamed answer."""
    return event_stream(start(usage), *(block(*texts) if texts else ()), *stop(reason, tokens))


def error(status: int, kind: str, message: str, **headers: str) -> Answer:
    body = {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_01"}
    return json_answer(body, status, request_id="req_01", **headers)


def thinking(*thoughts: str) -> tuple[bytes, ...]:
    """Return the events of a block of reasoning, index 0."""
    opened = {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}}
    deltas = ({"type": "thinking_delta", "thinking": thought} for thought in thoughts)
    signed = {"type": "signature_delta", "signature": "c2lnbmVk"}
    return (
        sse("content_block_start", opened),
        *(sse("content_block_delta", {"type": "content_block_delta", "index": 0, "delta": one}) for one in (*deltas, signed)),
        sse("content_block_stop", {"type": "content_block_stop", "index": 0}),
    )


def on_plan(answer: Answer, status: str, utilization: str, overage: str = "") -> Answer:
    """Return the answer with the headers that a login gets. Names and units: the headers claude 2.1.329 reads."""
    resets = str(int(time.time()) + 3600)  # claude drops windows whose reset is years away
    told = {
        "status": status, "reset": resets, "representative-claim": "five_hour",
        "5h-status": status, "5h-utilization": utilization, "5h-reset": resets,
        "7d-status": "allowed", "7d-utilization": "0.41", "7d-reset": resets,
        **({"overage-status": overage, "overage-reset": resets} if overage else {}),
    }  # fmt: skip
    headers = {f"anthropic-ratelimit-unified-{name}": text for name, text in told.items()}
    return replace(answer, headers={**answer.headers, **headers})


CASES: dict[str, Answer] = {
    "ok": said(*TEXT),
    "unicode": said("Grüße, 世界 ", "🦊 naïve", " e\u0301", "\u2028 end."),
    "no_usage": said(*TEXT, tokens=None, usage=None),
    "unknown_events": event_stream(
        start(),
        sse("ping", {"type": "ping"}),
        sse("weather", {"type": "weather", "sky": "blue"}),
        *thinking("A fox? ", "A fox."),
        *block(*TEXT, index=1),
        *stop(),
    ),
    "no_final_usage": said(*TEXT, tokens=None),
    "huge_line": said("x" * 200_000),
    "plan": on_plan(said(*TEXT), "allowed_warning", "0.93"),
    "overage": on_plan(said(*TEXT), "rejected", "1.0", "allowed"),
    "plan_used_up": on_plan(error(429, "rate_limit_error", "Limit reached."), "rejected", "1.0", "rejected"),
    "empty": said(),
    "refused": said("I start, but ", reason="refusal", tokens=12),
    "truncated": said("A beginning ", reason="max_tokens", tokens=64),
    "cut": event_stream(start(), *block(*TEXT, ended=False), ending="cut", pause_s=0.2),
    "stalled": event_stream(start(), *block(*TEXT, ended=False), ending="stall"),
    "bad_key": error(401, "authentication_error", "invalid x-api-key"),
    "forbidden": error(403, "permission_error", "Your API key does not have permission to use the specified resource."),
    "no_model": error(404, "not_found_error", "model: claude-sonnet-9"),
    "rate_limited": error(429, "rate_limit_error", "This request would exceed your rate limit.", retry_after="7"),
    "quota_exhausted": error(400, "invalid_request_error", "Your credit balance is too low to access the Anthropic API."),
    "usage_limit": error(
        400,
        "invalid_request_error",
        "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC.",
    ),
    "server_error": error(500, "api_error", "Internal server error"),
    "overloaded": error(529, "overloaded_error", "Overloaded"),
    "overloaded_in_stream": event_stream(
        start(),
        *block(*TEXT, ended=False),
        sse("ping", {"type": "ping"}),
        sse("error", {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
    ),
    "context_too_long": error(400, "invalid_request_error", "prompt is too long: 215000 tokens > 200000 maximum"),
    "too_large": error(413, "request_too_large", "Request exceeds the maximum size"),
}


def script(case: str) -> Callable[[Request], Answer]:
    """Return a script that answers every message in the same way; whatever else is asked is not there."""

    def answer(request: Request) -> Answer:
        asked = request.method == "POST" and request.path.split("?")[0].endswith("/messages")
        return CASES[case] if asked else error(404, "not_found_error", "Not found")

    return answer
