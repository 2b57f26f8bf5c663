"""A grant in the same append as a deadline may still count what that frees: more than is used, never less, and only then."""

import msgspec
import pytest

from farebox.certificate.fold import Fold
from farebox.core.events import QuotaReserved, QuotaSettled, SettingsAdopted, TaskRouted
from farebox.core.quotas import QuotaSettings
from farebox.core.settings import PlatformSettings, Settings, canonical
from farebox.core.terms import Candidate, Take

BEGIN_MS = 1_774_741_500_000
DAY_MS = 86_400_000
QUOTA = "p/day/requests"


def granted(task, seq, at_ms, *, in_use, used, as_of):
    take = Take(quota=QUOTA, amount="1", used=str(used), limit="5", source="configured")
    return QuotaReserved(
        id=f"g-{task}", chain="c", task=task, attempt=1, platform="p", billing="plan", in_use=in_use, limit=9,
        takes=(take,), as_of=as_of, seq=seq, at_ms=at_ms,
    )  # fmt: skip


def judged(in_use, used, as_of):
    """Grant a, give it up a day later at fact 5, grant b at fact 6 with what it says is used; return what is blamed."""
    platforms = {"p": PlatformSettings(kind="test", limit=9, billing="plan")}
    quotas = {"q": QuotaSettings(platform="p", window="day", limit=5)}
    plain, sha256 = canonical(Settings(platforms=platforms, quotas=quotas))
    routes = [
        TaskRouted(id=f"r-{task}", chain="c", task=task, attempt=1, candidates=(Candidate(platform="p", billing="plan"),))
        for task in "ab"
    ]
    given_up = QuotaSettled(
        id="x", cause="g-a", chain="c", task="a", attempt=1, platform="p", expired=True, takes=(Take(quota=QUOTA, amount="1"),)
    )
    later_ms = BEGIN_MS + DAY_MS
    fold = Fold()
    for seq, (fact, at_ms) in enumerate(
        [(SettingsAdopted(settings=plain, sha256=sha256), BEGIN_MS), (routes[0], BEGIN_MS),
         (granted("a", 3, BEGIN_MS, in_use=1, used=1, as_of=2), BEGIN_MS), (routes[1], later_ms), (given_up, later_ms),
         (granted("b", 6, later_ms, in_use=in_use, used=used, as_of=as_of), later_ms)], 1,
    ):  # fmt: skip
        fold.take(msgspec.structs.replace(fact, seq=seq, at_ms=at_ms))
    return sorted(breach.kind for breach in fold.certificate(facts=6, first=1, last=6, digest="").breaches)


@pytest.mark.parametrize(
    ("in_use", "used", "as_of", "kinds"),
    [
        (1, 1, 5, []),
        (2, 2, 4, []),
        (1, 1, 4, []),
        (2, 2, 5, ["used", "used"]),
        (3, 3, 4, ["used", "used"]),
        (0, 0, 4, ["used", "used"]),
    ],
)
def test_what_a_deadline_frees_may_be_counted_until_it_was_read(in_use, used, as_of, kinds):
    assert judged(in_use, used, as_of) == kinds
