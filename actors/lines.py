"""The waiting lines: one for each platform, by priority, then in turn among the chains, then by age. Pure.

A task stands in the line of each candidate that is open to it. Where it waits for a quota that others do not share (its own
budget, its chain's) it steps aside into a line of that quota and comes back, the first alone, when that has room again.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush

import msgspec

from actors.capacity import SLACK, Quota, Rank, Waiting, Why
from farebox.core.events import TaskRouted
from farebox.core.terms import Candidate


def join(state: Quota, fact: TaskRouted, *, cancelled: bool) -> None:
    """Let a routed task wait. Each chain's tasks take turns with those of the other chains."""
    name = f"{fact.chain}.{fact.task}"
    leave(state, name)
    turn = max(state.virtual, state.turns.get(fact.chain, 0)) + 1
    state.turns[fact.chain] = turn
    heappush(state.rounds, (turn, fact.chain))
    state.waiting[name] = waiting = Waiting(
        chain=fact.chain, task=fact.task, cause=fact.id, seq=fact.seq, attempt=fact.attempt, batch=fact.batch,
        traceparent=fact.traceparent, candidates=fact.candidates, priority=fact.priority, timeout_s=fact.timeout_s,
        on_interrupt=fact.on_interrupt, submission_sha256=fact.submission_sha256, cancelled=cancelled, turn=turn,
        allowance=fact.allowance,
    )  # fmt: skip
    line_up(state, name, waiting)


def leave(state: Quota, name: str) -> None:
    """Let a task wait no more; its places in line are passed over when they come up."""
    waiting = state.waiting.pop(name, None)
    if waiting is None:
        return
    state.unwanted.pop(name, None)
    if state.outs or state.stopping or state.stepped or state.called:
        state.outs.pop(name, None)
        state.stopping.pop(name, None)
        state.stepped.pop(name, None)
        state.passed.discard(name)
        for (quota, platform), rank in list(state.called.items()):
            if rank[3] == name:
                del state.called[quota, platform]
                state.stirred[quota] = None


def go_on(state: Quota, turn: int) -> None:
    """Move the round of the chains on to a turn that was granted; who is not further than that starts from there."""
    state.virtual = max(state.virtual, turn)
    while state.rounds and state.rounds[0][0] <= state.virtual:
        turn, chain = heappop(state.rounds)
        if state.turns.get(chain) == turn:
            del state.turns[chain]


def line_up_all(state: Quota) -> None:
    """Put everybody into line anew: the settings have changed, or the state was read from a snapshot."""
    state.forget_lines()
    state.unwanted.clear()
    for name, waiting in state.waiting.items():
        line_up(state, name, waiting)


def line_up(state: Quota, name: str, waiting: Waiting) -> None:
    """Put a task into the line of each candidate that is open to it, or aside until that candidate may be asked."""
    if hopeless(state, waiting):
        state.unwanted[name] = None
    if waiting.allowance.on_quota == "stop":
        state.stopping[name] = None
    for candidate in open_to(state, name, waiting):
        _stand(state, name, waiting, candidate)


def _stand(state: Quota, name: str, waiting: Waiting, candidate: Candidate) -> None:
    if candidate.not_before_ms > state.now_ms:
        heappush(state.later, (candidate.not_before_ms, waiting.seq, name, candidate.platform))
        if len(state.later) > SLACK + 2 * len(state.waiting):
            state.later[:] = [one for one in state.later if (other := state.waiting.get(one[2])) and other.seq == one[1]]
            heapify(state.later)
        return
    line = state.lines.setdefault(candidate.platform, [])
    heappush(line, waiting.rank)
    # A state that only folds gives nobody his turn: it forgets who waits no more once they are more than those who do.
    if len(line) > SLACK + 2 * len(state.waiting):
        line[:] = [rank for rank in line if _waits(state, rank)]
        heapify(line)


def hopeless(state: Quota, waiting: Waiting) -> bool:
    """Whether nobody wants the task any more, or nobody may do it any more, as far as the settings are understood."""
    if waiting.cancelled or state.unread:
        return waiting.cancelled
    return not any(candidate.platform in state.limits for candidate in waiting.candidates)


def open_to(state: Quota, name: str, waiting: Waiting) -> list[Candidate]:
    """Return the candidates that a task may move on to, in order.

    Unless it may `spill`, it goes where money is spent only if nothing cheaper comes before: a platform that failed before
    (it has a time before which it is not asked) or is out for it is nothing to wait for.
    """
    out = state.outs.get(name, {})
    some = [one for one in waiting.candidates if one.platform not in out]
    if waiting.alone and any(one.platform == waiting.alone for one in some):
        return [one for one in some if one.platform == waiting.alone]
    if waiting.allowance.on_quota == "spill":
        return some
    found: list[Candidate] = []
    cheaper = False
    for one in some:
        if one.billing != "metered":
            cheaper = cheaper or (not one.not_before_ms and one.platform in state.limits)
            found.append(one)
        elif not cheaper:
            found.append(one)
    return found


