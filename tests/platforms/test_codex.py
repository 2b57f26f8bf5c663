"""What is said to codex first, who pays, and what is looked for before anybody pays."""

import json
import tomllib
from itertools import pairwise

import pytest

from actors.platforms.codex import CODEX, INSTALL
from farebox.core.directories import placed
from farebox.core.errors import BadSettings
from farebox.core.events import TaskSubmitted
from farebox.core.platform import Ask, ProbeAnswer, ProgramAnswer
from farebox.core.settings import PlatformSettings

PLAN = CODEX.defaults["codex"]
URL = "http://127.0.0.1:9/v1"


def settings(**more):
    return PlatformSettings(**{"kind": "codex", "billing": "plan", **more})


def metered(**more):
    return settings(**{"billing": "metered", "key_env": "OPENAI_API_KEY", **more})


def ask(of, **more):
    return Ask(**{"platform": "codex", "settings": of, "model": "", "prompt": "What?", "task": TaskSubmitted(), **more})


def call(of, **more):
    return CODEX.ask(ask(of, **more))


def opened(of, **more):
    return [json.loads(line) for line in call(of, **more).stdin.splitlines()]


def thread_of(of, **more):
    return opened(of, **more)[-1]["params"]


def flags_of(argv):
    pairs = pairwise(argv)
    return tomllib.loads("\n".join(value for flag, value in pairs if flag == "-c"))


def test_on_a_plan_no_variable_with_a_key_goes_along_and_the_built_in_provider_is_used():
    CODEX.check("codex", PLAN)
    started = call(PLAN)
    assert started.keep == ("CODEX_HOME",)
    assert started.environment == {}
    assert flags_of(started.argv)["model_provider"] == "openai"
    assert "model_providers" not in flags_of(started.argv)


def test_a_task_of_text_runs_without_tools_in_a_folder_of_its_own():
    started = call(PLAN)
    told = flags_of(started.argv)
    assert (started.argv[:2], started.talks, started.directory, started.scratch) == (
        ("codex", "app-server"), True, "{scratch}", {},
    )  # fmt: skip
    assert (told["features"]["shell_tool"], told["agents"]["enabled"], told["web_search"]) == (False, False, "disabled")
    assert told["features"]["unbounded_connection_retries"] is False
    assert thread_of(PLAN) == {
        "ephemeral": True,
        "sandbox": "read-only",
        "approvalPolicy": "never",
        "baseInstructions": "You are a helpful assistant.",
    }


def test_the_talk_opens_with_who_pays_on_a_plan_only():
    assert [line["method"] for line in opened(PLAN)] == ["initialize", "initialized", "account/read", "thread/start"]
    assert [line["method"] for line in opened(metered())] == ["initialize", "initialized", "thread/start"]
    assert "account/read" not in {line["method"] for line in opened(settings(billing="free"))}


def test_a_key_goes_to_a_provider_and_a_home_of_our_own_without_retries():
    started = call(metered(model="gpt-5"))
    told = tomllib.loads(started.scratch["codex/config.toml"].decode())
    assert (started.keep, started.environment) == (("OPENAI_API_KEY",), {"CODEX_HOME": "{scratch}/codex"})
    assert told["model_provider"] == "farebox"
    assert told["model_providers"]["farebox"] == {
        "name": "farebox",
        "base_url": "https://api.openai.com/v1",
        "wire_api": "responses",
        "request_max_retries": 0,
        "stream_max_retries": 0,
        "supports_websockets": False,
        "env_key": "OPENAI_API_KEY",
    }
    assert "-c" not in started.argv
    assert thread_of(metered(model="gpt-5"))["model"] == "gpt-5"


def test_a_server_without_a_key_is_a_provider_too():
    started = call(settings(billing="free", url=URL, options={"keep": "HTTPS_PROXY"}))
    told = tomllib.loads(started.scratch["codex/config.toml"].decode())
    assert told["model_providers"]["farebox"]["base_url"] == URL
    assert "env_key" not in told["model_providers"]["farebox"]
    assert started.keep == ("HTTPS_PROXY",)


def test_free_work_on_a_login_uses_the_provider_that_the_user_chose():
    assert "model_provider" not in flags_of(call(settings(billing="free")).argv)


