"""The commands by name, each loaded when it is called, and the one place where errors become a line and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

import msgspec
from cyclopts import App, CycloptsError, Parameter, UnusedCliTokensError

from farebox import __version__
from farebox.core.errors import FareboxError
from farebox.nearest import did_you_mean

COMMANDS: dict[str, str] = {
    "submit": "Send one task, watch the answer, see what it cost.",
    "batch": "Run many tasks from a file and collect their results.",
    "status": "Show what runs and what ran, or one task.",
    "why": "Say why a task went where it went, why it waits, and how its cost came about.",
    "cancel": "Cancel tasks.",
    "answer": "Answer a task that waits for a person.",
    "decide": "Say what becomes of a task that was interrupted: retry, fail or accept.",
    "dead": "Show facts that stopped, and put them back to work.",
    "spool": "Show paid answers that the log knows nothing of, and get them out.",
    "costs": "Show what was spent, and what plans covered.",
    "quota": "Show what is used of every limit and budget, and set them.",
    "platforms": "Show which platforms are there, what they bill, what is missing.",
    "doctor": "Look at everything here: what is fine, who would pay, what is wrong.",
    "up": "Start the engine.",
    "down": "Stop the engine.",
    "init": "Make the log of a new store, and users for its platforms.",
    "audit": "Read every fact: is the log what was written (verify), was a quota ever exceeded (quota).",
    "log": "Copy the log elsewhere, put a copy back, accept a changed log.",
    "replay": "Forget every view and rebuild all of them from the log.",
    "schema": "Print the JSON Schema of every fact.",
    "demo": "See it work: a real server, a real run, a report. No key, no account.",
}
WELCOME = """farebox sends AI tasks to the cheapest capacity you already have, and proves what each one cost.

  farebox demo                        see it work, without any key
  farebox up --detach                 start the engine
  farebox submit "your prompt"        send a task

All commands: farebox --help
"""
EXIT_USAGE = 2
EXIT_BROKEN_PIPE = 141


def build() -> App:
    """Return the application."""
    plain = Parameter(negative_iterable=(), show_default=False)
    app = App(
        name="farebox",
        version=__version__,
        help="AI tasks on the cheapest capacity you already have.",
        default_parameter=plain,
        help_format="plaintext",  # what reads Markdown costs 30 ms
    )
    for name, about in COMMANDS.items():
        app.command(f"farebox.cli.{name}:command", name=name, help=about)
    return app


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    try:
        return _dispatched(arguments)
    except FareboxError as error:
        return _failed(arguments, error)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except Exception as error:  # noqa: BLE001 - the last door: a person gets a line, -v the trace
        return _failed(arguments, broken(error))


def broken(error: Exception) -> FareboxError:
    """Return our own mistake as a line that can be reported."""
    found = FareboxError(
        f"farebox broke: {type(error).__name__}: {error}.", hint="This is our mistake. Run it again with -v and report it."
    )
    found.__cause__ = error
    return found


def _dispatched(arguments: Sequence[str]) -> int:
    if not arguments:
        sys.stdout.write(WELCOME)
        return 0
    first = arguments[0]
    if not first.startswith("-") and first not in COMMANDS:
        return _usage(arguments, f'There is no command "{first[:60]}".', did_you_mean(first, COMMANDS) or "See: farebox --help")
    try:
        code = build()(list(arguments), exit_on_error=False, print_error=False, result_action="return_value")
    except UnusedCliTokensError as error:
        words = " ".join(error.unused_tokens or ())
        quotes = 'Put a prompt of several words in quotes: farebox submit "your prompt"' if first == "submit" else ""
        return _usage(arguments, f'Unused: "{words[:200]}".', quotes or f"See: farebox {first} --help")
    except CycloptsError as error:
        words = " ".join(str(error).split())
        return _usage(arguments, words, f"See: farebox {first} --help")
    return code if isinstance(code, int) else 0


def _usage(arguments: Sequence[str], message: str, hint: str) -> int:
    say_error(arguments, "FB400", message, hint)
    return EXIT_USAGE


def _failed(arguments: Sequence[str], error: FareboxError) -> int:
    if {"-v", "--verbose"} & set(arguments):
        from farebox.runtime.secrecy import redactor  # noqa: PLC0415 - only where something broke

        sys.stderr.write(redactor().text("".join(traceback.format_exception(error))))
    say_error(arguments, error.code, error.message, error.hint)
    return error.exit_code


def say_error(arguments: Sequence[str], code: str, message: str, hint: str) -> None:
    """Say one line on stderr: what happened and what to type; for programs a document on stdout as well."""
    from farebox.runtime.secrecy import redactor  # noqa: PLC0415 - only where something broke

    known = redactor()
    message, hint = known.text(message), known.text(hint)
    if "--json" in arguments:
        document = {"schema": "farebox.error/1", "error": {"code": code, "message": message, "hint": hint}}
        sys.stdout.write(msgspec.json.encode(document).decode() + "\n")
    sys.stderr.write(" ".join(f"{code} {message} {hint}".split()) + "\n")
