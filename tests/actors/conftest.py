"""Stories: facts in log order, numbered and timed like the stream does it, folded by an actor."""

import msgspec
import pytest

from farebox.core.events import Fact, PlatformReported, SettingsAdopted
from farebox.core.settings import PlatformSettings, Settings, canonical


class Story:
    """A log for one actor. `tell` adds facts; `state` is what the actor knows after all of them."""

    def __init__(self, actor):
        self.actor = actor
        self.state = actor.new()
        self.facts = []
        self.now_ms = 1_000

    def tell(self, *facts):
        """Append facts, one millisecond each, and return the last one as the log holds it."""
        for one in facts:
            self.now_ms += 1
            seq = len(self.facts) + 1
            fact = one
            if isinstance(one, Fact):
                fact = msgspec.structs.replace(one, seq=seq, at_ms=self.now_ms, id=one.id or f"seq-{seq}")
            self.facts.append(fact)
            if type(fact) in self.actor.folded():
                self.state = self.actor.evolve(self.state, fact)
        return self.facts[-1]

    def hear(self, fact):
        """Append a fact and return what the actor says to it."""
        return list(self.actor.decide(self.state, self.tell(fact)))

    def answer(self, heard):
        """Return what the actor says to what it heard before (or to a Wake)."""
        return list(self.actor.decide(self.state, heard))

    def all_said(self, heard):
        """Ask until there is nothing more to say; all of it is told."""
        said = []
        while more := self.answer(heard):
            said += [self.tell(fact) for fact in more]
        return said

    def replayed(self):
        """Return the state that a second reader of the same log has."""
        state = self.actor.new()
        for fact in self.facts:
            if type(fact) in self.actor.folded():
                state = self.actor.evolve(state, fact)
        return state


def same(one, other):
    """Say whether two states are the same value."""
    return msgspec.json.encode(one, order="sorted") == msgspec.json.encode(other, order="sorted")


def adopted(platforms, **more):
    """Return SettingsAdopted for platforms given as {name: fields of PlatformSettings}."""
    whole = {name: PlatformSettings(**{"kind": "test", **fields}) for name, fields in platforms.items()}
    plain, sha256 = canonical(Settings(platforms=whole, **more))
    return SettingsAdopted(settings=plain, sha256=sha256)


def reported(*names, **fields):
    """Return PlatformReported for each name, available unless said otherwise."""
    return [PlatformReported(**{"platform": name, "available": True, **fields}) for name in names]


class Makers:
    """What tests of actors are made of."""

    Story = Story
    adopted = staticmethod(adopted)
    reported = staticmethod(reported)
    same = staticmethod(same)


@pytest.fixture(scope="session")
def told():
    """Return the makers: Story, adopted, reported, same."""
    return Makers
