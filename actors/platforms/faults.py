"""What went wrong, in our classes: from a status, a code and a message, or from the way a call was cut. Pure.

Wordings from the vendors' error pages and from clients run against recorded bodies (2026-11-21).
"""

from __future__ import annotations

import re
from typing import Any

from actors.platforms.foreign_json import at, text_at
from farebox.core.platform import End
from farebox.core.terms import ErrorClass, Fault

MESSAGE_CHARS_MAX = 1000

_TOO_LONG = re.compile(
    r"prompt is too long|context_length_exceeded|maximum context length|input token count.{0,40}exceeds|"
    r"exceed_context_size|available context size|context length of only|"
    r"greater than the context length|context window|prompt_too_long",
    re.IGNORECASE,
)
_EXHAUSTED = re.compile(
    r"insufficient_quota|exceeded your current quota|usage_limit_reached|specified API usage limits|PerDay|"
    r"credit balance is too low|hit your (usage )?limit",
    re.IGNORECASE,
)
_NO_KEY = re.compile(
    r"invalid_api_key|API_KEY_INVALID|incorrect api key|invalid api key|authentication_error|not logged in|permission_denied",
    re.IGNORECASE,
)
_REFUSED = re.compile(
    r"content_filter|content_policy|invalid_prompt|content management policy|PROHIBITED_CONTENT|\bSAFETY\b|\brefusal\b",
    re.IGNORECASE,
)
_NO_MODEL = re.compile(r"model_not_found|DeploymentNotFound", re.IGNORECASE)
_BUSY = re.compile(r"rate_limit|rate limit|too many requests|\b429\b", re.IGNORECASE)
_DOWN = re.compile(r"server_error|internal error|overloaded|unavailable|\b50[0-9]\b|\b529\b", re.IGNORECASE)
_WORDS: tuple[tuple[re.Pattern[str], ErrorClass], ...] = (
    (_TOO_LONG, "context_too_long"),
    (_EXHAUSTED, "quota_exhausted"),
    (_NO_KEY, "auth_missing"),
    (_REFUSED, "refused"),
    (_NO_MODEL, "unavailable"),
)
_STATUS: dict[int, ErrorClass] = {
    401: "auth_missing",
    402: "quota_exhausted",
    403: "auth_missing",
    404: "unavailable",
    408: "server_error",
    413: "context_too_long",
    425: "server_error",
    429: "rate_limited",
}
_CUTS: dict[str, tuple[ErrorClass, str]] = {
    "network": ("network", "The connection broke before the answer was whole."),
    "timeout": ("timeout", "The task's time was over before the answer was whole."),
    "stalled": ("stalled", "The answer stopped coming."),
    "first_byte": ("stalled", "No answer began."),
    "cancelled": ("cancelled", "Cancelled."),
    "overflow": ("invalid", "The answer was larger than allowed."),
    "missing": ("unavailable", "The program is not there."),
    "unsent": ("network", "The platform could not be reached."),
    "no_key": ("auth_missing", "The key is not set."),
}


def fault(error_class: ErrorClass, message: str) -> Fault:
    """Return a fault whose message is one readable piece of text of limited length."""
    clean = "".join(char if char.isprintable() or char == "\n" else "\ufffd" for char in message.strip())
    return Fault(
        error_class=error_class, message=clean if len(clean) <= MESSAGE_CHARS_MAX else clean[: MESSAGE_CHARS_MAX - 1] + "…"
    )


def fault_of_cut(end: End) -> Fault:
    """Return why a call ended that did not end by itself."""
    error_class, message = _CUTS[end.cut]
    return fault(error_class, f"{message} {end.detail}")


def fault_of_answer(status: int, words: str, message: str) -> Fault:
    """Return what an error answer means. `words` are its codes and types, `status` 0 where it came without one."""
    said = f"{words} {message}"
    told = message.strip() or words.strip() or "no reason given"
    shown = f"{status}: {told}" if status else told
    return fault(_class_of(status, said), shown)


def _class_of(status: int, said: str) -> ErrorClass:
    by_words: ErrorClass | None = next((known for pattern, known in _WORDS if pattern.search(said)), None)
    if by_words is not None and status < 500:
        return by_words
    if status >= 500:
        return "server_error"
    if status in _STATUS:
        return _STATUS[status]
    if status == 0 and _BUSY.search(said):
        return "rate_limited"
    return "server_error" if status == 0 and _DOWN.search(said) else "invalid"


def error_in(body: Any) -> tuple[str, str] | None:
    """Return codes and message of an error object, with or without a wrapper around it; None if `body` is no error.

    Known shapes: `{"error": {...}}`, `{"error": "text"}`, `[{"error": ...}]`, `{"object": "error", ...}` (vLLM),
    `{"detail": ...}` and `{"message": ..., "code": ...}`.
    """
    if isinstance(body, list):
        return error_in(at(body, 0))
    inner = at(body, "error")
    if isinstance(inner, str) and inner:
        return "", inner
    if isinstance(inner, dict) and inner:
        return _described(inner)
    if text_at(body, "object") == "error" or text_at(body, "type") == "error" or _bare(body):
        return _described(body)
    detail = at(body, "detail")
    return ("", detail if isinstance(detail, str) else str(detail)) if detail else None


def _bare(body: Any) -> bool:
    return bool(text_at(body, "message")) and at(body, "choices") is None


def _described(error: Any) -> tuple[str, str]:
    words = [str(at(error, name)) for name in ("type", "code", "status") if at(error, name) is not None]
    return " ".join(words), text_at(error, "message")
