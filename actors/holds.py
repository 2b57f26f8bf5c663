"""Holds: from the grant over the end of the attempt and its bill to the settlement, or to the deadline. Pure.

Slots, requests and tokens are settled when the attempt ends, dollars when its cost is known. An attempt of which nobody says
the end by its deadline is booked as what was reserved for it; who ends it later corrects that.
"""

from __future__ import annotations

from heapq import heappop

import msgspec

from actors import lines
from actors.capacity import Booked, Ended, Hold, Part, Quota
from actors.pace import UNHURRIED, after
from actors.rules import ONE, told, whole
from farebox.core.events import (
    AttemptFailed,
    AttemptInterrupted,
    CostRecorded,
    QuotaReserved,
    QuotaSettled,
    TaskCompleted,
    TaskStarted,
)
from farebox.core.terms import Take

START_WITHIN_MS = 600_000
"""So long a grant may wait for its start."""
GRACE_MS = 120_000
"""So long after its time an attempt may still be ended by its adapter."""
BOOKED_MAX = 10_000
"""Settled attempts of which a correction is still taken in; the oldest go first."""
PART_OF_NOTHING: tuple[Part, ...] = ()

AttemptEnd = TaskCompleted | AttemptFailed | AttemptInterrupted


def hold(state: Quota, name: str, fact: QuotaReserved, turn: int) -> None:
    """Take the slot and the parts of quotas that a grant reserved."""
    start_by_ms = fact.start_by_ms or (fact.at_ms + START_WITHIN_MS)
    deadline_ms = start_by_ms + round(fact.timeout_s * 1000) + GRACE_MS
    parts = tuple((take.quota, whole(take.amount)) for take in fact.takes) if fact.takes else PART_OF_NOTHING
    at_ms = seen_ms(state, fact.at_ms) if fact.seq else 0
    taken = Hold(fact.platform, fact.attempt, fact.seq, at_ms, deadline_ms, fact.id, fact.batch, parts, turn)
    state.holds[name] = taken
    state.used[fact.platform] = state.used.get(fact.platform, 0) + 1
    state.mind_deadline(name, taken)
    if fact.seq:
        lines.go_on(state, turn)
    for quota, amount in parts:
        state.uses.reserve(quota, state.window(quota), amount)
        state.watched[quota] = fact.platform


def seen_ms(state: Quota, at_ms: int) -> int:
    """Return when a fact counts: the log's clock never goes back, so an earlier time than one before it is that one."""
    return max(at_ms, state.clock_ms)


def stored(state: Quota, name: str, fact: QuotaReserved) -> None:
    """Note where and when a grant that was only guessed came to stand in the log."""
    found = state.holds.get(name)
    if found is not None and found.id == fact.id:
        state.holds[name] = known = msgspec.structs.replace(found, seq=fact.seq, at_ms=seen_ms(state, fact.at_ms))
        state.mind_deadline(name, known)
        lines.go_on(state, found.turn)


def started(state: Quota, name: str, fact: TaskStarted) -> None:
    """Let the deadline count from the start."""
    found = state.holds.get(name)
    if found is not None and (found.platform, found.attempt) == (fact.platform, fact.attempt):
        deadline_ms = seen_ms(state, fact.at_ms) + round(fact.timeout_s * 1000) + GRACE_MS
        state.holds[name] = known = msgspec.structs.replace(found, deadline_ms=deadline_ms)
        state.mind_deadline(name, known)


def release(state: Quota, name: str, fact: AttemptEnd) -> None:
    """Free the slot of an attempt that ended; what it used is settled next."""
    found = state.holds.get(name)
    if found is None or found.platform != fact.platform or found.attempt != fact.attempt:
        _ended_late(state, name, fact)
        return
    del state.holds[name]
    state.used[found.platform] -= 1
    limit = state.limits.get(found.platform)
    if limit is not None:
        pace = after(state.paces.get(found.platform, UNHURRIED), fact, found.seq, limit)
        if pace != UNHURRIED:
            state.paces[found.platform] = pace
    reserved = found.parts
    if reserved and fact.chargeable and any(_is_money(quota) for quota, _ in reserved):
        bill = tuple(part for part in reserved if _is_money(part[0]))
        began = found.at_ms, found.seq
        state.booked[f"{name}.{found.attempt}"] = Booked(
            began, bill, fact.platform, open=True, last=isinstance(fact, TaskCompleted)
        )
        reserved = tuple(part for part in reserved if not _is_money(part[0]))
    for quota, _ in reserved:
        state.uses.ended(quota)
    state.ended[fact.id] = _end_of(fact, found, reserved)


