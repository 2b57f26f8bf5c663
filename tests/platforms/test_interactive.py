"""A person as a platform: how long somebody may take, what their words come to, which settings cannot work."""

import pytest

from actors.platforms import PLATFORMS
from farebox.core.errors import BadSettings
from farebox.core.events import TaskSubmitted
from farebox.core.platform import Ask, End, PersonCall, Probe, ProbeAnswer
from farebox.core.settings import PlatformSettings

(KIND,) = (kind for kind in PLATFORMS if kind.name == "interactive")
PERSON = KIND.defaults["interactive"]


def ask(**task):
    return Ask(platform="p", settings=PERSON, model="", prompt="Which?", task=TaskSubmitted(**task))


def read(said, end):
    reader = KIND.reader(ask())
    reader.feed(said)
    return reader.end(end)


def test_nobody_is_hurried_unless_the_task_says_its_own_time():
    assert KIND.ask(ask()) == PersonCall(wait_s=604_800.0)
    assert KIND.ask(ask(timeout_s=60)) == PersonCall(wait_s=60)


def test_words_are_the_answer_and_cost_nothing():
    verdict = read("The secönd.\n".encode(), End(exit_code=0))
    assert (verdict.ok, verdict.text, verdict.model, verdict.charged) == (True, "The secönd.", "person", "known")
    assert verdict.usage is not None
    assert verdict.usage.source == "estimated"


@pytest.mark.parametrize(
    ("said", "end", "error_class"),
    [
        (b"", End(exit_code=0), "invalid"),
        (b"", End(cut="timeout"), "timeout"),
        (b"", End(cut="cancelled"), "cancelled"),
    ],
)
def test_silence_is_no_answer(said, end, error_class):
    verdict = read(said, end)
    assert (verdict.ok, verdict.fault.error_class, verdict.charged) == (False, error_class, "none")


def test_a_person_is_there_and_asked_only_by_name():
    assert KIND.probe("p", PERSON) == Probe()
    report = KIND.read_probe("p", PERSON, ProbeAnswer())
    assert (report.available, report.models, PERSON.open) == (True, ("person",), False)


def test_an_interrupted_question_is_asked_again():
    assert PERSON.policy_for(1_000_000) == "retry"
    assert PlatformSettings(kind="interactive", on_interrupt="fail").policy_for(10) == "fail"


@pytest.mark.parametrize(
    "settings",
    [{"billing": "metered"}, {"billing": "free", "url": "http://x"}, {"billing": "free", "options": {"a": "b"}}],
)
def test_settings_that_mean_nothing_here_are_refused(settings):
    with pytest.raises(BadSettings):
        KIND.check("p", PlatformSettings(kind="interactive", **settings))


def test_its_own_settings_are_fine():
    KIND.check("p", PERSON)
