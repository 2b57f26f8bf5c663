"""Engines that race for the last unit of every quota: real minds over the memory log, and all that may come in between.

Several engines read the log at their own speed, decide, and append under the one fence; answers are lost, engines crash and
come back from a snapshot, providers report limits that shrink, attempts end late or never, windows turn. The router, the
adapters and the cost actor are played by the seed.
"""

from __future__ import annotations

from datetime import UTC, datetime
from random import Random
from typing import Any

import msgspec

from farebox.core import subjects, wire
from farebox.core.actor import Actor
from farebox.core.errors import AppendRefused
from farebox.core.events import (
    AttemptFailed,
    CostRecorded,
    Fact,
    QuotaLearned,
    QuotaRefused,
    QuotaReserved,
    SettingsAdopted,
    TaskCancelRequested,
    TaskCompleted,
    TaskRouted,
    TaskStarted,
)
from farebox.core.quotas import BudgetSettings, QuotaSettings
from farebox.core.settings import PlatformSettings, Settings, canonical
from farebox.core.terms import Allowance, Billing, CallRecord, Candidate, ErrorClass, Fault, Usage
from farebox.log.port import Entry
from farebox.log.store import MemoryStore
from farebox.runtime.mind import Decision, Mind

SECRET = b"one key for all engines of a store"
BEGINNINGS = (
    datetime(2026, 3, 28, 22, tzinfo=UTC), datetime(2026, 10, 24, 22, tzinfo=UTC), datetime(2026, 11, 1, 6, tzinfo=UTC),
    datetime(2026, 3, 8, 8, tzinfo=UTC), datetime(2026, 6, 30, 12, tzinfo=UTC),
)  # fmt: skip
"""Before clocks are set forward and back in Berlin and Los Angeles (IANA tables, 2026), and one day in summer."""
ZONES = ("UTC", "Europe/Berlin", "America/Los_Angeles")
PLATFORMS: dict[str, Billing] = {"plan": "plan", "free": "free", "paid": "metered", "dear": "metered"}
WINDOWS = ("minute", "hour", "day", "week", "month", "5h", "7m")
TRIES_MAX = 3


class Engine:
    """One engine: what it has read, and an append whose answer has not come."""

    def __init__(self, actor: Actor[Any]) -> None:
        self.actor = actor
        self.mind = Mind(actor, SECRET)
        self.kept: tuple[bytes, int] | None = None
        self.flying: tuple[Decision, list[Entry]] | None = None

    def decided(self) -> tuple[Decision, list[Entry]] | None:
        """Return what it wants to append, under the fence that it knows now."""
        decision = next(iter(self.mind.decisions()), None)
        return None if decision is None else (decision, self.mind.entries(decision))


