"""The fold: takes the facts of a log one after the other and holds each grant against what was known when it was made.

The claim: nothing was granted beyond the limit known at the sequence `as_of` that the grant names. It knows no engine and
shares no code with the one who grants.
"""

from __future__ import annotations

from collections import deque
from decimal import Decimal

from msgspec import Struct

from farebox.certificate.known import Applied, Known, Limit, Wanted
from farebox.certificate.report import BREACHES_MAX, Breach, Certificate, Kind, Lag, Line, Open, Peak
from farebox.certificate.turns import Turn, turn_of
from farebox.certificate.use import ZERO, Hold, Use
from farebox.core.events import (
    AttemptFailed,
    AttemptInterrupted,
    Fact,
    QuotaLearned,
    QuotaRefused,
    QuotaReserved,
    QuotaSettled,
    SettingsAdopted,
    TaskCompleted,
    TaskRouted,
)
from farebox.core.terms import Allowance, Candidate, Take

LAG_MS_MAX = 600_000
"""A grant may be started for ten minutes after it was decided, so nobody can use one that was decided on older knowledge."""
UNREAD_KEPT = 65_536
CLOSED_KEPT = 100_000
"""Attempts whose dollars may still change when a late answer comes."""
ONE = Decimal(1)
SLOTS = turn_of("all")
NOTHING = Allowance()


class _Asked(Struct, frozen=True):
    """A routed task that may get one grant."""

    seq: int
    attempt: int
    allowance: Allowance
    candidates: tuple[Candidate, ...]


class _Held(Struct):
    """A grant: what it took, what of it is settled already."""

    seq: int
    at_ms: int
    platform: str
    batch: str
    open: dict[str, Decimal]
    booked: dict[str, Decimal]
    slot: bool = True
    expired: bool = False


