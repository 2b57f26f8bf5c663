"""The state of quota: who holds what, who waits, what is used, and the rules in force. Pure.

What is only found again from the value (lines, sums of slots, deadlines) is no part of it: a snapshot holds the value alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heapify, heappush

import msgspec
from msgspec import Struct

from actors.pace import UNHURRIED, Pace, slots
from actors.rules import Rule, Rules, compiled, limit_of
from actors.uses import Uses
from actors.windows import Window, window_of
from farebox.core.quotas import is_of_budget
from farebox.core.settings import Settings
from farebox.core.terms import Allowance, Candidate, ErrorClass, Fault, OnInterrupt, QuotaSource

SLACK = 1_000
"""Entries of a line that may be out of date before it is tidied up."""

Part = tuple[str, int]
"""A quota, and how much of it."""
Why = tuple[ErrorClass, str]
"""Why a candidate is out for a task."""


Rank = tuple[int, int, int, str]
"""A task's place in a line: by priority, then by its turn among the chains, then by age; its name is the last."""


class Waiting(Struct, frozen=True, gc=False, omit_defaults=True):
    """A routed task in line. `turn` is its place in the round of the chains; `alone`: it waits for this platform only."""

    chain: str
    task: str
    cause: str
    seq: int
    attempt: int
    batch: str
    traceparent: str
    candidates: tuple[Candidate, ...]
    priority: int
    timeout_s: float
    on_interrupt: OnInterrupt
    submission_sha256: str
    cancelled: bool = False
    deferred: bool = False
    turn: int = 0
    allowance: Allowance = Allowance()
    alone: str = ""

    @property
    def rank(self) -> Rank:
        """Its place in every line it stands in."""
        return (-self.priority, self.turn, self.seq, f"{self.chain}.{self.task}")


class Hold(Struct, frozen=True, gc=False, omit_defaults=True):
    """A slot in use, and what was reserved with it. `seq` is 0 while the grant is only on its way into the log."""

    platform: str
    attempt: int
    seq: int = 0
    at_ms: int = 0
    deadline_ms: int = 0
    id: str = ""
    batch: str = ""
    parts: tuple[Part, ...] = ()
    turn: int = 0


class Ended(Struct, frozen=True, gc=False, omit_defaults=True):
    """Something ended whose settlement is still to be written: an attempt, or the wait for its bill.

    `reserved` is what is given back, `parts` what was really used of it; with `again` they replace what was settled before.
    After a `final` one nothing more can be heard of the attempt.
    """

    chain: str
    task: str
    cause: str
    platform: str
    attempt: int
    batch: str
    requests: int
    tokens: int | None
    began: tuple[int, int] = (0, 0)
    reserved: tuple[Part, ...] = ()
    parts: tuple[Part, ...] = ()
    again: bool = False
    final: bool = False


class Booked(Struct, frozen=True, gc=False, omit_defaults=True):
    """The dollars of an attempt whose bill has not come (`open`), or what was booked for one that may still be heard of.

    `causes` are the facts that settle it. `last`: the task ended with it. `final`: nothing more can come.
    """

    began: tuple[int, int]
    parts: tuple[Part, ...]
    platform: str
    open: bool = False
    expired: bool = False
    last: bool = False
    final: bool = False
    causes: tuple[str, ...] = ()


class Claim(Struct, frozen=True, gc=False):
    """What a grant would take of one quota, with the use and limit of now. `amount` None: nobody knows what it may cost."""

    rule: Rule
    amount: int | None
    used: int
    open: int
    limit: int | None
    source: QuotaSource | None


class Block(Struct, frozen=True, gc=False):
    """Why a grant is not possible. `never`: it does not fit whatever happens; `hard`: only the window's clock brings room.

    One that is neither is over as soon as something that runs ends.
    """

    part: Claim
    never: bool = False
    hard: bool = False