def strike(state: Quota, name: str, platform: str, why: Why) -> list[Candidate]:
    """Take a candidate out for a task: what it would take does not fit whatever happens. Returns who is left."""
    waiting = state.waiting[name]
    before = {one.platform for one in open_to(state, name, waiting)}
    state.outs.setdefault(name, {})[platform] = why
    left = open_to(state, name, waiting)
    for candidate in left:
        if candidate.platform not in before:
            _stand(state, name, waiting, candidate)
    return left


def look_again(state: Quota) -> None:
    """Let those be looked at again who were out, and those who stepped aside: a limit is another one now."""
    outs, state.outs = state.outs, {}
    for name in outs:
        line_up(state, name, state.waiting[name])
    state.stirred.update(dict.fromkeys(state.aside))
    state.passed.clear()


def come_due(state: Quota) -> None:
    """Move those whose candidate may be asked again into its line, and look after quotas whose window has turned."""
    while state.later and state.later[0][0] <= state.now_ms:
        _, seq, name, platform = heappop(state.later)
        waiting = state.waiting.get(name)
        if waiting is not None and waiting.seq == seq:
            heappush(state.lines.setdefault(platform, []), waiting.rank)
    while state.asleep and state.asleep[0][0] <= state.now_ms:
        _, quota = heappop(state.asleep)
        if quota in state.aside:
            state.stirred[quota] = None


def first(state: Quota, platform: str) -> Rank | None:
    """Return who is first in a line, forgetting entries of tasks that wait no more, wait anew or wait elsewhere."""
    line = state.lines[platform]
    while line:
        rank = line[0]
        if _waits(state, rank) and _here(state, rank[3], platform):
            return rank
        heappop(line)
    return None


def _waits(state: Quota, rank: Rank) -> bool:
    waiting = state.waiting.get(rank[3])
    return waiting is not None and waiting.seq == rank[2]


def _here(state: Quota, name: str, platform: str) -> bool:
    out = state.outs.get(name, {})
    alone = state.waiting[name].alone
    return platform not in out and (not alone or alone == platform or alone in out)


def step_aside(state: Quota, rank: Rank, platform: str, quota: str, due_ms: int) -> None:
    """Let the first of a line make room for those who do not share the quota it waits for."""
    heappop(state.lines[platform])
    heappush(state.aside.setdefault(quota, {}).setdefault(platform, []), rank)
    if state.called.get((quota, platform)) == rank:
        del state.called[quota, platform]
    if due_ms:
        heappush(state.asleep, (due_ms, quota))
    state.stepped[rank[3]] = None
    state.passed.discard(rank[3])


def ahead_of(state: Quota, rank: Rank, platform: str, quota: str) -> bool:
    """Whether somebody before this one stepped aside for the same quota."""
    found = _first_aside(state, quota, platform)
    return found is not None and found < rank


def _first_aside(state: Quota, quota: str, platform: str) -> Rank | None:
    line = state.aside.get(quota, {}).get(platform)
    while line:
        if _waits(state, line[0]) and _here(state, line[0][3], platform):
            return line[0]
        heappop(line)
    return None


def call_back(state: Quota) -> None:
    """Let the first of those who stepped aside for a quota in which something moved stand in line again."""
    for quota in list(state.stirred):
        del state.stirred[quota]
        for platform in list(state.aside.get(quota, {})):
            rank = _first_aside(state, quota, platform)
            if rank is None:
                del state.aside[quota][platform]
            elif (quota, platform) not in state.called:
                heappop(state.aside[quota][platform])
                state.called[quota, platform] = rank
                heappush(state.lines.setdefault(platform, []), rank)
        if not state.aside.get(quota, True):
            del state.aside[quota]


def once_deferred(state: Quota, name: str, routed_seq: int, quota: str) -> None:
    """Note that a task was told what it waits for; one with a last resort joins that platform's line alone."""
    waiting = state.waiting.get(name)
    if waiting is None or waiting.seq != routed_seq:
        return
    alone = waiting.allowance.last_resort if quota else ""
    if not any(one.platform == alone for one in waiting.candidates):
        alone = ""
    state.waiting[name] = msgspec.structs.replace(waiting, deferred=True, alone=alone)
