"""The engine's answers: JSON questions on farebox.api.<name>, JSON documents back. Actors never use it."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any

import msgspec

from farebox.core import ids, subjects, wire
from farebox.core.errors import AppendBusy, AppendRefused, AppendUnknown, BadInput, FareboxError, NotReachable
from farebox.core.events import PlatformReported, TaskCancelRequested, TaskSubmitted
from farebox.core.settings import Settings
from farebox.log.port import Entry, Fence, Log, Stored, Subscription
from farebox.runtime import decisions, persons, platform_rows, secrecy
from farebox.runtime.board import Board
from farebox.runtime.dead import BEHIND_S, DeadLetters, alarm
from farebox.runtime.mind import Mind
from farebox.runtime.projection import Projection

log_ = logging.getLogger("farebox.service")

TRIES = 20
PAUSE_S = 0.25
"""Tries, and the pause between them, of a submission whose outcome is unknown."""
REASON_CHARS = 500
WAIT_MAX_S = 60.0
FRESH_MAX_S = 0.5
"""So long a question about what ran waits for the views to come up to what was heard."""
"""Longest wait of one question; who wants more asks again."""
LETTERS_SHOWN, LETTERS_MAX = 20, 1000
"""Dead letters in a status, and in a list."""
ENDED = frozenset({"completed", "failed", "cancelled"})
NOT_SAID_BY_CLIENTS = frozenset({"id", "version", "cause", "prev", "attempt", "epoch", "key_id", "seq", "at_ms", "fact"})

Json = dict[str, Any]


class Service:
    """Answers for one engine."""

    def __init__(
        self, log: Log, projection: Projection, settings: Settings, reports: Mapping[str, PlatformReported], about: Json,
        board: Board | None = None, *, trouble: Callable[[], FareboxError | None] = lambda: None,
        look: Callable[[], Coroutine[Any, Any, None]] | None = None, minds: Sequence[Mind] = (),
        dead: DeadLetters | None = None, unclaimed: Callable[[], list[Json]] = list,
        more: Mapping[str, Callable[[Json], Coroutine[Any, Any, Json]]] | None = None,
    ) -> None:  # fmt: skip
        self._log = log
        self._projection = projection
        self._settings = settings
        self._reports = reports
        self._about = about
        self._board = board or Board()
        self._trouble = trouble
        self._look = look
        self._minds = minds
        self._unclaimed = unclaimed
        self._dead = dead or DeadLetters(log, projection, minds)
        self._subscriptions: list[Subscription] = []
        self._stopped = asyncio.Event()
        self._more = dict(more or {})

    async def start(self) -> None:
        """Begin to answer."""
        answers: dict[str, Callable[[Json], Coroutine[Any, Any, Json]]] = {
            "info": self.info,
            "room": self.room,
            "submit": self.submit,
            "result": self.result,
            "status": self.status,
            "costs": self.costs,
            "batch": self.batch,
            "results": self.results,
            "platforms": self.platforms,
            "replay": self.replay,
            "cancel": self.cancel,
            "dead": self.dead,
            "dead_retry": self.dead_retry,
            **self._more,
        }
        for name, answer in answers.items():
            handler = self._handler(answer)
            self._subscriptions.append(await self._log.serve(f"{subjects.API}.{name}", handler))

    async def stop(self) -> None:
        """Answer no more; who waits for an answer learns that he must ask the next engine."""
        self._stopped.set()
        for subscription in self._subscriptions:
            await subscription.close()

    def _handler(self, answer: Callable[[Json], Coroutine[Any, Any, Json]]) -> Callable[[bytes], Awaitable[bytes]]:
        async def handle(body: bytes) -> bytes:
            try:
                question = msgspec.json.decode(body or b"{}", type=Json)
                said = await self._unless_stopped(answer(question))
            except FareboxError as error:
                said = {"error": _told(error)}
            except KeyError as missing:
                said = {"error": {"code": "FB401", "message": f"The question lacks {missing}.", "hint": ""}}
            except (msgspec.MsgspecError, TypeError, ValueError) as error:
                said = {"error": {"code": "FB401", "message": f"The question does not read: {error}.", "hint": ""}}
            except Exception as error:  # a question must never take the engine down, nor stay without an answer
                log_.exception("a question failed")
                said = {"error": {"code": "FB000", "message": f"The engine failed to answer: {error!r}.", "hint": ""}}
            encoded = msgspec.json.encode(said)
            if len(encoded) > wire.BODY_BYTES_MAX:
                message = f"The answer has {len(encoded):,} bytes; {wire.BODY_BYTES_MAX:,} fit into one message."
                said = {"error": {"code": "FB401", "message": message, "hint": "Ask for less at a time: limit, after."}}
                encoded = msgspec.json.encode(said)
            return encoded

        return handle

    async def _unless_stopped(self, answer: Coroutine[Any, Any, Json]) -> Json:
        answering, stopped = asyncio.ensure_future(answer), asyncio.ensure_future(self._stopped.wait())
        try:
            await asyncio.wait({answering, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                raise NotReachable("The engine is stopping.", hint="Ask again when it is back.")
            return answering.result()
        finally:
            answering.cancel()
            stopped.cancel()

    async def info(self, _question: Json) -> Json:
        """Say who answers, from which log and store, and what keeps facts from being stored now."""
        position = await self._log.position()
        views_seq = self._projection.seq
        log = {
            "first_seq": position.first_seq,
            "last_seq": position.last_seq,
            "created": position.created,
            "views_seq": views_seq,
            "bytes": position.filling.bytes,
            "bytes_max": position.filling.bytes_max,
        }
        trouble, warning = self._trouble(), position.filling.warning()
        waiting = [fact.task for fact in decisions.asked(self._minds)]
        return {
            "schema": "farebox.info/1",
            **self._about,
            "pid": os.getpid(),
            "log": log,
            "trouble": trouble and _told(trouble),
            "warning": warning and _told(warning),
            "decisions": waiting,
        }

    async def room(self, _question: Json) -> Json:
        """Say how full the log is, and why it takes no new tasks if it does not."""
        filling = (await self._log.position()).filling
        refusal = filling.refusal()
        said = {"percent": filling.percent, "refusal": refusal and _told(refusal)}
        return {"schema": "farebox.room/1", **msgspec.to_builtins(filling), **said}

    async def _full(self) -> FareboxError | None:
        """Return why no new task is taken, None while they are."""
        return (await self._log.position()).filling.refusal()

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
        secrecy.refuse_secrets(fact)
        stands = await self._log.last(subjects.subject_of("client", fact)) if (full := await self._full()) else None
        if full is not None and stands is None:
            raise full
        stands = stands or await self._say_first(fact)
        if stands is not None and stands.body != wire.encode(fact):
            raise BadInput(f"Task {fact.task} was submitted before with other contents.", hint="Use another id.")
        return {"schema": "farebox.submitted/1", "chain": fact.chain, "task": fact.task}

    async def _say_first(self, fact: TaskSubmitted | TaskCancelRequested) -> Stored | None:
        """Put it on its subject as the first fact; return what stood there already (the same one again is harmless)."""
        subject = subjects.subject_of("client", fact)
        entry = Entry(subject, wire.encode(fact), Fence(subject, 0))
        for _ in range(TRIES):
            try:
                await self._log.append([entry])
            except AppendRefused:
                return await self._log.last(subject)
            except (AppendUnknown, AppendBusy):
                stands = await self._log.last(subject)
                if stands is not None:
                    return stands
                await asyncio.sleep(PAUSE_S)
            else:
                return None
        raise AppendUnknown("The log does not answer; the task may have been stored.", hint="Send it again with the same id.")

    async def result(self, question: Json) -> Json:
        """Answer with a task's result as soon as it has ended and its charge is booked, at the latest after `wait_s`."""
        chain, task = str(question.get("chain", "")), str(question["task"])
        deadline = asyncio.get_running_loop().time() + min(float(question.get("wait_s", 0)), WAIT_MAX_S)
        if chain and await self._board.settled(chain, task, deadline - asyncio.get_running_loop().time()):
            told = self._board.result(chain, task)
            if told is not None:
                return {"schema": "farebox.result/1", **told}
        while True:
            # Watch first, then see what was heard before, then ask: what comes between must not be missed.
            with self._projection.watching(task) as news:
                await self._projection.wait_for(self._projection.heard, deadline - asyncio.get_running_loop().time())
                found = await self._projection.ask(lambda: self._projection.views.result(chain, task))
                left_s = deadline - asyncio.get_running_loop().time()
                if left_s <= 0 or (found and found["status"] in ENDED and found["cost"]["status"] != "pending"):
                    break
                await self._projection.shown(news, left_s)
        if found is None:
            found = {"task_id": task, "chain_id": chain, "status": "unknown"}
        return {"schema": "farebox.result/1", **found}

    async def cancel(self, question: Json) -> Json:
        """Write a TaskCancelRequested for somebody who only knows the task's id; where one stands already it is enough."""
        task, chain = ids.check(str(question["task"]), "task"), str(question.get("chain") or "")
        if not chain:
            known = await self._projection.ask(lambda: self._projection.views.result("", task))
            if known is None:
                raise BadInput(f"There is no task {task!r}.", hint="See: farebox status", code="FB409")
            chain = str(known["chain_id"])
        reason = str(question.get("reason") or "")[:REASON_CHARS]
        await self._say_first(TaskCancelRequested(chain=ids.check(chain, "chain"), task=task, reason=reason))
        return {"schema": "farebox.cancelled/1", "chain": chain, "task": task}

    async def status(self, question: Json) -> Json:
        """Answer with the tasks, newest first, or with one task's card."""
        views = await self._fresh()
        task = question.get("task")
        if task:
            card = await self._projection.ask(lambda: views.task_card(str(task)))
            if card is None:
                raise BadInput(f"There is no task {task!r}.", hint="See: farebox status", code="FB409")
            asked = await decisions.shown(self._minds, self._projection, str(card["result"]["task_id"]))
            question_asked = await persons.of_task(self._log, card["result"], self._settings.platforms)
            return {"schema": "farebox.task/1", **card, "decision": asked[0] if asked else None, "question": question_asked}
        limit, state = int(question.get("limit") or 20), str(question.get("state") or "")
        tasks = await self._projection.ask(lambda: views.tasks(limit=limit, state=state))
        letters = await self._dead.all()
        return {
            "schema": "farebox.status/1",
            "engine": await self.info({}),
            "unfinished": await self._projection.ask(views.unfinished),
            "tasks": tasks,
            "decisions": await decisions.shown(self._minds, self._projection),
            "questions": await persons.shown(self._log, self._projection, self._settings.platforms),
            "dead": [msgspec.to_builtins(letter) for letter in letters if letter.open][:LETTERS_SHOWN],
            "alarm": alarm(letters),
            "unclaimed": self._unclaimed(),
        }

    async def dead(self, question: Json) -> Json:
        """Answer with the dead letters, the latest first, or with one (`seq`) and the body of its fact."""
        if question.get("seq") is not None:
            return {"schema": "farebox.dead-letter/1", **await self._dead.show(int(question["seq"]))}
        letters = await self._dead.all(behind_s=BEHIND_S)
        wanted = letters if question.get("all") else [letter for letter in letters if letter.open]
        limit = int(question.get("limit") or LETTERS_MAX)
        return {
            "schema": "farebox.dead/1",
            "open": sum(letter.open for letter in letters),
            "letters": [msgspec.to_builtins(letter) for letter in wanted[:limit]],
        }

    async def dead_retry(self, question: Json) -> Json:
        """Put one dead letter back to work."""
        return {"schema": "farebox.dead-retried/1", **await self._dead.retry(int(question["seq"]))}

    async def costs(self, question: Json) -> Json:
        """Answer with costs, grouped."""
        by = question.get("by") or ["platform"]
        if not isinstance(by, list):
            raise BadInput("`by` is a list of one key.", hint='For example: {"by": ["platform"]}.')
        since, until = question.get("since"), question.get("until")
        views = await self._fresh()
        found = await self._projection.ask(lambda: views.costs(by, since=since, until=until))
        return {"schema": "farebox.costs/1", **found}

    async def _fresh(self) -> Any:
        """Return the views with all that this engine has heard: who saw a task end finds it there, unless they are slow."""
        await self._projection.wait_for(self._projection.heard, FRESH_MAX_S)
        return self._projection.views

    async def batch(self, question: Json) -> Json:
        """Answer with the state of a batch."""
        views = self._projection.views
        found = await self._projection.ask(lambda: views.batch(str(question["batch"])))
        if found is None:
            raise BadInput(f"There is no batch {question['batch']!r}.", code="FB407")
        return {"schema": "farebox.batch/1", **found}

    async def results(self, question: Json) -> Json:
        """Answer with the results of a batch's ended tasks, after the sequence of an end."""
        views = self._projection.views
        found = await self._projection.ask(lambda: views.results(str(question["batch"]), after=int(question.get("after") or 0)))
        return {"schema": "farebox.results/1", "results": _fitting(found)}

    async def platforms(self, question: Json) -> Json:
        """Answer with what is there, what it bills, what is missing; with `look`, as it is now."""
        if question.get("look") and self._look is not None:
            await self._look()
        rows = [platform_rows.row(name, one, self._reports.get(name)) for name, one in self._settings.platforms.items()]
        return {"schema": "farebox.platforms/1", "platforms": rows}

    async def replay(self, _question: Json) -> Json:
        """Forget every view and build all of it from the log again."""
        projection = self._projection
        position = await self._log.position()
        await projection.wait_for(position.last_seq, WAIT_MAX_S)
        rebuilt = await projection.rebuild(self._log)
        return {
            "schema": "farebox.replay/1",
            "facts": rebuilt.facts,
            "rows": await projection.ask(projection.views.counts),
            "digest": rebuilt.after,
            "seconds": rebuilt.seconds,
            "same_as_before": rebuilt.after == rebuilt.before,
        }


def _told(error: FareboxError) -> Json:
    return {"code": error.code, "message": error.message, "hint": error.hint}


def _fitting(found: list[Json]) -> list[Json]:
    """Return as many of the first results as fit into one message, one at least; who wants the rest asks after the last."""
    room = wire.BODY_BYTES_MAX // 2
    for place, one in enumerate(found):
        room -= len(msgspec.json.encode(one))
        if room < 0:
            return found[: max(1, place)]
    return found
