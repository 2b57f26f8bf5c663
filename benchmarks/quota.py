"""Decisions of the quota actor while N tasks wait: uv run python benchmarks/quota.py [--waiting N].

The mind of the actor is driven as the follower drives it, without a bus: an attempt ends, it is settled, the next in line
gets the slot; each fact is stamped, encoded, fenced and comes back from the log as bytes. Beside it, in the same run: the same
with 100 tasks in line, with four quotas that apply to every grant, and what a refused append costs, after which the state is
guessed anew from what the log says (it is copied).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Literal

from harness import ran_on

from actors.quota import ACTOR
from farebox.core import subjects, wire
from farebox.core.events import Fact, QuotaReserved, SettingsAdopted, TaskCompleted, TaskRouted
from farebox.core.quotas import QuotaSettings
from farebox.core.settings import PlatformSettings, Settings, canonical
from farebox.core.terms import Candidate, Unit, Usage
from farebox.runtime.mind import Mind

MUST = 5_000
FEW = 100
PLATFORMS = ("first", "second", "third")
SLOTS = 20
PRIORITIES = 5
WINDOWS: tuple[tuple[str, Unit, Literal["fixed", "rolling"]], ...] = (
    ("day", "requests", "fixed"), ("5h", "tokens", "rolling"), ("minute", "requests", "fixed"), ("month", "tokens", "fixed"),
)  # fmt: skip


class Log:
    """The one mind, and where its log stands."""

    def __init__(self, waiting: int, quotas: int = 0) -> None:
        self.mind = Mind(ACTOR, b"benchmark")
        self.seq = 0
        platforms = {name: PlatformSettings(kind="rehearsal", billing="rehearsal", limit=SLOTS) for name in PLATFORMS}
        limits = {
            f"{name}-{window}": QuotaSettings(platform=name, window=window, unit=unit, limit=10**12, kind=kind)
            for name in PLATFORMS
            for window, unit, kind in WINDOWS[:quotas]
        }
        body, sha256 = canonical(Settings(platforms=platforms, quotas=limits))
        self.hear("engine", SettingsAdopted(id="s", settings=body, sha256=sha256))
        self.routed = 0
        for _ in range(waiting + SLOTS * len(PLATFORMS)):
            self.route()
        self.mind.go_live(1)

    def route(self) -> None:
        """Put one more task into the line, with two candidates and some priority."""
        self.routed += 1
        turn, task = self.routed % len(PLATFORMS), f"task-{self.routed:07}"
        candidates = tuple(
            Candidate(platform=name, input_tokens_max=50, output_tokens_max=50)
            for name in (PLATFORMS[turn:] + PLATFORMS[:turn])[:2]
        )
        priority = self.routed % PRIORITIES
        routed = TaskRouted(id=f"r-{task}", chain=task, task=task, attempt=1, candidates=candidates, priority=priority)
        self.hear("router", routed)

    def hear(self, writer: str, fact: Fact) -> None:
        """Let the log grow by one fact."""
        self.seq += 1
        subject = subjects.subject_of(writer, fact)
        self.mind.hear(wire.decode(subject, wire.encode(fact), self.seq, self.seq), writer)

    def decided(self) -> Iterator[Fact]:
        """Store all that the actor wants to say now, and yield it."""
        while decisions := list(self.mind.decisions()):
            for decision in decisions:
                entries = self.mind.entries(decision)
                seqs = range(self.seq + 1, self.seq + 1 + len(entries))
                self.mind.stored(decision, seqs)
                for entry, fact in zip(entries, decision.facts, strict=True):
                    self.seq += 1
                    self.mind.hear(wire.decode(entry.subject, entry.body, self.seq, self.seq), "quota")
                    yield fact


def rate(waiting: int, decisions: int, quotas: int = 0) -> tuple[float, float]:
    """Return the decisions a second with so many in line, and how long (ms) taking back a refused append takes."""
    log = Log(waiting, quotas)
    running = [fact for fact in log.decided() if isinstance(fact, QuotaReserved)]
    assert len(running) == SLOTS * len(PLATFORMS), "all slots are in use"
    assert len(log.mind.state.waiting) == waiting
    made, began_s = 0, time.process_time()
    while made < decisions:
        for reserved in running:
            log.hear("adapter", _completed(reserved))
            log.route()
        said = list(log.decided())
        running = [fact for fact in said if isinstance(fact, QuotaReserved)]
        made += len(said)
    each = made / (time.process_time() - began_s)
    log.hear("adapter", _completed(running[0]))
    (decision,) = log.mind.decisions()
    began_s = time.process_time()
    log.mind.refused(decision, log.seq + 1)
    return each, (time.process_time() - began_s) * 1000


def _completed(reserved: QuotaReserved) -> TaskCompleted:
    return TaskCompleted(
        id=f"e-{reserved.task}", chain=reserved.chain, task=reserved.task, attempt=1, platform=reserved.platform,
        status="completed", output="Done.", usage=Usage(input_tokens=10, output_tokens=5), charged="known",
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--waiting", type=int, default=100_000)
    parser.add_argument("--decisions", type=int, default=20_000)
    options = parser.parse_args()
    print(ran_on())
    few, _ = rate(FEW, options.decisions)
    many, refused_ms = rate(options.waiting, options.decisions)
    counted, counted_ms = rate(options.waiting, options.decisions, len(WINDOWS))
    print(f"quota, {options.waiting} waiting  {many:8.0f} decisions/s  with {FEW} waiting {few:8.0f}  ratio {many / few:5.2f}  "
          f"must {MUST} {'ok' if many >= MUST else 'MISSED'}  a refused append {refused_ms:.0f} ms")  # fmt: skip
    print(f"quota, {options.waiting} waiting, {len(WINDOWS)} quotas each  {counted:8.0f} decisions/s  must {MUST} "
          f"{'ok' if counted >= MUST else 'MISSED'}  a reservation adds {1e6 / counted - 1e6 / many:.0f} us  "
          f"a refused append {counted_ms:.0f} ms")  # fmt: skip


if __name__ == "__main__":
    main()