class QuotaWorld:
    """Everything of one seed. `counts` says what happened."""

    def __init__(self, seed: int, actor: Actor[Any]) -> None:
        self.random = Random(seed)  # noqa: S311 - chosen by a seed on purpose
        self.now_ms = round(self.random.choice(BEGINNINGS).timestamp() * 1000)
        self.store = MemoryStore(lambda: self.now_ms)
        self.facts: list[tuple[str, Fact]] = []
        names = ("operations", "grants", "refused", "crashes", "turns", "evidence")
        self.counts: dict[str, int] = dict.fromkeys(names, 0)
        self.open: dict[tuple[str, str, int], QuotaReserved] = {}
        self.owed: list[Fact] = []
        self.routes: dict[tuple[str, str], TaskRouted] = {}
        self._tasks = 0
        self.settings = self._settings()
        self._adopt()
        self.engines = [Engine(actor) for _ in range(self.random.randint(2, 4))]
        for engine in self.engines:
            self.read(engine)
            engine.mind.go_live(self.now_ms)

    def operate(self) -> None:
        """Let one thing happen."""
        self.counts["operations"] += 1
        roll = self.random.random()
        engine = self.random.choice(self.engines)
        if roll < 0.30:
            self.read(engine, self.random.choice((1, 2, 5, 50)))
        elif roll < 0.62:
            self._decide(engine)
        elif roll < 0.70:
            self._submit()
        elif roll < 0.89:
            self._happen()
        elif roll < 0.93:
            self._learn()
        elif roll < 0.97:
            self._pass_time()
        elif roll < 0.975:
            self._crash(engine)
        elif roll < 0.98:
            self.settings = self._settings()
            self._adopt()
        elif self.routes:
            chain, task = self.random.choice(list(self.routes))
            self.say("client", TaskCancelRequested(chain=chain, task=task))

    def settle_down(self) -> bool:
        """Let nothing go wrong any more until all is over; time moves on only to moments that somebody asked to be woken at.

        Returns whether everything ended: who waits with nobody to wake him has lost his wake-up.
        """
        for _ in range(200_000):
            moved = False
            for engine in self.engines:
                moved = self._calmly(engine) or moved
            moved = self._end_all() or moved
            if moved:
                continue
            if not self.routes and not self.open and not self.owed:
                return True
            dues = [due for engine in self.engines if (due := engine.mind.due()) is not None]
            if not dues:
                return False
            self.now_ms = max(self.now_ms, min(dues))
            for engine in self.engines:
                due = engine.mind.due()
                if due is not None and due <= self.now_ms:
                    engine.mind.wake(self.now_ms)
        return False

    def say(self, writer: str, fact: Fact) -> Fact:
        """Append a fact that somebody else than quota says, and let it be known to the world."""
        fact = msgspec.structs.replace(fact, id=fact.id or f"{writer}-{len(self.facts)}")
        self.store.append([Entry(subjects.subject_of(writer, fact), wire.encode(fact), None)])
        self._catch_up()
        return self.facts[-1][1]

    def read(self, engine: Engine, count: int = 10**9) -> bool:
        """Let an engine read on."""
        ahead = self.facts[engine.mind.seq : engine.mind.seq + count]
        for writer, fact in ahead:
            if engine.mind.concerns(type(fact), writer):
                engine.mind.hear(fact, writer)
            else:
                engine.mind.skip(fact.seq)
        return bool(ahead)

    def _catch_up(self) -> None:
        for stored in self.store.facts[len(self.facts) :]:
            fact = wire.decode(stored.subject, stored.body, stored.seq, stored.at_ms)
            self.facts.append((stored.subject.split(".", 3)[2], fact))
            self._live(fact)

    def _live(self, fact: Fact) -> None:
        """What the router and the adapters make of what quota says."""
        match fact:
            case QuotaReserved():
                self.counts["grants"] += 1
                self.routes.pop(fact.key, None)
                self.open[(*fact.key, fact.attempt)] = fact
            case QuotaRefused():
                self.routes.pop(fact.key, None)
                self.owed.append(TaskCompleted(chain=fact.chain, task=fact.task, attempt=fact.attempt, status="failed"))
            case TaskRouted():
                self.routes[fact.key] = fact
            case _:
                return

    def _decide(self, engine: Engine) -> None:
        """Send what an engine wants to say; what was sent may arrive much later, or only in part, or its answer be lost."""
        if engine.flying is None:
            if self.random.random() < 0.2:
                engine.mind.wake(self.now_ms)
            engine.flying = engine.decided()
            if self.random.random() < 0.4:
                return
        sent, engine.flying = engine.flying, None
        if sent is None:
            return
        roll = self.random.random()
        if roll < 0.04:
            engine.mind.unknown(sent[0])
            return
        self._append(engine, *sent, answered=roll > 0.08)

    def _append(self, engine: Engine, decision: Decision, entries: list[Entry], *, answered: bool = True) -> None:
        mind = engine.mind
        try:
            if self.random.random() < 0.5:
                seqs = [*self.store.append(entries)]
            else:
                seqs: list[int] = []
                for fact in decision.facts:
                    single = msgspec.structs.replace(decision, facts=(fact,))
                    seqs += self.store.append(mind.entries(single, last=seqs[-1]) if seqs else entries[:1])
                    if self.random.random() < 0.1:
                        self._catch_up()
                        self._happen()  # Others write between; only quota's own words would refuse the next.
        except AppendRefused as refused:
            self.counts["refused"] += 1
            self._catch_up()
            mind.refused(decision, refused.last_seq)
            return
        self._catch_up()
        if answered:
            mind.stored(decision, seqs)
        else:
            mind.unknown(decision)

    def _calmly(self, engine: Engine) -> bool:
        """Let an engine read and say all it can."""
        moved = self.read(engine)
        sent = engine.flying or engine.decided()
        engine.flying = None
        if sent is not None:
            self._append(engine, *sent)
        return moved or sent is not None

    def _crash(self, engine: Engine) -> None:
        """Lose everything but the last snapshot; where nothing is on its way, one may be taken just before."""
        self.counts["crashes"] += 1
        mind = engine.mind
        if mind.idle and mind.whole and engine.flying is None and self.random.random() < 0.7:
            engine.kept = msgspec.json.encode(mind.state), mind.seq
        body, seq = engine.kept or (msgspec.json.encode(engine.actor.new()), 0)
        fresh: object = engine.actor.new()
        state = msgspec.json.decode(body, type=type(fresh))
        engine.mind = Mind(engine.actor, SECRET, state, seq)
        engine.flying = None
        self.read(engine)
        engine.mind.go_live(self.now_ms)

    def _pass_time(self) -> None:
        self.counts["turns"] += 1
        self.now_ms += round(self.random.choice((1_000, 60_000, 3_600_000, 20_000_000)) * self.random.random())

    def _settings(self) -> Settings:
        random = self.random
        quotas = {
            f"q{number}": QuotaSettings(
                platform=random.choice(list(PLATFORMS)), window=random.choice(WINDOWS),
                unit=random.choice(("requests", "tokens", "tokens_out", "percent", "calls", "usd")),
                limit=random.choice((None, 2, 5, 10, 100, 400)), kind=random.choice((None, "fixed", "rolling")),
                zone=random.choice(ZONES), source=random.choice(("configured", "published")),
            )
            for number in range(random.randint(0, 5))
        }  # fmt: skip
        budgets = {
            f"b{number}": BudgetSettings(
                limit_usd=random.choice(("0.5", "2", "20")), window=random.choice(("day", "month", "all", "5h")),
                scope=random.choice(("all", "platform", "tag", "chain")), zone=random.choice(ZONES),
            )
            for number in range(random.randint(0, 3))
        }  # fmt: skip
        platforms = {
            name: PlatformSettings(
                kind="rehearsal", billing=billing, limit=random.randint(1, 5), account=random.choice(("", "one"))
            )
            for name, billing in PLATFORMS.items()
        }
        return Settings(platforms=platforms, quotas=quotas, budgets=budgets, answer_tokens_max=100)

    def _adopt(self) -> None:
        plain, sha256 = canonical(self.settings)
        self.say("engine", SettingsAdopted(settings=plain, sha256=sha256))

    def _submit(self) -> None:
        self._tasks += 1
        random = self.random
        allowance = Allowance(
            on_quota=random.choice(("wait", "wait", "spill", "stop")), last_resort=random.choice(("", "", "plan")),
            tags=random.choice(({}, {"team": "a"}, {"team": "b"})), max_cost_usd=random.choice((None, None, "0.3", "1")),
            chain_max_cost_usd=random.choice((None, None, None, "3")), allow_unpriced=random.random() < 0.1,
        )  # fmt: skip
        chain = random.choice(("c1", "c2", "c3", f"c{self._tasks}"))
        self._route(chain, f"t{self._tasks}", 1, allowance)

    def _route(self, chain: str, task: str, attempt: int, allowance: Allowance) -> None:
        random = self.random
        names = random.sample(list(PLATFORMS), random.randint(1, len(PLATFORMS)))
        candidates = tuple(
            Candidate(
                platform=name, billing=PLATFORMS[name], input_tokens_max=random.randint(1, 40),
                output_tokens_max=random.randint(1, 40),
                bound_usd=random.choice(("0.1", "0.25", "0.000001", None)),
                not_before_ms=self.now_ms + random.randint(0, 60_000) if random.random() < 0.1 else 0,
            )
            for name in sorted(names, key=list(PLATFORMS).index)
        )  # fmt: skip
        routed = TaskRouted(
            chain=chain, task=task, attempt=attempt, candidates=candidates, allowance=allowance,
            priority=random.choice((0, 0, 1)), timeout_s=60,
        )  # fmt: skip
        self.say("router", routed)

    def _happen(self) -> None:
        """Something that was owed is said: a start, an end, a bill, and sometimes a bill that corrects another."""
        if self.owed and self.random.random() < 0.5:
            self._pay(self.random.randrange(len(self.owed)))
        elif self.open:
            self._go_on(self.random.choice(list(self.open)))

    def _pay(self, place: int) -> None:
        fact = self.owed.pop(place)
        self.say("cost" if isinstance(fact, CostRecorded) else "router", fact)
        if isinstance(fact, CostRecorded) and self.random.random() < 0.1:
            self.owed.append(msgspec.structs.replace(fact, id="", late=True, paid_usd="0.05", status="priced"))

    def _go_on(self, key: tuple[str, str, int]) -> None:
        reserved = self.open[key]
        if self.random.random() < 0.4:
            self.say(
                "adapter", TaskStarted(chain=key[0], task=key[1], attempt=key[2], platform=reserved.platform, timeout_s=60)
            )
        else:
            self._end(key)

    def _end(self, key: tuple[str, str, int]) -> None:
        random, reserved = self.random, self.open.pop(key)
        known = random.random() < 0.7
        told: dict[str, Any] = {
            "chain": key[0], "task": key[1], "attempt": key[2], "platform": reserved.platform, "billing": reserved.billing,
            "usage": Usage(input_tokens=random.randint(0, 30), output_tokens=random.randint(0, 30)) if known else None,
            "calls": (CallRecord(status=200),) * random.choice((0, 1, 1, 2)), "charged": "known" if known else "possible",
            "duration_ms": random.randint(1, 50),
        }  # fmt: skip
        if random.random() < 0.7 or key[2] >= TRIES_MAX:
            ended = self.say("adapter", TaskCompleted(**told, status="completed"))
        else:
            kind: ErrorClass = random.choice(("rate_limited", "server_error"))
            ended = self.say("adapter", AttemptFailed(**told, fault=Fault(error_class=kind)))
            self._route(key[0], key[1], key[2] + 1, Allowance())
        assert isinstance(ended, TaskCompleted | AttemptFailed)
        if ended.chargeable:
            paid = random.choice((None, "0", "0.07", "0.2")) if reserved.billing == "metered" else "0"
            status = "priced" if known else "possible"
            self.owed.append(
                CostRecorded(
                    chain=key[0],
                    task=key[1],
                    attempt=key[2],
                    platform=reserved.platform,
                    cause=ended.id,
                    paid_usd=paid,
                    status=status,
                )
            )

    def _end_all(self) -> bool:
        """End what runs and pay what is owed, unless it has been given up."""
        moved = bool(self.open or self.owed)
        for key in list(self.open):
            self._end(key)
        while self.owed:
            self._pay(0)
        return moved

    def _learn(self) -> None:
        """A provider reports what it likes: a smaller limit, a use that nobody knew of, nonsense."""
        self.counts["evidence"] += 1
        random = self.random
        limit = random.choice((None, 100, 50, 20, 5, 1, 0 if random.random() < 0.05 else 3, 2**53))
        learned = QuotaLearned(
            platform=random.choice(list(PLATFORMS)), window_s=random.choice((0, 60, 3600, 18_000, 86_400, 604_800, 2**53, 7)),
            unit=random.choice(("requests", "tokens", "percent", "tokens_in")), limit=limit,
            used=random.choice((None, 0, 1, 10, 90, 2**53 if random.random() < 0.02 else 2)),
            resets_at_ms=random.choice((None, 0, self.now_ms + 1, self.now_ms + 300_000)), evidence="told",
        )  # fmt: skip
        self.say("adapter", learned)
