"""What routing costs a task, in CPU time: uv run python benchmarks/routing.py [--tasks N].

Folding its submission, its route and its end, learning from the end, and the decision itself, without a bus and without a mind.
For a task that names the rehearsal while nothing else is there, and for one that any of the built-in platforms may do, with
prompts of ever new sizes, so that no price is found ready.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import msgspec
from harness import ran_on

from actors.platforms import PLATFORMS
from actors.router import decide, evolve
from actors.routes import Router
from farebox.core.events import PlatformReported, SettingsAdopted, TaskCompleted, TaskRouted, TaskSubmitted
from farebox.core.settings import Settings, canonical
from farebox.core.terms import Usage
from farebox.runtime.prices import adoption, compile_prices

MUST_US = 50
"""For the rehearsal, microseconds; it was 15 before tasks were estimated."""
CHUNK = 250
KNOWN = {name: platform for kind in PLATFORMS for name, platform in kind.defaults.items()}


def begun(present: Sequence[str]) -> tuple[Router, int]:
    """Return a router that knows all built-in platforms and prices, and where its log stands."""
    body, sha256 = canonical(Settings(platforms=KNOWN))
    reports = [PlatformReported(platform=name, available=name in present, detail="not found") for name in KNOWN]
    facts = [SettingsAdopted(settings=body, sha256=sha256), adoption(compile_prices()), *reports]
    state = Router()
    for seq, fact in enumerate(facts, 1):
        state = evolve(state, msgspec.structs.replace(fact, seq=seq, at_ms=seq))
    return state, len(facts)


def cost_us(present: Sequence[str], tasks: int, hint: str, sizes: int) -> tuple[float, int]:
    """Return the least CPU time for a task (microseconds, of chunks of them), and the candidates that the last one had."""
    state, seq = begun(present)
    least_us, candidates = float("inf"), 0
    for first in range(0, tasks, CHUNK):
        began_s = time.process_time()
        for number in range(first, first + CHUNK):
            prompt = f"Say what you see in line {number}." + "." * (number * 7 % sizes)
            task = TaskSubmitted(
                id=f"s-{number}", chain="b", task=f"t{number}", platform=hint, prompt=prompt, seq=seq, at_ms=seq
            )
            state = evolve(state, task)
            (routed,) = decide(state, task)
            assert isinstance(routed, TaskRouted), routed
            state = evolve(state, msgspec.structs.replace(routed, seq=seq + 1, at_ms=seq + 1))
            state = evolve(state, _completed(task, routed.candidates[0].platform, seq + 2))
            seq, candidates = seq + 3, len(routed.candidates)
        least_us = min(least_us, (time.process_time() - began_s) / CHUNK * 1e6)
    return least_us, candidates


def _completed(task: TaskSubmitted, platform: str, seq: int) -> TaskCompleted:
    return TaskCompleted(
        chain=task.chain, task=task.task, attempt=1, platform=platform, charged="known", status="completed", output="Done.",
        duration_ms=12, usage=Usage(input_tokens=9, output_tokens=20), seq=seq, at_ms=seq,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=10_000)
    options = parser.parse_args()
    print(ran_on())
    one_us, _ = cost_us(["rehearsal"], options.tasks, "rehearsal", 1)
    all_us, candidates = cost_us(list(KNOWN), options.tasks, "", 50_000)
    print(f"routing, the rehearsal alone {one_us:5.0f} us a task  must {MUST_US} {'ok' if one_us <= MUST_US else 'MISSED'}  "
          f"with {candidates} candidates {all_us:5.0f} us")  # fmt: skip


if __name__ == "__main__":
    main()