class Quota(Struct, dict=True):
    """Slots in use and tasks in line, and what was used of every quota. The rest is found again from these.

    `virtual` is the furthest turn that was granted, `turns` the last one given to each chain that is further; both follow the
    log, also in a state that runs ahead of it: a guess moves nobody's turn. `bounds` are the budgets that tasks brought along,
    `warned` until when (stream time, ms) nothing is said about a quota any more.
    """

    limits: dict[str, int] = msgspec.field(default_factory=dict[str, int])
    holds: dict[str, Hold] = msgspec.field(default_factory=dict[str, Hold])
    waiting: dict[str, Waiting] = msgspec.field(default_factory=dict[str, Waiting])
    ended: dict[str, Ended] = msgspec.field(default_factory=dict[str, Ended])
    cancels: dict[str, bool] = msgspec.field(default_factory=dict[str, bool])
    unread: bool = False
    seq: int = 0
    clock_ms: int = 0
    virtual: int = 0
    turns: dict[str, int] = msgspec.field(default_factory=dict[str, int])
    settings: Settings = msgspec.field(default_factory=Settings)
    uses: Uses = msgspec.field(default_factory=Uses)
    booked: dict[str, Booked] = msgspec.field(default_factory=dict[str, Booked])
    bounds: dict[str, int] = msgspec.field(default_factory=dict[str, int])
    warned: dict[str, int] = msgspec.field(default_factory=dict[str, int])
    paces: dict[str, Pace] = msgspec.field(default_factory=dict[str, Pace])

    def __post_init__(self) -> None:
        """Build what follows from the value; called for a new state and for one read from a snapshot."""
        self.now_ms = self.uses.clock_ms = self.clock_ms
        self.rules: Rules = compiled(self.settings)
        self.windows: dict[str, Window] = {}
        self.plans: dict[str, tuple[Rule, ...]] = {}
        self.used: dict[str, int] = {}
        self.deadlines: list[tuple[int, str]] = []
        self.expiring: dict[str, None] = {}
        self.unwanted: dict[str, Fault | None] = {}
        self.watched: dict[str, str] = dict.fromkeys(self.uses.tallies, "")
        self.rounds: list[tuple[int, str]] = sorted((turn, chain) for chain, turn in self.turns.items())
        self.lined = not self.waiting
        self.forget_lines()
        for name, hold in self.holds.items():
            self.used[hold.platform] = self.used.get(hold.platform, 0) + 1
            self.mind_deadline(name, hold)

    def forget_lines(self) -> None:
        """Begin anew with empty lines."""
        self.lines: dict[str, list[Rank]] = {}
        self.later: list[tuple[int, int, str, str]] = []
        self.aside: dict[str, dict[str, list[Rank]]] = {}
        self.called: dict[tuple[str, str], Rank] = {}
        self.stirred: dict[str, None] = {}
        self.asleep: list[tuple[int, str]] = []
        self.outs: dict[str, dict[str, Why]] = {}
        self.stopping: dict[str, None] = {}
        self.stepped: dict[str, None] = {}
        self.blocked: dict[str, Block] = {}
        self.looked: tuple[object, ...] = ()
        self.passed: set[str] = set()

    def __deepcopy__(self, _memo: object) -> Quota:
        """Return a state of its own. Entries never change, so only the tables that hold them are copied.

        With 100,000 in line a refused append costs 80 ms, copied to the bottom 2.7 s (benchmarks/quota.py, 2026-11-21).
        """
        twin = Quota()
        for name in self.__struct_fields__:
            value = getattr(self, name)
            setattr(twin, name, dict(value) if type(value) is dict else value)  # pyright: ignore[reportUnknownArgumentType]
        twin.uses = self.uses.__deepcopy__(_memo)
        twin.now_ms, twin.used, twin.unwanted = self.now_ms, dict(self.used), dict(self.unwanted)
        twin.rules, twin.windows, twin.plans = self.rules, self.windows, self.plans
        twin.deadlines, twin.later, twin.asleep = self.deadlines.copy(), self.later.copy(), self.asleep.copy()
        twin.lines = {platform: line.copy() for platform, line in self.lines.items()}
        twin.aside = {quota: {platform: line.copy() for platform, line in lines.items()} for quota, lines in self.aside.items()}
        twin.called, twin.stirred, twin.watched = dict(self.called), dict(self.stirred), dict(self.watched)
        twin.outs = {name: dict(out) for name, out in self.outs.items()}
        twin.stopping, twin.stepped, twin.rounds = dict(self.stopping), dict(self.stepped), self.rounds.copy()
        twin.looked, twin.passed, twin.lined = self.looked, set(self.passed), self.lined
        twin.blocked, twin.expiring = self.blocked, dict(self.expiring)
        return twin

    def free(self, platform: str) -> bool:
        """Whether a slot of a platform is free, at the pace it takes just now."""
        limit = self.limits.get(platform, 0)
        if self.paces and limit:
            limit = slots(self.paces.get(platform, UNHURRIED), limit)
        return self.used.get(platform, 0) < limit

    def mind_deadline(self, name: str, hold: Hold) -> None:
        """Note when a hold that stands in the log ends by itself."""
        if hold.seq:
            heappush(self.deadlines, (hold.deadline_ms, name))
        if len(self.deadlines) > SLACK + 2 * len(self.holds):
            self.deadlines[:] = [(one.deadline_ms, whose) for whose, one in self.holds.items() if one.seq]
            heapify(self.deadlines)

    def window(self, quota: str) -> Window:
        """Return in which window a quota counts: as the settings say, or as its name does."""
        found = self.windows.get(quota)
        if found is None:
            found = self.windows[quota] = self._window(quota)
        return found

    def _window(self, quota: str) -> Window:
        for rule in self._rules():
            if rule.quota == quota:
                return rule.window
        for budget in self.rules.budgets:
            # Under its name there may have been a budget of another window before: that one goes on counting in its own.
            if is_of_budget(quota, budget.name) and budget.window.name == quota.rsplit("/", 2)[-2]:
                return budget.window
        return window_of(quota.rsplit("/", 2)[-2])

    def limit(self, quota: str) -> int | None:
        """Return the limit of a quota as it is known now; None: unknown."""
        known = self.uses.learned.get(quota)
        learned = None if known is None else known.limit
        if quota in self.bounds:
            return self.bounds[quota]
        for rule in self._rules():
            if rule.quota == quota:
                return limit_of(rule, learned)[0]
        for budget in self.rules.budgets:
            if is_of_budget(quota, budget.name):
                return budget.limit
        return learned

    def _rules(self) -> Iterator[Rule]:
        return (rule for rules in self.rules.quotas.values() for rule in rules)

    def adopt(self, settings: Settings, *, unread: bool) -> None:
        """Let other settings be in force: what was counted goes on counting under them."""
        self.settings = settings
        self.rules = compiled(settings)
        self.limits = {name: platform.limit for name, platform in settings.platforms.items() if platform.enabled}
        self.unread = unread
        self.windows, self.plans = {}, {}
        for quota in list(self.uses.tallies):
            self.uses.rewindow(quota, self.window(quota))
