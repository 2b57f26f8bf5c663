"""What must hold in every world, whatever went wrong. Each law yields what breaks it; a law that yields nothing holds."""

# ruff: noqa: ARG001 - all laws have one shape
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from farebox.core import money, subjects
from farebox.core.events import (
    AttemptFailed,
    AttemptInterrupted,
    BatchCompleted,
    CostRecorded,
    Ending,
    Fact,
    LateResult,
    QuotaRefused,
    QuotaReserved,
    QuotaSettled,
    SettingsAdopted,
    TaskCompleted,
    TaskRouted,
    TaskStarted,
    TaskSubmitted,
)
from farebox.core.ids import NONE
from farebox.core.settings import restore
from farebox.simulation.history import History

if TYPE_CHECKING:
    from farebox.simulation.world import World

type Law = Callable[[World, History], Iterator[str]]


def broken(world: World, *, healed: bool) -> list[str]:
    """Return everything that is wrong with a world that was run; `healed` worlds must also have come to an end."""
    history = History(world.store.facts)
    laws = (*SAFETY, *LIVENESS) if healed else SAFETY
    return [f"{law.__name__}: {wrong}" for law in laws for wrong in law(world, history)]


def nothing_escapes(world: World, history: History) -> Iterator[str]:
    """No step of the runtime raises."""
    yield from (repr(error) for error in world.loop.broken)


def sequences_are_contiguous(world: World, history: History) -> Iterator[str]:
    """I2: the log is whole."""
    for expected, stored in enumerate(history.stored, 1):
        if stored.seq != expected:
            yield f"after {expected - 1} comes {stored.seq}"


def only_clients_write_garbage(world: World, history: History) -> Iterator[str]:
    """I10: every fact of an actor reads, stands on its own subject and says what its writer may say."""
    for stored in history.unread:
        if subjects.parse(stored.subject).writer != "client":
            yield f"{stored.subject} {stored.body[:80]!r}"


def a_task_ends_at_most_once(world: World, history: History) -> Iterator[str]:
    """I3."""
    for key, count in Counter(fact.key for fact in history.of(TaskCompleted)).items():
        if count > 1:
            yield f"{key} ended {count} times"


def the_baton_has_one_holder(world: World, history: History) -> Iterator[str]:
    """Each fact of the way of a task is said by who holds the baton: router, quota, the adapter of one lane."""
    for key, facts in history.tasks().items():
        holder = "router"
        for writer, fact in facts:
            says = MOVES.get(type(fact))
            if says is None:
                continue
            lane = getattr(fact, "platform", "-")
            if holder != (f"adapter.{lane}" if writer == "adapter" else writer):
                yield f"{key} seq {fact.seq}: {writer} says {type(fact).__name__} while {holder} holds the baton"
            holder = says.format(lane=lane)


MOVES: dict[type[Fact], str] = {
    TaskRouted: "quota",
    QuotaReserved: "adapter.{lane}",
    QuotaRefused: "router",
    TaskStarted: "adapter.{lane}",
    AttemptFailed: "router",
    AttemptInterrupted: "router",
    TaskCompleted: "nobody",
}


def attempts_rise(world: World, history: History) -> Iterator[str]:
    """Attempts are numbered 1, 2, 3 …, and what answers one bears its number."""
    for key, facts in history.tasks().items():
        attempt = 0
        for _, fact in facts:
            if isinstance(fact, TaskRouted):
                attempt += 1
            if type(fact) in MOVES and fact.attempt != attempt:
                yield f"{key} seq {fact.seq}: {type(fact).__name__} of attempt {fact.attempt}, expected {attempt}"


def a_start_has_at_most_one_call(world: World, history: History) -> Iterator[str]:
    """I4: every call answers a TaskStarted that was in the log before, and none has two."""
    starts = {fact.seq for fact in history.of(TaskStarted)}
    for epoch, count in Counter(epoch for epoch, _ in world.provider.calls).items():
        if count > 1:
            yield f"epoch {epoch} was called {count} times"
        if epoch not in starts:
            yield f"epoch {epoch} was called and never started"
    yield from (
        f"epoch {epoch} was called before it stood in the log" for epoch, length in world.provider.calls if length < epoch
    )


