"""The stand-in for an agent program, run in this process: every line that it prints."""

import io
import json
import signal
from pathlib import Path

import pytest

from farebox.rehearsal.program import InterruptedRunError, main, options, prepare

PROMPT = "Sparrows count the ships every morning. Nobody knows why they would do that."


def run(capfdbinary, *arguments, prompt=PROMPT, interrupted=False):
    prepared = prepare(options().parse_args(list(arguments)), prompt)
    if interrupted:
        prepared.interrupt(2, None)
    code = prepared.go()
    return code, [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]


def test_a_run_prints_what_an_agent_program_prints(capfdbinary):
    code, lines = run(capfdbinary, "--model", "m", "--prices", "m=1/2")
    assert code == 0
    assert [line["type"] for line in lines[:3]] == ["system", "rate_limit_event", "stream_event"]
    *_, said, result = lines
    streamed = "".join(line["event"]["delta"]["text"] for line in lines if line.get("event", {}).get("delta"))
    assert said["message"]["content"][0]["text"] == streamed == result["result"]
    assert streamed.startswith("About: Sparrows")
    usage = result["usage"]
    assert result["total_cost_usd"] == pytest.approx((usage["input_tokens"] + 2 * usage["output_tokens"]) / 1e6)


@pytest.mark.parametrize(
    ("fault", "code", "is_error", "status"),
    [("429", 1, True, 429), ("500", 1, True, 500), ("503", 1, True, 529), ("error", 1, True, 500), ("refuse", 1, True, None)],
)
def test_a_run_that_fails_says_so_in_its_result(capfdbinary, fault, code, is_error, status):
    left, lines = run(capfdbinary, "--faults", fault)
    result = lines[-1]
    assert (left, result["is_error"], result["api_error_status"]) == (code, is_error, status)


def test_a_run_that_breaks_off_has_no_result(capfdbinary):
    code, lines = run(capfdbinary, "--faults", "cut")
    assert (code, lines[-1]["type"]) == (0, "stream_event")


def test_a_run_without_usage_has_none(capfdbinary):
    assert "usage" not in run(capfdbinary, "--faults", "no_usage")[1][-1]


def test_garbage_is_no_json(capfdbinary):
    with pytest.raises(json.JSONDecodeError):
        run(capfdbinary, "--faults", "garbage")


def test_an_interrupted_run_says_its_partial_text_and_ends_well(capfdbinary):
    code, lines = run(capfdbinary, interrupted=True)
    result = lines[-1]
    assert (code, result["subtype"], result["terminal_reason"]) == (0, "error_during_execution", "aborted_streaming")
    assert result["usage"]["output_tokens"] == 0


def test_an_interrupt_while_pausing_ends_the_pause():
    prepared = prepare(options().parse_args([]), PROMPT)
    prepared.waiting = True
    with pytest.raises(InterruptedRunError):
        prepared.interrupt(2, None)


@pytest.mark.parametrize(("line", "code"), [([], 0), (["--faults", "fire"], 2), (["--prices", "x"], 2)])
def test_the_prompt_comes_on_standard_input_and_bad_arguments_are_refused(capfdbinary, monkeypatch, line, code):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(PROMPT.encode())))
    before = signal.getsignal(signal.SIGINT)
    try:
        assert main(line) == code
    finally:
        signal.signal(signal.SIGINT, before)
    told = capfdbinary.readouterr()
    assert (b"Sparrows" in told.out, bool(told.err)) == (code == 0, code == 2)


@pytest.mark.parametrize("fault", ["stall", "endless"])
def test_a_run_that_never_ends_can_be_interrupted(capfdbinary, fault):
    assert run(capfdbinary, "--faults", fault, interrupted=True)[0] == 0


def test_the_window_fills_with_the_turns_of_all_runs(capfdbinary, tmp_path: Path):
    line = ["--books", str(tmp_path / "books"), "--turns-max", "3", "--turns-used", "1"]
    told = []
    for number in range(3):
        code, lines = run(capfdbinary, *line, prompt=f"{PROMPT} {number}")
        told.append((code, lines[1]["rate_limit_info"]["status"], lines[1]["rate_limit_info"]["utilization"]))
    assert told == [(0, "allowed", 0.3333), (0, "allowed", 0.6667), (1, "rejected", 1.0)]


def test_a_window_that_is_nearly_full_warns(capfdbinary):
    _, lines = run(capfdbinary, "--turns-max", "10", "--turns-used", "9")
    assert lines[1]["rate_limit_info"]["status"] == "allowed_warning"
