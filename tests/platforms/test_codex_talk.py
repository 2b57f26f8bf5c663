"""A talk with the codex app-server, message by message: when a turn begins, what is asked in it, what it comes to."""

import json

import pytest

from actors.platforms import codex_answers
from actors.platforms.codex import CODEX
from actors.platforms.json_lines import LINE_BYTES_MAX
from farebox.core.events import QuotaLearned, TaskSubmitted
from farebox.core.platform import Ask, Done, End, Head, Piece, Say, Talker
from farebox.core.settings import PlatformSettings

PLAN = CODEX.defaults["codex"]


def settings(**more):
    return PlatformSettings(**{"kind": "codex", "billing": "plan", **more})


def ask(of, **more):
    return Ask(**{"platform": "codex", "settings": of, "model": "", "prompt": "What?", "task": TaskSubmitted(), **more})


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
