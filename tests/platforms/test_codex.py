"""What is said to codex, what it may ask in the middle of a turn, who pays, and what is looked for before anybody pays."""

import json
import tomllib
from itertools import pairwise

import pytest

from actors.platforms import codex_answers
from actors.platforms.codex import CODEX, INSTALL
from actors.platforms.codex_lines import LINE_BYTES_MAX, fault_of_info, fault_of_prose, usage_of, wait_ms
from farebox.core.errors import BadSettings
from farebox.core.events import QuotaLearned, TaskSubmitted
from farebox.core.platform import Ask, Done, End, Head, Piece, ProbeAnswer, ProgramAnswer, Say, Talker
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


# What is started.


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


# How it is talked with.


class Talk:
    """Plays the server's side, a message at a time."""

    def __init__(self, of=PLAN, **more):
        self.reader = CODEX.reader(ask(of, **more))
        assert isinstance(self.reader, Talker)

    def hear(self, *messages):
        return [item for each in messages for item in self.reader.feed(json.dumps(each).encode() + b"\n")]

    def begun(self):
        """Bring the talk to where a turn runs."""
        self.hear(result(0, {}), result(1, {"account": {"type": "chatgpt"}, "requiresOpenaiAuth": True}), THREAD, TURN)
        return self

    def end(self, **more):
        return self.reader.end(End(**{"exit_code": 0, **more}))


def result(number, value):
    return {"id": number, "result": value}


def news(method, thread="t", **params):
    return {"method": method, "params": {"threadId": thread, "turnId": "u", **params}}


def delta(text, item="i"):
    return news("item/agentMessage/delta", itemId=item, delta=text)


def told(text, **more):
    return news("item/completed", item={"type": "agentMessage", "text": text, **more})


def ended(status="completed", **more):
    return news("turn/completed", turn={"id": "u", "status": status, **more})


def broken(info, message="Reconnecting... 1/5", retried=True, **more):
    return news("error", error={"message": message, "codexErrorInfo": info, **more}, willRetry=retried)


THREAD = result(2, {"thread": {"id": "t"}, "model": "gpt-5"})
TURN = result(3, {"turn": {"id": "u"}})
ACCOUNT = result(1, {"account": {"type": "chatgpt", "planType": "plus"}, "requiresOpenaiAuth": True})


def said(items):
    return [json.loads(item.data) for item in items if isinstance(item, Say)]


def test_the_turn_begins_once_there_is_a_thread_and_the_account_is_known():
    talk = Talk(prompt="Hi\ud800")
    assert talk.hear(result(0, {}), THREAD) == []
    (turn,) = said(talk.hear(ACCOUNT))
    assert (turn["method"], turn["params"]) == (
        "turn/start", {"threadId": "t", "input": [{"type": "text", "text": "Hi?"}]},
    )  # fmt: skip
    assert talk.hear(ACCOUNT) == []


def test_a_login_that_bills_by_token_gets_no_turn_on_a_plan():
    talk = Talk()
    assert talk.hear(result(1, {"account": {"type": "apiKey"}, "requiresOpenaiAuth": True})) == [Done()]
    assert talk.hear(THREAD) == []
    verdict = talk.end()
    assert (verdict.fault.error_class, verdict.charged) == ("auth_missing", "none")
    assert "billed by token" in verdict.fault.message


def test_nobody_logged_in_gets_no_turn():
    talk = Talk()
    assert talk.hear(THREAD, result(1, {"account": None, "requiresOpenaiAuth": True})) == [Done()]
    assert (talk.end().fault.message, talk.end().charged) == ("codex is not logged in. Run: codex login", "none")


def test_a_login_that_needs_no_openai_is_taken():
    talk = Talk()
    assert said(talk.hear(THREAD, result(1, {"account": None, "requiresOpenaiAuth": False})))


@pytest.mark.parametrize(
    ("message", "error_class"),
    [
        ("Input exceeds the maximum length of 1048576 characters.", "context_too_long"),
        ("", "invalid"),
    ],
)
def test_a_turn_that_is_not_begun_costs_nothing(message, error_class):
    talk = Talk()
    talk.hear(THREAD, ACCOUNT)
    assert talk.hear({"id": 3, "error": {"code": -32602, "message": message}}) == [Done()]
    assert (talk.end().fault.error_class, talk.end().charged) == (error_class, "none")


