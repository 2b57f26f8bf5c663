"""The engine's answers: JSON questions on farebox.api.<name>, JSON documents back. Actors never use it."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from farebox.core import ids, subjects, wire
from farebox.core.errors import AppendRefused, BadInput, FareboxError
from farebox.core.events import PlatformReported, TaskSubmitted
from farebox.core.settings import Settings
from farebox.log.port import Entry, Fence, Log, Subscription
from farebox.runtime.projection import Projection

log_ = logging.getLogger("farebox.service")

WAIT_MAX_S = 60.0
"""Longest wait of one question; who wants more asks again."""
ENDED = frozenset({"completed", "failed", "cancelled"})
NOT_SAID_BY_CLIENTS = frozenset({"id", "version", "cause", "prev", "attempt", "epoch", "key_id", "seq", "at_ms", "fact"})

Json = dict[str, Any]


class Service:
    """Answers for one engine."""

    def __init__(
        self, log: Log, projection: Projection, settings: Settings, reports: Mapping[str, PlatformReported], about: Json
    ) -> None:
        self._log = log
        self._projection = projection
        self._settings = settings
        self._reports = reports
        self._about = about
        self._subscriptions: list[Subscription] = []

    async def start(self) -> None:
        """Begin to answer."""
        answers: dict[str, Callable[[Json], Awaitable[Json]]] = {
            "info": self.info,
            "submit": self.submit,
            "result": self.result,
            "status": self.status,
            "costs": self.costs,
            "batch": self.batch,
            "results": self.results,
            "platforms": self.platforms,
            "replay": self.replay,
        }
        for name, answer in answers.items():
            handler = self._handler(answer)
            self._subscriptions.append(await self._log.serve(f"{subjects.API}.{name}", handler))

    async def stop(self) -> None:
        """Answer no more."""
        for subscription in self._subscriptions:
            await subscription.close()

    def _handler(self, answer: Callable[[Json], Awaitable[Json]]) -> Callable[[bytes], Awaitable[bytes]]:
        async def handle(body: bytes) -> bytes:
            try:
                question = msgspec.json.decode(body or b"{}", type=Json)
                said = await answer(question)
            except FareboxError as error:
                said = {"error": {"code": error.code, "message": error.message, "hint": error.hint}}
            except (msgspec.MsgspecError, TypeError, ValueError) as error:
                said = {"error": {"code": "FB401", "message": f"The question does not read: {error}.", "hint": ""}}
            except Exception as error:  # a question must never take the engine down, nor stay without an answer
                log_.exception("a question failed")
                said = {"error": {"code": "FB000", "message": f"The engine failed to answer: {error!r}.", "hint": ""}}
            return msgspec.json.encode(said)

        return handle

    async def info(self, _question: Json) -> Json:
        """Say who answers, from which log and store."""
        position = await self._log.position()
        views_seq = self._projection.seq
        log = {
            "first_seq": position.first_seq,
            "last_seq": position.last_seq,
            "created": position.created,
            "views_seq": views_seq,
        }
        return {"schema": "farebox.info/1", **self._about, "pid": os.getpid(), "log": log}

    async def submit(self, question: Json) -> Json:
        """Write a TaskSubmitted for somebody who has no ids to make."""
        task = str(question.pop("task", "") or ids.new(time.time_ns() // 1_000_000, secrets.token_bytes(5)))
        chain = str(question.pop("chain", "") or question.get("batch") or task)
        wrong = NOT_SAID_BY_CLIENTS & question.keys()
        if wrong:
            raise BadInput(f"{min(wrong)!r} is not for clients to say.")
        try:
            told: TaskSubmitted = msgspec.convert({**question, "fact": "TaskSubmitted"}, TaskSubmitted)
        except msgspec.ValidationError as error:
            raise BadInput(f"The task does not read: {error}.") from error
        if not told.prompt.strip() and told.prompt_ref is None:
            raise BadInput("The prompt is empty.")
        fact = msgspec.structs.replace(told, chain=ids.check(chain, "chain"), task=ids.check(task, "task"))
        subject = subjects.subject_of("client", fact)
        try:
            await self._log.append([Entry(subject, wire.encode(fact), Fence(subject, 0))])
        except AppendRefused:
            log_.debug("%s was submitted before", subject)  # the same task again is harmless
        return {"schema": "farebox.submitted/1", "chain": fact.chain, "task": fact.task}

    async def result(self, question: Json) -> Json:
        """Answer with a task's result as soon as it has ended and its charge is booked, at the latest after `wait_s`."""
        chain, task = str(question.get("chain", "")), str(question["task"])
        deadline = asyncio.get_running_loop().time() + min(float(question.get("wait_s", 0)), WAIT_MAX_S)
        while True:
            found = await self._projection.ask(lambda: self._projection.views.result(chain, task))
            left_s = deadline - asyncio.get_running_loop().time()
            if left_s <= 0 or (found and found["status"] in ENDED and found["cost"]["status"] != "pending"):
                break
            await self._projection.next_of(found["chain_id"] if found else chain, task, left_s)
        if found is None:
            found = {"task_id": task, "chain_id": chain, "status": "unknown"}
        return {"schema": "farebox.result/1", **found}

    async def status(self, question: Json) -> Json:
        """Answer with the tasks, newest first, or with one task's card."""
        views = self._projection.views
        task = question.get("task")
        if task:
            card = await self._projection.ask(lambda: views.task_card(str(task)))
            if card is None:
                raise BadInput(f"There is no task {task!r}.", hint="See: farebox status", code="FB409")
            return {"schema": "farebox.task/1", **card}
        limit, state = int(question.get("limit") or 20), str(question.get("state") or "")
        tasks = await self._projection.ask(lambda: views.tasks(limit=limit, state=state))
        return {"schema": "farebox.status/1", "engine": await self.info({}), "tasks": tasks}

    async def costs(self, question: Json) -> Json:
        """Answer with costs, grouped."""
        by = question.get("by") or ["platform"]
        since, until = question.get("since"), question.get("until")
        views = self._projection.views
        found = await self._projection.ask(lambda: views.costs(by, since=since, until=until))
        return {"schema": "farebox.costs/1", **found}

    async def batch(self, question: Json) -> Json:
        """Answer with the state of a batch."""
        views = self._projection.views
        found = await self._projection.ask(lambda: views.batch(str(question["batch"])))
        if found is None:
            raise BadInput(f"There is no batch {question['batch']!r}.", code="FB407")
        return {"schema": "farebox.batch/1", **found}

    async def results(self, question: Json) -> Json:
        """Answer with the results of a batch's ended tasks, after a task id."""
        views = self._projection.views
        found = await self._projection.ask(lambda: views.results(str(question["batch"]), after=int(question.get("after") or 0)))
        return {"schema": "farebox.results/1", "results": found}

    async def platforms(self, _question: Json) -> Json:
        """Answer with what is there, what it bills, what is missing."""
        rows: list[Json] = []
        for name, settings in self._settings.platforms.items():
            report = self._reports.get(name)
            rows.append(
                {
                    "platform": name,
                    "kind": settings.kind,
                    "enabled": settings.enabled,
                    "billing": settings.billing,
                    "tier": settings.cost_tier,
                    "limit": settings.limit,
                    "only_by_name": not settings.open,
                    "available": bool(report and report.available),
                    "detail": report.detail if report else "disabled",
                    "mend": report.mend if report else "",
                    "models": list(report.models) if report else [],
                }
            )
        return {"schema": "farebox.platforms/1", "platforms": rows}

    async def replay(self, _question: Json) -> Json:
        """Forget every view and build all of it from the log again."""
        projection = self._projection
        position = await self._log.position()
        await projection.wait_for(position.last_seq, WAIT_MAX_S)
        before = await projection.ask(projection.views.digest)
        began = time.perf_counter()
        folded = await projection.rebuild(self._log, projection.seq)
        seconds = time.perf_counter() - began
        digest = await projection.ask(projection.views.digest)
        rows = await projection.ask(projection.views.counts)
        return {
            "schema": "farebox.replay/1",
            "facts": folded,
            "rows": rows,
            "digest": digest,
            "seconds": round(seconds, 3),
            "same_as_before": digest == before,
        }
