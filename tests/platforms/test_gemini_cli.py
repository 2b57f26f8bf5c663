"""The `gemini` program: how it is started, who pays, what its words mean, what a probe finds, which settings are refused."""

import msgspec
import pytest

from actors.platforms.gemini_cli import GEMINI_CLI, INSTALL, LEAN, check
from farebox.core.errors import BadSettings
from farebox.core.events import TaskSubmitted
from farebox.core.platform import Ask, End, Head, ProbeAnswer, ProcessCall, ProgramAnswer
from farebox.core.settings import PlatformSettings

OWN = GEMINI_CLI.defaults["gemini-cli"]
BY_KEY = PlatformSettings(kind="gemini-cli", billing="metered", key_env="GEMINI_API_KEY")


def with_options(of=OWN, **options):
    return msgspec.structs.replace(of, options=options)


def ask(of, *, model="", prompt="What?", system="", **task):
    return Ask(platform="p", settings=of, model=model, prompt=prompt, system=system, task=TaskSubmitted(**task))


def started(of=OWN, **more):
    call = GEMINI_CLI.ask(ask(of, **more))
    assert isinstance(call, ProcessCall)
    return call


def test_a_text_task_runs_lean_in_a_folder_of_its_own_with_the_users_login():
    call = started(prompt="-rf \ud800 ü", model="m")
    assert call.argv == (
        "gemini", "--output-format", "stream-json", "--skip-trust", "-m", "m", "--extensions", "none",
    )  # fmt: skip
    assert (call.stdin, call.directory) == ("-rf ? ü".encode(), "{scratch}")
    assert call.scratch is not None
    assert call.scratch["system.md"] == LEAN.encode()
    said = msgspec.json.decode(call.scratch[".gemini/settings.json"])
    assert said["general"]["maxAttempts"] == 1
    assert said["tools"] == {"core": []}
    assert said["security"] == {"auth": {"enforcedType": "oauth-personal"}}


