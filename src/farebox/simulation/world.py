"""One world: its machines, its provider, its people and its log, all under one seed."""

from __future__ import annotations

import contextvars
from importlib.metadata import entry_points
from random import Random
from typing import Any

import msgspec

from farebox.core import subjects, wire
from farebox.core.actor import Actor
from farebox.core.events import Fact, PlatformReported, PriceListAdopted, SettingsAdopted
from farebox.core.platform import PlatformKind
from farebox.core.pricing import DatedPrice, ModelPrices, PriceList, ProviderPrices, Rates
from farebox.core.pricing import canonical as canonical_prices
from farebox.core.settings import PlatformSettings, Settings, canonical
from farebox.log.port import Entry
from farebox.log.store import MemoryStore
from farebox.simulation.chances import CALM, Chances, drawn
from farebox.simulation.clients import Clients
from farebox.simulation.loop import Process, VirtualLoop
from farebox.simulation.machine import Machine
from farebox.simulation.network import Network
from farebox.simulation.provider import Provider

EPOCH_S = 1_700_000_000.0
FAULTS_S = 240.0
"""How long things go wrong, virtual seconds."""
HEALED_S = 7_200.0
"""How long a healed world may take to end everything."""
MODEL = "m1"
PRICES = PriceList(
    list_id="simulated",
    providers=(
        ProviderPrices(
            id="all",
            match=(("^m",),),
            models=(ModelPrices(id=MODEL, match=(("=m1",),), prices=(DatedPrice(rates=Rates(input="0.01", output="0.1")),)),),
        ),
    ),
)


def installed(group: str) -> list[Any]:
    """Return the actors or platforms that are installed."""
    return [one for entry in entry_points(group=group) for one in entry.load()]


class World:
    """Everything of one seed. `kept` are the settings in force at the beginning."""

    def __init__(self, seed: int, actors: list[Actor[Any]] | None = None) -> None:
        self.seed = seed
        self.random = Random(seed)  # noqa: S311 - chosen by a seed on purpose
        self.chances: Chances = drawn(self.random)
        self.loop = VirtualLoop(self._before_step)
        self.loop.now_s = EPOCH_S
        self.store = MemoryStore(self._now_ms)
        self.actors: list[Actor[Any]] = installed("farebox.actors") if actors is None else actors
        self.settings = self._settings()
        self.provider = Provider(self.random, lambda: len(self.store.facts))
        self.network = Network(self.store, self.random, lambda: self.chances)
        self.clients = Clients(self.store, self.random, list(self.settings.platforms))
        self.machines = self._machines()
        self.crashes = 0
        self.freezes = 0

    def run(self, *, heal: bool = True) -> None:
        """Let things go wrong for a while; then, where `heal`, let nothing go wrong until all is at rest."""
        people = Process("people")
        self._found()
        for machine in self.machines:
            self.loop.spawn(machine.process, machine.live())
        self.loop.spawn(people, self.clients.live(self.settings))
        self.loop.spawn(people, self.clients.answer())
        self.loop.run_for(self._broken, FAULTS_S)
        if heal:
            self.chances = CALM
            end_s = self.loop.now_s + HEALED_S
            while self.loop.now_s < end_s and not self._broken() and not self.at_rest():
                self.loop.run_for(self._broken, 30.0)
            self.loop.run_for(self._broken, 60.0)

    def at_rest(self) -> bool:
        """Whether every task has ended and every follower has read and said everything."""
        last_seq = self.store.position().last_seq
        ended = {tuple(fact.subject.split(".")[5:]) for fact in self.store.facts if ".completed." in fact.subject}
        followers = [machine for machine in self.machines if machine.follower is not None]
        quiet = all(mind.idle and mind.seq == last_seq for machine in followers for mind in machine.minds)
        return quiet and bool(followers) and self.clients.promised <= ended

    def _now_ms(self) -> int:
        return round(self.loop.now_s * 1000)

    def _broken(self) -> bool:
        return bool(self.loop.broken)

    def _before_step(self, process: Process) -> None:
        """Crash or freeze the process whose turn it is; people neither crash nor freeze."""
        machine = next((one for one in self.machines if one.process is process), None)
        if machine is None:
            return
        if self.network.happens(self.chances.crash):
            self.crashes += 1
            machine.crash()
            self.loop.call_later(30 * self.random.random() ** 2, self._start, machine, context=contextvars.Context())
        elif self.network.happens(self.chances.freeze):
            self.freezes += 1
            process.freeze(self.loop.now_s + 90 * self.random.random() ** 2)

    def _start(self, machine: Machine) -> None:
        self.loop.spawn(machine.process, machine.live())

    def _found(self) -> None:
        """Adopt settings and prices and report the platforms, as an engine's first start does."""
        plain, sha256 = canonical(self.settings)
        prices, prices_sha256 = canonical_prices(PRICES)
        self._say("engine", SettingsAdopted(settings=plain, sha256=sha256))
        self._say("engine", PriceListAdopted(list_id=PRICES.list_id, sha256=prices_sha256, prices=prices))
        for name in self.settings.platforms:
            self._say("adapter", PlatformReported(platform=name, available=True, models=(MODEL,)))

    def _say(self, writer: str, fact: Fact) -> None:
        fact = msgspec.structs.replace(fact, id=f"founding-{type(fact).__name__}")
        self.store.append([Entry(subjects.subject_of(writer, fact), wire.encode(fact), None)])

    def _settings(self) -> Settings:
        random = self.random
        names = ["alpha", "beta", "gamma"][: random.randint(1, 3)]
        platforms = {
            name: PlatformSettings(
                kind="rehearsal",
                billing=random.choice(("plan", "metered", "free")),
                limit=random.randint(1, 3),
                on_interrupt=random.choice((None, None, "retry", "fail", "ask")),
                open=random.random() < 0.9,
                model=MODEL,
            )
            for name in names
        }
        return Settings(platforms=platforms, billed_attempts_max=random.randint(1, 3), attempts_max=random.randint(3, 8))

    def _machines(self) -> list[Machine]:
        """One or two engines, and perhaps machines that only work."""
        kinds: list[PlatformKind] = installed("farebox.platforms")
        machines: list[Machine] = []
        for number in range(self.random.randint(1, 2) + self.random.randint(0, 2)):
            follows = number == 0 or self.random.random() < 0.5
            lanes = {n: s for n, s in self.settings.platforms.items() if number == 0 or self.random.random() < 0.8}
            name = f"{'engine' if follows else 'worker'}{number}"
            machines.append(Machine(name, self.network, self.provider, self.actors, kinds[0], follows=follows, lanes=lanes))
        return machines
