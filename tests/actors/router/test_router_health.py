"""Platforms that fail again and again are spared, and one task at a time finds out whether that is over."""

import pytest

from actors import lessons
from farebox.core.events import QuotaRefused, TaskCompleted, TaskDecision, TaskRouted
from farebox.core.health import IN_A_ROW, NEXT_MS, OPEN_MS
from farebox.core.terms import Fault


@pytest.fixture
def broken(story, routing):
    """Return a maker: platforms of which `home` failed five tasks in a row."""

    def make(platforms=routing.TIERS, **settings):
        one = story(platforms, **settings)
        for number in range(IN_A_ROW):
            fail(one, routing, f"b{number}")
        return one

    return make


def fail(one, routing, name):
    routing.routed(one, name=name)
    one.tell(routing.done(name, status="failed", fault=Fault(error_class="timeout"), usage=None))


def test_a_platform_that_failed_five_tasks_comes_last_and_not_before_its_time(broken, routing):
    one = broken()
    opened_ms = one.now_ms
    (said,) = one.hear(routing.task())
    assert routing.names(said) == ["plan", "cloud", "home"]
    assert said.candidates[-1].not_before_ms == opened_ms + OPEN_MS


def test_the_only_candidate_is_waited_for_and_one_task_goes_first(broken, routing):
    one = broken({"home": {"billing": "free"}})
    opened_ms = one.now_ms
    waits = []
    for name in ("first", "second", "third"):
        (said,) = one.hear(routing.task(name))
        one.tell(said)
        waits.append(said.candidates[0].not_before_ms - opened_ms)
    assert waits == [OPEN_MS, OPEN_MS + NEXT_MS, OPEN_MS + NEXT_MS]


def test_when_the_time_has_come_one_task_finds_out_and_an_answer_opens_the_way_for_all(broken, routing):
    one = broken()
    one.now_ms += OPEN_MS
    probe = routing.routed(one, name="probe")
    assert (routing.names(probe)[0], probe.candidates[0].not_before_ms) == ("home", 0)
    (said,) = one.hear(routing.task("other"))
    assert routing.names(said) == ["plan", "cloud", "home"]
    assert said.candidates[-1].not_before_ms == one.now_ms + NEXT_MS
    one.tell(routing.done("probe"))
    (said,) = one.hear(routing.task("after"))
    assert (routing.names(said)[0], said.candidates[0].not_before_ms) == ("home", 0)


def test_a_probe_that_fails_is_routed_elsewhere_and_the_platform_is_spared_twice_as_long(broken, routing):
    one = broken()
    one.now_ms += OPEN_MS
    routing.routed(one, name="t")
    (said,) = one.hear(routing.failed(error_class="network"))
    assert routing.names(said) == ["plan", "cloud", "home"]
    assert said.candidates[-1].not_before_ms == one.now_ms + 2 * OPEN_MS


def test_who_was_sent_elsewhere_finds_out_about_nobody(broken, routing):
    one = broken()
    one.now_ms += OPEN_MS
    routing.routed(one, name="elsewhere", platform="cloud")
    assert one.state.health["home"].probe == ""
    probe = routing.routed(one, name="probe")
    assert routing.names(probe)[0] == "home"


def test_a_task_that_nobody_may_do_finds_out_about_nobody(broken, routing):
    one = broken()
    (said,) = one.hear(routing.task("t", platform="nowhere", fallback=False))
    assert isinstance(said, TaskCompleted)
    one.tell(said)
    assert one.state.health["home"].probe == ""
    one.tell(routing.task("u"), TaskRouted(chain="c", task="u", attempt=1))
    assert one.state.health["home"].probe == ""


def test_whoever_comes_back_may_find_out(broken, routing):
    one = broken({"home": {"billing": "free"}, "cloud": {}})
    routing.routed(one, name="t", platform="cloud")
    one.tell(routing.interrupted(platform="cloud", charged="none"))
    assert one.state.health["home"].probe == "c.t"
    one = broken({"home": {"billing": "free"}, "cloud": {}})
    routing.routed(one, name="t", platform="cloud")
    one.tell(QuotaRefused(chain="c", task="t", attempt=1, fault=Fault(error_class="unavailable")))
    assert one.state.health["home"].probe == "c.t"
    one = broken({"home": {"billing": "free"}, "cloud": {"on_interrupt": "ask"}})
    routing.routed(one, name="t", platform="cloud")
    one.tell(routing.interrupted(platform="cloud"))
    one.tell(TaskDecision(chain="c", task="t", attempt=1, decision="retry"))
    assert one.state.health["home"].probe == "c.t"


def test_a_lost_adapter_says_nothing_about_its_platform(story, routing):
    one = story()
    routing.routed(one)
    one.tell(routing.interrupted(charged="none"))
    assert one.state.health == {}


def test_only_so_many_platforms_are_remembered(story, routing, monkeypatch):
    monkeypatch.setattr(lessons, "PLATFORMS_MAX", 1)
    one = story()
    for name, platform in (("a", "home"), ("b", "plan"), ("d", "home")):
        routing.routed(one, name=name)
        one.tell(routing.done(name, platform, duration_ms=5))
    assert set(one.state.health) == {"home"}


@pytest.mark.parametrize("error_class", ["quota_exhausted", "policy"])
def test_when_quota_says_that_no_other_way_would_help_the_task_ends_so(story, routing, error_class):
    one = story()
    routing.routed(one)
    fault = Fault(error_class=error_class, message="budget:month is used up")
    (said,) = one.hear(QuotaRefused(chain="c", task="t", attempt=1, fault=fault))
    assert (said.status, said.fault) == ("failed", fault)