def test_a_plan_starts_without_any_key_also_of_files():
    call = started()
    assert call.keep == ("GOOGLE_CLOUD_PROJECT", "GOOGLE_CLOUD_LOCATION")
    assert [call.environment[name] for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_GENAI_USE_VERTEXAI")] == [""] * 3
    assert "GEMINI_CLI_HOME" not in call.environment


def test_a_key_gets_a_home_of_its_own_and_goes_through_by_name_only():
    call = started(msgspec.structs.replace(BY_KEY, url="http://127.0.0.1:1/"))
    assert (call.keep, call.environment["GEMINI_CLI_HOME"]) == (("GEMINI_API_KEY",), "{scratch}/home")
    assert "GEMINI_API_KEY" not in call.environment
    assert call.environment["GOOGLE_GEMINI_BASE_URL"] == "http://127.0.0.1:1"
    assert call.scratch is not None
    said = msgspec.json.decode(call.scratch["home/.gemini/settings.json"])
    assert said["security"] == {"auth": {"selectedType": "gemini-api-key"}}


def test_temporary_files_go_with_the_call():
    assert {started(of).environment["TMPDIR"] for of in (OWN, BY_KEY, with_options(directory="/src"))} == {"{scratch}"}


def test_a_system_text_stands_in_the_lean_prompt_or_before_the_own_one():
    lean = started(system="Be brief.")
    assert lean.scratch is not None
    assert (lean.scratch["system.md"], lean.stdin) == (b"Be brief.", b"What?")
    own = started(with_options(system="own"), system="Be brief.")
    assert own.scratch is not None
    assert ("system.md" in own.scratch, own.stdin) == (False, b"Be brief.\n\nWhat?")
    assert "GEMINI_SYSTEM_MD" not in own.environment
    assert started(with_options(system="own")).stdin == b"What?"


def test_in_a_folder_of_the_user_the_program_has_its_own_tools_and_rights():
    of = with_options(
        directory="/src", home="/second", approval_mode="auto_edit", allowed_tools="a,b", arguments="--sandbox 'x y'"
    )
    call = started(of)
    assert call.argv == (
        "gemini", "--output-format", "stream-json", "--skip-trust", "--approval-mode", "auto_edit", "--allowed-tools", "a,b",
        "--sandbox", "x y",
    )  # fmt: skip
    assert (call.directory, call.environment["GEMINI_CLI_HOME"]) == ("/src", "/second")
    assert not {"GEMINI_CLI_TRUST_WORKSPACE", "GEMINI_SYSTEM_MD"} & set(call.environment)
    assert call.scratch is not None
    assert "tools" not in msgspec.json.decode(call.scratch[".gemini/settings.json"])


def test_another_program_may_stand_in_for_it():
    of = msgspec.structs.replace(OWN, argv=("/opt/gemini",), models=("first",))
    assert started(of).argv[:6] == ("/opt/gemini", "--output-format", "stream-json", "--skip-trust", "-m", "first")


# ---- reading


def judged(*lines, exit_code=0, stderr="", cut=""):
    reader = GEMINI_CLI.reader(ask(BY_KEY))
    reader.head(Head(status=0))
    for line in lines:
        reader.feed(line if isinstance(line, bytes) else msgspec.json.encode(line) + b"\n")
    return reader.end(End(exit_code=exit_code, stderr_tail=stderr, cut=cut))


def result(message="", *, status="error", stats=None):
    return {"type": "result", "status": status, "error": {"message": message}, "stats": stats or {}}


TEXT = {"type": "message", "role": "assistant", "content": "Fox.", "delta": True}


@pytest.mark.parametrize(
    ("exit_code", "stderr", "error_class", "charged"),
    [
        (41, "no login", "auth_missing", "none"),
        (42, "", "invalid", "none"),
        (44, "", "invalid", "none"),
        (52, "", "invalid", "none"),
        (53, "", "invalid", "possible"),
        (55, "", "invalid", "none"),
        (126, "", "unavailable", "none"),
        (127, "env: 'node'", "unavailable", "none"),
        (144, "", "invalid", "none"),
        (145, "", "auth_missing", "none"),
        (147, "", "auth_missing", "none"),
        (157, "", "context_too_long", "none"),
        (173, "", "rate_limited", "none"),
        (244, "", "server_error", "possible"),
        (247, "", "server_error", "none"),
        (0, "", "crashed", "possible"),
        (1, "panic", "crashed", "possible"),
        (-9, "", "crashed", "possible"),
    ],
)
def test_an_exit_code_without_a_result_has_its_meaning(exit_code, stderr, error_class, charged):
    verdict = judged(exit_code=exit_code, stderr=stderr)
    assert verdict.fault is not None
    assert (verdict.fault.error_class, verdict.charged) == (error_class, charged)
    assert stderr in verdict.fault.message


@pytest.mark.parametrize(
    ("message", "exit_code", "stderr", "error_class", "charged"),
    [
        ("[API Error: fetch failed]", 1, "code: 'ECONNREFUSED'", "network", "none"),
        ("[API Error: fetch failed]", 1, "", "network", "possible"),
        ("[API Error: terminated]", 1, "", "network", "possible"),
        ("Model stream ended with malformed function call.", 0, "", "unsupported", "possible"),
        ("ended due to token limit exhaustion (MAX_TOKENS) with", 0, "", "truncated", "possible"),
        ("ended due to safety settings (SAFETY) with", 0, "", "refused", "possible"),
        ("Reached max session turns", 53, "", "invalid", "possible"),
        ("", 173, "", "rate_limited", "none"),
        ("odd", 1, "", "invalid", "possible"),
        ('[API Error: {"error":{"code":404,"message":"gone"}}]', 1, "", "unavailable", "none"),
        ("[API Error: {x}]", 247, "", "server_error", "none"),
    ],
)
def test_the_words_of_a_result_have_their_meaning(message, exit_code, stderr, error_class, charged):
    verdict = judged(result(message), exit_code=exit_code, stderr=stderr)
    assert verdict.fault is not None
    assert (verdict.fault.error_class, verdict.charged) == (error_class, charged)


def test_what_the_api_tells_about_quota_inside_of_a_message_is_learned():
    reader = GEMINI_CLI.reader(ask(BY_KEY))
    quota = {"quotaId": "GenerateRequestsPerMinutePerProject", "quotaValue": "10"}
    error = {"error": {"code": 429, "message": "m", "details": [{"violations": [quota]}, {"retryDelay": "3s"}]}}
    (learned,) = reader.feed(msgspec.json.encode(result(f"[API Error: {msgspec.json.encode(error).decode()}]")) + b"\n")
    verdict = reader.end(End(exit_code=173))
    assert (learned.limit, learned.window_s, verdict.retry_after_ms) == (10, 60, 3000)
    assert verdict.fault is not None
    assert (verdict.fault.error_class, verdict.charged) == ("rate_limited", "none")


def test_a_run_of_tools_without_words_is_no_empty_answer():
    counted = {"total_tokens": 9, "input_tokens": 5, "output_tokens": 4}
    verdict = judged({"type": "tool_use", "tool_name": "write_file"}, result(status="success", stats=counted))
    assert (verdict.ok, verdict.text) == (True, "")
    verdict = judged(result(status="success", stats=counted))
    assert verdict.fault is not None
    assert (verdict.fault.error_class, verdict.charged) == ("invalid", "known")


def test_a_result_that_was_there_before_the_clock_ran_out_counts():
    assert judged(TEXT, result(status="success"), exit_code=-9, cut="timeout").ok
    verdict = judged(TEXT, result("x"), exit_code=0, cut="timeout")
    assert verdict.fault is not None
    assert (verdict.fault.error_class, verdict.charged, verdict.text) == ("timeout", "possible", "Fox.")


def test_the_model_that_did_most_of_the_work_is_named():
    models = {"gemini-lite": {"total_tokens": 3}, "gemini-pro": {"total_tokens": 30}, "odd": {}}
    counted = {"total_tokens": 33, "input_tokens": 30, "output_tokens": 3, "models": models}
    verdict = judged({"type": "init", "model": "auto"}, TEXT, result(status="success", stats=counted))
    assert verdict.model == "gemini-pro"
    assert judged({"type": "init", "model": "auto"}, TEXT, result(status="success", stats={"models": {}})).model == "auto"
    assert judged({"type": "init", "model": "auto"}, TEXT, result(status="success")).model == "auto"


@pytest.mark.parametrize(
    ("end", "error_class", "charged"),
    [
        (End(cut="missing"), "unavailable", "none"),
        (End(cut="cancelled", sent=False), "cancelled", "none"),
        (End(cut="cancelled"), "cancelled", "possible"),
        (End(cut="timeout"), "timeout", "possible"),
        (End(cut="stalled"), "stalled", "possible"),
    ],
)
def test_a_run_that_was_cut_says_why_and_whether_it_can_have_cost_something(end, error_class, charged):
    verdict = GEMINI_CLI.reader(ask(OWN)).end(end)
    assert verdict.fault is not None
    assert (verdict.fault.error_class, verdict.charged, verdict.usage) == (error_class, charged, None)


def test_a_line_without_end_is_refused_and_not_kept():
    verdict = judged(*[b"x" * 1024 * 1024] * 17)
    assert verdict.fault is not None
    assert verdict.fault.error_class == "invalid"


# ---- probes and settings


def report(of=OWN, **answer):
    return GEMINI_CLI.read_probe("p", of, ProbeAnswer(**answer))


def there(out="0.61.0\n", exit_code=0, errors="", **more):
    return {"path": "/bin/gemini", "said": (ProgramAnswer(exit_code=exit_code, out=out, errors=errors),), **more}


def test_a_probe_asks_the_version_and_looks_for_a_login_without_reading_it():
    probe = GEMINI_CLI.probe("p", OWN)
    assert (probe.program, probe.ask) == ("gemini", (("--version",),))
    assert probe.paths == ("~/.gemini/oauth_creds.json", "~/.gemini/gemini-credentials.json")
    assert GEMINI_CLI.probe("p", BY_KEY).paths == ()
    assert GEMINI_CLI.probe("p", with_options(home="/h")).paths[0] == "/h/.gemini/oauth_creds.json"


@pytest.mark.parametrize(
    ("of", "answer", "detail"),
    [
        (OWN, there(found=("~/.gemini/oauth_creds.json",)), "version 0.61.0, with its own login"),
        (BY_KEY, there(key_set=True), "version 0.61.0, paid with GEMINI_API_KEY"),
        (
            BY_KEY,
            there("0.62.0-preview.1", key_set=True),
            "version 0.62.0-preview.1, newer than the tested 0.61.0, paid with GEMINI_API_KEY",
        ),
        (BY_KEY, there("0.60.9", key_set=True), "version 0.60.9, older than the tested 0.61.0, paid with GEMINI_API_KEY"),
    ],
)
def test_a_program_with_somebody_who_pays_is_available(of, answer, detail):
    told = report(of, **answer)
    assert (told.available, told.detail) == (True, detail)


@pytest.mark.parametrize(
    ("of", "answer", "detail", "mend"),
    [
        (OWN, {}, "no program 'gemini' on PATH", INSTALL),
        (BY_KEY, there(), "GEMINI_API_KEY is not set", "export GEMINI_API_KEY=…"),
        (OWN, there(), "no login found", "Log in with: gemini"),
        (OWN, there("", 127, "env: 'node'"), "does not run: env: 'node'", "Install Node.js 20"),
        (OWN, there("", None), "did not say its version in time", "Install Node.js 20"),
        (OWN, there("hello"), "does not run: hello", "Install Node.js 20"),
    ],
)
def test_what_is_missing_is_told_with_what_to_do(of, answer, detail, mend):
    told = report(of, **answer)
    assert not told.available
    assert detail in told.detail
    assert mend in told.mend


@pytest.mark.parametrize("of", [OWN, BY_KEY, with_options(directory="/src", home="/h", arguments="-s")])
def test_settings_that_work_pass(of):
    check("p", of)


@pytest.mark.parametrize(
    ("of", "words"),
    [
        (msgspec.structs.replace(OWN, key_env="GEMINI_API_KEY"), "must not see a key"),
        (msgspec.structs.replace(OWN, billing="metered"), "needs key_env"),
        (msgspec.structs.replace(BY_KEY, key_env="MY_KEY"), "needs key_env"),
        (msgspec.structs.replace(OWN, url="https://x"), "works only with a key"),
        (msgspec.structs.replace(BY_KEY, url="ftp://x"), "is no address"),
        (msgspec.structs.replace(BY_KEY, url="http://example.org"), "plain http"),
        (with_options(BY_KEY, home="/h"), "is for logins"),
        (with_options(arguments="'"), "No closing quotation"),
        (with_options(approval_mode="all"), "cannot be 'all'"),
        (with_options(tools="x"), "has no 'tools'"),
    ],
)
def test_settings_that_cannot_work_are_refused(of, words):
    with pytest.raises(BadSettings, match=words):
        check("p", of)
