"""What the router learns from ended attempts for tasks to come: tokens, health, where a chain stays. Pure.

It is folded after the task itself, so that a fact which breaks the fold of its task teaches nothing.
"""

from __future__ import annotations

from actors.routes import Known, Router, chain_of, model_of, policy_of
from farebox.core import estimates, health
from farebox.core.events import AttemptFailed, AttemptInterrupted, TaskCompleted, TaskRouted
from farebox.core.ids import NONE

STICKY_MAX = 10_000
"""Chains whose last platform is remembered; those that succeeded longest ago are forgotten first."""
PLATFORMS_MAX = 1_000

Ended = TaskCompleted | AttemptFailed | AttemptInterrupted


def took(state: Router, name: str, at_ms: int) -> Router:
    """Note that the router got the baton of a task: it may find out whether a platform that is spared works again."""
    for platform, known in state.health.items():
        if known.until_ms:
            state.health[platform] = health.claimed(known, name, at_ms)
    return state


def gave(state: Router, name: str, routed: TaskRouted) -> Router:
    """Note where a task was sent: it finds out about its first candidate alone."""
    first = routed.candidates[0].platform if routed.candidates else ""
    for platform, known in state.health.items():
        if known.probe == name and platform != first:
            state.health[platform] = health.released(known, name)
    return state


def failed(state: Router, name: str, known: Known, ended: AttemptFailed | AttemptInterrupted) -> Router:
    """Learn from an attempt after which the router has the baton again."""
    return took(_learn(state, name, known, ended), name, ended.at_ms)


def completed(state: Router, name: str, known: Known, ended: TaskCompleted) -> Router:
    """Learn from the last attempt of a task; it finds out about nobody any more."""
    _learn(state, name, known, ended)
    for platform, one in state.health.items():
        if one.probe == name:
            state.health[platform] = health.released(one, name)
    return state


def _learn(state: Router, name: str, known: Known, ended: Ended) -> Router:
    """Learn from what an adapter recorded; a task that the router ended teaches nothing."""
    if ended.platform == NONE:
        return state
    before = health.of(state.health, ended.platform)
    after = health.after(before, health.outcome(ended), duration_ms=ended.duration_ms, at_ms=ended.at_ms, task=name)
    if before != after and (ended.platform in state.health or len(state.health) < PLATFORMS_MAX):
        state.health[ended.platform] = after
    if isinstance(ended, TaskCompleted) and ended.status == "completed":
        _learn_use(state, known, ended)
        _stay(state, chain_of(name), known, ended.platform)
    return state


def _learn_use(state: Router, known: Known, ended: TaskCompleted) -> None:
    """Learn from a whole answer only: what was cut says nothing about how long answers are."""
    usage, section = ended.usage, state.settings.platforms.get(ended.platform)
    if usage is None or usage.source == "estimated" or section is None:
        return
    key = estimates.model_key(ended.platform, model_of(state, known, ended.platform, section))
    if usage.input_tokens is not None:
        estimates.learn_input(state.estimator, key, known.tokens, usage.input_tokens)
    if usage.output_tokens is not None:
        estimates.learn_output(state.estimator, known.type, key, usage.output_tokens)


def _stay(state: Router, chain: str, known: Known, platform: str) -> None:
    if not policy_of(state.settings, known, chain)[1].sticky:
        return
    state.sticky.pop(chain, None)
    state.sticky[chain] = platform
    while len(state.sticky) > STICKY_MAX:
        del state.sticky[next(iter(state.sticky))]
