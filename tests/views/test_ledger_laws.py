"""Laws of the ledger over random histories: it says what a plain fold says, the same however and whenever it was filled."""

from collections import defaultdict
from contextlib import suppress
from decimal import Decimal
from functools import cache
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from farebox.core import events as e
from farebox.core import money, subjects, wire
from farebox.core.errors import BadFact
from farebox.core.terms import Fault, Ref, Usage
from farebox.log.port import Stored
from farebox.runtime.board import Board
from farebox.views import questions
from farebox.views.desk import BLOBS
from farebox.views.ledger import Ledger

HOUR_MS = 3_600_000
FAULT = Fault(error_class="network")
PLATFORMS = st.sampled_from(["p1", "p2", "p3"])
BILLINGS = st.sampled_from(["metered", "plan", "free", "rehearsal"])
amounts = st.one_of(st.none(), st.integers(0, 10**20).map(lambda pico: money.text(Decimal(pico).scaleb(-12))), st.just("0"))
counts = st.one_of(st.none(), st.integers(0, 10**6))
usages = st.one_of(
    st.none(),
    st.builds(Usage, input_tokens=counts, output_tokens=counts, source=st.sampled_from(["provider", "estimated"])),
)
LARGE = Ref(ref="a" * 64, sha256="b" * 64, bytes=300_000)
LAWS = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@st.composite
def facts_of_a_task(draw: st.DrawFn, number: int) -> list[tuple[str, e.Fact]]:
    place: dict[str, Any] = {
        "chain": f"c{draw(st.integers(1, 2))}",
        "task": f"t{number}",
        "batch": draw(st.sampled_from(["", "b1"])),
    }
    told: list[tuple[str, e.Fact]] = []
    if draw(st.booleans()):
        told.append(("client", e.TaskSubmitted(**place, label=draw(st.text(max_size=5)))))
    for attempt in range(1, draw(st.integers(1, 3))):
        lane: dict[str, Any] = place | {"attempt": attempt, "platform": draw(PLATFORMS), "billing": draw(BILLINGS)}
        lane["model"] = draw(st.sampled_from(["", "m1", "m2"]))
        told.append(("adapter", e.TaskStarted(**lane)))
        ending = lane | {"usage": draw(usages), "charged": draw(st.sampled_from(["none", "possible", "known"]))}
        ending["duration_ms"] = draw(st.integers(0, 10**7))
        ending |= draw(st.sampled_from([{}, {}, {"partial_output": "so far"}, {"partial_ref": LARGE}]))
        match draw(st.integers(0, 4)):
            case 0:
                told.append(("adapter", e.AttemptFailed(**ending, fault=FAULT)))
            case 1:
                told.append(("adapter", e.AttemptInterrupted(**ending, fault=FAULT)))
                told.append(("late", e.LateResult(**ending)))
            case 2:
                pass
            case _:
                status = draw(st.sampled_from(["completed", "failed", "cancelled"]))
                told.append(("adapter", e.TaskCompleted(**ending, status=status, output=draw(st.text(max_size=9)))))
        for _ in range(draw(st.integers(0, 2))):
            charge = lane | {"usage": ending["usage"], "late": draw(st.booleans())}
            charge["status"] = draw(st.sampled_from(["priced", "unpriced", "estimated", "possible"]))
            told.append(("cost", e.CostRecorded(**charge, paid_usd=draw(amounts), plan_value_usd=draw(amounts))))
    return told


@st.composite
def histories(draw: st.DrawFn) -> list[Stored]:
    """Facts of several tasks, mixed, with gaps in time, and now and then something that is no fact."""
    waiting = [draw(facts_of_a_task(number)) for number in range(1, draw(st.integers(1, 6)))]
    log: list[Stored] = []
    at_ms = 20_000 * 24 * HOUR_MS
    while any(waiting):
        place = draw(st.integers(0, len(waiting) - 1))
        at_ms += draw(st.sampled_from([0, 7, 9 * HOUR_MS]))
        if waiting[place]:
            writer, fact = waiting[place].pop(0)
            log.append(Stored(subjects.subject_of(writer, fact), wire.encode(fact), len(log) + 1, at_ms))
        if draw(st.integers(0, 20)) == 0:
            log.append(Stored("farebox.log.cost.recorded.p1.c1.t1", draw(st.binary(max_size=5)), len(log) + 1, at_ms))
    return log


@cache
def opened(number: int) -> Ledger:
    """Return a ledger that serves one example after the other: opening one takes longer than all else."""
    return Ledger.open(":memory:")


def filled(*batches: list[Stored], number: int = 1) -> Ledger:
    ledger = opened(number)
    ledger.forget()
    ledger.begin("log-1")
    for batch in batches:
        ledger.ingest(batch)
    return ledger


@pytest.mark.slow
@LAWS
@given(histories(), st.data())
def test_a_rebuilt_ledger_says_the_same_at_any_size_of_batch_and_with_any_repetition(log: list[Stored], data: Any) -> None:
    whole = filled(log)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(log)), max_size=4)))
    batches = [log[max(0, start - 3) : end] for start, end in zip([0, *cuts], [*cuts, len(log)], strict=True)]
    pieces = filled(*batches, number=2)
    assert pieces.digest() == whole.digest()
    assert questions.counts(pieces) == questions.counts(whole)
    whole.forget()
    whole.begin("log-1")
    whole.ingest(log)
    assert whole.digest() == pieces.digest()


