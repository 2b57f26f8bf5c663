"""What the lines that `codex` prints say about tokens, files and faults. Pure.

Wordings from codex 0.169.0, run against a local server (2026-11-21). `codexErrorInfo` of the app-server names the class;
`codex exec` tells the same in prose only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from actors.platforms.faults import fault, fault_of_answer
from actors.platforms.foreign_json import at, count_at, items_at, text_at
from farebox.core.terms import ErrorClass, Fault, Usage

TOO_LARGE = "exceeds the maximum length"
"""Said of a prompt above 1,048,576 characters, before anything is sent."""
_UNBILLED: frozenset[ErrorClass] = frozenset(
    {"rate_limited", "quota_exhausted", "auth_missing", "context_too_long", "unavailable"}
)
_AT_THE_DOOR = re.compile(r"at capacity|status (?:503|529)\b", re.ASCII)
_INFO: dict[str, ErrorClass] = {
    "contextWindowExceeded": "context_too_long",
    "sessionBudgetExceeded": "quota_exhausted",
    "usageLimitExceeded": "quota_exhausted",
    "rateLimitExceeded": "rate_limited",
    "flexUnavailable": "server_error",
    "serverOverloaded": "server_error",
    "policyCapacityUnavailable": "server_error",
    "internalServerError": "server_error",
    "modelNotFound": "unavailable",
    "cyberPolicy": "refused",
    "misalignmentPolicyViolation": "refused",
    "unauthorized": "auth_missing",
    "sandboxError": "crashed",
}
_PROSE: tuple[tuple[re.Pattern[str], ErrorClass], ...] = (
    (re.compile(r"reason: content_filter|invalid prompt|usage policy|was flagged", re.IGNORECASE), "refused"),
    (re.compile(r"incomplete response", re.IGNORECASE), "truncated"),
    (re.compile(r"missing environment variable|not logged in", re.IGNORECASE), "auth_missing"),
    (re.compile(r"idle timeout", re.IGNORECASE), "stalled"),
    (re.compile(r"stream disconnected|connection failed|waiting for network", re.IGNORECASE), "network"),
    (re.compile(r"high demand|at capacity", re.IGNORECASE), "server_error"),
    (re.compile(r"quota exceeded", re.IGNORECASE), "quota_exhausted"),
    (re.compile(r"do not have access to it", re.IGNORECASE), "unavailable"),
    (re.compile(TOO_LARGE), "context_too_long"),
)
_STATUS = re.compile(r"(?:unexpected|last) status:? (\d{3})\b", re.ASCII)
_WAIT = re.compile(r"try again in (\d{1,9}(?:\.\d{1,6})?) ?(ms|s)\b", re.ASCII)
_MILLIS = {"ms": 1, "s": 1000}


def fault_of_info(info: Any, message: str) -> Fault:
    """Return what an error of the app-server means: its `codexErrorInfo` (a name, or a kind with a status) and its words."""
    if isinstance(info, dict):
        detail = next(iter(info.values()), None)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        status = count_at(detail, "httpStatusCode")
        return fault_of_answer(status, "", message) if status else fault("network", message)
    error_class = _INFO.get(info) if isinstance(info, str) else None
    return fault(error_class, message or str(info)) if error_class else fault_of_prose(message)


def fault_of_prose(message: str) -> Fault:
    """Return what an error means of which only the words are known."""
    status = _STATUS.search(message)
    if status:
        return fault_of_answer(int(status[1]), "", message)
    known: ErrorClass | None = next((error_class for words, error_class in _PROSE if words.search(message)), None)
    return fault(known, message) if known else fault_of_answer(0, "", message)


def wait_ms(message: str) -> int | None:
    """Return how long a message like `Please try again in 11.054s` asks to wait, None where it does not."""
    found = _WAIT.search(message)
    return int(Decimal(found[1]) * _MILLIS[found[2]]) if found else None


def turned_away(why: Fault | None) -> bool:
    """Say whether who is told this before any text has surely not been served: no model ran."""
    return why is not None and (why.error_class in _UNBILLED or bool(_AT_THE_DOOR.search(why.message)))


def usage_of(*counts: Any) -> Usage | None:
    """Return the sum of what was counted, under the names of either wire; all zeros mean that nothing was.

    Input holds the cached tokens, output the reasoning ones, as the Responses API counts.
    """
    read = _sum(counts, "inputTokens", "input_tokens")
    written = _sum(counts, "outputTokens", "output_tokens")
    if not read and not written:
        return None
    return Usage(
        input_tokens=read,
        output_tokens=written,
        cached_tokens=_sum(counts, "cachedInputTokens", "cached_input_tokens"),
        cache_write_tokens=_sum(counts, "cacheWriteInputTokens", "cache_write_input_tokens"),
        reasoning_tokens=_sum(counts, "reasoningOutputTokens", "reasoning_output_tokens"),
    )


def _sum(counts: Iterable[Any], *names: str) -> int | None:
    found = [count for each in counts for name in names if (count := count_at(each, name)) is not None]
    return sum(found) if found else None


def files_of(item: Any) -> list[str]:
    """Return the paths that a change of files added or wrote anew."""
    if text_at(item, "type") not in {"fileChange", "file_change"} or text_at(item, "status") != "completed":
        return []
    kept = (change for change in items_at(item, "changes") if _kind(change) != "delete")
    return [path for change in kept if (path := text_at(change, "path"))]


def _kind(change: Any) -> str:
    return text_at(change, "kind") or text_at(at(change, "kind"), "type")
