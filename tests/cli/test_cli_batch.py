"""farebox batch: order of the input, sums, mistakes with file and line, going on after an interruption."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import threading
import time

import pytest

from farebox.core import events, wire


def said(store, kind):
    facts = [wire.decode(one.subject, one.body, one.seq, one.at_ms) for one in store.facts]
    return [fact.task for fact in facts if isinstance(fact, kind)]


def submitted(store):
    return said(store, events.TaskSubmitted)


def cancels(store):
    return len(said(store, events.TaskCancelRequested))


def written(tmp_path, *items, name="prompts.jsonl"):
    (tmp_path / name).write_text("".join(json.dumps(item) + "\n" for item in items))
    return name


def test_results_come_in_the_order_of_the_input(cli, tmp_path):
    file = written(tmp_path, *({"prompt": f"late {number}" if number % 2 else f"task {number}"} for number in range(12)))
    ran = cli("batch", file, "--parallel", "4")
    assert [result["output"] for result in ran.jsonl] == [
        (f"late {number}" if number % 2 else f"task {number}").upper() for number in range(12)
    ]
    assert ran.code == 0
    assert "12 completed, 0 failed, 0 cancelled of 12 · success 100.0 %" in ran.err
    assert "Rehearsal dollars. You were charged nothing." in ran.err
    assert "$0.1500" in ran.err


def test_one_failing_task_stops_nobody_and_ends_with_code_6(cli, tmp_path):
    file = written(tmp_path, {"prompt": "one", "id": "first"}, {"prompt": "fail"}, {"prompt": "three"})
    ran = cli("batch", file, "-o", "out.jsonl")
    assert (ran.code, ran.out) == (6, "")
    results = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [result["status"] for result in results] == ["completed", "failed", "completed"]
    assert [result["label"] for result in results] == ["first", "", ""]
    assert f"{results[1]['task_id']} failed: server_error: rehearsal answered 500" in ran.err


def test_the_end_says_why_the_first_tasks_failed(cli, tmp_path):
    file = written(tmp_path, *({"prompt": "fail", "id": f"no\u202e {number}"} for number in range(5)))
    ran = cli("batch", file, "-o", "out.jsonl")
    assert [line for line in ran.err.splitlines() if " failed: server_error" in line] == [
        f"no\ufffd {number} failed: server_error: rehearsal answered 500" for number in range(3)
    ]
    assert ran.err.splitlines()[-1] == "and 2 more that failed"


def test_the_json_document_holds_counts_sums_and_results(cli, tmp_path):
    ran = cli("batch", written(tmp_path, {"prompt": "one"}, {"prompt": "fail"}), "--json", "-q")
    assert (ran.code, ran.err) == (6, "")
    found = ran.json
    assert (found["schema"], found["count"], found["completed"], found["success_rate"]) == ("farebox.batch/1", 2, 1, 0.5)
    assert (found["paid_usd"], found["plan_value_usd"]) == ("0.0125", None)
    assert found["platforms"]["rehearsal"]["count"] == 2
    assert [result["status"] for result in found["results"]] == ["completed", "failed"]


def test_a_json_array_on_stdin_works_too(cli, monkeypatch):
    body = json.dumps([{"prompt": "one"}, {"prompt": "two"}]).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(body)))
    assert [result["output"] for result in cli("batch", "-").jsonl] == ["ONE", "TWO"]


def test_fail_fast_cancels_the_rest(cli, tmp_path, store):
    file = written(tmp_path, {"prompt": "fail"}, {"prompt": "slow"}, *[{"prompt": "never"}] * 10)
    ran = cli("batch", file, "--fail-fast", "--parallel", "2")
    assert ran.code == 6
    assert len(ran.jsonl) == 12
    assert len(submitted(store)) < 5


BAD = [
    ('{"promt": "x"}', 'unknown field "promt". Did you mean "prompt"?'),
    ('{"prompt": ""}', "the prompt is empty."),
    ('{"prompt": 5}', 'field "prompt": Expected str, got int (it is 5).'),
    ('{"prompt": "x", "type": "reserch"}', "'reserch' is no task type. Did you mean \"research\"?"),
    ('{"prompt": "x", "priority": 1.5}', 'field "priority": Expected int, got float'),
    ('{"prompt": "x", "platform": "rehersal"}', 'There is no platform "rehersal". Did you mean "rehearsal"?'),
    ('{"prompt": "x", "model": "parot"}', 'No platform has the model "parot". Did you mean "parrot"?'),
    ('{"prompt": "x", "chain": "a.b"}', "chain 'a.b' is not usable."),
    ('{"prompt": "x", "files": ["none.txt"]}', "none.txt: there is no such file."),
    ('{"prompt": "x"', "not JSON: Expecting ',' delimiter at column"),
    ('{"prompt": NaN}', "not JSON: NaN is no JSON number."),
    ('["x"]', "a JSON object is expected, not an array."),
    ("nonsense", "not JSON: Expecting value at column 1."),
    ('{"prompt": "x", "timeout": 1, "timeout_s": 2}', 'field "timeout_s" is given twice.'),
    ('{"id": "x"}', 'field "prompt" is missing.'),
]


@pytest.mark.parametrize(("line", "words"), BAD)
def test_a_bad_line_is_named_and_nothing_is_sent(cli, tmp_path, store, line, words):
    (tmp_path / "p.jsonl").write_text('{"prompt": "fine"}\n\n' + line + "\n")
    ran = cli("batch", "p.jsonl")
    assert ran.code == 2
    assert f"p.jsonl line 3: {words}" in ran.err
    assert "Nothing was sent." in ran.err
    assert ran.err.count("\n") == 1
    assert store.facts == []


def test_dry_run_says_every_bad_line_and_sends_nothing(cli, tmp_path, store, needs):
    (tmp_path / "p.jsonl").write_text("\n".join(line for line, _ in BAD if "rehersal" not in line and "parot" not in line))
    ran = cli("batch", "p.jsonl", "--dry-run")
    assert (ran.code, len(ran.out.splitlines())) == (2, 13)
    assert "0 good, 13 bad. Nothing was sent." in ran.err
    found = cli("batch", "p.jsonl", "--dry-run", "--json").json
    assert [bad["line"] for bad in found["bad"]] == list(range(1, 14))
    (tmp_path / "p.jsonl").write_text('{"prompt": "x"}')
    assert cli("batch", "p.jsonl", "--dry-run").code == 0
    assert (store.facts, needs) == ([], ["running"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.jsonl"], "FB406 missing.jsonl: there is no such file."),
        (["empty.jsonl"], "FB401 empty.jsonl holds no task."),
        ([], "FB401 A batch needs a file."),
        (["--dryrun"], "FB400 Unknown option: --dryrun."),
        (["--dry-run"], "FB401 --dry-run checks a file."),
        (["p.jsonl", "--parallel", "0"], "parallel is 0; it must be from 1 to 400."),
        (["p.jsonl", "-o", "p.jsonl"], "p.jsonl is the input; results would destroy it."),
        (["p.jsonl", "-o", "no/such/folder.jsonl"], "FB406 no/such/folder.jsonl: cannot be written"),
        (["--resume", "b404"], 'FB407 There is no batch "b404".'),
        (["--resume", "a.b"], "batch 'a.b' is not usable."),
    ],
)
def test_a_mistake_in_the_call_is_one_line(cli, tmp_path, store, arguments, words):
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "p.jsonl").write_text('{"prompt": "x"}\n')
    ran = cli("batch", *arguments)
    assert ran.code == 2
    assert words in ran.err
    assert store.facts == []


@pytest.fixture
def interrupted(cli, store, let_go):
    """Run a command line and send it signals after so many tasks, each when the one before was heard."""

    def run(*arguments, after, signals, then_let_go=False):
        def press() -> None:
            while len(submitted(store)) < after:
                time.sleep(0.01)
            time.sleep(0.1)
            for number in signals:
                os.kill(os.getpid(), number)
                while "No more tasks are sent" not in sys.stderr.getvalue():  # what pytest captures
                    time.sleep(0.01)
            if then_let_go:
                let_go.set()

        thread = threading.Thread(target=press)
        thread.start()
        ran = cli(*arguments)
        thread.join()
        return ran

    return run


def statuses(tmp_path):
    return [json.loads(line)["status"] for line in (tmp_path / "out.jsonl").read_text().splitlines()]


FOUR = ({"prompt": "one"}, {"prompt": "held"}, {"prompt": "three"}, {"prompt": "four"})


@pytest.mark.parametrize(
    ("with_signal", "code", "words"),
    [
        (signal.SIGINT, 130, "their answers are kept (Ctrl-C again: cancel them)"),
        (signal.SIGTERM, 143, "at most 15 s; none is cancelled"),
    ],
)
def test_an_interrupted_batch_keeps_what_runs_and_goes_on_later(cli, interrupted, tmp_path, store, with_signal, code, words):
    file = written(tmp_path, *FOUR)
    arguments = ("batch", file, "--parallel", "1", "-o", "out.jsonl")
    ran = interrupted(*arguments, after=2, signals=[with_signal], then_let_go=True)
    assert ran.code == code
    assert f"No more tasks are sent. Waiting for the 1 that run: {words}" in ran.err
    assert "2 tasks were not sent. Go on with: farebox batch --resume" in ran.err
    assert statuses(tmp_path) == ["completed", "completed", "cancelled", "cancelled"]
    assert (len(submitted(store)), cancels(store)) == (2, 0)
    again = cli("batch", "--resume", ran.err.rpartition("--resume ")[2].strip(), "-o", "out.jsonl")
    assert (again.code, "stay cancelled" in again.err) == (0, False)
    assert statuses(tmp_path) == ["completed"] * 4
    assert len(submitted(store)) == len(set(submitted(store))) == 4


def test_ctrl_c_twice_cancels_what_runs_for_good_and_says_so(cli, interrupted, tmp_path, store):
    file = written(tmp_path, {"prompt": "one"}, {"prompt": "slow"}, {"prompt": "three"}, {"prompt": "four"})
    arguments = ("batch", file, "--parallel", "1", "-o", "out.jsonl")
    ran = interrupted(*arguments, after=2, signals=[signal.SIGINT, signal.SIGINT])
    assert ran.code == 130
    assert "Cancelling 1 running tasks, for good" in ran.err
    assert "1 cancelled tasks stay cancelled: a resumed batch never starts them again." in ran.err
    batch = ran.err.rpartition("--resume ")[2].strip()
    again = cli("batch", "--resume", batch, "-o", "out.jsonl")
    assert (again.code, "1 cancelled tasks stay cancelled" in again.err) == (6, True)
    assert statuses(tmp_path) == ["completed", "cancelled", "completed", "completed"]
    assert len(submitted(store)) == len(set(submitted(store))) == 4
    assert cli("batch", file, "--resume", batch).code == 6
    assert len(submitted(store)) == 4
    refused = cli("batch", "--resume", batch, "--max-cost", "9", "--need", "files")
    assert (refused.code, "--max-cost, --need cannot change it." in refused.err) == (2, True)


def test_an_interrupted_batch_goes_on_with_its_file_and_without_the_options_of_then(interrupted, cli, tmp_path, store):
    file = written(tmp_path, *FOUR)
    told = ("--max-cost", "5", "--deny", "other", "--tag", "a=b")
    ran = interrupted("batch", file, "--parallel", "1", *told, after=2, signals=[signal.SIGINT], then_let_go=True)
    batch = ran.err.rpartition("--resume ")[2].strip()
    assert cli("batch", file, "--resume", batch).code == 0
    assert all(b'"batch_max_cost_usd":"5"' in one.body for one in store.facts if ".submitted." in one.subject)
    other = cli("batch", file, "--resume", batch, "--max-cost", "6")
    assert (other.code, "FB408" in other.err, "line 1 in batch_max_cost_usd" in other.err) == (2, True, True)
    assert "without a file and options: farebox batch --resume" in other.err


def test_an_interrupted_batch_that_had_sent_everything_need_not_go_on(interrupted, tmp_path):
    ran = interrupted("batch", written(tmp_path, {"prompt": "held"}), after=1, signals=[signal.SIGINT], then_let_go=True)
    assert (ran.code, "--resume" in ran.err, ran.jsonl[0]["status"]) == (130, False, "completed")


def test_sigterm_does_not_wait_for_ever_and_cancels_nothing(interrupted, tmp_path, store, monkeypatch):
    monkeypatch.setattr("farebox.cli.batch.CANCEL_WAIT_S", 0.2)
    ran = interrupted("batch", written(tmp_path, *FOUR), "--parallel", "1", after=2, signals=[signal.SIGTERM])
    assert ran.code == 143
    assert "The end of some tasks is not known yet: they may go on." in ran.err
    assert "Go on with: farebox batch --resume" in ran.err
    assert cancels(store) == 0


def test_plain_progress_is_a_line_and_none_is_none(cli, tmp_path):
    file = written(tmp_path, {"prompt": "one"})
    assert "progress 1/1 running=0 failed=0 paid=0.0125" in cli("batch", file, "--progress", "plain").err
    assert "progress" not in cli("batch", file, "--progress", "none").err
    assert cli("batch", file, "--progress", "live").code == 0