def charged_attempts_are_bounded(world: World, history: History) -> Iterator[str]:
    """No task has more attempts that may have cost something than the settings allow."""
    for key, count in Counter((charge.chain, charge.task) for charge in world.provider.charges).items():
        if count > world.settings.billed_attempts_max:
            yield f"{key} was charged {count} times"


def nothing_is_retried_in_silence(world: World, history: History) -> Iterator[str]:
    """After an interruption that may have cost something the policy of task or platform is obeyed."""
    for key, facts in history.tasks().items():
        task = next((fact for _, fact in facts if isinstance(fact, TaskSubmitted)), None)
        for place, (_, fact) in enumerate(facts):
            if not isinstance(fact, AttemptInterrupted) or fact.charged == "none" or task is None:
                continue
            policy = task.on_interrupt or world.settings.platforms[fact.platform].interrupt_policy
            after = next((type(one).__name__ for _, one in facts[place + 1 :] if type(one) in MOVES), "")
            decided = any(type(one).__name__ == "TaskDecision" for _, one in facts[place + 1 :])
            if after == "TaskRouted" and (policy == "fail" or (policy == "ask" and not decided)):
                yield f"{key} seq {fact.seq}: policy {policy}, and yet it was routed again"


def no_limit_is_passed(world: World, history: History) -> Iterator[str]:
    """I6: a grant is never beyond a limit in force; holds are counted here from the log alone."""
    limits: dict[str, set[int]] = {}
    holds: dict[tuple[str, str], str] = {}
    for _, fact in history.facts:
        if isinstance(fact, SettingsAdopted):
            for name, platform in restore(fact.settings).platforms.items():
                limits.setdefault(name, set()).add(platform.limit)
        elif isinstance(fact, QuotaReserved):
            used = sum(platform == fact.platform for platform in holds.values()) + 1
            if fact.key in holds:
                yield f"{fact.key} seq {fact.seq}: reserved while it holds {holds[fact.key]}"
            if used > fact.limit or fact.in_use > fact.limit or fact.limit not in limits[fact.platform]:
                yield f"{fact.key} seq {fact.seq}: {used} of {fact.platform} in use, limit {fact.limit}"
            holds[fact.key] = fact.platform
        elif isinstance(fact, TaskCompleted | AttemptFailed | AttemptInterrupted) and fact.platform != "-":
            holds.pop(fact.key, None)


def causes_and_fences_are_true(world: World, history: History) -> Iterator[str]:
    """`cause` is an earlier fact of the same task, `prev` the last sequence under the fence (or before its batch).

    What belongs to no task may have any earlier fact for its cause.
    """
    ids: dict[str, set[tuple[str, str]]] = {}
    last: dict[str, tuple[int, int]] = {}
    for writer, fact in history.heard:
        if isinstance(fact, Fact) and writer not in {"client", "engine"}:
            keys = ids.get(fact.cause, set())
            known = bool(keys) if fact.task == NONE else fact.key in keys
            if fact.cause and not known:
                yield f"seq {fact.seq}: the cause {fact.cause!r} of {type(fact).__name__} is no earlier fact of its task"
            guard = subjects.fence_filter(writer, fact)
            before, before_batch = last.get(guard or "", (0, 0))
            if guard is not None and fact.prev not in {before, before_batch}:
                yield f"seq {fact.seq}: {type(fact).__name__} has prev {fact.prev}, the log says {before}"
            if guard is not None:
                last[guard] = (fact.seq, fact.prev)
        ids.setdefault(fact.id, set()).add(fact.key)


def ids_are_unique(world: World, history: History) -> Iterator[str]:
    """No two facts of actors share an id, but for late results: not fenced, they may stand twice, and so may their charge."""
    fenced = {"router", "quota", "adapter", "cost", "aggregator"}
    actors = [
        fact.id
        for writer, fact in history.facts
        if writer in fenced and "founding" not in fact.id and not (isinstance(fact, CostRecorded) and fact.late)
    ]
    yield from (f"{fact_id} stands {count} times" for fact_id, count in Counter(actors).items() if count > 1)