def test_an_interruption_that_came_too_late_does_no_harm():
    talk = Talk().begun()
    assert talk.hear({"id": 4, "error": {"message": "no active turn"}}, {"error": {"message": "?"}}) == []
    talk.hear(told("Yes."), ended())
    assert talk.end().ok


def test_it_can_be_interrupted_while_a_turn_runs_only():
    talk = Talk()
    assert talk.reader.interrupt() == b""
    talk.hear(THREAD, ACCOUNT, news("turn/started", turn={"id": "u"}))
    assert json.loads(talk.reader.interrupt()) == {
        "id": 4, "method": "turn/interrupt", "params": {"threadId": "t", "turnId": "u"},
    }  # fmt: skip
    talk.hear(ended("interrupted"))
    assert talk.reader.interrupt() == b""
    assert talk.end().fault.error_class == "cancelled"
    assert talk.end(cut="timeout").fault.error_class == "timeout"


def test_the_last_message_is_the_answer_and_what_came_before_is_kept_apart():
    talk = Talk().begun()
    pieces = talk.hear(
        delta("I look.", "a"), told("I look."), delta("It is ", "b"), delta("42.", "b"), told("It is 42."), ended()
    )
    assert "".join(item.text for item in pieces if isinstance(item, Piece)) == "I look.\n\nIt is 42."
    assert (talk.end().text, pieces[-1]) == ("It is 42.", Done())


def test_other_threads_are_not_the_answer_but_their_tokens_count():
    talk = Talk().begun()
    counts = {"inputTokens": 10, "outputTokens": 5, "cachedInputTokens": 0, "reasoningOutputTokens": 0}
    both = [news("thread/tokenUsage/updated", thread, tokenUsage={"total": counts}) for thread in ("t", "t", "other")]
    assert talk.hear(news("item/agentMessage/delta", "other", delta="No."), news("turn/completed", "other"), *both) == []
    talk.hear(told("Yes."), ended())
    assert (talk.end().text, talk.end().usage.input_tokens, talk.end().usage.output_tokens) == ("Yes.", 20, 10)


def test_another_model_than_asked_is_named():
    talk = Talk().begun()
    talk.hear(news("model/rerouted", toModel="gpt-5-safe"), news("model/rerouted"), told("Yes."), ended())
    assert talk.end().model == "gpt-5-safe"


def test_files_that_were_written_are_named_but_not_removed_ones():
    talk = Talk().begun()
    changes = [
        {"path": name, "kind": {"type": kind}} for name, kind in (("a", "add"), ("b", "update"), ("c", "delete"), ("", "add"))
    ]
    talk.hear(news("item/completed", item={"type": "fileChange", "status": "completed", "changes": changes}))
    talk.hear(news("item/completed", item={"type": "fileChange", "status": "declined", "changes": [{"path": "d"}]}))
    talk.hear(told("Done."), ended())
    assert talk.end().files_created == ("a", "b")


def test_a_retry_of_codex_is_stopped_once_the_server_said_no():
    talk = Talk().begun()
    (stop,) = said(talk.hear(broken({"responseStreamDisconnected": {"httpStatusCode": 429}}, additionalDetails="429")))
    assert stop["method"] == "turn/interrupt"
    assert talk.hear(broken({"responseStreamDisconnected": {"httpStatusCode": 429}}), delta("late")) == []
    assert talk.hear(ended("interrupted")) == [Done()]
    assert (talk.end().fault.error_class, talk.end().charged) == ("rate_limited", "none")


def test_a_retry_before_the_turn_has_a_name_is_only_remembered():
    talk = Talk()
    talk.hear(THREAD, ACCOUNT)
    assert talk.hear(broken({"responseStreamDisconnected": {"httpStatusCode": 401}})) == []
    assert talk.end(cut="stalled").fault.error_class == "auth_missing"


def test_text_that_came_already_is_not_asked_for_again():
    talk = Talk().begun()
    lost = {"responseStreamDisconnected": {"httpStatusCode": None}}
    assert said(talk.hear(delta("The quick "), broken(lost, additionalDetails="stream disconnected")))
    assert (talk.end().fault.error_class, talk.end().text, talk.end().charged) == ("network", "The quick ", "possible")


