"""A program keeps its requests to itself: an attempt that may have been charged is one request at least."""

import pytest

from actors import quota
from farebox.core.events import AttemptFailed, QuotaReserved, TaskCompleted, TaskRouted
from farebox.core.quotas import QuotaSettings
from farebox.core.terms import Candidate, Fault


@pytest.fixture
def story(told):
    one = told.Story(quota.ACTOR)
    limit = QuotaSettings(platform="p", window="hour", limit=1)
    one.tell(told.adopted({"p": {"billing": "plan"}}, quotas={"hour": limit}))
    return one


def routed(task):
    return TaskRouted(chain="c", task=task, attempt=1, candidates=(Candidate(platform="p", billing="plan"),))


@pytest.mark.parametrize(("charged", "granted"), [("known", False), ("possible", False), ("none", True)])
def test_who_answered_without_telling_his_requests_used_one(story, charged, granted):
    about = {"chain": "c", "task": "a", "platform": "p", "attempt": 1, "charged": charged}
    fault = Fault(error_class="crashed")
    ended = TaskCompleted(**about, status="completed") if charged == "known" else AttemptFailed(**about, fault=fault)
    story.all_said(story.tell(routed("a")))
    story.all_said(story.tell(ended))
    said = story.all_said(story.tell(routed("b")))
    assert any(isinstance(fact, QuotaReserved) for fact in said) == granted
