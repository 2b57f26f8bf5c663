"""How claude is asked: its arguments, its environment, what is looked for, who pays, which settings are refused."""

import json

import pytest

from actors.platforms import plan_windows
from actors.platforms.claude_code import CLAUDE_CODE, KEYS
from actors.platforms.release import release_in
from actors.platforms.stream_json_usage import Tally
from farebox.core.directories import placed
from farebox.core.errors import BadSettings
from farebox.core.events import TaskSubmitted
from farebox.core.platform import SCRATCH, Ask, ProbeAnswer, ProcessCall, ProgramAnswer
from farebox.core.settings import PlatformSettings

PLAN = {"billing": "plan"}
METERED = {"billing": "metered", "key_env": "ANTHROPIC_API_KEY"}
VERSION = ProgramAnswer(exit_code=0, out="2.1.329 (Claude Code)\n")


def settings(**more):
    return PlatformSettings(kind="claude-code", **{**PLAN, **more})


def asked(*, model="", system="", task=None, **more) -> ProcessCall:
    ask = Ask(platform="p", settings=settings(**more), model=model, prompt="What?", system=system, task=task or TaskSubmitted())
    call = CLAUDE_CODE.ask(ask)
    assert isinstance(call, ProcessCall)
    return call


def reported(*said, path="/bin/claude", key_set=False, **more):
    answer = ProbeAnswer(path=path, said=said, key_set=key_set)
    return CLAUDE_CODE.read_probe("p", settings(**more), answer)


def status(logged_in, method):
    told = {"loggedIn": logged_in, "authMethod": method, "email": "somebody@example.org"}
    return ProgramAnswer(exit_code=0 if logged_in else 1, out=json.dumps(told))


def test_a_task_of_text_has_no_tools_few_words_and_a_folder_of_its_own():
    call = asked(model="claude-sonnet-5-5", system="Be brief.")
    assert call.argv == (
        "claude", "-p", "--output-format", "stream-json", "--verbose", "--include-partial-messages", "--no-session-persistence",
        "--tools", "", "--strict-mcp-config", "--setting-sources", "", "--system-prompt-file", f"{SCRATCH}/system.txt",
        "--model", "claude-sonnet-5-5",
    )  # fmt: skip
    assert call.scratch == {"system.txt": b"Be brief."}
    assert call.directory == SCRATCH
    assert call.stdin == b"What?"


def test_neither_prompt_nor_system_prompt_stands_on_the_command_line():
    for more in ({}, {"options": {"directory": "/project"}}):
        call = asked(system="A secret plan.", **more)
        assert not any("What?" in word or "secret" in word for word in call.argv)


def test_in_a_directory_claude_has_its_own_prompt_tools_and_what_the_user_chose():
    options = {
        "directory": "/project",
        "allowed_tools": "Read,Bash(git *)",
        "permission_mode": "acceptEdits",
        "arguments": "--add-dir '/other place'",
    }
    call = asked(options=options, argv=("/opt/claude",))
    assert call.argv[0] == "/opt/claude"
    assert call.argv[7:] == (
        "--allowed-tools=Read,Bash(git *)",
        "--permission-mode",
        "acceptEdits",
        "--add-dir",
        "/other place",
    )
    assert (call.directory, call.scratch) == ("/project", {})
    assert "--append-system-prompt-file" in asked(options=options, system="Be brief.").argv
    assert "--system-prompt-file" in asked(options={**options, "system": "lean"}).argv


def test_rights_for_the_directories_of_tasks_are_not_used_in_a_task_of_text():
    of = settings(options={"directories": "/src", "allowed_tools": "Bash", "permission_mode": "bypassPermissions"})
    CLAUDE_CODE.check("p", of)
    call = asked(options=of.options)
    assert not [word for word in call.argv if "allowed-tools" in word or "permission" in word]
    assert (call.directory, "--tools" in call.argv) == (SCRATCH, True)
    there = asked(options=placed(of, "/src/site").options)
    assert (there.directory, "--tools" in there.argv, there.argv[-1]) == ("/src/site", False, "bypassPermissions")


def test_its_own_retries_and_its_talk_with_home_are_off():
    environment = asked().environment
    assert environment["CLAUDE_CODE_MAX_RETRIES"] == "0"
    assert environment["CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK"] == "1"
    assert environment["DISABLE_AUTOUPDATER"] == "1"
    assert "ANTHROPIC_BASE_URL" not in environment


