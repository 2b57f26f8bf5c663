"""Chat Completions as a server writes them: chunks, whole answers, error objects, rate-limit headers. Pure.

Source: platform.openai.com/docs/api-reference/chat and /docs/guides/rate-limits (read 2026-11-21).
"""

from __future__ import annotations

from typing import Any

import msgspec

from farebox.core.terms import Usage
from farebox.rehearsal.answer import Answer

_ERRORS: dict[int, tuple[str, str | None]] = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    404: ("invalid_request_error", "model_not_found"),
    405: ("invalid_request_error", None),
    413: ("invalid_request_error", None),
    429: ("rate_limit_error", "rate_limit_exceeded"),
    500: ("server_error", None),
    503: ("server_error", "overloaded"),
}


def usage_of(usage: Usage) -> dict[str, Any]:
    """Return the usage object."""
    read, written = usage.input_tokens or 0, usage.output_tokens or 0
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


def whole(call_id: str, model: str, answer: Answer, created_s: int, *, with_usage: bool) -> bytes:
    """Return an unstreamed answer."""
    message = {"role": "assistant", "content": "".join(answer.pieces), "refusal": None}
    body: dict[str, Any] = {
        "id": call_id,
        "object": "chat.completion",
        "created": created_s,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": answer.finish_reason}],
    }
    return msgspec.json.encode(body | ({"usage": usage_of(answer.usage("".join(answer.pieces)))} if with_usage else {}))


def chunk(
    call_id: str, model: str, created_s: int, *, delta: dict[str, Any] | None, finish: str | None, usage: Usage | None
) -> bytes:
    """Return one event of a stream; the last one before the end holds the usage and no choice."""
    body: dict[str, Any] = {"id": call_id, "object": "chat.completion.chunk", "created": created_s, "model": model}
    body["choices"] = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    if usage is not None:
        body["usage"] = usage_of(usage)
    return event(msgspec.json.encode(body))


def event(data: bytes) -> bytes:
    """Return one server-sent event."""
    return b"data: " + data + b"\n\n"


DONE = event(b"[DONE]")


def error(status: int, message: str, code: str | None = None) -> bytes:
    """Return an error object."""
    kind, usual = _ERRORS[status]
    return msgspec.json.encode({"error": {"message": message, "type": kind, "param": None, "code": code or usual}})


def models(names: tuple[str, ...], created_s: int) -> bytes:
    """Return the list of models."""
    listed = [{"id": name, "object": "model", "created": created_s, "owned_by": "rehearsal"} for name in names]
    return msgspec.json.encode({"object": "list", "data": listed})
