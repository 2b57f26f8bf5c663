"""Runs worlds by their seeds and says what is wrong with them, with the command that repeats it."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from farebox.simulation import laws
from farebox.simulation.world import World, installed

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from farebox.core.actor import Actor

UNHEALED = 4
"""Every so many worlds one is looked at in the middle of its troubles, without healing."""


class Outcome(Struct, frozen=True):
    """What became of one world. `wrong` is empty where all laws hold; `digest` is the sha256 of its log."""

    seed: int
    wrong: tuple[str, ...]
    facts: int
    steps: int
    crashes: int
    freezes: int
    calls: int
    charges: int
    digest: str


def run(seed: int, actors: list[Actor[Any]] | None = None) -> Outcome:
    """Run one world and hold the laws against it."""
    heal = seed % UNHEALED != UNHEALED - 1
    world = World(seed, actors)
    with _quiet(world):
        world.run(heal=heal)
    wrong = tuple(laws.broken(world, healed=heal))
    world.loop.let_go()
    digest = hashlib.sha256(b"\n".join(one.subject.encode() + one.body for one in world.store.facts)).hexdigest()
    return Outcome(
        seed=seed, wrong=wrong, facts=len(world.store.facts), steps=world.loop.steps, crashes=world.crashes,
        freezes=world.freezes, calls=len(world.provider.calls), charges=len(world.provider.charges), digest=digest,
    )  # fmt: skip


def run_all(seeds: Iterable[int]) -> Iterator[Outcome]:
    """Run many worlds, one after the other."""
    actors = installed("farebox.actors")
    return (run(seed, actors) for seed in seeds)


def run_beside(seeds: Iterable[int], processes: int) -> Iterator[Outcome]:
    """Run many worlds in several processes; the outcomes come in the order of the seeds."""
    with ProcessPoolExecutor(processes) as pool:
        yield from pool.map(run, seeds, chunksize=50)


def report(outcome: Outcome) -> str:
    """Return what is wrong with a world and how to see it again."""
    return "\n".join([*outcome.wrong, f"Again: uv run python -m farebox.simulation --seed {outcome.seed} --log"])


def log_of(seed: int) -> list[str]:
    """Return the log of a world, one line a fact."""
    world = World(seed)
    with _quiet(world):
        world.run(heal=seed % UNHEALED != UNHEALED - 1)
    world.loop.let_go()
    return [f"{one.seq:5} {one.at_ms % 10**9:9} {one.subject} {one.body.decode(errors='replace')}" for one in world.store.facts]


class _Escaped(logging.Handler):
    """Keeps what the runtime caught and only told its log: in a world whose parts are all sound nothing may break."""

    def __init__(self, broken: list[BaseException]) -> None:
        super().__init__(logging.ERROR)
        self._broken = broken

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the exception of a record that has one."""
        if record.exc_info and record.exc_info[1] is not None:
            self._broken.append(record.exc_info[1])


@contextmanager
def _quiet(world: World) -> Generator[None]:
    """Troubles are the point of a simulation: nobody needs to be warned of them. What breaks the runtime itself is kept."""
    logger = logging.getLogger("farebox")
    before, propagated, handler = logging.root.manager.disable, logger.propagate, _Escaped(world.loop.broken)
    logging.disable(logging.WARNING)
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagated
        logging.disable(before)