def test_a_network_that_fails_before_any_text_is_tried_again_by_codex_and_named_if_it_never_comes():
    talk = Talk().begun()
    lost = {"responseStreamDisconnected": {"httpStatusCode": None}}
    assert talk.hear(broken(lost, additionalDetails="Connection failed")) == []
    assert "Connection failed" in talk.end(cut="stalled").fault.message
    talk.hear(told("Yes."), ended())
    assert talk.end().ok


def test_what_will_not_be_tried_again_is_told_by_the_turn():
    talk = Talk().begun()
    assert talk.hear(broken("serverOverloaded", "Selected model is at capacity.", retried=False)) == []
    talk.hear(ended("failed", error={"codexErrorInfo": "serverOverloaded", "message": "Selected model is at capacity."}))
    assert (talk.end().fault.error_class, talk.end().charged) == ("server_error", "none")


def test_a_server_that_dies_after_its_final_word_has_answered():
    talk = Talk().begun()
    talk.hear(told("Yes."), ended())
    assert talk.end(exit_code=-9).ok
    assert talk.end(exit_code=None, cut="cancelled").ok


def test_a_program_that_ends_before_is_a_crash_that_shows_its_last_words():
    talk = Talk()
    talk.reader.feed(b"Error loading\n")
    assert "Error loading" in talk.end(exit_code=1).fault.message
    assert talk.end(exit_code=1, stderr_tail="bad config").fault.error_class == "crashed"
    assert talk.end(exit_code=1).charged == "none"


def test_a_last_line_without_its_end_is_read():
    talk = Talk().begun()
    talk.hear(told("Yes."))
    talk.reader.feed(json.dumps(ended()).encode())
    assert talk.end().ok


@pytest.mark.parametrize("of", [PLAN, settings(options={"mode": "exec"})])
def test_a_line_without_end_is_too_large(of):
    reader = CODEX.reader(ask(of))
    reader.feed(b"x" * (LINE_BYTES_MAX + 1))
    reader.feed(b"\n{}\n")
    assert reader.end(End(exit_code=0)).fault.error_class == "invalid"


@pytest.mark.parametrize("of", [PLAN, settings(options={"mode": "exec"})])
def test_programs_have_no_headers(of):
    assert CODEX.reader(ask(of)).head(Head(status=0)) == []


# What codex asks.


@pytest.mark.parametrize(
    ("method", "declined", "accepted"),
    [
        ("item/commandExecution/requestApproval", {"decision": "decline"}, {"decision": "accept"}),
        ("item/fileChange/requestApproval", {"decision": "decline"}, {"decision": "accept"}),
        ("execCommandApproval", {"decision": "denied"}, {"decision": "approved"}),
        ("applyPatchApproval", {"decision": "denied"}, {"decision": "approved"}),
        ("item/permissions/requestApproval", {"permissions": {}}, {"permissions": {"network": {"enabled": True}}}),
        ("item/tool/requestUserInput", {"answers": {}}, {"answers": {}}),
        ("mcpServer/elicitation/request", {"action": "decline"}, {"action": "decline"}),
        ("item/tool/call", {"contentItems": [], "success": False}, {"contentItems": [], "success": False}),
    ],
)
def test_what_is_asked_is_declined_unless_the_settings_accept(method, declined, accepted):
    message = {"id": "x7", "method": method, "params": {"permissions": {"network": {"enabled": True}}}}
    accepts = settings(options={"directory": "/p", "approvals": "accept"})
    assert said(Talk().begun().hear(message)) == [{"id": "x7", "result": declined}]
    assert said(Talk(accepts).begun().hear(message)) == [{"id": "x7", "result": accepted}]


def test_what_nobody_knows_is_answered_too():
    (answer,) = said(Talk().hear({"id": 0, "method": "attestation/generate", "params": {}}))
    assert answer["error"]["code"] == -32601
    permissions = {"id": 1, "method": "item/permissions/requestApproval"}
    assert json.loads(codex_answers.answer_to(permissions, accept=True))["result"] == {"permissions": {}}


# Quota.


def limits(**more):
    return {"method": "account/rateLimits/updated", "params": {"rateLimits": {"limitId": "codex", **more}}}