def test_a_longest_answer_another_server_and_another_home_are_told_by_the_environment():
    call = asked(task=TaskSubmitted(max_tokens=9), url="https://gateway.example.org", options={"home": "/second"})
    assert call.environment["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] == "9"
    assert call.environment["ANTHROPIC_BASE_URL"] == "https://gateway.example.org"
    assert call.environment["CLAUDE_CONFIG_DIR"] == "/second"
    assert "CLAUDE_CONFIG_DIR" not in call.keep


def test_on_a_plan_no_variable_that_is_billed_by_token_is_kept():
    assert asked(options={"keep": "HTTPS_PROXY"}).keep == ("CLAUDE_CODE_OAUTH_TOKEN", "CLAUDE_CONFIG_DIR", "HTTPS_PROXY")
    assert not set(asked().keep) & set(KEYS)
    assert CLAUDE_CODE.defaults["claude-code"].billing == "plan"


def test_metered_work_keeps_its_key():
    assert asked(**METERED).keep == ("ANTHROPIC_API_KEY", "CLAUDE_CONFIG_DIR")
    assert asked(billing="metered").keep == ("CLAUDE_CONFIG_DIR",)


def test_the_probe_asks_for_the_version_and_where_a_login_pays_for_it():
    probe = CLAUDE_CODE.probe("p", settings(options={"home": "/second"}))
    assert (probe.program, probe.ask) == ("claude", (("--version",), ("auth", "status", "--json")))
    assert probe.environment["CLAUDE_CONFIG_DIR"] == "/second"
    assert not set(probe.keep) & set(KEYS)
    assert CLAUDE_CODE.probe("p", settings(**METERED)).ask == (("--version",),)


@pytest.mark.parametrize("method", ["claude.ai", "oauth_token"])
def test_a_program_with_a_login_is_there(method):
    report = reported(VERSION, status(True, method))
    assert (report.available, report.detail, report.release, report.mend) == (True, "2.1.329, logged in", "2.1.329", "")


@pytest.mark.parametrize(
    ("report", "detail", "mend"),
    [
        (reported(path=""), "no program 'claude' on PATH", "npm install -g @anthropic-ai/claude-code"),
        (reported(), "/bin/claude does not say its version", "npm install -g @anthropic-ai/claude-code"),
        (reported(VERSION, status(False, "none")), "2.1.329, not logged in", "claude auth login"),
        (
            reported(VERSION, status(False, "none"), options={"home": "/my second"}),
            "2.1.329, not logged in",
            "CLAUDE_CONFIG_DIR='/my second' claude auth login",
        ),
        (reported(VERSION, ProgramAnswer()), "2.1.329, its login status did not come", "claude auth status"),
        (
            reported(VERSION, status(True, "api_key")),
            "2.1.329, its login is billed by token",
            'claude auth login, or billing = "metered"',
        ),
        (reported(VERSION, **METERED), "2.1.329, ANTHROPIC_API_KEY is not set", "export ANTHROPIC_API_KEY=…"),
    ],
)
def test_what_is_missing_is_said_with_the_command_that_mends_it(report, detail, mend):
    assert (report.available, report.detail, report.mend) == (False, detail, mend)


def test_a_key_or_a_login_that_is_billed_by_token_will_do_for_metered_work():
    assert reported(VERSION, key_set=True, **METERED).detail == "2.1.329, ANTHROPIC_API_KEY is set"
    assert reported(VERSION, status(True, "api_key"), billing="metered").available


def test_a_report_holds_nothing_of_who_is_logged_in():
    assert "somebody" not in repr(reported(VERSION, status(True, "claude.ai")))


def test_a_version_that_was_not_tested_is_named():
    assert release_in("2.1.400 (Claude Code)", (2, 1, 329)) == ("2.1.400", ", newer than the tested 2.1.329")
    assert release_in("2.1.9", (2, 1, 329)) == ("2.1.9", ", older than the tested 2.1.329")


@pytest.mark.parametrize(
    "more",
    [
        {"key_env": "ANTHROPIC_API_KEY"},
        {"options": {"keep": "ANTHROPIC_AUTH_TOKEN"}},
        {"options": {"keep": "CLAUDE_CODE_USE_BEDROCK"}},
        {"billing": "metered", "key_env": "OPENAI_API_KEY"},
        {"argv": (" ",)},
        {"url": "ftp://x"},
        {"url": "http://gateway.example.org", **METERED},
        {"options": {"sandbox": "none"}},
        {"options": {"system": "long"}},
        {"options": {"arguments": "'"}},
        {"options": {"home": "~/second"}},
        {"options": {"directory": "~/project"}},
        {"options": {"allowed_tools": "Read"}},
        {"options": {"permission_mode": "plan"}},
    ],
)
def test_settings_that_cannot_work_are_refused(more):
    with pytest.raises(BadSettings):
        CLAUDE_CODE.check("p", settings(**more))


def test_settings_that_work_are_taken():
    CLAUDE_CODE.check("p", CLAUDE_CODE.defaults["claude-code"])
    CLAUDE_CODE.check("p", settings(**METERED, url="http://127.0.0.1:8000"))
    CLAUDE_CODE.check("p", settings(options={"directory": "/project", "permission_mode": "plan", "allowed_tools": "Read"}))


def test_paid_overage_stands_in_the_evidence_of_what_is_learned(recorded):
    learned = recorded("claude-code/overage").read().learned
    assert all("paid overage" in fact.evidence for fact in learned)
    assert {(fact.window_s, fact.used) for fact in learned} == {(18_000, 100), (604_800, 41)}
    assert all("overage" not in fact.evidence for fact in recorded("claude-code/plan").read().learned)


def test_a_rejected_window_is_used_up_also_where_nothing_says_how_far():
    info = {"status": "rejected", "rateLimitType": "five_hour", "resetsAt": 1_800_000_000}
    (fact,) = plan_windows.learned_from("p", info)
    assert (fact.used, fact.limit, fact.resets_at_ms) == (100, 100, 1_800_000_000_000)


def test_of_messages_that_never_ended_what_they_read_is_counted_and_what_they_wrote_guessed():
    tally = Tally()
    assert tally.so_far("some text", None) is None
    for cached in (5, None):
        usage = {"input_tokens": 10, "output_tokens": 1, **({} if cached is None else {"cache_read_input_tokens": cached})}
        tally.take({"type": "message_start", "message": {"usage": usage}})
    used = tally.so_far("some text", None)
    assert used is not None
    assert (used.input_tokens, used.cached_tokens, used.cache_write_tokens, used.source) == (25, 5, None, "estimated")


def test_a_run_that_tells_no_figure_of_its_own_has_none(recorded):
    recording = recorded("claude-code/ok")
    for told in (b'"total_cost_usd":"cheap"', b'"other":0.006105'):
        verdict = recording.read([recording.body.replace(b'"total_cost_usd":0.006105', told)]).verdict
        assert (verdict.ok, verdict.provider_usd) == (True, None)
