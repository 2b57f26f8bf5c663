"""When a stand-in goes wrong, and how: the same seed, text and attempt give the same fault. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from farebox.core.errors import BadInput

KINDS = {
    "429": "too many requests, with a retry-after",
    "500": "an internal error",
    "503": "overloaded, before anything began",
    "cut": "the answer breaks off in the middle",
    "stall": "the answer stops coming and the line stays open",
    "garbage": "something that is not the format",
    "error": "an error object inside a successful answer",
    "refuse": "the content filter stops the answer",
    "no_usage": "a whole answer without its usage",
    "endless": "an answer that never stops",
}


class Faults:
    """How often each kind happens, as shares of all calls from 0 to 1; together at most 1.

    With `attempts_max` the first so many attempts of a text can go wrong, all later ones succeed.
    """

    def __init__(self, shares: Mapping[str, float] | None = None, *, attempts_max: int = 1_000_000) -> None:
        self.shares = dict(shares or {})
        self._attempts_max = attempts_max
        for kind, share in self.shares.items():
            if kind not in KINDS:
                raise BadInput(f"There is no fault {kind[:40]!r}.", hint=f"There are: {', '.join(KINDS)}.")
            if not 0 <= share <= 1:
                raise BadInput(f"The share of {kind} is {share}.", hint="Write it between 0 and 1, like 429=0.1")
        if sum(self.shares.values()) > 1 + 1e-9:
            raise BadInput("The shares of all faults are more than 1 together.")

    def pick(self, seed: int, mark: str, attempt: int) -> str:
        """Return the kind of fault for attempt `attempt` (from 1) at the text with this mark, empty for none."""
        if attempt > self._attempts_max:
            return ""
        point = chance(seed, mark, attempt, "fault")
        for kind, share in self.shares.items():
            if point < share:
                return kind
            point -= share
        return ""


def parse(text: str) -> dict[str, float]:
    """Return the shares in a text like `429=0.1,cut=0.05`. Raises BadInput."""
    shares: dict[str, float] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        kind, _, share = part.partition("=")
        try:
            shares[kind.strip()] = float(share or "1")
        except ValueError:
            raise BadInput(f"{part[:40]!r} is no share of a fault.", hint="Write it like 429=0.1") from None
    return shares


def chance(seed: int, *about: object) -> float:
    """Return a number from 0 to 1 that depends on nothing but its arguments."""
    said = "\x00".join(str(part) for part in (seed, *about)).encode()
    return int.from_bytes(hashlib.sha256(said).digest()[:7], "big") / 2**56


def pause_s(seed: int, mark: str, attempt: int, delay_ms: float) -> float:
    """Return how long the whole answer shall take: half to one and a half of `delay_ms`, in seconds."""
    return delay_ms / 1000 * (0.5 + chance(seed, mark, attempt, "pace"))
