"""A stand-in for an agent program: `python -m farebox.rehearsal.program`, the prompt on standard input, stream-json out.

It prints what Claude Code prints for a plain text turn, with a `rate_limit_event` as a logged-in one does, and answers SIGINT
with its partial text and a final result. The window of its plan is counted in its books, which its runs share.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
from msgspec import Struct

from farebox.core.errors import BadInput
from farebox.core.terms import Usage
from farebox.rehearsal import books as ledger
from farebox.rehearsal.answer import Answer, Question, answer
from farebox.rehearsal.faults import Faults, parse, pause_s

FIVE_HOURS_S = 5 * 3600
FOR_EVER_S = 24 * 3600.0
WARNING = 0.9
SESSION = "00000000-0000-4000-8000-000000000000"
FAILURES = {
    "429": (429, "API Error: 429 rate_limit_error: This request would exceed your rate limit."),
    "500": (500, "API Error: 500 api_error: Internal server error"),
    "503": (529, "API Error: 529 overloaded_error: Overloaded"),
    "error": (500, "API Error: 500 api_error: The upstream provider failed."),
}


class InterruptedRunError(Exception):
    """Somebody pressed Ctrl-C."""


class Run(Struct, kw_only=True):
    """One run of the program."""

    question: Question
    said: Answer
    fault: str
    attempt: int
    used: float
    seed: int
    whole_s: float
    books: ledger.Books
    texts: list[str] = []
    interrupted: bool = False
    waiting: bool = False
    resets_at_s: int = 0

    def go(self) -> int:
        """Print the whole run and return the exit code."""
        self.resets_at_s = (int(time.time()) // FIVE_HOURS_S + 1) * FIVE_HOURS_S
        write({"type": "system", "subtype": "init", "model": self.question.model, "tools": [], "session_id": SESSION})
        self._tell_window()
        if self.used >= 1:
            return self._fail("429", "You've hit your limit.")
        if self.fault in FAILURES:
            return self._fail(self.fault, FAILURES[self.fault][1])
        try:
            return self._speak()
        except InterruptedRunError:
            self.waiting = False
            return self._stop()

    def _speak(self) -> int:
        write_event({"type": "message_start", "message": {"model": self.question.model, "usage": {"output_tokens": 1}}})
        for piece in self._pieces():
            self._pause(self.whole_s / max(len(self.said.pieces), 1))
            write_event({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}})
            self.texts.append(piece)
        match self.fault:
            case "cut":
                self._charge("cut")
                return 0
            case "stall":
                self._charge("stall")
                self._pause(FOR_EVER_S)
            case "garbage":
                sys.stdout.write("Segmentation fault (core dumped)\n{half a line")
                return 1
            case _:
                pass
        return self._end()

    def interrupt(self, _number: int, _frame: FrameType | None) -> None:
        """Stop at the next pause: a line is never left half written. Raises InterruptedRunError while pausing."""
        self.interrupted = True
        if self.waiting:
            raise InterruptedRunError

    def _pause(self, wait_s: float) -> None:
        self.waiting = True
        if self.interrupted:
            raise InterruptedRunError
        time.sleep(wait_s)
        self.waiting = False

    def _pieces(self) -> Iterator[str]:
        stop_at = len(self.said.pieces) // 2 if self.fault in {"cut", "stall", "refuse", "garbage"} else None
        yield from self.said.pieces[:stop_at]
        while self.fault == "endless":
            yield "and so on "

    def _end(self) -> int:
        """Print the whole text once more, and the final result. The books come first: whoever reads the end may look."""
        refused = self.fault == "refuse"
        self._charge("refused" if refused else "ok")
        text = "".join(self.texts)
        write_message(self.question.model, text)
        usage = self.said.usage(text)
        reason = "refusal" if refused else "end_turn"
        self._result(usage, is_error=refused, stop_reason=reason, result="The model refused." if refused else text)
        return int(refused)

    def _stop(self) -> int:
        """End as an agent program does on Ctrl-C: partial text, a result that says so, exit code 0."""
        self._charge("gone")
        write_message(self.question.model, "".join(self.texts))
        self._result(
            Usage(input_tokens=0, output_tokens=0),
            subtype="error_during_execution",
            is_error=True,
            terminal_reason="aborted_streaming",
        )
        return 0

    def _fail(self, fault: str, message: str) -> int:
        self.books.note(ledger.Line(mark=self.question.mark, model=self.question.model, outcome=fault, attempt=self.attempt))
        status = FAILURES[fault][0]
        self._result(Usage(input_tokens=0, output_tokens=0), is_error=True, result=message, api_error_status=status)
        return 1

    def _tell_window(self) -> None:
        status = "rejected" if self.used >= 1 else "allowed_warning" if self.used >= WARNING else "allowed"
        window = {"utilization": self.used, "resetsAt": self.resets_at_s}
        info: dict[str, Any] = {"status": status, "rateLimitType": "five_hour", "isUsingOverage": False, **window}
        write({"type": "rate_limit_event", "rate_limit_info": {**info, "unifiedWindows": {"five_hour": window}}})

    def _charge(self, outcome: str) -> None:
        usage = self.said.usage("".join(self.texts))
        self.books.charge(self.question.mark, self.question.model, outcome, self.attempt, usage)

    def _result(self, usage: Usage, **told: Any) -> None:
        counted = {
            "input_tokens": usage.input_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": usage.output_tokens,
        }
        cost = self.books.price_of(self.question.model, usage)
        event: dict[str, Any] = {"type": "result", "subtype": "success", "is_error": False, "session_id": SESSION}
        event |= {"stop_reason": None, "terminal_reason": "completed", "api_error_status": None, "result": ""}
        event |= told
        if self.fault != "no_usage":
            event["usage"] = counted
            event |= {} if cost is None else {"total_cost_usd": Decimal(cost)}
        write(event)


_encoder = msgspec.json.Encoder(decimal_format="number")


def write(event: dict[str, Any]) -> None:
    """Print one line at once."""
    sys.stdout.buffer.write(_encoder.encode(event) + b"\n")
    sys.stdout.buffer.flush()


def write_event(event: dict[str, Any]) -> None:
    """Print one raw event of the model's stream."""
    write({"type": "stream_event", "event": event, "session_id": SESSION})