def test_several_accounts_have_each_their_home():
    started = call(settings(options={"home": "/home/me/.codex-work"}))
    assert (started.environment, started.keep) == ({"CODEX_HOME": "/home/me/.codex-work"}, ())
    started = call(metered(options={"home": "/home/me/.codex-work"}))
    assert flags_of(started.argv)["model_provider"] == "farebox"
    assert started.environment == {"CODEX_HOME": "/home/me/.codex-work"}


@pytest.mark.parametrize("mode", ["app-server", "exec"])
def test_a_sandbox_for_the_directories_of_tasks_is_not_used_in_a_task_of_text(mode):
    of = settings(options={"directories": "/src", "sandbox": "danger-full-access", "mode": mode})
    CODEX.check("codex", of)
    said = call(of)
    assert "danger" not in f"{said.argv} {said.stdin}"
    there = call(placed(of, "/src/site"))
    assert ("danger-full-access" in f"{there.argv} {there.stdin}", there.directory) == (True, "/src/site")


def test_in_a_directory_codex_works_with_its_tools_and_its_own_words():
    of = settings(options={"directory": "/p", "sandbox": "workspace-write", "approvals": "accept"})
    CODEX.check("codex", of)
    started = call(of, system="Be brief.")
    assert (started.directory, started.scratch) == ("/p", None)
    assert "shell_tool" not in flags_of(started.argv)["features"]
    assert thread_of(of, system="Be brief.") == {
        "ephemeral": True,
        "sandbox": "workspace-write",
        "approvalPolicy": "on-request",
        "developerInstructions": "Be brief.",
    }
    assert "developerInstructions" not in thread_of(of)
    assert set(call(metered(options={"directory": "/p"})).scratch) == {"codex/config.toml"}


def test_the_system_of_a_task_replaces_the_words_of_codex_in_the_lean_form():
    assert thread_of(PLAN, system="Be brief.\ud800")["baseInstructions"] == "Be brief.?"
    assert "baseInstructions" not in thread_of(settings(options={"system": "own"}))


def test_own_program_and_arguments_are_passed_as_given():
    started = call(settings(argv=("/opt/codex", "--x"), options={"arguments": "-c 'model_reasoning_effort=\"high\"'"}))
    assert started.argv[:3] == ("/opt/codex", "--x", "app-server")
    assert started.argv[-2:] == ("-c", 'model_reasoning_effort="high"')


def test_exec_gets_its_prompt_on_standard_input_and_its_words_in_a_file():
    started = call(metered(options={"mode": "exec"}, models=("m1", "m2")), system="Be brief.")
    assert started.argv[1:11] == ("exec", "--json", "--skip-git-repo-check", "--ephemeral", "-s", "read-only", "--color", "never", "-m", "m1")  # fmt: skip  # noqa: E501
    assert (started.argv[-1], started.stdin, started.talks) == ("-", b"What?", False)
    assert 'model_instructions_file="{scratch}/instructions.md"' in started.argv
    assert started.scratch["instructions.md"] == b"Be brief."
    assert "--ignore-user-config" not in started.argv
    assert "--ignore-user-config" in call(settings(options={"mode": "exec"})).argv


def test_exec_with_its_own_words_has_those_of_the_task_before_the_prompt():
    of = settings(options={"mode": "exec", "system": "own"})
    assert (call(of, system="Be brief.").stdin, call(of).stdin) == (b"Be brief.\n\nWhat?", b"What?")
    assert "instructions.md" not in call(of).scratch
    assert "-m" not in call(of).argv


@pytest.mark.parametrize(
    ("of", "words"),
    [
        (settings(key_env="OPENAI_API_KEY"), "billed to a plan"),
        (settings(billing="metered"), "needs a key"),
        (settings(argv=(" ",)), "names no program"),
        (settings(url="ftp://x"), "is no address"),
        (settings(options={"mode": "tui"}), "cannot be 'tui'"),
        (settings(options={"colour": "red"}), "has no 'colour'"),
        (settings(options={"arguments": "'open"}), "cannot be read"),
        (settings(options={"approvals": "accept", "mode": "exec"}), "asks for no approvals"),
        (settings(options={"sandbox": "workspace-write"}), "without a directory"),
        (settings(options={"directory": "~/p"}), "must be a whole path"),
        (settings(options={"home": "~/.codex"}), "must be a whole path"),
    ],
)
def test_settings_that_cannot_work_are_refused_in_one_line(of, words):
    with pytest.raises(BadSettings, match=words):
        CODEX.check("codex", of)


