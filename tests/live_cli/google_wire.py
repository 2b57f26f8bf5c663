"""What the Gemini API says, case by case, for the scripted server.

Format: https://ai.google.dev/api/generate-content and /gemini-api/docs/troubleshooting, read 2026-11-21.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.live_cli.upstream import Answer, Request, event_stream, json_answer, sse

MODEL = "gemini-2.5-flash"
USAGE = {
    "promptTokenCount": 1200,
    "candidatesTokenCount": 220,
    "totalTokenCount": 1540,
    "cachedContentTokenCount": 1000,
    "thoughtsTokenCount": 120,
}
READ = {"promptTokenCount": 1200, "totalTokenCount": 1200}


def chunk(text: str | None = None, finish: str = "", usage: dict[str, int] | None = READ, **part: Any) -> bytes:
    """Return one event of a streamed answer."""
    candidate: dict[str, Any] = {"index": 0}
    if text is not None:
        candidate["content"] = {"role": "model", "parts": [{"text": text, **part}]}
    if finish:
        candidate["finishReason"] = finish
    counted = {} if usage is None else {"usageMetadata": usage}
    return sse("", {"candidates": [candidate], "modelVersion": MODEL, "responseId": "r-1", **counted})


def error(status: int, name: str, message: str, *details: dict[str, Any]) -> Answer:
    """Return a refusal."""
    told = {"code": status, "message": message, "status": name}
    return json_answer({"error": {**told, "details": list(details)} if details else told}, status)


def info(reason: str) -> dict[str, Any]:
    kind = "type.googleapis.com/google.rpc.ErrorInfo"
    return {"@type": kind, "reason": reason, "domain": "googleapis.com", "metadata": {"service": "generativelanguage"}}


def quota(window: str, value: str, delay: str) -> tuple[dict[str, Any], ...]:
    violation = {
        "quotaMetric": "generativelanguage.googleapis.com/generate_content_free_tier_requests",
        "quotaId": f"GenerateRequestsPer{window}PerProjectPerModel-FreeTier",
        "quotaDimensions": {"location": "global", "model": MODEL},
        "quotaValue": value,
    }
    return (
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]},
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay},
    )


EXCEEDED = "You exceeded your current quota, please check your plan and billing details."
CASES: dict[str, Answer] = {
    "ok": event_stream(chunk("The quick "), chunk("brown fox.", "STOP", USAGE)),
    "thoughts": event_stream(chunk("How quick?", thought=True), chunk("The quick brown fox.", "STOP", USAGE)),
    "unicode": event_stream(chunk("Grüße, 世"), chunk("界 🦊", "STOP", USAGE)),
    "no_usage": event_stream(chunk("The quick ", usage=None), chunk("brown fox.", "STOP", None)),
    "empty": event_stream(chunk("", "STOP", READ)),
    "refused": event_stream(sse("", {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": READ})),
    "refused_at_once": event_stream(chunk(None, "SAFETY", READ)),
    "truncated": event_stream(chunk(None, "MAX_TOKENS", {**READ, "totalTokenCount": 1320, "thoughtsTokenCount": 120})),
    "cut": event_stream(chunk("The quick "), chunk("brown fox."), ending="cut"),
    "ended": event_stream(chunk("The quick "), chunk("brown fox.")),
    "ended_before": event_stream(),
    "stalled": event_stream(chunk("The quick "), chunk("brown fox."), ending="stall"),
    "bad_key": error(
        400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", info("API_KEY_INVALID")
    ),
    "unauthorized": error(401, "UNAUTHENTICATED", "Request had invalid authentication credentials."),
    "forbidden": error(403, "PERMISSION_DENIED", "The caller does not have permission."),
    "no_model": error(404, "NOT_FOUND", f"models/{MODEL} is not found for API version v1beta."),
    "rate_limited": error(429, "RESOURCE_EXHAUSTED", EXCEEDED, *quota("Minute", "10", "7s")),
    "quota_exhausted": error(429, "RESOURCE_EXHAUSTED", EXCEEDED, *quota("Day", "250", "20s")),
    "server_error": error(500, "INTERNAL", "An internal error has occurred."),
    "overloaded": error(503, "UNAVAILABLE", "The model is overloaded. Please try again later."),
    "context_too_long": error(
        400, "INVALID_ARGUMENT", "The input token count (1250000) exceeds the maximum number of tokens allowed (1048576)."
    ),
    "bad_request": error(400, "INVALID_ARGUMENT", "Request contains an invalid argument."),
    "error_in_stream": event_stream(
        chunk("The quick "), sse("", {"error": {"code": 503, "message": "Unavailable.", "status": "UNAVAILABLE"}})
    ),
}  # fmt: skip


def script(case: str) -> Callable[[Request], Answer]:
    """Return a script that answers every prompt in the same way; whatever else is asked is not there."""

    def answer(request: Request) -> Answer:
        return CASES[case] if ":streamGenerateContent" in request.path else error(404, "NOT_FOUND", "Not found")

    return answer
