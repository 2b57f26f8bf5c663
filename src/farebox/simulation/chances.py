"""What may go wrong in one world and how often: drawn from its seed, so that some worlds are rough and some are almost calm."""

from __future__ import annotations

from random import Random

from msgspec import Struct


class Chances(Struct):
    """Probabilities, each for one occasion of its kind."""

    crash: float = 0.0
    freeze: float = 0.0
    lost: float = 0.0
    answer_lost: float = 0.0
    arrives_late: float = 0.0
    busy: float = 0.0
    unreadable: float = 0.0
    handed_twice: float = 0.0
    ack_lost: float = 0.0
    deaf: float = 0.0
    slow: float = 0.0
    disk_full: float = 0.0
    snapshot: float = 0.5


CALM = Chances()
"""After healing: nothing goes wrong any more."""


def drawn(random: Random) -> Chances:
    """Return the faults of one world: each kind absent in many worlds, frequent in a few."""

    def up_to(most: float) -> float:
        return 0.0 if random.random() < 0.4 else most * random.random() ** 2

    return Chances(
        crash=up_to(0.012),
        freeze=up_to(0.004),
        lost=up_to(0.2),
        answer_lost=up_to(0.2),
        arrives_late=up_to(0.15),
        busy=up_to(0.2),
        unreadable=up_to(0.2),
        handed_twice=up_to(0.4),
        ack_lost=up_to(0.5),
        deaf=up_to(1.0),
        slow=up_to(0.5),
        disk_full=up_to(0.1),
        snapshot=random.random(),
    )