def charges_in_force(log: list[Stored]) -> list[tuple[e.CostRecorded, int]]:
    """The plain fold: the last charge of each attempt, with the day of the first one."""
    last: dict[tuple[str, str, int], tuple[e.CostRecorded, int]] = {}
    for stored in log:
        try:
            fact = wire.decode(stored.subject, stored.body, stored.seq, stored.at_ms)
        except wire.BadFact:
            continue
        if isinstance(fact, e.CostRecorded):
            key = (*fact.key, fact.attempt)
            last[key] = (fact, last[key][1] if key in last else fact.at_ms)
    return list(last.values())


def sums(charges: list[e.CostRecorded]) -> tuple[str | None, ...]:
    def total(amounts: list[str | None], empty: str | None) -> str | None:
        known = [Decimal(amount) for amount in amounts if amount is not None]
        return money.text(money.total(known)) if known else empty

    real = [one.paid_usd for one in charges if one.billing != "rehearsal" and one.status != "possible"]
    possible = [one.paid_usd for one in charges if one.billing != "rehearsal" and one.status == "possible"]
    play = [one.paid_usd for one in charges if one.billing == "rehearsal" and one.status != "possible"]
    value = [one.plan_value_usd for one in charges if one.billing == "plan" and one.status != "possible"]
    unknown = bool(possible) or None in real
    return (total(real, None if unknown else "0"), total(value, None), total(possible, None), total(play, None))


@pytest.mark.fault(65)
@LAWS
@given(histories())
def test_costs_by_anything_add_up_to_the_same_total_to_the_last_digit(log: list[Stored]) -> None:
    ledger = filled(log)
    charges = charges_in_force(log)
    keys: dict[str, Any] = {
        "platform": lambda one, _: one.platform,
        "model": lambda one, _: one.model,
        "chain": lambda one, _: one.chain,
        "task": lambda one, _: f"{one.chain}/{one.task}",
        "batch": lambda one, _: one.batch,
        "day": lambda _, at_ms: at_ms // (24 * HOUR_MS),
    }
    for by in questions.BY:
        found = questions.costs(ledger, by)
        groups: dict[Any, list[e.CostRecorded]] = defaultdict(list)
        for one, at_ms in charges:
            groups[keys[by](one, at_ms)].append(one)
        said = [row for row in found.rows if row.charges]
        assert [shown(row) for row in said] == [sums(groups[key]) for key in sorted(groups)]
        assert shown(found.total) == sums([one for one, _ in charges])
        for column in ("paid_usd", "plan_value_usd", "possible_usd", "rehearsal_usd"):
            parts = [Decimal(amount) for row in found.rows if (amount := getattr(row, column)) is not None]
            assert money.total(parts) == Decimal(getattr(found.total, column) or 0)


def shown(row: Any) -> tuple[str | None, ...]:
    return (row.paid_usd, row.plan_value_usd, row.possible_usd, row.rehearsal_usd)


@LAWS
@given(histories())
def test_every_task_has_the_end_and_the_money_of_its_own_facts(log: list[Stored]) -> None:
    ledger = filled(log)
    ends: dict[tuple[str, str], e.TaskCompleted] = {}
    seen: set[tuple[str, str]] = set()
    for stored in log:
        try:
            fact = wire.decode(stored.subject, stored.body)
        except wire.BadFact:
            continue
        if isinstance(fact, e.TaskCompleted):
            ends.setdefault(fact.key, fact)
        if isinstance(fact, e.TaskCompleted | e.TaskSubmitted):
            seen.add(fact.key)
    assert {(row.result.chain_id, row.result.task_id) for row in questions.tasks(ledger)} == seen
    for key in seen:
        found = questions.result(ledger, *key)
        card = questions.task_card(ledger, *key)
        assert found is not None
        assert card is not None
        assert card.result == found
        end = ends.get(key)
        assert (found.status, found.output) == ((end.status, end.output) if end else (found.status, ""))
        assert found.status in ({end.status} if end else {"pending", "running"})
        mine = [one for one, _ in charges_in_force(log) if one.key == key]
        if any(one.billing != "rehearsal" for one in mine) and found.cost.status != "pending":
            paid = sums(mine)[0]
            assert found.cost.paid_usd == paid or paid == "0"


@settings(LAWS, max_examples=25)
@given(histories())
def test_the_board_of_the_engine_says_what_the_ledger_says(log: list[Stored]) -> None:
    board, ledger = Board(), filled(log)
    for stored in log:
        with suppress(BadFact):
            board.hear(wire.decode(stored.subject, stored.body, stored.seq, stored.at_ms))
    for chain, task in {tuple(stored.subject.split(".")[5:7]) for stored in log}:
        told = board.result(chain, task)
        if told is not None:
            refs = {BLOBS[name]: ref for name, ref in questions.blobs(ledger, chain, task).items()}
            assert told == msgspec.to_builtins(questions.result(ledger, chain, task)) | msgspec.to_builtins(refs)