def _end_of(fact: AttemptEnd, found: Hold, reserved: tuple[Part, ...]) -> Ended:
    return Ended(
        chain=fact.chain, task=fact.task, cause=fact.id, platform=fact.platform, attempt=fact.attempt, batch=fact.batch,
        requests=len(fact.calls), tokens=_tokens(fact), began=(found.at_ms, found.seq), reserved=reserved,
        parts=tuple((quota, _used(quota, amount, fact)) for quota, amount in reserved),
    )  # fmt: skip


def _tokens(fact: AttemptEnd) -> int | None:
    usage = fact.usage
    if usage is None or usage.input_tokens is None or usage.output_tokens is None:
        return None
    return usage.input_tokens + usage.output_tokens


def _used(quota: str, reserved: int, fact: AttemptEnd) -> int:
    """Return what an ended attempt really used of a quota; what nobody knows stays as it was reserved."""
    unit = quota.rpartition("/")[2]
    if unit == "requests":
        # What may have been charged was asked for, also where nobody counted the requests: a program keeps them to itself.
        return max(len(fact.calls), fact.charged != "none") * ONE
    if unit in {"calls", "usd"}:
        return 0
    if unit == "percent":
        return reserved if fact.calls or fact.charged != "none" else 0
    usage = fact.usage
    count = {"tokens": _tokens(fact), "tokens_in": usage and usage.input_tokens, "tokens_out": usage and usage.output_tokens}[
        unit
    ]
    if count is not None:
        return count * ONE
    return 0 if fact.charged == "none" else reserved


def _ended_late(state: Quota, name: str, fact: AttemptEnd) -> None:
    """Correct what was booked when an attempt's time was over. Its slot is long free."""
    place = f"{name}.{fact.attempt}"
    booked = state.booked.get(place)
    if booked is None or not booked.expired or fact.platform != booked.platform or fact.id in booked.causes:
        return
    state.booked[place] = msgspec.structs.replace(booked, causes=(*booked.causes, fact.id))
    known = [(quota, amount) for quota, amount in booked.parts if not (_is_money(quota) and fact.chargeable)]
    parts = tuple((quota, _used(quota, amount, fact)) for quota, amount in known)
    state.ended[fact.id] = Ended(
        chain=fact.chain, task=fact.task, cause=fact.id, platform=fact.platform, attempt=fact.attempt, batch=fact.batch,
        requests=len(fact.calls), tokens=_tokens(fact), began=booked.began, parts=parts, again=True,
    )  # fmt: skip


def billed(state: Quota, name: str, fact: CostRecorded) -> None:
    """Settle the dollars of an attempt whose cost is known, or correct what was settled."""
    place = f"{name}.{fact.attempt}"
    booked = state.booked.get(place)
    if booked is None or fact.platform != booked.platform or fact.id in booked.causes:
        return
    bill = tuple(part for part in booked.parts if _is_money(part[0]))
    if not bill:
        return
    state.booked[place] = msgspec.structs.replace(booked, open=False, causes=(*booked.causes, fact.id))
    paid = None if fact.paid_usd is None else whole(fact.paid_usd)
    state.ended[fact.id] = Ended(
        chain=fact.chain, task=fact.task, cause=fact.id, platform=fact.platform, attempt=fact.attempt, batch=fact.batch,
        requests=0, tokens=None, began=booked.began, reserved=bill if booked.open else (),
        parts=tuple((quota, amount if paid is None else paid) for quota, amount in bill),
        again=not booked.open, final=fact.status != "possible" and not booked.expired,
    )  # fmt: skip


def overdue(state: Quota) -> QuotaSettled | None:
    """Return the settlement of a hold whose deadline has passed: nobody ended it, so all it may have used is booked."""
    if not state.deadlines or state.deadlines[0][0] > state.now_ms:
        return None
    ends_ms = next_deadline_ms(state)
    if ends_ms is None or ends_ms > state.now_ms:
        return None
    name = state.deadlines[0][1]
    chain, task = name.split(".")
    found = state.holds[name]
    return QuotaSettled(
        chain=chain, task=task, cause=found.id, platform=found.platform, attempt=found.attempt, batch=found.batch,
        takes=_takes(_lost(found)), expired=True,
    )  # fmt: skip


def next_deadline_ms(state: Quota) -> int | None:
    """Return when (stream time, ms) the first hold ends by itself."""
    while state.deadlines:
        deadline_ms, name = state.deadlines[0]
        found = state.holds.get(name)
        if found is not None and found.seq and found.deadline_ms == deadline_ms and name not in state.expiring:
            return deadline_ms
        heappop(state.deadlines)
    return None


