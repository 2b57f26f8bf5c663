"""What a task will read and write, learned from what tasks before it used: a value that is folded from the log.

Input: the rule of thumb (core/tokens.py) times the ratio of reported to estimated tokens, for each model and size of text. A
program adds its own words to each prompt, so what was learned from short texts is added to longer ones, never multiplied.
Output: a histogram of powers of two for each type of task, and for each type and model.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from math import log2
from typing import NamedTuple

import msgspec
from msgspec import Struct

from farebox.core.terms import TaskType

RATIO_MIN, RATIO_MAX = 0.25, 8.0
"""What is reported outside of these bounds counts as the bound: no mistake of a platform makes an estimate absurd."""
SURPRISE_MAX = 1.0
"""One report moves a ratio by a factor of two at most (log2), so that a single wild one does little."""
WEIGHT_MIN = 1 / 16
"""What the newest report counts for once many are known."""
SIZES = 7
"""Classes of sizes, each four times the one before: below 256 tokens, below 1,024, ... 262,144 and more."""
BUCKETS = 21
"""Powers of two of output tokens; the last one holds all that is larger."""
SAMPLES_MAX = 256
"""With more, all counts are halved: what is older counts less."""
ENOUGH_OF_TYPE = 5
ENOUGH_OF_MODEL = 16
KEYS_MAX = 1_000
"""Models remembered; those learned about first are forgotten first."""


class Output(NamedTuple):
    """Output tokens: one task in ten writes less than `low`, half of them less than `typical`, one in ten more than `high`."""

    low: int
    typical: int
    high: int


DEFAULTS: dict[TaskType, Output] = {
    "code_generation": Output(200, 1500, 6000),
    "research": Output(300, 1200, 4000),
    "data_analysis": Output(150, 800, 3000),
    "review": Output(100, 700, 2500),
    "general": Output(20, 400, 2000),
}
"""Before anything is known: a guess, in tokens. docs/guides/routing.md names them."""


class Ratio(Struct, frozen=True, gc=False):
    """log2 of reported / estimated input tokens, and how many reports led to it."""

    level: float = 0.0
    count: int = 0


class Estimator(Struct):
    """All that was learned. `ratios`: for each model one of each size; `outputs`: histograms by type, and by type and model."""

    ratios: dict[str, list[Ratio]] = msgspec.field(default_factory=dict[str, list[Ratio]])
    outputs: dict[str, list[int]] = msgspec.field(default_factory=dict[str, list[int]])


def model_key(platform: str, model: str) -> str:
    """Return the name under which a model is remembered: two platforms add different words to the same model's prompts."""
    return f"{platform}/{model}"


def learn_input(estimator: Estimator, model: str, estimated: int, reported: int) -> None:
    """Remember that a text of so many `estimated` tokens was `reported` as so many, by a model named as `model_key` does."""
    if estimated <= 0 or reported <= 0:
        return
    ratios = estimator.ratios.setdefault(model, [Ratio()] * SIZES)
    place = _size(estimated)
    known = ratios[place]
    seen = log2(min(max(reported / estimated, RATIO_MIN), RATIO_MAX))
    surprise = min(max(seen - known.level, -SURPRISE_MAX), SURPRISE_MAX)
    weight = max(1 / (known.count + 1), WEIGHT_MIN)
    ratios[place] = Ratio(known.level + weight * surprise, min(known.count + 1, SAMPLES_MAX))
    _forget(estimator.ratios)


def input_tokens(estimator: Estimator, model: str, estimated: int) -> int:
    """Return `estimated` tokens as this model will probably count them."""
    ratios = estimator.ratios.get(model)
    if ratios is None or estimated <= 0:
        return max(estimated, 0)
    place = _size(estimated)
    if ratios[place].count:
        return _times(estimated, ratios[place])
    smaller = next((size for size in range(place - 1, -1, -1) if ratios[size].count), None)
    if smaller is not None:
        added = _middle(smaller) * (2 ** ratios[smaller].level - 1)
        return max(1, estimated + round(added))
    larger = next(ratios[size] for size in range(place + 1, SIZES) if ratios[size].count)
    return _times(estimated, larger)


def learn_output(estimator: Estimator, task_type: TaskType, model: str, reported: int) -> None:
    """Remember how many tokens a task of this type wrote on this model."""
    bucket = min(max(reported, 0).bit_length(), BUCKETS - 1)
    for key in (task_type, f"{task_type}/{model}"):
        counts = estimator.outputs.setdefault(key, [0] * BUCKETS)
        counts[bucket] += 1
        if sum(counts) > SAMPLES_MAX:
            counts[:] = [count // 2 for count in counts]
    _forget(estimator.outputs)


def output_tokens(estimator: Estimator, task_type: TaskType, model: str) -> Output:
    """Return what such a task will probably write: learned of type and model, of the type alone, or the default."""
    for key, enough in ((f"{task_type}/{model}", ENOUGH_OF_MODEL), (task_type, ENOUGH_OF_TYPE)):
        counts = estimator.outputs.get(key)
        sums = list(accumulate(counts)) if counts else [0]
        if counts and sums[-1] >= enough:
            return Output(_quantile(counts, sums, 1), _quantile(counts, sums, 5), _quantile(counts, sums, 9))
    return DEFAULTS[task_type]


def _size(estimated: int) -> int:
    return min(max(estimated.bit_length() - 7, 0) // 2, SIZES - 1)


def _middle(size: int) -> int:
    """Return a text length in tokens in the middle of a class."""
    return 64 if size == 0 else 2 ** (2 * size + 7)


def _times(estimated: int, ratio: Ratio) -> int:
    return max(1, round(estimated * 2**ratio.level))


def _quantile(counts: list[int], sums: list[int], tenths: int) -> int:
    """Return the number below which so many tenths of all lie, as if each bucket were evenly filled. `sums` add counts up."""
    wanted = sums[-1] * tenths
    bucket = bisect_left(sums, -(-wanted // 10))
    missing = wanted - (sums[bucket] - counts[bucket]) * 10
    lowest = 2**bucket // 2
    return lowest + lowest * missing // (counts[bucket] * 10)


def _forget(known: dict[str, list[Ratio]] | dict[str, list[int]]) -> None:
    while len(known) > KEYS_MAX:
        del known[next(iter(known))]
