"""`codex exec`, and what both ways of codex share: errors in words, tokens, lines without end."""

import json

import pytest

from actors.platforms.codex import CODEX
from actors.platforms.codex_lines import fault_of_info, fault_of_prose, usage_of, wait_ms
from farebox.core.events import TaskSubmitted
from farebox.core.platform import Ask, End
from farebox.core.settings import PlatformSettings

PLAN = CODEX.defaults["codex"]


def settings(**more):
    return PlatformSettings(**{"kind": "codex", "billing": "plan", **more})


def ask(of, **more):
    return Ask(**{"platform": "codex", "settings": of, "model": "", "prompt": "What?", "task": TaskSubmitted(), **more})


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
