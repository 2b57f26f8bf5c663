"""A desk: a memory log, and minds over it that are driven by hand."""

import pytest

from farebox.core import subjects, wire
from farebox.core.errors import AppendRefused
from farebox.core.events import PlatformReported, SettingsAdopted, TaskCompleted, TaskRouted, TaskSubmitted
from farebox.core.settings import PlatformSettings, Settings, canonical
from farebox.core.terms import Candidate
from farebox.log.port import Entry
from farebox.log.store import MemoryStore
from farebox.runtime import mind as minds
from farebox.runtime.mind import Mind

SECRET = b"secret"


class Desk:
    """A log and the minds that read it, driven by hand."""

    def __init__(self, limit=1):
        self.now_ms = 1_000
        self.store = MemoryStore(lambda: self.now_ms)
        platforms = {"p": PlatformSettings(kind="test", limit=limit, model="m")}
        plain, sha256 = canonical(Settings(platforms=platforms))
        self.put("engine", SettingsAdopted(settings=plain, sha256=sha256, id="settings"))
        self.put("adapter", PlatformReported(platform="p", available=True, id="report"))

    def put(self, writer, fact):
        """Append a fact as if by somebody else and return its sequence."""
        (seq,) = self.store.append([Entry(subjects.subject_of(writer, fact), wire.encode(fact))])
        return seq

    def mind(self, actor, live=True):
        mind = Mind(actor, SECRET)
        self.read(mind)
        if live:
            mind.go_live(self.now_ms)
        return mind

    def read(self, mind, count=None):
        """Let a mind read on, all or `count` facts."""
        for stored in self.store.read(mind.seq + 1)[:count]:
            fact = wire.decode(stored.subject, stored.body, stored.seq, stored.at_ms)
            mind.hear(fact, minds.writer_of(stored.subject))

    def append(self, mind, decision):
        """Append a decision and tell the mind; return whether it was stored."""
        try:
            seqs = self.store.append(mind.entries(decision))
        except AppendRefused as refused:
            mind.refused(decision, refused.last_seq)
            return False
        mind.stored(decision, seqs)
        return True

    def all(self, mind):
        """Let a mind say all it has to say."""
        said = []
        while decisions := list(mind.decisions()):
            for decision in decisions:
                if self.append(mind, decision):
                    said += decision.facts
            self.read(mind)
        return said

    @staticmethod
    def task(name, **fields):
        return TaskSubmitted(chain="c", task=name, prompt="?", **fields)

    @staticmethod
    def route(name, **fields):
        return TaskRouted(chain="c", task=name, attempt=1, candidates=(Candidate(platform="p"),), **fields)

    @staticmethod
    def done(name, **fields):
        return TaskCompleted(chain="c", task=name, attempt=1, platform="p", status="completed", **fields)

    @property
    def subjects(self):
        return [stored.subject.removeprefix("farebox.log.") for stored in self.store.facts]


@pytest.fixture
def desk():
    """Return a desk whose one platform does one thing at a time."""
    return Desk()


@pytest.fixture
def make_desk():
    """Return what makes desks."""
    return Desk
