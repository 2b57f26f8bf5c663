"""Whose turn it is: the first of all who could start gets the first of his candidates that has room. Pure.

Who is first in the line of a platform and waits for what all in it share blocks it, so that a large task is not starved by
small ones; who waits for what the others do not share steps aside.
"""

from __future__ import annotations

from heapq import heappop

from msgspec import Struct

from actors import lines, words
from actors.capacity import Block, Claim, Quota, Rank, Waiting
from actors.holds import START_WITHIN_MS
from actors.room import blocked_by, parts_of, room_ms, takes
from farebox.core.events import QuotaDeferred, QuotaRefused, QuotaReserved
from farebox.core.terms import Candidate, Fault

FAR_MS = 2**53


class Standing(Struct, frozen=True):
    """Why a task waits for a window, and until when (stream time, ms; 0: nobody knows). No `block`: a platform's own word."""

    due_ms: int
    platform: str
    block: Block | None


def next_one(state: Quota) -> QuotaReserved | QuotaRefused | QuotaDeferred | None:
    """Return the next grant, or what has to be said to somebody whose turn it would be."""
    lines.call_back(state)
    blocked = state.blocked = {}
    heads: dict[str, str] = {}
    while True:
        best: tuple[Rank, str] | None = None
        for platform in state.lines:
            if platform not in blocked and state.free(platform):
                rank = lines.first(state, platform)
                if rank is not None and (best is None or rank < best[0]):
                    best = rank, platform
        if best is None:
            break
        said = _try(state, best[0])
        if said is not None:
            return said
        rank, platform = best
        if platform in blocked:
            heads[rank[3]] = platform
        elif (line := state.lines[platform]) and line[0] == rank:
            heappop(line)  # It was open to him once.
    return _tell(state, heads) if heads or state.stepped or state.stopping else None


def _try(state: Quota, rank: Rank) -> QuotaReserved | QuotaRefused | None:
    """Give a task the first of its candidates that has room, or take it out of the way of the others."""
    waiting = state.waiting[rank[3]]
    for candidate in lines.open_to(state, rank[3], waiting):
        platform = candidate.platform
        line = state.lines.get(platform)
        if platform in state.blocked or not line or line[0] != rank or not state.free(platform):
            continue
        parts = parts_of(state, waiting, candidate)
        block = blocked_by(parts) if parts else None
        if block is None and any(
            not part.rule.wide and lines.ahead_of(state, rank, platform, part.rule.quota) for part in parts
        ):
            block = Block(next(p for p in parts if not p.rule.wide and lines.ahead_of(state, rank, platform, p.rule.quota)))
        if block is None:
            return _reserved(state, waiting, candidate, parts)
        if block.never:
            why = words.never(block.part)
            if not lines.strike(state, rank[3], platform, why):
                return refused(waiting, words.fault_of(state.outs[rank[3]]))
        elif block.part.rule.wide:
            state.blocked[platform] = block
        else:
            lines.step_aside(state, rank, platform, block.part.rule.quota, room_ms(state, block.part))
    return None


def _reserved(state: Quota, waiting: Waiting, candidate: Candidate, parts: list[Claim]) -> QuotaReserved:
    bounded = any(part.rule.unit == "usd" for part in parts)
    return QuotaReserved(
        chain=waiting.chain, task=waiting.task, cause=waiting.cause, attempt=waiting.attempt, batch=waiting.batch,
        traceparent=waiting.traceparent, platform=candidate.platform, model=candidate.model, billing=candidate.billing,
        lane_seq=candidate.lane_seq, submission_sha256=waiting.submission_sha256, timeout_s=waiting.timeout_s,
        on_interrupt=waiting.on_interrupt, in_use=state.used.get(candidate.platform, 0) + 1,
        limit=state.limits[candidate.platform], takes=takes(parts) if parts else (), as_of=state.seq,
        start_by_ms=state.now_ms + START_WITHIN_MS, output_tokens_max=candidate.output_tokens_max if bounded else None,
    )  # fmt: skip


def refused(waiting: Waiting, fault: Fault) -> QuotaRefused:
    """Return the fact that gives the baton back to the router."""
    return QuotaRefused(
        chain=waiting.chain, task=waiting.task, cause=waiting.cause, attempt=waiting.attempt, batch=waiting.batch,
        traceparent=waiting.traceparent, fault=fault,
    )  # fmt: skip


def _tell(state: Quota, heads: dict[str, str]) -> QuotaRefused | QuotaDeferred | None:
    """Refuse those who want to stop where only a window's clock would help; tell those who became first what they wait for."""
    if state.stopping:
        looked = tuple(sorted((platform, one.part.rule.quota) for platform, one in state.blocked.items() if one.hard))
        if looked != state.looked:
            state.looked = looked
            state.passed.clear()
        for name in state.stopping:
            if name not in state.passed:
                state.passed.add(name)
                found = standings(state, name)
                if found and all(one.block is not None for one in found):
                    return refused(state.waiting[name], words.stopped(found))
    for name in (*heads, *state.stepped):
        state.stepped.pop(name, None)
        waiting = state.waiting[name]
        found = [] if waiting.deferred else standings(state, name)
        if any(one.block is not None for one in found):
            return deferred(waiting, found)
    return None


def standings(state: Quota, name: str) -> list[Standing]:
    """Return what a task waits for at each candidate; nothing where it only waits for something that runs to end."""
    waiting = state.waiting[name]
    found: list[Standing] = []
    for candidate in lines.open_to(state, name, waiting):
        if candidate.not_before_ms > state.now_ms:
            found.append(Standing(candidate.not_before_ms, candidate.platform, None))
            continue
        if candidate.platform not in state.limits:
            continue
        block = state.blocked.get(candidate.platform)
        if block is None or not block.hard:
            own = blocked_by(parts_of(state, waiting, candidate))
            block = own if own is not None and (own.hard or own.never) else None
        if block is None:
            return []
        if not block.never:
            found.append(Standing(room_ms(state, block.part), candidate.platform, block))
    return found


def deferred(waiting: Waiting, found: list[Standing]) -> QuotaDeferred:
    """Return the word that a task waits for somebody's clock, and until when at the earliest."""
    first = min(found, key=lambda one: one.due_ms or FAR_MS)
    return QuotaDeferred(
        chain=waiting.chain, task=waiting.task, cause=waiting.cause, attempt=waiting.attempt, batch=waiting.batch,
        traceparent=waiting.traceparent, routed_seq=waiting.seq, due_ms=first.due_ms,
        reason=words.waits(first.block.part, first.due_ms) if first.block else f"{first.platform} asked to wait",
        quota=first.block.part.rule.quota if first.block else "",
    )  # fmt: skip


def next_due_ms(state: Quota) -> int | None:
    """Return when a window that blocks a line, or for which somebody stepped aside, may have room again."""
    moments = [room_ms(state, block.part) for block in state.blocked.values() if block.hard]
    if state.asleep:
        moments.append(state.asleep[0][0])
    return min((moment for moment in moments if moment), default=None)
