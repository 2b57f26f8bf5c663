"""What a person has to look at, a line each: tasks that wait for a decision, answers that nobody claims, and what stopped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from farebox.cli import cells
from farebox.cli.output import one_line

PARKED_MAX = 5
UNCLAIMED_MAX = 5


def lines(found: Mapping[str, Any]) -> list[str]:
    """Return the lines below a status: decisions first, then who stopped and what, then how much."""
    told = [question(one) for one in found.get("decisions") or ()]
    told += [asked(one) for one in found.get("questions") or ()]
    told += _unclaimed(found.get("unclaimed") or ())
    alarm = found.get("alarm")
    if alarm:
        told.append(_alarm(alarm))
    letters = found.get("dead") or ()
    told += [_halted(letter) for letter in letters if letter["kind"] == "halted"]
    told += [_unchained(letter) for letter in letters if letter["kind"] == "unchained"][:PARKED_MAX]
    parked = [letter for letter in letters if letter["kind"] == "parked"]
    told += [_parked(letter) for letter in parked[:PARKED_MAX]]
    if len(parked) > PARKED_MAX:
        told.append(f"! {len(parked) - PARKED_MAX} more are parked: farebox dead list")
    rest = len(letters) - sum(letter["kind"] in {"parked", "halted"} for letter in letters)
    if rest:
        words = "fact is stopped, and what hangs on it" if rest == 1 else "facts are stopped, and what hangs on them"
        told.append(f"! {rest} {words}: farebox dead list")
    return told


def question(asked: Mapping[str, Any]) -> str:
    """Return what happened to an attempt, what it may have cost, and what to type."""
    words = "retry|fail|accept" if asked["partial_output"] else "retry|fail"
    happened = one_line(f"{asked['error_class']}: {asked['message']}", 100).rstrip(".")
    return (
        f"! task {asked['task_id']} waits for your decision: attempt {asked['attempt']} on {asked['platform']} was interrupted"
        f" ({happened}) and may have cost {cells.at_most(asked)}. Type: farebox decide {asked['task_id']} {words}"
    )


def asked(one: Mapping[str, Any]) -> str:
    """Return what a person is asked, in one line, and what to type."""
    words = one_line(one["prompt"], 60)
    return f'! task {one["task_id"]} waits for an answer: "{words}" Type: farebox answer {one["task_id"]} -'


def _unclaimed(answers: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a line for each paid answer of whose attempt the log knows nothing."""
    told = [
        f"! The log knows no attempt of task {one['task']} on {one['platform']}; the answer to it ({cells.count(one['bytes'])} "
        f"bytes) is kept. Type: farebox spool show {one['answer']}"
        for one in answers[:UNCLAIMED_MAX]
    ]
    if len(answers) > UNCLAIMED_MAX:
        told.append(f"! {cells.count(len(answers) - UNCLAIMED_MAX)} more answers are kept for nobody: farebox spool list")
    return told


def _alarm(alarm: Mapping[str, Any]) -> str:
    count, last = alarm["count"], alarm["last_seq"]
    words = "1 fact is" if count == 1 else f"{count} facts are"
    return f"! {words} not what a writer of the log may say and nobody acts on it, the last is {last}: farebox dead show {last}"


def _halted(letter: Mapping[str, Any]) -> str:
    number, reason = letter["seq"], one_line(letter["reason"], 100).rstrip(".")
    what = "gives nobody a slot" if letter["who"] == "quota" else "decides about nothing"
    return f"! {letter['who']} {what} any more since fact {number} ({reason}); what runs goes on: farebox dead show {number}"


def _unchained(letter: Mapping[str, Any]) -> str:
    number = letter["seq"]
    happened = f"is stopped at fact {number}, which follows one that is not there (FB809)"
    return f"! task {letter['task']} {happened}: farebox dead show {number}"


def _parked(letter: Mapping[str, Any]) -> str:
    what = f"task {letter['task']} is parked at" if letter["task"] not in {"", "-"} else "The log is not understood from"
    return f"! {what} fact {letter['seq']}: written by a newer farebox, upgrade this one"