def a_second_fold_gives_the_same_state(world: World, history: History) -> Iterator[str]:
    """I7: what lives in an engine is what the log says, and folding it twice gives it twice."""
    for actor in world.actors:
        if actor.perform is not None:
            continue
        folds = {mind.seq for machine in world.machines for mind in machine.minds if mind.actor.name == actor.name}
        told: dict[int, bytes] = {}
        state = actor.new()
        kinds = actor.folded()
        for _, fact in history.heard:
            told |= {seq: _bytes(state) for seq in folds if seq < fact.seq and seq not in told}
            if type(fact) in kinds:
                state = actor.evolve(state, fact)
        for machine in world.machines:
            for mind in machine.minds:
                if mind.actor.name == actor.name and _bytes(mind.state) != told.get(mind.seq, _bytes(state)):
                    yield f"{machine.process.name}: {actor.name} at {mind.seq} is not what the log says"


def a_charge_is_recorded_once_for_an_end(world: World, history: History) -> Iterator[str]:
    """Each CostRecorded answers one end of an attempt, and no end has two."""
    counts = Counter((fact.key, fact.attempt, fact.cause) for fact in history.of(CostRecorded) if not fact.late)
    yield from (f"{what} was booked {count} times" for what, count in counts.items() if count > 1)


def every_task_has_ended(world: World, history: History) -> Iterator[str]:
    """I9."""
    ended = {fact.key for fact in history.of(TaskCompleted)}
    yield from (f"{key} has no end" for key in sorted(world.clients.promised - ended))


def every_slot_is_free_again(world: World, history: History) -> Iterator[str]:
    """I6: each reservation is settled once; its dollars, if it took some, once more with each bill.

    Who had not read yet that an attempt ended may say that its time was over: then the settlement of its end corrects that.
    """
    bills = {fact.id for fact in history.of(CostRecorded)}
    ends = {(fact.id, fact.key, fact.attempt) for fact in history.of(TaskCompleted, AttemptFailed, AttemptInterrupted)}
    reserved = Counter((fact.key, fact.attempt) for fact in history.of(QuotaReserved))
    settled: dict[tuple[tuple[str, str], int], list[QuotaSettled]] = {}
    for fact in history.of(QuotaSettled):
        if fact.cause not in bills:
            settled.setdefault((fact.key, fact.attempt), []).append(fact)
    for what in reserved | settled:
        said = settled.get(what, [])
        corrected = [one.expired for one in said] == [True, False] and (said[1].cause, *what) in ends
        if len(said) - corrected != reserved[what]:
            yield f"{what}: reserved {reserved[what]}, settled {len(said)}"


def every_paid_call_is_booked(world: World, history: History) -> Iterator[str]:
    """I5: what a provider charged stands in the costs: known with the same tokens, or at least as possible."""
    costs = {(fact.key, fact.attempt): fact for fact in history.of(CostRecorded)}
    for charge in world.provider.charges:
        cost = costs.get(((charge.chain, charge.task), charge.attempt))
        if cost is None:
            yield f"{charge} is not booked"
        elif cost.status != "possible" and cost.usage != charge.usage and (cost.usage or cost.billing != "free"):
            yield f"{charge} is booked as {cost.status} {cost.usage}"


def what_reached_a_disk_is_booked_as_known(world: World, history: History) -> Iterator[str]:
    """I5: a paid answer that was kept is never a mere possibility, whoever took over meanwhile and whatever crashed."""
    costs = {(fact.epoch, fact.attempt): fact for fact in history.of(CostRecorded)}
    for machine in world.machines:
        for outcome in machine.disk.kept:
            cost = costs.get((outcome.epoch, outcome.attempt))
            if outcome.verdict.charged == "known" and (cost is None or cost.status == "possible"):
                yield f"{machine.process.name}: epoch {outcome.epoch} is booked as {cost and cost.status}"


