"""How an answer is shown: its text on stdout, who pays before the first text, and its cost at the end, on stderr."""

from __future__ import annotations

import asyncio
import shlex
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager

from farebox.cli import cells
from farebox.cli.options import Common
from farebox.cli.output import is_terminal, note, one_line, printable
from farebox.core import rejections
from farebox.core.results import CostShown, Result
from farebox.handle import Chunk, Handle

WHY_CHARS = 500
"""A reason is cut there: farebox status TASK shows all of it."""
SILENCE_S = 5.0
"""A line is said when nothing came for so long."""
NAMES_MAX = 20
"""So many files are named at the end of an answer; all of them are in `--json` and `farebox status TASK`."""
WHO_PAYS = {
    "metered": "you pay per token",
    "plan": "your plan covers it",
    "free": "nobody pays",
    "rehearsal": "no model, no money",
}

HELP = {
    "auth_missing": " Check its key or login (platforms.NAME.key_env in farebox.toml).",
    "unavailable": " What is missing, and how to get it: farebox platforms",
}
"""What to do about a failure, by its class."""


class AnswerOutput:
    """Shows one answer. Without `streams` the text comes at the end, whole, so that a pipe never holds half of two answers."""

    def __init__(self, common: Common, task_id: str, *, streams: bool, payers: Mapping[str, str]) -> None:
        self._common, self._task_id, self._streams, self._payers = common, task_id, streams, payers
        self._terminal = is_terminal(sys.stdout)
        self._text = ""
        self._platform = ""
        self._heard = False

    def chunk(self, chunk: Chunk) -> None:
        """Show more text."""
        self._heard = True
        if chunk.platform and chunk.platform != self._platform:
            self._platform = chunk.platform
            billing = self._payers.get(chunk.platform, "")
            note(
                self._common, f"{chunk.platform} · {billing}: {WHO_PAYS.get(billing, 'unknown')}" if billing else chunk.platform
            )
        if not self._streams:
            return
        if chunk.restart:
            self._write("\n")
            note(self._common, f"attempt {chunk.attempt} begins anew; the text above is void")
            self._text = ""
        self._write(chunk.text)
        self._text += chunk.text

    def end(self, result: Result) -> None:
        """Show what is still missing: all of it without streaming, the final newline with it."""
        if self._common.json:
            return
        whole = result.output if result.ok else result.partial_output
        if not self._streams:
            self._write(whole)
        if whole and not whole.endswith("\n"):
            self._write("\n")

    @asynccontextmanager
    async def waiting(self, sending: asyncio.Future[Handle]) -> AsyncGenerator[None]:
        """Say that it still waits, every few seconds, until the first text comes."""
        saying = asyncio.create_task(self._say_waiting(sending))
        try:
            yield
        finally:
            saying.cancel()
            await asyncio.gather(saying, return_exceptions=True)

    async def _say_waiting(self, sending: asyncio.Future[Handle]) -> None:
        if self._common.progress == "none":
            return
        waited_s = 0.0
        while True:
            await asyncio.sleep(SILENCE_S)
            waited_s += SILENCE_S
            if not (self._heard and self._streams):
                state = " · text comes in" if self._heard else "" if sending.done() else " · the log has not taken it yet"
                note(self._common, f"waiting {waited_s:.0f} s · task {self._task_id}{state}")

    def _write(self, text: str) -> None:
        sys.stdout.write(printable(text) if self._terminal else text)
        sys.stdout.flush()


def footer(result: Result) -> str:
    """Return the last lines: why it failed; who did it, tokens, time, cost; what happened to files."""
    place = "/".join(part for part in (result.platform, result.model) if part) or "no platform"
    parts = [place, f"{cells.tokens(result.usage.input_tokens)}→{cells.tokens(result.usage.output_tokens)} tok"]
    parts += [cells.seconds(result.duration_s), cost(result.cost, result.billing), f"task {result.task_id}"]
    return "\n".join([*([] if result.ok else [why(result)]), " · ".join(parts), *files(result)])


def files(result: Result) -> list[str]:
    """Return what happened to files, a line for each kind, and where a worktree waits for a look."""
    told = {"created": result.files_created, "changed": result.files_changed}
    lines = [f"{word}: {_names(names, more=result.files_more)}" for word, names in told.items() if names]
    if result.files_more and not lines:
        lines.append("files: too many to be looked at, so nobody knows which were changed")
    if result.worktree:
        place = shlex.quote(result.worktree)
        lines.append(f"worktree: {result.worktree} (at {result.base_commit[:12]}). Look: git -C {place} status")
    return [one_line(text, 4000) for text in lines]


def _names(names: Sequence[str], *, more: bool) -> str:
    shown = ", ".join(names[:NAMES_MAX])
    rest = f" and {len(names) - NAMES_MAX} more" if len(names) > NAMES_MAX else ""
    return f"{shown}{rest}{' (not all: there are too many)' if more else ''}"


def why(result: Result) -> str:
    """Return why there is no answer, and what can be done about it, in one line."""
    if result.error is None:
        return result.status
    known = dict.fromkeys((result.status, result.error.error_class, one_line(result.error.message, WHY_CHARS)))
    if result.status == "cancelled" and result.error.message == "Cancelled.":
        return "cancelled"
    if code := refusal_code(result):
        return f"{code} {one_line(result.error.message, WHY_CHARS)} See: farebox why {result.task_id}"
    return ": ".join(part for part in known if part) + HELP.get(result.error.error_class, "")


def refusal_code(result: Result) -> str:
    """Return the code of an end that a quota, a budget or a missing price brought before anything was spent, "" for others."""
    if result.error is None or result.attempts:
        return ""
    return rejections.code_of(result.error.error_class, result.error.message)


def cost(cost: CostShown, billing: str = "") -> str:
    """Return what a task cost, in words: paid and plan value apart, unknown never as zero."""
    parts: list[str] = []
    if cost.paid_usd is not None:
        parts.append(f"paid {cells.usd(cost.paid_usd)}")
    if cost.plan_value_usd is not None:
        parts.append(f"plan value {cells.usd(cost.plan_value_usd)}")
    if cost.possible_usd is not None:
        parts.append(f"possibly charged, at most {cells.usd(cost.possible_usd)}")
    elif cost.status == "possible" and billing != "rehearsal":
        parts.append("possibly charged, nobody knows how much")
    if cost.status in {"unpriced", "pending"}:
        parts.append({"unpriced": "no price known", "pending": "cost still being booked"}[cost.status])
    if not parts:
        parts.append("nothing charged" if cost.status in {"none", "priced"} else f"cost {cost.status}")
    return ", ".join(parts) + (" (rehearsal dollars)" if billing == "rehearsal" else "")