def settlement(ended: Ended) -> QuotaSettled:
    """Return the fact that settles what ended."""
    return QuotaSettled(
        chain=ended.chain, task=ended.task, cause=ended.cause, platform=ended.platform, attempt=ended.attempt,
        batch=ended.batch, requests=ended.requests, tokens=ended.tokens, takes=_takes(ended.parts),
    )  # fmt: skip


def settle(state: Quota, name: str, fact: QuotaSettled) -> None:
    """Count what was settled, and remember it where somebody may still know better."""
    place = f"{name}.{fact.attempt}"
    if fact.expired:
        expire(state, name, fact)
        return
    ended = state.ended.pop(fact.cause, None)
    if ended is None or not (ended.parts or ended.reserved):
        return
    booked = state.booked.get(place)
    before = dict(booked.parts) if booked else {}
    given_back = dict(ended.reserved)
    for quota, amount in ended.parts:
        if quota in given_back:
            state.uses.settle(quota, place, ended.began, given_back[quota], amount)
        else:
            state.uses.correct(quota, place, ended.began, before.get(quota, 0), amount)
        state.watched[quota] = fact.platform
        stir(state, quota)
    if booked is None or ended.cause not in booked.causes:
        return
    parts = tuple({**before, **dict(ended.parts)}.items())
    state.booked[place] = msgspec.structs.replace(booked, parts=parts, final=ended.final)
    if not ended.final:
        _forget_old(state)
    elif fact.seq:
        close(state, name, fact)


def close(state: Quota, name: str, fact: QuotaSettled) -> None:
    """Forget an attempt when the last bill that was heard of it is settled in the log, if nothing more can come."""
    place = f"{name}.{fact.attempt}"
    booked = state.booked.get(place)
    if booked is None or not booked.final or fact.cause != booked.causes[-1]:
        return
    del state.booked[place]
    if booked.last:
        for quota, _ in booked.parts:
            if f"={name}/" in quota:
                state.uses.forget(quota)


def expire(state: Quota, name: str, fact: QuotaSettled) -> None:
    """Free the slot of a hold whose deadline has passed, and book what it may have used."""
    place = f"{name}.{fact.attempt}"
    if not fact.seq:
        state.expiring[name] = None  # An end may come first: it frees nothing before it stands in the log.
        return
    state.expiring.pop(name, None)
    found = state.holds.get(name)
    if found is None or found.attempt != fact.attempt:
        _lose_bill(state, place)
        return
    del state.holds[name]
    state.used[found.platform] -= 1
    began = found.at_ms, found.seq
    booked = _lost(found)
    for (quota, reserved), (_, amount) in zip(found.parts, booked, strict=True):
        state.uses.settle(quota, place, began, reserved, amount)
        state.watched[quota] = found.platform
        stir(state, quota)
    if booked:
        state.booked[place] = Booked(began, booked, found.platform, expired=True)
        _forget_old(state)


def _lose_bill(state: Quota, place: str) -> None:
    """Book the bound of dollars that were still waited for: who said so had not read the end; the bill corrects it."""
    booked = state.booked.get(place)
    if booked is None or not booked.open:
        return
    for quota, amount in booked.parts:
        state.uses.settle(quota, place, booked.began, amount, amount)
        stir(state, quota)
    state.booked[place] = msgspec.structs.replace(booked, open=False)


def _lost(found: Hold) -> tuple[Part, ...]:
    """Return what an attempt may have used of which nobody knows the end; it runs no more."""
    return tuple((quota, 0 if quota.endswith("/calls") else amount) for quota, amount in found.parts)


def stir(state: Quota, quota: str) -> None:
    """Note that a quota may have room again for those who stepped aside for it."""
    if quota in state.aside:
        state.stirred[quota] = None


def _takes(parts: tuple[Part, ...]) -> tuple[Take, ...]:
    return tuple(Take(quota=quota, amount=told(amount)) for quota, amount in parts)


def _is_money(quota: str) -> bool:
    return quota.endswith("/usd")


def _forget_old(state: Quota) -> None:
    """Keep room for those of whom more may be heard; those whose bill has not come are kept whatever there are."""
    if len(state.booked) > BOOKED_MAX:
        # Whoever calls has just noted one whose bill is not waited for, so there is one.
        del state.booked[next(place for place, one in state.booked.items() if not one.open)]