def write_message(model: str, text: str) -> None:
    """Print the whole message."""
    message = {"role": "assistant", "model": model, "content": [{"type": "text", "text": text}]}
    write({"type": "assistant", "message": message, "session_id": SESSION})


def options() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(prog="farebox.rehearsal.program", description=__doc__)
    parser.add_argument("--model", default="rehearsal-agent")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--delay-ms", type=float, default=0)
    parser.add_argument("--faults", default="", help="KIND=SHARE,...")
    parser.add_argument("--fault-attempts", type=int, default=1_000_000, help="only the first so many attempts go wrong")
    parser.add_argument("--books", type=Path, default=None)
    parser.add_argument("--prices", default="", help="MODEL=IN/OUT, US dollars for a million tokens")
    parser.add_argument("--turns-max", type=int, default=1000, help="turns in the window of the plan")
    parser.add_argument("--turns-used", type=int, default=0, help="turns that others used before")
    return parser


def prepare(arguments: argparse.Namespace, prompt: str) -> Run:
    """Return the run that these arguments and the books so far lead to."""
    question = Question(prompt=prompt, model=arguments.model)
    before = ledger.read(arguments.books) if arguments.books else []
    attempt = 1 + sum(line.mark == question.mark for line in before)
    turns = arguments.turns_used + sum(line.charged for line in before)
    faults = Faults(parse(arguments.faults), attempts_max=arguments.fault_attempts)
    return Run(
        question=question,
        said=answer(question),
        fault=faults.pick(arguments.seed, question.mark, attempt),
        attempt=attempt,
        used=round(turns / max(arguments.turns_max, 1), 4),
        seed=arguments.seed,
        whole_s=pause_s(arguments.seed, question.mark, attempt, arguments.delay_ms),
        books=ledger.Books(arguments.books, ledger.prices(arguments.prices)),
    )


def main(line: Sequence[str] | None = None) -> int:
    """Read the prompt, print the run, return the exit code; 2 when an argument is not usable."""
    arguments = options().parse_args(line)
    prompt = sys.stdin.buffer.read().decode("utf-8", "replace")
    try:
        run = prepare(arguments, prompt)
    except BadInput as error:
        sys.stderr.write(f"{error}\n")
        return 2
    signal.signal(signal.SIGINT, run.interrupt)
    return run.go()


if __name__ == "__main__":
    sys.exit(main())
