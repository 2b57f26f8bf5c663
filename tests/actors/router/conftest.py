"""Stories of the router: three platforms of three prices, and what happens to a task."""

import pytest

from actors import router
from farebox.core.events import AttemptFailed, AttemptInterrupted, PriceListAdopted, TaskCompleted, TaskSubmitted
from farebox.core.pricing import DatedPrice, ModelPrices, PriceList, ProviderPrices, Rates, canonical
from farebox.core.terms import Fault, Usage

TIERS = {
    "cloud": {"billing": "metered"},
    "home": {"billing": "free"},
    "plan": {"billing": "plan", "models": ("large", "small")},
}


class Routing:
    """What the router hears, and how its answers are read."""

    TIERS = TIERS

    @staticmethod
    def task(name="t", **fields):
        return TaskSubmitted(chain="c", task=name, prompt="?", **fields)

    @staticmethod
    def failed(attempt=1, platform="home", error_class="server_error", **fields):
        return AttemptFailed(
            chain="c",
            task="t",
            attempt=attempt,
            platform=platform,
            fault=Fault(error_class=error_class, message="no"),
            **fields,
        )

    @staticmethod
    def interrupted(attempt=1, platform="home", charged="possible"):
        fault = Fault(error_class="crashed", message="gone")
        return AttemptInterrupted(chain="c", task="t", attempt=attempt, platform=platform, charged=charged, fault=fault)

    @staticmethod
    def done(task="t", platform="home", attempt=1, usage=(10, 20), **fields):
        """Return the answer of a platform; `usage` is what it read and wrote, None for nothing told."""
        told = usage and Usage(input_tokens=usage[0], output_tokens=usage[1])
        known = {"chain": "c", "charged": "known", "status": "completed", "usage": told}
        return TaskCompleted(**{**known, "task": task, "platform": platform, "attempt": attempt, **fields})

    @staticmethod
    def prices(*, windows=None, **per_token):
        """Return a list in which each model reads and writes at one price per token (US dollars)."""
        models = tuple(
            ModelPrices(
                id=name,
                match=((f"={name}",),),
                prices=(DatedPrice(rates=Rates(input=price, output=price)),),
                context_tokens=(windows or {}).get(name),
            )
            for name, price in per_token.items()
        )
        plain, sha256 = canonical(PriceList(providers=(ProviderPrices(id="all", match=(("~",),), models=models),)))
        return PriceListAdopted(list_id="test", prices=plain, sha256=sha256)

    @staticmethod
    def reasons(said):
        """Return why each rejected platform was rejected."""
        return {one.platform: one.reason for one in said.rejected}

    @staticmethod
    def routed(story, **fields):
        """Submit, route, and return the story with its TaskRouted told."""
        (said,) = story.hear(Routing.task(**fields))
        return story.tell(said)

    @staticmethod
    def names(said):
        return [candidate.platform for candidate in said.candidates]


@pytest.fixture
def story(told):
    def tell(platforms=TIERS, **settings):
        one = told.Story(router.ACTOR)
        one.tell(told.adopted(platforms, **settings), *told.reported(*platforms))
        return one

    return tell


@pytest.fixture(scope="session")
def routing():
    """Return the makers: task, failed, interrupted, routed; and the names of candidates."""
    return Routing
