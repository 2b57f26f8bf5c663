"""Stories that are hard to count: what the quota actor says to them is certified, fact by fact."""

import msgspec

from actors import quota
from farebox.certificate.fold import Fold
from farebox.core import subjects, wire
from farebox.core.actor import Wake
from farebox.core.events import QuotaReserved, SettingsAdopted, TaskCompleted, TaskRouted
from farebox.core.quotas import BudgetSettings
from farebox.core.settings import PlatformSettings, Settings, canonical
from farebox.core.terms import Allowance, CallRecord, Candidate

DAY_MS = 86_400_000


class Story:
    """A log that quota and the certificate read side by side; its clock says what it is told to."""

    def __init__(self, **fields):
        self.state, self.fold = quota.ACTOR.new(), Fold()
        self.now_ms, self.seq = 1_774_741_500_000, 0
        platforms = {"p": PlatformSettings(kind="test", limit=9, billing="metered")}
        plain, sha256 = canonical(Settings(platforms=platforms, warn_at_percent=100, **fields))
        self.tell(SettingsAdopted(settings=plain, sha256=sha256), "engine")

    def tell(self, fact, writer="router"):
        """Put a fact into the log, as it is read from there."""
        self.seq += 1
        fact = msgspec.structs.replace(fact, id=fact.id or f"seq-{self.seq}")
        fact = wire.decode(subjects.subject_of(writer, fact), wire.encode(fact), self.seq, self.now_ms)
        self.fold.take(fact)
        if type(fact) in quota.ACTOR.folded():
            self.state = quota.evolve(self.state, fact)
        return fact

    def say(self, heard=None):
        """Let quota say all it has to say; return whose turn it was."""
        grants = []
        while said := quota.decide(self.state, heard or Wake(self.now_ms)):
            for fact in said:
                self.tell(fact, "quota")
                grants += [fact.task] if isinstance(fact, QuotaReserved) else []
        return grants

    def wrong(self):
        """Return what the certificate blames, in words."""
        found = self.fold.certificate(facts=self.seq, first=1, last=self.seq, digest="")
        return [breach.text for breach in found.breaches]


def routed(task, **allowed):
    candidate = Candidate(platform="p", billing="metered", bound_usd="0.5", input_tokens_max=1, output_tokens_max=1)
    return TaskRouted(chain="c", task=task, attempt=1, candidates=(candidate,), allowance=Allowance(**allowed))


def done(task, **fields):
    return TaskCompleted(chain="c", task=task, attempt=1, platform="p", status="completed", charged="none",
                         calls=(CallRecord(status=200),), **fields)  # fmt: skip


def test_a_tag_as_long_as_a_letter_has_a_budget_of_its_own_that_is_certified():
    story = Story(budgets={"team": BudgetSettings(limit_usd="0.9", scope="tag", window="day")})
    for task, value in (("a", "x" * 5_000), ("b", "x" * 5_000), ("d", "x" * 4_999 + "y")):
        story.tell(routed(task, tags={"team": value}))
    assert story.say() == ["a", "d"]
    assert story.wrong() == []