def test_settings_that_work_are_taken():
    CODEX.check("codex", metered(url=URL, argv=("codex",), options={"sandbox": "read-only", "arguments": "-c x=1"}))


VERSION = ProgramAnswer(exit_code=0, out="codex-cli 0.169.0\n")
LOGGED_IN = ProgramAnswer(exit_code=0, errors="Logged in using ChatGPT\n")


def reported(of, *answers, **more):
    return CODEX.read_probe("codex", of, ProbeAnswer(**{"path": "/bin/codex", "said": answers, **more}))


def test_the_probe_asks_for_version_and_login_and_costs_nothing():
    probe = CODEX.probe("codex", PLAN)
    assert (probe.program, probe.ask, probe.keep) == ("codex", (("--version",), ("login", "status")), ("CODEX_HOME",))
    assert CODEX.probe("codex", metered(argv=("/opt/codex",))).ask == (("--version",),)
    assert CODEX.probe("codex", metered(argv=("/opt/codex",))).program == "/opt/codex"
    elsewhere = CODEX.probe("codex", settings(options={"home": "/h"}))
    assert (elsewhere.keep, elsewhere.environment) == ((), {"CODEX_HOME": "/h"})


@pytest.mark.parametrize(
    ("of", "answers", "detail", "mend"),
    [
        (PLAN, (ProgramAnswer(exit_code=1), LOGGED_IN), "/bin/codex does not say its version", INSTALL),
        (PLAN, (VERSION, ProgramAnswer(exit_code=1, errors="Not logged in")), "0.169.0, not logged in", "codex login"),
        (PLAN, (VERSION, ProgramAnswer()), "0.169.0, its login status did not come in time", "codex login status"),
        (
            PLAN,
            (VERSION, ProgramAnswer(exit_code=0, errors="Logged in using an API key - sk-p***")),
            "0.169.0, its login is an API key, which is billed by token",
            'codex login, or billing = "metered" with key_env',
        ),
        (
            settings(options={"home": "/my home"}),
            (VERSION, ProgramAnswer(exit_code=1)),
            "0.169.0, not logged in",
            "CODEX_HOME='/my home' codex login",
        ),
        (metered(), (VERSION,), "0.169.0, OPENAI_API_KEY is not set", "export OPENAI_API_KEY=…"),
    ],
)
def test_what_is_missing_is_said_with_the_command_that_mends_it(of, answers, detail, mend):
    report = reported(of, *answers)
    assert (report.available, report.detail, report.mend) == (False, detail, mend)


def test_a_program_that_is_not_there_is_named():
    report = reported(PLAN, path="")
    assert (report.available, report.detail, report.mend) == (False, "no program 'codex' on PATH", INSTALL)


@pytest.mark.parametrize(
    ("of", "answers", "detail"),
    [
        (PLAN, (VERSION, LOGGED_IN), "0.169.0, logged in"),
        (
            PLAN,
            (ProgramAnswer(exit_code=0, out="codex-cli 0.170.1"), LOGGED_IN),
            "0.170.1, newer than the tested 0.169.0, logged in",
        ),
        (
            PLAN,
            (ProgramAnswer(exit_code=0, out="codex-cli 0.9.0"), LOGGED_IN),
            "0.9.0, older than the tested 0.169.0, logged in",
        ),
        (settings(billing="free", url=URL), (VERSION,), f"0.169.0, at {URL}"),
    ],
)
def test_what_is_there_is_said_with_its_version_and_who_pays(of, answers, detail):
    report = reported(of, *answers)
    assert (report.available, report.detail, report.mend) == (True, detail, "")


def test_a_key_that_is_set_is_enough():
    report = reported(metered(), VERSION, key_set=True)
    assert (report.available, report.detail, report.release) == (True, "0.169.0, OPENAI_API_KEY is set", "0.169.0")