class Fold:
    """Reads facts in log order. `whole`: the log begins with its first fact, so nothing may come from before."""

    def __init__(self, *, whole: bool = True) -> None:
        self.known = Known()
        self.grants = self.unsaid = self.unplaced = 0
        self.breaches: list[Breach] = []
        self.lag = Lag()
        self._whole = whole
        self._lines: dict[str, Line] = {}
        self._uses: dict[str, Use] = {}
        self._asked: dict[tuple[str, str], _Asked] = {}
        self._held: dict[Hold, _Held] = {}
        self._closed: dict[Hold, _Held] = {}
        self._unread: deque[tuple[int, int]] = deque(maxlen=UNREAD_KEPT)
        self._overdue: deque[tuple[int, str, Decimal]] = deque(maxlen=UNREAD_KEPT)
        self._as_of = 0
        self._as_of_ms = 0
        self._now_ms = 0
        self._times: deque[tuple[int, int]] = deque(maxlen=UNREAD_KEPT)

    def take(self, fact: Fact) -> None:
        """Take the next fact."""
        self._now_ms = max(self._now_ms, fact.at_ms)
        match fact:
            case QuotaReserved():
                self._reserved(fact)
                return
            case QuotaSettled():
                self._settled(fact)
                return
            case TaskRouted():
                self._asked[fact.key] = _Asked(fact.seq, fact.attempt, fact.allowance, fact.candidates)
                self.known.bound(fact)
            case SettingsAdopted():
                self.known.adopt(fact)
            case QuotaLearned():
                self._learned(fact)
            case TaskCompleted():
                self._asked.pop(fact.key, None)
            case QuotaRefused():
                self._asked.pop(fact.key, None)
                return
            case AttemptFailed() | AttemptInterrupted():
                pass
            case _:
                return
        self._unread.append((fact.seq, self._now_ms))

    def unreadable(self, seq: int, why: str) -> None:
        """Note a word of quota, or about a limit, that nobody can read: what it says is not known."""
        self._blame(seq, "unread", "", f"Fact {seq} cannot be read, and may be a grant or a limit: {why}")

    def certificate(self, *, facts: int, first: int, last: int, digest: str) -> Certificate:
        """Return what was found."""
        still = [(hold, held) for hold, held in self._held.items() if held.slot or held.open]
        for name, use in self._uses.items():
            self._lines[name].open = len(use.holds)
        return Certificate(
            facts=facts, first=first, last=last, digest=digest, grants=self.grants, unsaid=self.unsaid, unplaced=self.unplaced,
            lag=self.lag, lines=tuple(self._lines[name] for name in sorted(self._lines)),
            open=tuple(
                Open(held.platform, *hold, held.seq, held.at_ms, (*((_slots(held.platform),) if held.slot else ()), *held.open))
                for hold, held in still
            ),
            breaches=tuple(self.breaches),
        )  # fmt: skip

    def _learned(self, fact: QuotaLearned) -> None:
        name = self.known.learn(fact)
        if name and fact.used is not None:
            until_ms = fact.resets_at_ms if fact.resets_at_ms is not None else self._now_ms + fact.window_s * 1000
            self._use(name, fact.unit, self.known.turn(name)).learn(fact.seq, Decimal(fact.used), until_ms)

    def _reserved(self, fact: QuotaReserved) -> None:
        self.grants += 1
        hold = (fact.chain, fact.task, fact.attempt)
        asked = self._asked.pop(fact.key, None)
        twice = hold in self._held
        if twice or ((asked is None or asked.attempt != fact.attempt) and self._whole):
            kind, why = ("twice", "has it already") if twice else ("unasked", "was not routed, or had its grant before")
            self._blame(fact.seq, kind, "", f"Fact {fact.seq} grants {_attempt(fact)}, which {why}")
        if twice:
            return
        as_of = self._known_at(fact)
        held = self._held[hold] = _Held(fact.seq, self._now_ms, fact.platform, fact.batch, {}, {})
        self._slot(fact, hold, as_of)
        if fact.takes or fact.as_of:
            self._takes(fact, hold, held, asked, as_of)

    def _known_at(self, fact: QuotaReserved) -> int:
        """Return up to which fact the writer had read, and note how far that is behind."""
        as_of = fact.as_of
        if not as_of:
            self.unsaid += 1
            if self._as_of:
                self._blame(fact.seq, "stale", "", f"Fact {fact.seq} does not say up to which fact its writer had read")
            return fact.seq - 1
        if as_of >= fact.seq or as_of < self._as_of:
            why = "which was not there yet" if as_of >= fact.seq else f"though its writer had read up to {self._as_of} before"
            self._blame(fact.seq, "stale", "", f"Fact {fact.seq} was decided as of fact {as_of}, {why}")
            as_of = min(max(as_of, self._as_of), fact.seq - 1)
        while self._unread and self._unread[0][0] <= as_of:
            self._as_of_ms = self._unread.popleft()[1]
        self._as_of = as_of
        if self._unread:
            late = Lag(len(self._unread), self._now_ms - self._unread[0][1], fact.seq)
            self.lag = max(self.lag, late, key=lambda one: (one.ms, one.facts))
            if late.ms > LAG_MS_MAX:
                text = (
                    f"Fact {fact.seq} was decided {late.ms // 1000} s after a fact that its writer had not read (as of {as_of})"
                )
                self._blame(fact.seq, "stale", "", text)
        return as_of

    def _slot(self, fact: QuotaReserved, hold: Hold, as_of: int) -> None:
        """Judge and count the slot of a grant. The writer may keep fewer busy than the settings allow, never more."""
        name = _slots(fact.platform)
        use, line = self._use(name, "calls", SLOTS), self._lines[name]
        limit = self.known.slots(fact.platform, as_of)
        used = Decimal(len(use.holds) + 1)
        if not used <= fact.in_use <= used + self._still(name, as_of):
            self._blame(
                fact.seq, "used", name, f"Fact {fact.seq} says {fact.in_use} slots of {name} are in use; they are {used}"
            )
        if limit.amount is not None and (used > limit.amount or fact.in_use > fact.limit):
            self._over(fact, name, used, limit)
        if limit.amount is not None and fact.limit > limit.amount:
            self._blame(fact.seq, "limit", name, f"Fact {fact.seq} grants by {fact.limit} slots; {_by(limit)}", limit)
        use.hold(hold, ONE, fact.seq)
        self._count(line, used, fact, limit)

    def _takes(self, fact: QuotaReserved, hold: Hold, held: _Held, asked: _Asked | None, as_of: int) -> None:
        allowance = asked.allowance if asked is not None else NOTHING
        wanted = Wanted(fact.chain, fact.task, fact.batch, fact.platform, fact.billing, allowance)
        applied = self.known.applied(wanted, as_of)
        taken = {take.quota: take for take in fact.takes}
        if len(taken) < len(fact.takes):
            self._blame(fact.seq, "twice", "", f"Fact {fact.seq} takes of one quota twice")
        for name in applied.keys() - taken.keys():
            if applied[name].limit.amount is not None and asked is not None:
                text = f"Fact {fact.seq} takes nothing of {name}, which applied; {_by(applied[name].limit)}"
                self._blame(fact.seq, "left_out", name, text, applied[name].limit)
        candidate = next((one for one in asked.candidates if one.platform == fact.platform), None) if asked else None
        for name, take in taken.items():
            one = applied.get(name)
            if one is None:
                if asked is not None:
                    self._blame(
                        fact.seq, "foreign", name, f"Fact {fact.seq} takes of {name}, which did not apply as of {as_of}"
                    )
                one = Applied(name, name.rpartition("/")[2], SLOTS, Limit())
            self._judge(fact, take, one, candidate, as_of)
            self._use(name, one.unit, one.turn).hold(hold, Decimal(take.amount), fact.seq)
            held.open[name] = Decimal(take.amount)

    def _judge(self, fact: QuotaReserved, take: Take, one: Applied, candidate: Candidate | None, as_of: int) -> None:
        """Hold one part of a grant against its quota."""
        use, amount, limit = self._use(one.id, one.unit, one.turn), Decimal(take.amount), one.limit
        due = _due(candidate, one.unit) if candidate is not None else None
        if due is not None and amount < due and not (take.source is None and not amount):
            self._blame(fact.seq, "amount", one.id, f"Fact {fact.seq} takes {amount} of {one.id}; by its routing it is {due}")
        now_ms, from_ms = self._now_ms, min(self._as_of_ms, self._now_ms)
        used = use.at(now_ms, as_of) + amount
        if (
            take.used is not None
            and not used <= Decimal(take.used) <= used + self._still(one.id, as_of)
            and not self._was(use, Decimal(take.used) - amount, from_ms, as_of)
        ):
            self._blame(
                fact.seq, "used", one.id, f"Fact {fact.seq} says that {take.used} of {one.id} are used with it; it is {used}"
            )
        if limit.amount is not None and used > limit.amount:
            self._over(fact, one.id, used, limit)
        if (None if take.limit is None else Decimal(take.limit)) != limit.amount:
            text = f"Fact {fact.seq} grants of {one.id} by a limit of {take.limit or 'nobody'}; {_by(limit)}"
            self._blame(fact.seq, "limit", one.id, text, limit)
        use.forget(from_ms)
        self._count(self._lines[one.id], used, fact, limit)

    def _was(self, use: Use, claimed: Decimal, from_ms: int, as_of: int) -> bool:
        """Say whether that was the use at some moment since the last fact that the writer had read."""
        if use.rewound and claimed > use.at(self._now_ms, as_of):
            return True
        return any(use.at(moment, as_of) == claimed for moment in use.moments(from_ms, self._now_ms, as_of))

    def _still(self, name: str, as_of: int) -> Decimal:
        """Return what a writer may still count of a quota: a deadline frees nothing before it was read in the log."""
        while self._overdue and self._overdue[0][0] <= as_of:
            self._overdue.popleft()
        return sum((amount for _, freed, amount in self._overdue if freed == name), ZERO)

    def _settled(self, fact: QuotaSettled) -> None:
        hold = (fact.chain, fact.task, fact.attempt)
        amounts = {take.quota: Decimal(take.amount) for take in fact.takes}
        held = self._held.get(hold)
        if held is None or (not held.slot and not held.open):
            held = self._closed.get(hold, held)
        dollars = bool(amounts) and all(name.endswith("/usd") for name in amounts)
        if (
            held is None
            or held.platform != fact.platform
            or not (held.slot or (not fact.expired and (held.expired or dollars)))
        ):
            self._misplaced(fact, held, dollars)
            return
        if held.slot and fact.expired:
            freed = {_slots(held.platform): ONE, **held.open}
            self._overdue.extend((fact.seq, name, amount) for name, amount in freed.items())
        if held.slot:
            held.slot, held.expired = False, fact.expired
            self._close(held, hold, _slots(held.platform), ZERO, fact.expired)
            amounts = {name: amount for name, amount in held.open.items() if not name.endswith("/usd")} | amounts
        elif not dollars:
            held.expired = False
        for name, amount in amounts.items():
            self._close(held, hold, name, amount, fact.expired)
        self._put_aside(hold, held)

    def _close(self, held: _Held, hold: Hold, name: str, amount: Decimal, expired: bool) -> None:
        """Settle one part of a hold, or put another amount in the place of what was settled."""
        use = self._uses.get(name)
        if use is None or (hold not in use.holds and name not in held.booked):
            self._blame(
                held.seq, "settled", name, f"The grant {held.seq} took nothing of {name}, and something of it is settled"
            )
            return
        amount = ZERO if self._lines[name].unit == "calls" else amount
        if hold in use.holds:
            use.settle(hold, held.at_ms, amount)
            held.open.pop(name, None)
            line = self._lines[name]
            line.settled, line.expired = line.settled + (not expired), line.expired + expired
        else:
            use.correct(held.at_ms, amount - held.booked[name], held.seq)
        held.booked[name] = amount

    def _put_aside(self, hold: Hold, held: _Held) -> None:
        """Forget an attempt whose parts are all settled, unless its dollars may still change."""
        if held.slot or held.open:
            return
        self._held.pop(hold, None)
        if held.expired or any(name.endswith("/usd") for name in held.booked):
            self._closed[hold] = held
            if len(self._closed) > CLOSED_KEPT:
                del self._closed[next(iter(self._closed))]

    def _misplaced(self, fact: QuotaSettled, held: _Held | None, dollars: bool) -> None:
        if held is None and (not self._whole or (dollars and len(self._closed) >= CLOSED_KEPT)):
            self.unplaced += 1
            return
        why = (
            "was settled before, or never granted"
            if held is None or held.platform == fact.platform
            else f"is of {held.platform}"
        )
        text = f"Fact {fact.seq} settles {_attempt(fact)}, which {why}"
        self._blame(fact.seq, "settled", "", text)

    def _use(self, name: str, unit: str, turn: Turn) -> Use:
        use = self._uses.get(name)
        if use is None:
            use = self._uses[name] = Use(turn)
            self._lines[name] = Line(name, unit)
        elif use.turn != turn:
            use.turn_to(turn)
        return use

    def _count(self, line: Line, used: Decimal, fact: QuotaReserved, limit: Limit) -> None:
        line.grants += 1
        if line.peak is None or used > line.peak.used:
            line.peak = Peak(used, fact.at_ms, fact.seq, limit)

    def _over(self, fact: QuotaReserved, name: str, used: Decimal, limit: Limit) -> None:
        self._blame(fact.seq, "over", name, f"Fact {fact.seq} makes {used} of {name}; {_by(limit)}", limit)

    def _blame(self, seq: int, kind: Kind, name: str, text: str, word: Limit | None = None) -> None:
        breach = Breach(seq, kind, name, f"{text}.", word)
        line = self._lines.get(name)
        if line is not None and line.first is None:
            line.first = breach
        if len(self.breaches) < BREACHES_MAX:
            self.breaches.append(breach)


def _attempt(fact: Fact) -> str:
    return f"attempt {fact.attempt} of {fact.chain}/{fact.task}"


def _slots(platform: str) -> str:
    return f"{platform}/now/calls"


def _by(limit: Limit) -> str:
    if limit.amount is None:
        return "its limit is not known"
    return f"the limit is {limit.amount}, {limit.source} by fact {limit.seq} of the {limit.writer}"


def _due(candidate: Candidate, unit: str) -> Decimal | None:
    """Return what a grant has to take at least, by the router's estimate; None where that is not known."""
    read, written = candidate.input_tokens_max, candidate.output_tokens_max
    match unit:
        case "tokens":
            return None if read is None or written is None else Decimal(read + written)
        case "tokens_in":
            return None if read is None else Decimal(read)
        case "tokens_out":
            return None if written is None else Decimal(written)
        case "usd":
            return None if candidate.bound_usd is None else Decimal(candidate.bound_usd)
        case _:
            return ONE
