"""What OpenAI's Responses API says to codex, case by case, for the scripted server.

Format: https://platform.openai.com/docs/api-reference/responses-streaming, and the headers x-codex-* of a ChatGPT login as
codex 0.169.0 reads them; 2026-11-21.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.live_cli.upstream import Answer, event_stream, json_answer, sse

MODEL = "gpt-5"
TEXT = ("The quick brown fox ", "jumps over the lazy dog.")
USAGE = {
    "input_tokens": 1200,
    "input_tokens_details": {"cached_tokens": 1000},
    "output_tokens": 340,
    "output_tokens_details": {"reasoning_tokens": 120},
    "total_tokens": 1540,
}
WINDOWS = {
    "x-codex-primary-used-percent": "42.5",
    "x-codex-primary-window-minutes": "300",
    "x-codex-primary-reset-at": "1795258409",
    "x-codex-secondary-used-percent": "12",
    "x-codex-secondary-window-minutes": "10080",
    "x-codex-secondary-reset-at": "1795858409",
}


def event(kind: str, **fields: Any) -> bytes:
    return sse(kind, {"type": kind, **fields})


def item(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": kind, "id": "item_1", **fields}


def message(*parts: dict[str, Any]) -> dict[str, Any]:
    return item("message", role="assistant", content=list(parts))


def begun(*texts: str) -> tuple[bytes, ...]:
    """Return the events of an answer that has begun."""
    deltas = (
        event("response.output_text.delta", item_id="item_1", output_index=0, content_index=0, delta=text) for text in texts
    )
    return (
        event("response.created", response={"id": "resp_1", "model": MODEL}),
        event("response.output_item.added", output_index=0, item=message()),
        *deltas,
    )


def finished(output: dict[str, Any], usage: Any = USAGE) -> tuple[bytes, ...]:
    response = {"id": "resp_1", **({"usage": usage} if usage else {})}
    return (event("response.output_item.done", output_index=0, item=output), event("response.completed", response=response))


def said(*texts: str, usage: Any = USAGE, before: tuple[bytes, ...] = ()) -> Answer:
    """Return a whole streamed answer."""
    whole = message({"type": "output_text", "text": "".join(texts)})
    return event_stream(*before, *begun(*texts), *finished(whole, usage))


def called(name: str, arguments: str) -> Answer:
    """Return an answer that calls a tool."""
    call = item("function_call", call_id="call_1", name=name, arguments=arguments)
    return event_stream(event("response.created", response={"id": "resp_1"}), *finished(call))


def failed(code: str, words: str) -> Answer:
    """Return a stream that says it failed."""
    response = {"id": "resp_1", "error": {"code": code, "message": words}}
    return event_stream(event("response.created", response={"id": "resp_1"}), event("response.failed", response=response))


def incomplete(reason: str) -> Answer:
    response = {"id": "resp_1", "incomplete_details": {"reason": reason}, "usage": USAGE}
    return event_stream(*begun(TEXT[0]), event("response.incomplete", response=response))


def error(status: int, code: str, words: str, kind: str = "invalid_request_error", **more: Any) -> Answer:
    return json_answer({"error": {"message": words, "type": kind, "code": code, **more}}, status, retry_after="7")


def with_windows(answer: Answer) -> Answer:
    return replace(answer, headers={**answer.headers, **WINDOWS})


REFUSAL = message({"type": "refusal", "refusal": "I cannot help with that."})
UNKNOWN = (event("response.brand_new", of=[1, {"a": None}]),)
CASES: dict[str, Answer] = {
    "ok": with_windows(said(*TEXT)),
    "unicode": said("Grüße, 世", "界 🦊"),
    "no_usage": said(*TEXT, usage=None),
    "unknown_events": said(*TEXT, before=UNKNOWN),
    "huge_line": said("x" * 200_000),
    "empty": event_stream(event("response.completed", response={"id": "resp_1", "usage": USAGE})),
    "refused": event_stream(*begun(), *finished(REFUSAL)),
    "content_filter": incomplete("content_filter"),
    "policy": failed("cyber_policy", "This request was flagged."),
    "invalid_prompt": failed("invalid_prompt", "Invalid prompt: it was flagged as potentially violating our usage policy."),
    "truncated": incomplete("max_output_tokens"),
    "cut": event_stream(*begun(TEXT[0]), ending="cut"),
    "bad_key": error(401, "invalid_api_key", "Incorrect API key provided."),
    "forbidden": error(403, "unsupported_country_region_territory", "Country not supported.", "request_forbidden"),
    "no_model": error(404, "model_not_found", "The model `nope` does not exist or you do not have access to it."),
    "rate_limited": error(429, "rate_limit_exceeded", "Rate limit reached. Please try again in 7s.", "requests"),
    "rate_limited_in_stream": failed("rate_limit_exceeded", "Rate limit reached. Please try again in 11.054s."),
    "quota_exhausted": with_windows(
        error(429, "", "The usage limit has been reached", "usage_limit_reached", plan_type="plus", resets_at=1795258409)
    ),
    "no_credit": error(429, "insufficient_quota", "You exceeded your current quota.", "insufficient_quota"),
    "server_error": error(500, "", "The server had an error.", "server_error"),
    "overloaded": error(503, "server_is_overloaded", "Overloaded.", "server_error"),
    "overloaded_529": error(529, "", "Overloaded.", "overloaded"),
    "context_too_long": failed("context_length_exceeded", "Your input exceeds the context window of this model."),
    "context_400": error(400, "context_length_exceeded", "Your input exceeds the context window of this model."),
    "too_large": error(413, "", "Too large."),
    "garbage": Answer(200, {"content-type": "text/html"}, (b"<html>no</html>",)),
    "stall": event_stream(*begun(TEXT[0]), ending="stall"),
}
