"""farebox submit, as a person and as a program uses it."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import time

import pytest
from msgspec.structs import replace

from farebox.cli.answer_shown import cost, footer
from farebox.core import events, wire
from farebox.core.results import CostShown, ErrorShown, Result, UsageShown


def submitted(store):
    facts = [wire.decode(one.subject, one.body, one.seq, one.at_ms) for one in store.facts]
    return [fact for fact in facts if isinstance(fact, events.TaskSubmitted)]


def test_the_answer_is_on_stdout_and_everything_else_on_stderr(cli):
    ran = cli("submit", "hello world")
    assert (ran.code, ran.out) == (0, "HELLO WORLD\n")
    assert "rehearsal · rehearsal: no model, no money" in ran.err
    assert "rehearsal/parrot · 10→5 tok · 1.5 s · paid $0.0125 (rehearsal dollars) · task " in ran.err


def test_a_result_is_one_document_for_programs(cli):
    found = cli("submit", "hello", "--json").json
    assert list(found) == [
        "schema", "task_id", "chain_id", "batch_id", "label", "platform", "model", "billing", "status", "output",
        "partial_output", "files_created", "files_changed", "files_more", "worktree", "base_commit", "usage", "cost",
        "duration_s", "attempts", "error",
    ]  # fmt: skip
    assert (found["schema"], found["cost"]["paid_usd"], found["cost"]["plan_value_usd"]) == ("farebox.result/1", "0.0125", None)


def test_streamed_text_of_a_void_attempt_is_marked_and_a_pipe_holds_only_the_answer(cli):
    streamed = cli("submit", "twice tried", "--stream")
    assert streamed.out == "THROWN AWAY\nTWICE TRIED\n"
    assert "attempt 2 begins anew; the text above is void" in streamed.err
    assert cli("submit", "twice tried").out == "TWICE TRIED\n"
    assert cli("submit", "twice tried", "--no-stream").out == "TWICE TRIED\n"


def test_a_failed_task_ends_with_code_1_and_says_why(cli):
    ran = cli("submit", "fail please")
    assert (ran.code, ran.out) == (1, "")
    assert "failed: server_error: rehearsal answered 500" in ran.err


def test_detached_prints_the_id_and_needs_a_running_engine(cli, store, needs):
    ran = cli("submit", "hello", "--detach")
    assert ran.out.strip() == submitted(store)[0].task
    assert needs == ["running"]
    assert cli("submit", "hello", "--detach", "--json").json["chain_id"] == submitted(store)[1].chain


def test_every_option_reaches_the_fact(cli, store, tmp_path):
    (tmp_path / "a.txt").write_text("contents")
    (tmp_path / "c.json").write_text('{"k": [1]}')
    ran = cli(
        "submit", "-f", "a.txt", "hello", "--type", "review", "--platform", "rehearsal", "--no-fallback", "--model", "owl",
        "--chain", "chain-1", "--priority", "5", "--context", "@c.json", "--metadata", "a=b=c", "--metadata", "d=",
        "--timeout", "60", "--max-tokens", "100", "--temperature", "0.5", "--tag", "team=x", "-s", "be brief",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    (fact,) = submitted(store)
    assert (fact.type, fact.platform, fact.fallback, fact.model, fact.chain) == ("review", "rehearsal", False, "owl", "chain-1")
    assert (fact.priority, fact.context, fact.metadata, fact.tags) == (5, {"k": [1]}, {"a": "b=c", "d": ""}, {"team": "x"})
    assert (fact.timeout_s, fact.max_tokens, fact.temperature, fact.system) == (60, 100, 0.5, "be brief")
    assert [(file.name, file.content) for file in fact.files] == [("a.txt", "contents")]


def test_the_prompt_comes_from_stdin(cli, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("from stdin ü".encode())))
    assert cli("submit", "-").out == "FROM STDIN Ü\n"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["hello", "--type", "reserch"], 2, "FB401 'reserch' is no task type. Did you mean \"research\"? Choose one of:"),
        (["hello", "--platform", "rehersal"], 2, 'FB306 There is no platform "rehersal". Did you mean "rehearsal"?'),
        (["hello", "--model", "parot"], 2, 'FB304 No platform has the model "parot". Did you mean "parrot"?'),
        ([" "], 2, "FB405 the prompt is empty."),
        (["hello", "--chain", "a.b"], 2, "chain 'a.b' is not usable."),
        (["hello", "--priority", "5000"], 2, 'FB401 field "priority": Expected int <= 1000'),
        (["hello", "--priority", "high"], 2, "FB400"),
        (["hello", "--timeout", "-1"], 2, 'FB401 field "timeout_s"'),
        (["hello", "-f", "missing.txt"], 2, "FB406 missing.txt: there is no such file."),
        (["hello", "-f", "."], 2, "FB406 . is a folder, not a file."),
        (["hello", "-f", "binary"], 2, "FB406 binary is no UTF-8 text (byte 1)."),
        (["hello", "--context", "{"], 2, "FB401 --context: not JSON"),
        (["hello", "--context", "[1]"], 2, "FB401 --context: a JSON object is expected, not an array."),
        (["hello", "--metadata", "x"], 2, "--metadata 'x': write it as NAME=VALUE."),
        (["hello", "--tag", "a=1", "--tag", "a=2"], 2, "--tag 'a' is given twice."),
        (["hello", "--platfrm", "x"], 2, "FB400 Unknown option: --platfrm. Did you mean --platform?"),
        (["hello", "my", "dear"], 2, 'FB400 Unused: "my dear". Put a prompt of several words in quotes: farebox submit "your'),
        (["--jsn"], 2, "FB400 Unknown option: --jsn."),
        ([], 2, "FB400"),
        (["hello", "--server", "nats://nobody:1"], 4, "FB101 No farebox engine answers on nats://nobody:1. Start one:"),
    ],
)
def test_a_mistake_is_one_line_an_exit_code_and_nothing_sent(cli, store, tmp_path, arguments, code, words):
    (tmp_path / "binary").write_bytes(b"\xff\x00")
    ran = cli("submit", *arguments)
    assert (ran.code, ran.out) == (code, "")
    assert words in ran.err
    assert ran.err.count("\n") == 1
    assert store.facts == []


def test_programs_get_the_mistake_as_a_document_too(cli):
    found = cli("submit", "hello", "--type", "poetry", "--json").json
    assert found["schema"] == "farebox.error/1"
    assert found["error"]["code"] == "FB401"


def test_verbose_shows_the_trace(cli):
    assert "Traceback" in cli("submit", " ", "-v").err


def later(action) -> threading.Thread:
    thread = threading.Thread(target=action)
    thread.start()
    return thread


def test_ctrl_c_cancels_the_task_and_says_what_was_spent(cli, store):
    def press() -> None:
        while not submitted(store):
            time.sleep(0.01)
        time.sleep(0.4)  # its first words are shown
        os.kill(os.getpid(), signal.SIGINT)

    thread = later(press)
    ran = cli("submit", "slow one")
    thread.join()
    assert (ran.code, ran.out) == (130, "so far\n")
    assert "Cancelling task" in ran.err
    assert "cancelled" in ran.err
    assert "nothing charged" in ran.err


def test_sigterm_ends_with_its_own_code(cli, store):
    def term() -> None:
        while not submitted(store):
            time.sleep(0.01)
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = later(term)
    assert cli("submit", "slow one", "--json").code == 143
    thread.join()


def test_the_footer_names_files_and_the_worktree_that_waits_for_a_look():
    done = Result(task_id="t1", chain_id="c", status="completed", files_created=("a b",), files_changed=("c\x1b[2J",))
    assert footer(done).splitlines()[1:] == ["created: a b", "changed: c\ufffd[2J"]
    many = replace(done, files_created=(), files_changed=tuple(map(str, range(22))), worktree="/w t/1", base_commit="c" * 40)
    assert footer(many).splitlines()[1:] == [
        f"changed: {', '.join(map(str, range(20)))} and 2 more",
        "worktree: /w t/1 (at cccccccccccc). Look: git -C '/w t/1' status",
    ]
    assert footer(replace(done, files_more=True)).splitlines()[1] == "created: a b (not all: there are too many)"
    blind = replace(done, files_created=(), files_changed=(), files_more=True)
    assert footer(blind).splitlines()[1:] == ["files: too many to be looked at, so nobody knows which were changed"]


def test_the_footer_says_what_is_known_and_never_zero_for_unknown():
    usage = UsageShown(input_tokens=812, output_tokens=214)
    done = Result(
        task_id="t1", chain_id="c", status="completed", platform="openai", model="gpt-5-mini", usage=usage, duration_s=1.94,
        cost=CostShown(paid_usd="0.00061", status="priced"),
    )  # fmt: skip
    assert footer(done) == "openai/gpt-5-mini · 812→214 tok · 1.9 s · paid $0.00061 · task t1"
    failed = Result(
        task_id="t2", chain_id="c", status="failed", error=ErrorShown(error_class="exhausted", message="a\nb\x1b[2J")
    )
    assert footer(failed) == "failed: exhausted: a b�[2J\nno platform · –→– tok · – · nothing charged · task t2"
    nobody = ErrorShown(error_class="unavailable", message="Nobody answers.")
    assert footer(replace(failed, error=nobody)).startswith(
        "failed: unavailable: Nobody answers. What is missing, and how to get it: farebox platforms\n"
    )
    stopped = replace(failed, status="cancelled", error=ErrorShown(error_class="cancelled", message="Cancelled."))
    assert footer(stopped).startswith("cancelled\nno platform")
    assert cost(CostShown(status="possible")) == "possibly charged, nobody knows how much"
    twice = CostShown(status="possible", paid_usd="0.5")
    assert cost(twice) == "paid $0.5000, possibly charged, nobody knows how much"
    assert cost(CostShown(status="unpriced")) == "no price known"
    assert cost(CostShown(status="pending")) == "cost still being booked"
    assert cost(CostShown(status="possible", possible_usd="0.5")) == "possibly charged, at most $0.5000"
    both = cost(CostShown(status="priced", paid_usd="0", plan_value_usd="0.25"))
    assert both == "paid $0.0000, plan value $0.2500"
