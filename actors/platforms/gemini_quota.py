"""What an error of the Gemini API means, and what it tells about quota: QuotaFailure, RetryInfo, ErrorInfo. Pure.

Sources: ai.google.dev/gemini-api/docs/rate-limits and /troubleshooting, google/rpc/error_details.proto, bodies in
google-gemini/gemini-cli issue 8437 and continuedev/continue issue 10062 (read 2026-11-21). Daily limits begin anew at
midnight Pacific time; the moment comes from the answer's own `date` header, so no clock of ours is believed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, cast

from actors.platforms.faults import fault, fault_of_answer
from actors.platforms.foreign_json import at, items_at, text_at
from farebox.core.events import QuotaLearned
from farebox.core.retry_after import WAIT_MAX_MS, date_ms, retry_after_ms
from farebox.core.terms import ErrorClass, Fault

MINUTE_S, DAY_S = 60, 86_400
_DELAY = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s", re.ASCII)
_IN_WORDS = re.compile(r"retry in (\d{1,9}(?:\.\d{1,9})?)s", re.ASCII)
_LIMIT = re.compile(r"\d{1,15}", re.ASCII)
_REASONS: dict[str, ErrorClass] = {
    "API_KEY_INVALID": "auth_missing",
    "API_KEY_SERVICE_BLOCKED": "auth_missing",
    "SERVICE_DISABLED": "auth_missing",
    "BILLING_DISABLED": "quota_exhausted",
}
_WORDS: tuple[tuple[re.Pattern[str], ErrorClass], ...] = (
    (re.compile(r"user location is not supported", re.IGNORECASE), "unavailable"),
    (re.compile(r"spending cap|credits are depleted|per day\b", re.IGNORECASE), "quota_exhausted"),
)


def error_object(body: Any) -> Any:
    """Return the error in a body, alone or as the first of an array; None if there is none."""
    if isinstance(body, list):
        return error_object(at(body, 0))
    found = at(body, "error")
    return cast("dict[str, Any]", found) if isinstance(found, dict) and found else None


def fault_of(status: int, error: Any) -> Fault:
    """Return what an error object means; `status` 0 where it came inside a stream: then its own code counts."""
    code = at(error, "code")
    status = status if status >= 300 else code if type(code) is int and 300 <= code <= 599 else 0
    reasons = " ".join(text_at(detail, "reason") for detail in items_at(error, "details"))
    quotas = _violations(error)
    message = text_at(error, "message")
    known = _known_class(status, reasons, quotas, message)
    if known is None and quotas:
        known = "rate_limited"
    if known is not None:
        return fault(known, f"{status}: {_told(message, quotas)}")
    if status == 429 and delay_ms(error) is not None:
        return fault("rate_limited", f"429: {message}")
    return fault_of_answer(status, f"{text_at(error, 'status')} {reasons}", message)


def _known_class(status: int, reasons: str, quotas: list[Any], message: str) -> ErrorClass | None:
    if any(window_s_of(quota) == DAY_S or text_at(quota, "quotaValue") == "0" for quota in quotas):
        return "quota_exhausted"
    by_reason: ErrorClass | None = next((known for reason, known in _REASONS.items() if reason in reasons.split()), None)
    if by_reason is not None or status >= 500:
        return by_reason
    return next((known for pattern, known in _WORDS if pattern.search(message)), None)


def _told(message: str, quotas: list[Any]) -> str:
    named = ", ".join(dict.fromkeys(text_at(quota, "quotaId") for quota in quotas if text_at(quota, "quotaId")))
    return f"{message} ({named})" if named else message


def learned_from(platform: str, error: Any, headers: Mapping[str, str]) -> list[QuotaLearned]:
    """Return the limits that a QuotaFailure names; what is violated is used up."""
    return [
        QuotaLearned(
            platform=platform,
            window_s=window_s_of(quota),
            unit=_unit(quota),
            limit=limit,
            used=limit,
            resets_at_ms=midnight_pacific_ms(headers) if window_s_of(quota) == DAY_S else None,
            evidence=f"429 {text_at(quota, 'quotaId')} {text_at(quota, 'quotaDimensions', 'model')}".strip(),
        )
        for quota in _violations(error)
        if text_at(quota, "quotaId")
        for limit in [_limit(quota)]
    ]


def wait_ms(error: Any, headers: Mapping[str, str]) -> int | None:
    """Return how long to wait: a used up day ends at midnight Pacific, whatever RetryInfo says; else as RetryInfo says."""
    if any(window_s_of(quota) == DAY_S for quota in _violations(error)):
        now, then = date_ms(headers.get("date", "")), midnight_pacific_ms(headers)
        return None if now is None or then is None else then - now
    told = retry_after_ms(headers)
    return delay_ms(error) if told is None else told


def delay_ms(error: Any) -> int | None:
    """Return RetryInfo's delay, like `55.837881432s`, or the one in the message; None where neither says."""
    delays = (_DELAY.fullmatch(text_at(detail, "retryDelay")) for detail in items_at(error, "details"))
    found = next((delay for delay in delays if delay), None) or _IN_WORDS.search(text_at(error, "message"))
    return min(round(float(found[1]) * 1000), WAIT_MAX_MS) if found else None


def window_s_of(quota: Any) -> int:
    """Return the length of a quota's window (seconds) by its id, 0 where it does not say."""
    name = text_at(quota, "quotaId")
    return DAY_S if "PerDay" in name else MINUTE_S if "PerMinute" in name else 0


def midnight_pacific_ms(headers: Mapping[str, str]) -> int | None:
    """Return the next midnight Pacific time after the answer's `date` (ms since 1970), None without one."""
    now_ms = date_ms(headers.get("date", ""))
    if now_ms is None:
        return None
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    midnights = (_midnight(now + timedelta(days=days)) for days in (-1, 0, 1))
    return next(round(midnight.timestamp() * 1000) for midnight in midnights if midnight > now)


def _midnight(day: datetime) -> datetime:
    """Return the end of this date's day in Pacific time: 7 hours behind UTC in summer, 8 in winter."""
    ends = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
    summer = _sunday(ends.year, 3, 8) < ends <= _sunday(ends.year, 11, 1)
    return ends + timedelta(hours=7 if summer else 8)


def _sunday(year: int, month: int, from_day: int) -> datetime:
    """Return the first Sunday on or after a day: clocks change on March's second and November's first, after midnight."""
    start = datetime(year, month, from_day, tzinfo=UTC)
    return start + timedelta(days=(6 - start.weekday()) % 7)


def _violations(error: Any) -> list[Any]:
    return [quota for detail in items_at(error, "details") for quota in items_at(detail, "violations")]


def _unit(quota: Any) -> Literal["requests", "tokens", "tokens_in"]:
    told = f"{text_at(quota, 'quotaMetric')} {text_at(quota, 'quotaId')}".lower()
    if "token" not in told:
        return "requests"
    return "tokens_in" if "input" in told else "tokens"


def _limit(quota: Any) -> int | None:
    text = text_at(quota, "quotaValue")
    return int(text) if _LIMIT.fullmatch(text) else None