def test_windows_are_known_by_their_minutes_and_told_once():
    week = {"usedPercent": 12, "windowDurationMins": 10080, "resetsAt": 1795858409}
    talk = Talk()
    (learned,) = talk.hear(limits(primary=week, secondary=None), limits(primary=week))
    assert learned == QuotaLearned(
        platform="codex", window_s=7 * 86_400, unit="percent", limit=100, used=12, resets_at_ms=1795858409_000,
        evidence="rateLimits primary",
    )  # fmt: skip
    assert len(talk.hear(limits(primary={**week, "usedPercent": 13}))) == 1


def test_a_full_window_with_credits_is_paid_work():
    full = {"usedPercent": 100, "windowDurationMins": None, "resetsAt": None}
    (learned,) = Talk().hear(limits(secondary=full, credits={"hasCredits": True}, rateLimitReachedType="rate_limit_reached"))
    assert (learned.window_s, learned.resets_at_ms) == (0, None)
    assert learned.evidence == "rateLimits secondary, rate_limit_reached, paid overage"


def test_the_limit_of_a_single_model_is_none_of_the_plan():
    assert Talk().hear(limits(limitId="codex_other", primary={"usedPercent": 1})) == []


# Errors and counts.


@pytest.mark.parametrize(
    ("info", "message", "error_class"),
    [
        ("contextWindowExceeded", "", "context_too_long"),
        ("usageLimitExceeded", "x", "quota_exhausted"),
        ("cyberPolicy", "x", "refused"),
        ({"httpConnectionFailed": {"httpStatusCode": 403}}, "x", "auth_missing"),
        ({"httpConnectionFailed": {"httpStatusCode": None}}, "x", "network"),
        ({}, "x", "network"),
        ("other", "stream disconnected before completion: idle timeout waiting for SSE", "stalled"),
        ("somethingNew", "what?", "invalid"),
        (None, "internal error", "server_error"),
    ],
)
def test_errors_have_their_class(info, message, error_class):
    assert fault_of_info(info, message).error_class == error_class


def test_prose_with_a_status_is_read_by_it():
    assert fault_of_prose("exceeded retry limit, last status: 429 Too Many Requests").error_class == "rate_limited"


@pytest.mark.parametrize(("message", "wait"), [("try again in 11.054s.", 11054), ("try again in 120ms", 120), ("later", None)])
def test_a_wait_that_is_told_in_words_is_kept(message, wait):
    assert wait_ms(message) == wait


def test_nothing_counted_is_not_zero():
    assert usage_of() is None
    assert usage_of({"inputTokens": 0, "outputTokens": 0}) is None
    assert usage_of(None, {"inputTokens": 3}).output_tokens is None


# codex exec.


def lines(*events):
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def run(*events, **end):
    reader = CODEX.reader(ask(settings(options={"mode": "exec"}, model="gpt-5")))
    pieces = "".join(piece.text for piece in reader.feed(lines(*events)))
    return pieces, reader.end(End(**{"exit_code": 0, **end}))


def message(text):
    return {"type": "item.completed", "item": {"type": "agent_message", "text": text}}


def test_exec_answers_with_its_last_message_and_names_files():
    change = {
        "type": "file_change",
        "status": "completed",
        "changes": [{"path": "a", "kind": "add"}, {"path": "b", "kind": "delete"}],
    }
    events = (
        message("I look."),
        {"type": "item.completed", "item": change},
        message("42."),
        {"type": "turn.completed"},
        message("x"),
    )
    pieces, verdict = run(*events)
    assert (pieces, verdict.text, verdict.files_created, verdict.model) == ("I look.\n\n42.", "42.", ("a",), "gpt-5")


def test_exec_needs_a_good_exit_code_too():
    _, verdict = run(message("42."), {"type": "turn.completed"}, exit_code=1)
    assert verdict.fault.error_class == "crashed"
    assert run(message("42."), {"type": "turn.completed"}, exit_code=None, cut="cancelled")[1].ok


def test_exec_refuses_too_long_prompts_before_anything_is_sent():
    _, verdict = run(
        exit_code=1, stderr_tail="Error: turn/start failed: Input exceeds the maximum length of 1048576 characters."
    )
    assert (verdict.fault.error_class, verdict.charged) == ("context_too_long", "none")


def test_exec_reads_a_last_line_without_its_end():
    reader = CODEX.reader(ask(settings(options={"mode": "exec"})))
    reader.feed(lines(message("42.")) + b'{"type":"turn.completed"}')
    assert reader.end(End(exit_code=0)).ok


# Whether it is there.

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
