"""Stories of the router: three platforms of three prices, and what happens to a task."""

import pytest

from actors import router
from farebox.core.events import AttemptFailed, AttemptInterrupted, TaskSubmitted
from farebox.core.terms import Fault

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
