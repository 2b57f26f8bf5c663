"""Quotas and budgets as settings: what may be used in which window, who says so, and the one name that each of them has.

<account or platform>/<window>/<unit>      gemini/day/requests      claude-code/5h/percent
budget:<name>[=<whose>]/<window>/usd       budget:month/month/usd   budget:each-chain=c1/all/usd
"""

from __future__ import annotations

import hashlib
import re
from decimal import Decimal
from typing import Annotated, Literal

from msgspec import Meta, Struct

from farebox.core import money
from farebox.core.errors import BadInput
from farebox.core.money import Usd
from farebox.core.terms import Billing, QuotaSource, Unit

CALENDAR: dict[str, int] = {"minute": 60, "hour": 3600, "day": 86_400, "week": 604_800, "month": 2_592_000}
"""Windows that turn with the clock of their zone, and about how long they are (seconds)."""
FOR_EVER = "all"
"""The window of a budget that never turns."""
UNTOLD = "window"
"""The window of which its provider told when it turns, but not how long it is."""
_DURATION = re.compile(r"([1-9][0-9]{0,5})(s|m|h|d)\Z", re.ASCII)
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
WINDOW_S_MAX = 366 * 86_400
LIMIT_MAX = Decimal(10) ** 15
NAME_CHARS = 96
WHOSE_CHARS = 132
"""A task's own name (chain and task, 127 characters) is always whole; with both no id is longer than a Take may hold (256)."""
_DIGEST_CHARS = 32


class QuotaSettings(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """`[quotas.NAME]` of farebox.toml: what a platform's account may use in a window.

    `limit` is a whole number, or decimal text (dollars, percent); None: unknown. A `fixed` window turns at the zone's own
    midnight, hour or minute (a duration like `5h`: counted from 1970 in that zone); a `rolling` one always looks back.
    With `billing` it holds only while the platform is billed so. `said` names where the figure is from, and when.
    """

    platform: str
    window: str
    unit: Unit = "requests"
    limit: Annotated[int, Meta(ge=0)] | Usd | None = None
    kind: Literal["fixed", "rolling"] | None = None
    zone: str = "UTC"
    billing: Billing | None = None
    source: QuotaSource = "configured"
    said: str = ""


class BudgetSettings(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """`[budgets.NAME]` of farebox.toml: how many US dollars may be spent, by whom, in which window.

    With scope `tag` the `key` is NAME=VALUE, with `platform` and `chain` a name; left out, each has such a budget of its own.
    """

    limit_usd: Usd
    scope: Literal["all", "platform", "tag", "chain", "batch", "task"] = "all"
    key: str = ""
    window: str = FOR_EVER
    kind: Literal["fixed", "rolling"] | None = None
    zone: str = "UTC"


def window_s(window: str) -> int:
    """Return about how many seconds a window lasts; 0 for one that never turns. Raises BadInput for an unknown one."""
    if window in {FOR_EVER, UNTOLD}:
        return 0
    if window in CALENDAR:
        return CALENDAR[window]
    found = _DURATION.match(window)
    seconds = int(found[1]) * _UNIT_S[found[2]] if found else 0
    if not 0 < seconds <= WINDOW_S_MAX:
        known = ", ".join(CALENDAR)
        raise BadInput(f"{window[:40]!r} is no window.", hint=f"Choose {known}, or a duration up to 366d like 90s, 5h or 7d.")
    return seconds


def window_name(seconds: int) -> str:
    """Return the one name of a window of so many seconds, as providers report it: 18000 is `5h`, 604800 is `week`, 0 untold."""
    if seconds == 0:
        return UNTOLD
    for name, length in CALENDAR.items():
        if seconds == length:
            return name
    unit = next(unit for unit in ("d", "h", "m", "s") if seconds % _UNIT_S[unit] == 0)
    return f"{seconds // _UNIT_S[unit]}{unit}"


def canonical_window(window: str) -> str:
    """Return the one name of a window as a person writes it: `7d` is `week`, `60m` is `hour`. Raises BadInput."""
    return window if window in {FOR_EVER, UNTOLD, *CALENDAR} else window_name(window_s(window))


def kind_of(window: str, kind: Literal["fixed", "rolling"] | None) -> Literal["fixed", "rolling"]:
    """Return whether a window turns at once or looks back: calendar windows turn, durations look back, unless told."""
    if kind is not None:
        return kind
    return "fixed" if window in CALENDAR or window == FOR_EVER else "rolling"


def quota_id(owner: str, window: str, unit: Unit) -> str:
    """Return the name of a quota of `owner`, which is the account where one is set, else the platform."""
    return f"{_bounded(owner, NAME_CHARS)}/{canonical_window(window)}/{unit}"


def budget_id(name: str, window: str, whose: str = "") -> str:
    """Return the name of a budget; `whose` names the chain, batch, task, tag or platform where each has its own."""
    each = f"={_bounded(whose, WHOSE_CHARS)}" if whose else ""
    return f"budget:{_bounded(name, NAME_CHARS)}{each}/{canonical_window(window)}/usd"


def is_of_budget(quota: str, name: str) -> bool:
    """Say whether a quota's name is that of a budget, or of somebody's own part of it."""
    begins = f"budget:{_bounded(name, NAME_CHARS)}"
    return quota.startswith((f"{begins}=", f"{begins}/"))


def _bounded(text: str, most: int) -> str:
    """Return a text, or, of one longer than `most` characters, its beginning and a digest of all of it."""
    if len(text) <= most:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:_DIGEST_CHARS]
    return f"{text[: most - _DIGEST_CHARS - 1]}~{digest}"


def amount(limit: int | str | None) -> Decimal | None:
    """Return a limit as a number; None is unknown. Raises BadInput for an absurd one."""
    if limit is None:
        return None
    found = Decimal(limit) if isinstance(limit, int) else money.parse(limit)
    if found > LIMIT_MAX:
        raise BadInput(f"A limit of {found} is absurd: more than {LIMIT_MAX:f}.")
    return found
