"""The `agy` program, as far as it is documented: how it is started, what its one object means, what a probe finds."""

import msgspec
import pytest

from actors.platforms.antigravity import ANTIGRAVITY, INSTALL, check
from farebox.core.errors import BadSettings
from farebox.core.events import TaskSubmitted
from farebox.core.platform import Ask, End, ProbeAnswer, ProcessCall, ProgramAnswer
from farebox.core.settings import PlatformSettings

OWN = ANTIGRAVITY.defaults["antigravity"]


def ask(of=OWN, *, model="", prompt="What?", system="", **task):
    return Ask(platform="p", settings=of, model=model, prompt=prompt, system=system, task=TaskSubmitted(**task))


def started(of=OWN, **more):
    call = ANTIGRAVITY.ask(ask(of, **more))
    assert isinstance(call, ProcessCall)
    return call


def test_it_is_off_until_somebody_turns_it_on_and_only_the_tasks_own_time_ends_it():
    assert (OWN.enabled, OWN.billing) == (False, "plan")
    assert min(OWN.first_byte_timeout_s, OWN.idle_timeout_s) >= 1800


def test_it_is_asked_in_its_own_folder_for_one_object_in_the_tasks_time():
    call = started(timeout_s=12.3, system="Be brief.")
    assert call.argv == ("agy", "--output-format", "json", "--print-timeout", "13s", "-p", "Be brief.\n\nWhat?")
    assert (call.stdin, call.keep, call.directory, call.scratch) == (b"", (), "{scratch}", {})


def test_what_the_user_sets_is_passed():
    of = msgspec.structs.replace(
        OWN, argv=("/opt/agy",), model="m", options={"directory": "/src", "arguments": "--sandbox --add-dir '/a b'"}
    )
    call = started(of)
    assert call.argv == (
        "/opt/agy", "--output-format", "json", "--print-timeout", "300s", "--model", "m", "--sandbox", "--add-dir", "/a b",
        "-p", "What?",
    )  # fmt: skip
    assert call.directory == "/src"


@pytest.mark.parametrize(
    ("prompt", "argument"),
    [("/usage", "The task:\n/usage"), (" /x", "The task:\n /x"), ("a\ud800\x00b", "a?b"), ("-x", "-x")],
)
def test_a_prompt_is_no_command_and_has_no_character_that_an_argument_cannot_have(prompt, argument):
    assert started(prompt=prompt).argv[-1] == argument


def judged(body, end):
    reader = ANTIGRAVITY.reader(ask())
    assert reader.feed(body) == []
    return reader.end(end)


@pytest.mark.parametrize(
    ("end", "error_class", "charged"),
    [
        (End(cut="missing"), "unavailable", "none"),
        (End(cut="cancelled", sent=False), "cancelled", "none"),
        (End(cut="cancelled"), "cancelled", "possible"),
        (End(cut="timeout"), "timeout", "possible"),
        (End(exit_code=1, stderr_tail="boom"), "crashed", "possible"),
        (End(exit_code=-9), "crashed", "possible"),
    ],
)
def test_a_run_that_was_cut_or_failed_says_why_and_whether_it_can_have_cost_something(end, error_class, charged):
    verdict = judged(b"", end)
    assert verdict.fault is not None
    assert (verdict.fault.error_class, verdict.charged, verdict.usage) == (error_class, charged, None)


def test_an_object_that_was_whole_before_the_clock_ran_out_counts():
    assert judged(b'{"status":"SUCCESS","response":"Fox."}', End(cut="timeout", exit_code=-9)).ok
    assert not judged(b'{"status":"ERROR","error":{"message":"x"}}', End(cut="timeout", exit_code=-9)).ok


def test_an_error_object_is_read_too():
    verdict = judged(b'{"status":"ERROR","error":{"message":"Sign in first."}}', End(exit_code=0))
    assert verdict.fault is not None
    assert (verdict.fault.error_class, verdict.charged) == ("auth_missing", "none")


def report(**answer):
    return ANTIGRAVITY.read_probe("p", OWN, ProbeAnswer(**answer))


def there(out, exit_code=0, **more):
    return {"path": "/bin/agy", "said": (ProgramAnswer(exit_code=exit_code, out=out),), **more}


def test_a_probe_never_asks_for_the_quota_an_old_program_would_take_that_for_a_prompt():
    probe = ANTIGRAVITY.probe("p", OWN)
    assert (probe.program, probe.ask) == ("agy", (("--version",),))


@pytest.mark.parametrize(
    ("answer", "available", "detail", "mend"),
    [
        ({}, False, "no program 'agy' on PATH", INSTALL),
        (there("", 2), False, "did not say its version", "agy --version"),
        (there("1.1.7"), False, "cannot answer in JSON", "agy update"),
        (there("agy 1.4.0"), True, "version 1.4.0, never tested here; whether somebody is logged in is not known", "agy"),
        (there("1.1.8", found=("x",)), True, "a login is there", ""),
    ],
)
def test_a_probe_says_what_is_known(answer, available, detail, mend):
    told = report(**answer)
    assert told.available == available
    assert detail in told.detail
    assert mend in told.mend


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"billing": "metered"}, "paid by a plan"),
        ({"key_env": "X"}, "key_env means nothing"),
        ({"url": "https://x"}, "url means nothing"),
        ({"options": {"arguments": "'"}}, "No closing quotation"),
        ({"options": {"home": "x"}}, "has no 'home'"),
    ],
)
def test_settings_that_cannot_work_are_refused(more, words):
    with pytest.raises(BadSettings, match=words):
        check("p", PlatformSettings(**{"kind": "antigravity", "billing": "plan", **more}))
