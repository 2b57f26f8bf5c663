"""A talk with `codex app-server`: JSON-RPC, a line each way, until the one turn of a task is over. Pure.

    -> initialize, initialized, [account/read,] thread/start     <- their results
    -> turn/start with the prompt                                <- item/agentMessage/delta, thread/tokenUsage/updated,
    -> turn/interrupt when the task is cancelled                    account/rateLimits/updated, error, turn/completed

Success = `turn/completed` with status `completed` and a message. The exit code says nothing: it is a server, and we end it.
On a plan no turn begins before the account says that a plan pays: a login with an API key would be billed by token.
Formats from codex 0.169.0, run against a local server, and its own `app-server generate-json-schema` (2026-11-21).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from actors.platforms.codex_answers import answer_to
from actors.platforms.codex_lines import fault_of_info, files_of, turned_away, usage_of, wait_ms
from actors.platforms.codex_quota import PlanLimits
from actors.platforms.faults import fault, fault_of_cut
from actors.platforms.foreign_json import at, count_at, text_at
from actors.platforms.json_lines import LINE_BYTES_MAX, Lines
from actors.platforms.plain_text import estimated
from farebox.core.platform import Ask, Done, End, Head, Piece, Read, Say, Verdict
from farebox.core.terms import Charged, Fault

INITIALIZE, ACCOUNT, THREAD, TURN, INTERRUPT = range(5)
"""The ids of what we ask."""
_WHO = {"name": "farebox", "title": "farebox", "version": "1"}


def request(number: int, method: str, params: dict[str, Any]) -> bytes:
    """Return one request as a line."""
    return msgspec.json.encode({"id": number, "method": method, "params": params}) + b"\n"


def opening(thread: dict[str, Any], *, asks_account: bool) -> bytes:
    """Return what is said first: who we are, who pays if that matters, and the thread we want."""
    return b"".join(
        (
            request(INITIALIZE, "initialize", {"clientInfo": _WHO}),
            msgspec.json.encode({"method": "initialized"}) + b"\n",
            request(ACCOUNT, "account/read", {}) if asks_account else b"",
            request(THREAD, "thread/start", thread),
        )
    )


class TalkReader:
    """Talks for one task. Events of unknown kinds and of other threads are passed over, tokens of all threads counted."""

    def __init__(self, ask: Ask, *, plan: bool) -> None:
        self._ask = ask
        self._lines = Lines()
        self._limits = PlanLimits(ask.platform)
        self._plan_pays = not plan
        self._thread = self._turn = self._model = self._item = ""
        self._asked = self._over = False
        self._text: list[str] = []
        self._answer = ""
        self._tokens: dict[str, Any] = {}
        self._files: dict[str, None] = {}
        self._status = ""
        self._fault: Fault | None = None
        self._trouble = ""

    def head(self, head: Head) -> Sequence[Read]:
        """A program has no headers."""
        assert not head.headers, "a program answers without headers"
        return []

    def feed(self, data: bytes) -> Sequence[Read]:
        """Read more of standard output, and answer what wants an answer."""
        return [said for message in self._lines.feed(data) for said in self._take(message)]

    def interrupt(self) -> bytes:
        """Return what stops the turn; nothing while there is none."""
        if not self._turn or self._over:
            return b""
        return request(INTERRUPT, "turn/interrupt", {"threadId": self._thread, "turnId": self._turn})

    def end(self, end: End) -> Verdict:
        """Say what it came to."""
        for message in self._lines.end():
            self._take(message)
        why = self._why_not(end)
        text = "".join(self._text) if why else self._answer
        usage = usage_of(*self._tokens.values()) or (None if why else estimated(self._ask, text))
        return Verdict(
            ok=why is None,
            text=text,
            model=self._model,
            usage=usage,
            finish_reason="" if why else "stop",
            fault=why,
            charged="known" if usage else self._charged(end, why),
            retry_after_ms=wait_ms(why.message) if why else None,
            files_created=tuple(self._files),
        )

    def _take(self, message: Any) -> list[Read]:
        """Read one line: a request to us, a result of ours, or news. After the end of the turn nothing more is believed."""
        if self._over:
            return []
        method = text_at(message, "method")
        if method and at(message, "id") is not None:
            accept = self._ask.settings.options.get("approvals") == "accept"
            return [Say(answer_to(message, accept=accept))]
        if not method:
            return self._result(count_at(message, "id"), message)
        return self._news(method, at(message, "params"))

    def _result(self, number: int | None, message: Any) -> list[Read]:
        if at(message, "error") is not None:
            return self._not_done(number, text_at(message, "error", "message"))
        result = at(message, "result")
        if number == ACCOUNT:
            self._fault = _who_does_not_pay(result)
            self._plan_pays = self._fault is None
        elif number == THREAD:
            self._thread = text_at(result, "thread", "id")
            self._model = text_at(result, "model")
        elif number == TURN:
            self._turn = text_at(result, "turn", "id")
        if self._fault is not None and not self._asked:
            return self._leave()
        if not self._thread or not self._plan_pays or self._asked:
            return []
        self._asked = True
        prompt = self._ask.prompt.encode("utf-8", "replace").decode()
        params = {"threadId": self._thread, "input": [{"type": "text", "text": prompt}]}
        return [Say(request(TURN, "turn/start", params))]

    def _not_done(self, number: int | None, why: str) -> list[Read]:
        """Read a request of ours that was refused; that an interruption came too late is no harm."""
        if number is None or number == INTERRUPT:
            return []
        self._asked = self._asked and number != TURN
        self._fault = fault_of_info(None, why or "codex refused without a reason")
        return self._leave()

    def _leave(self) -> list[Read]:
        self._over = True
        return [Done()]

    def _news(self, method: str, params: Any) -> list[Read]:
        if method == "account/rateLimits/updated":
            return list(self._limits.learned_from(at(params, "rateLimits")))
        if method == "thread/tokenUsage/updated":
            self._tokens[text_at(params, "threadId")] = at(params, "tokenUsage", "total")
        if not self._thread or text_at(params, "threadId") != self._thread:
            return []
        match method:
            case "turn/started":
                self._turn = text_at(params, "turn", "id")
            case "item/agentMessage/delta":
                return self._delta(text_at(params, "itemId"), text_at(params, "delta"))
            case "item/completed":
                self._completed(at(params, "item"))
            case "model/rerouted":
                self._model = text_at(params, "toModel") or self._model
            case "error":
                return self._error(params)
            case "turn/completed":
                return self._ended(at(params, "turn"))
            case _:
                pass
        return []

    def _delta(self, item: str, text: str) -> list[Read]:
        """Give out text; between two messages of a turn there is an empty line."""
        if not text or self._fault is not None:
            return []
        if self._text and item != self._item:
            text = f"\n\n{text}"
        self._item = item
        self._text.append(text)
        return [Piece(text)]

    def _completed(self, item: Any) -> None:
        """Keep a whole message; the last one is the answer, those before tell what is being done."""
        self._files |= dict.fromkeys(files_of(item))
        if text_at(item, "type") == "agentMessage":
            self._answer = text_at(item, "text") or self._answer

    def _error(self, params: Any) -> list[Read]:
        """Read an error. What codex would try again is final once text came or the server said no: retries are ours."""
        error = at(params, "error")
        message = text_at(error, "additionalDetails") or text_at(error, "message")
        if at(params, "willRetry") is not True:
            return []  # It stands in turn/completed again.
        self._trouble = message
        why = fault_of_info(at(error, "codexErrorInfo"), message)
        if self._fault is not None or not (self._text or why.error_class != "network"):
            return []
        self._fault = why
        stop = self.interrupt()
        return [Say(stop)] if stop else []

    def _ended(self, turn: Any) -> list[Read]:
        self._status = text_at(turn, "status")
        error = at(turn, "error")
        if self._status == "failed" and self._fault is None:
            self._fault = fault_of_info(at(error, "codexErrorInfo"), text_at(error, "message"))
        return self._leave()

    def _why_not(self, end: End) -> Fault | None:
        if self._fault is not None:
            return self._fault
        if self._status == "completed":
            gone = "The turn ended without an answer: the model refused, or had none."
            return None if self._answer else fault("refused", gone)
        if end.cut:
            return fault_of_cut(msgspec.structs.replace(end, detail=f"{end.detail} {self._trouble}".strip()))
        if self._status:
            return fault("cancelled", f"The turn ended as {self._status}.")
        if self._lines.overflow:
            return fault_of_cut(End(cut="overflow", detail=f"A line passed {LINE_BYTES_MAX} bytes."))
        said = end.stderr_tail[-800:] or self._lines.garbage
        return fault("crashed", f"The program ended (exit code {end.exit_code}) without its final word. {said}")

    def _charged(self, end: End, why: Fault | None) -> Charged:
        if end.surely_unsent or not self._asked:
            return "none"
        return "none" if turned_away(why) and not self._text else "possible"


def _who_does_not_pay(result: Any) -> Fault | None:
    """Return why a plan will not pay for the turn, None if it will."""
    kind = text_at(result, "account", "type")
    if kind == "apiKey":
        told = "codex is logged in with an API key, which is billed by token, but billing here is a plan. Run: codex login"
        return fault("auth_missing", told)
    if not kind and at(result, "requiresOpenaiAuth") is True:
        return fault("auth_missing", "codex is not logged in. Run: codex login")
    return None