def a_batch_is_summed_when_it_is_done(world: World, history: History) -> Iterator[str]:
    """BatchCompleted comes once, and its sums are those of the log as of the sequence it names."""
    batch = world.clients.batch
    if batch is None:
        return
    done = list(history.of(BatchCompleted))
    if len(done) != 1:
        yield f"{len(done)} BatchCompleted"
        return
    (said,) = done
    ended = {fact.key: fact.status for fact in history.of(TaskCompleted) if fact.batch == batch.batch}
    counts = Counter(ended.values())
    costs = {(f.key, f.attempt): f for f in history.of(CostRecorded) if f.batch == batch.batch and f.seq <= said.as_of_seq}
    paid = money.total(Decimal(f.paid_usd) for f in costs.values() if f.paid_usd is not None and f.status != "possible")
    if (said.count, said.completed, said.failed, said.cancelled) != (
        batch.count, counts["completed"], counts["failed"], counts["cancelled"],
    ):  # fmt: skip
        yield f"counts {said}, the log says {counts}"
    if Decimal(said.paid_usd or "0") != paid:
        yield f"paid {said.paid_usd}, the log says {paid}"
    due = {
        (f.key, f.attempt) for f in history.of(Ending) if f.batch == batch.batch and f.chargeable and f.seq <= said.as_of_seq
    }
    yield from (f"{what} had no charge yet" for what in due - set(costs))


def nobody_is_busy_at_rest(world: World, history: History) -> Iterator[str]:
    """A healed world comes to rest, and what runs ahead of the log has come back to it."""
    if not world.at_rest():
        yield "the world did not come to rest"
    for machine in world.machines:
        for mind in machine.minds:
            if _bytes(mind.ahead) != _bytes(mind.state):
                yield f"{machine.process.name}: {mind.actor.name} still runs ahead of the log"


def nothing_is_handed_on_unfinished(world: World, history: History) -> Iterator[str]:
    """I8: nothing is handed on to a task that waits for others. Until tasks may need tasks, such a one is never started."""
    waiting = {fact.key for fact in history.of(TaskSubmitted) if fact.needs}
    sound = {fact.key for fact in history.of(TaskSubmitted) if not fact.needs}
    yield from (f"{fact.key} was started" for fact in history.of(TaskStarted) if fact.key in waiting - sound)


def what_was_acknowledged_stands(world: World, history: History) -> Iterator[str]:
    """I1: each acknowledged fact is readable at its sequence, as it was sent."""
    for seq, subject, body in world.network.acknowledged:
        stored = history.stored[seq - 1] if seq <= len(history.stored) else None
        if stored is None or (stored.subject, stored.body) != (subject, body):
            yield f"what was acknowledged at {seq} on {subject} is not there"


def late_results_belong_to_interrupted_attempts(world: World, history: History) -> Iterator[str]:
    """A late result is the answer of an attempt whose lane had gone on without it."""
    interrupted = {fact.epoch for fact in history.of(AttemptInterrupted)}
    yield from (f"seq {fact.seq}" for fact in history.of(LateResult) if fact.epoch not in interrupted)


def _bytes(state: object) -> bytes:
    return msgspec.json.encode(state, order="sorted")


SAFETY: tuple[Law, ...] = (
    nothing_escapes,
    sequences_are_contiguous,
    what_was_acknowledged_stands,
    only_clients_write_garbage,
    a_task_ends_at_most_once,
    the_baton_has_one_holder,
    attempts_rise,
    a_start_has_at_most_one_call,
    charged_attempts_are_bounded,
    nothing_is_retried_in_silence,
    no_limit_is_passed,
    causes_and_fences_are_true,
    ids_are_unique,
    a_second_fold_gives_the_same_state,
    a_charge_is_recorded_once_for_an_end,
    late_results_belong_to_interrupted_attempts,
    nothing_is_handed_on_unfinished,
)
LIVENESS: tuple[Law, ...] = (
    every_task_has_ended,
    every_slot_is_free_again,
    every_paid_call_is_booked,
    what_reached_a_disk_is_booked_as_known,
    a_batch_is_summed_when_it_is_done,
    nobody_is_busy_at_rest,
)
