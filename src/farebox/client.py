"""The client: puts tasks on the bus, hears their answers, asks the engine.

It writes `TaskSubmitted` itself, fenced as the first fact on its subject: sending again after an unknown outcome is harmless.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import msgspec

from farebox import amounts, api, deciding, discovery
from farebox.batch import Batch
from farebox.choices import check_choice
from farebox.config import Config
from farebox.config import load as load_config
from farebox.core import ids, subjects
from farebox.core.errors import BadInput, BusError, NotReachable
from farebox.core.results import Result
from farebox.ends import Ends
from farebox.fitting import fitted
from farebox.handle import Answer, Handle, answer_of
from farebox.log.port import Log, Subscription
from farebox.places import located
from farebox.posting import new_id, say_cancel, say_submission, submission
from farebox.tasks import TaskOptions, TaskSpec, spec_of

POLL_S = 20.0
"""How long one question for a result waits at the engine."""
PATIENCE_S = 300.0
"""How long bus or engine may stay away while somebody waits for a result."""
ENDING_S = 1.0
"""How long a question waits that was asked when the end was heard already: only the charge is missing then."""
FRESH_S = 2.0
"""How long the end of a task that was sent just now is only listened for."""
CHARGE_S = 0.2
"""How long its charge is listened for after that."""
RETRY_S = 0.5
"""Pause between two questions that nobody answered."""
CHOICES_S = 30.0
"""How long the list of platforms is believed when names are checked."""


class Client:
    """A connection to a bus. Made by `connect`; over any log in tests.

    `patience_s` is how long bus or engine may stay away before a wait gives up.
    """

    def __init__(self, log: Log, *, patience_s: float = PATIENCE_S, origin: str = "") -> None:
        self.log = log
        self.patience_s = patience_s
        self.origin = origin
        self._platforms: tuple[float, api.Json] | None = None
        self._ends = Ends(log)

    async def submit(self, prompt: str, **options: Unpack[TaskOptions]) -> Handle:
        """Put one task on the bus and return its handle. Raises BadInput (nothing was sent), BusError.

        Prompts above 256 KiB travel through the object store; lone surrogates are replaced, and the metadata says so.
        """
        return await self.send(spec_of(located({"prompt": prompt, **options})))

    async def send(
        self, spec: TaskSpec, *, task_id: str = "", batch_id: str = "", live: bool = True, check: bool = True
    ) -> Handle:
        """Put a checked task on the bus, under a given id if it has one, and return its handle."""
        if check:
            await self.check(spec)
        task = task_id or new_id()
        handle = self.handle(spec.chain or batch_id or task, task)
        await handle.listen(live=live)
        fact = await submission(self.log, spec, chain=handle.chain_id, task=task, batch=batch_id)
        said = await fitted(self.log, fact)
        handle.fresh = await say_submission(self.log, said)
        handle.say_again = partial(say_submission, self.log, said)
        return handle

    async def check(self, spec: TaskSpec) -> None:
        """Raise BadInput for a platform or model that the engine does not know. Without an engine nothing is known."""
        if spec.platform or spec.model:
            platforms = await self._known_platforms()
            if platforms is not None:
                check_choice(spec, platforms)

    def handle(self, chain_id: str, task_id: str) -> Handle:
        """Return the handle of a task that somebody submitted. Raises BadInput for ids of another shape."""
        return Handle(self, ids.check(chain_id, "chain"), ids.check(task_id, "task"))

    async def find(self, task_id: str) -> Handle:
        """Return the handle of a task by its id alone. Raises BadInput when the engine does not know it."""
        card = await self.status(ids.check(task_id, "task"))
        result = card.get("result") or card
        return self.handle(str(result["chain_id"]), str(result["task_id"]))

    def batch(
        self,
        tasks: Iterable[str | Mapping[str, Any] | TaskSpec] | None = None,
        *,
        parallel: int = 10,
        fail_fast: bool = False,
        batch_id: str | None = None,
        resume: str | None = None,
        source: str = "",
        max_cost_usd: str | float | None = None,
    ) -> Batch:
        """Return a batch: iterate over it to run it and get each result as it completes. Raises BadInput at once.

        `resume` goes on with an interrupted batch, with its own tasks if none are given, and runs nothing twice. Its bounds
        are those that it began with. `max_cost_usd` is the most that all its tasks may cost together.
        """
        if tasks is None and max_cost_usd is not None:
            raise BadInput("The bound of a batch that is resumed was said when it began.", hint="Leave max_cost_usd out.")
        specs = None if tasks is None else [_spec(task, number) for number, task in enumerate(tasks, start=1)]
        if specs is not None and max_cost_usd is not None:
            bound = amounts.usd(max_cost_usd, "max_cost_usd")
            specs = [msgspec.structs.replace(one, batch_max_cost_usd=one.batch_max_cost_usd or bound) for one in specs]
        return Batch(self, specs, parallel=parallel, fail_fast=fail_fast, batch_id=batch_id, resume=resume, source=source)

    async def cancel(self, chain_id: str, task_id: str, reason: str = "") -> None:
        """Ask for the end of a task; a task that has ended takes no notice. Raises BusError."""
        await say_cancel(self.log, chain_id, task_id, reason)

    async def decide(self, task_id: str, decision: str) -> api.Json:
        """Decide about a task's interrupted attempt: retry, fail or accept. Returns what was asked; the first word counts.

        Raises BadInput (no such task, nothing waits, nothing to accept, decided otherwise before), BusError.
        """
        return await deciding.decide(self, ids.check(task_id, "task"), decision)

    async def dead(self, *, ended: bool = False) -> api.Json:
        """Return the facts that stopped (`farebox.dead/1`); with `ended` those too that stop nothing any more."""
        return await api.ask(self.log, "dead", {"all": ended})

    async def dead_letter(self, seq: int) -> api.Json:
        """Return one of them with its raw body and what it stops (`farebox.dead-letter/1`). Raises BadInput."""
        return await api.ask(self.log, "dead", {"seq": seq})

    async def retry_dead(self, seq: int) -> api.Json:
        """Put one of them back to work (`farebox.dead-retried/1`). Raises BadInput where that is no use."""
        return await api.ask(self.log, "dead_retry", {"seq": seq})

    async def status(self, task: str | None = None, *, state: str | None = None, limit: int | None = None) -> api.Json:
        """Return what runs and what ran (`farebox.status/1`), or the card of one task (`farebox.task/1`)."""
        return await api.ask(self.log, "status", _given(task=task, state=state, limit=limit))

    async def costs(self, by: Iterable[str] = ("platform",), *, since: str | None = None, until: str | None = None) -> api.Json:
        """Return what was spent (`farebox.costs/1`); money is decimal text, unknown is None.

        `since` and `until` are spans before now (7d, 12h) or dates. Raises BadInput, BusError.
        """
        return await api.ask(self.log, "costs", _given(by=list(by), since=since, until=until), timeout_s=60)

    async def platforms(self, *, look: bool = True) -> api.Json:
        """Return what is there and what is missing (`farebox.platforms/1`): as it is now, or without `look` as last seen."""
        return await api.ask(self.log, "platforms", {"look": look})

    async def quota(self) -> api.Json:
        """Return how every quota and budget stands (`farebox.quota/1`); amounts are decimal text, unknown is None."""
        return await api.ask(self.log, "quota", {})

    async def why(self, task: str) -> api.Json:
        """Return why a task went where it went and cost what it cost (`farebox.why/1`). Raises BadInput for an unknown one."""
        return await api.ask(self.log, "why", {"task": task}, timeout_s=30)

    async def reload_settings(self) -> api.Json:
        """Let the engine read its settings anew and put them in force (`farebox.settings/1`). Raises BadSettings."""
        return await api.ask(self.log, "settings_reload", {}, timeout_s=30)

    async def replay(self) -> api.Json:
        """Rebuild all views from the log (`farebox.replay/1`)."""
        return await api.ask(self.log, "replay", {}, timeout_s=3600)

    async def info(self) -> api.Json:
        """Return who answers: version, bus, store, log (`farebox.info/1`)."""
        return await api.ask(self.log, "info", {})

    async def result_now(self, chain_id: str, task_id: str, wait_s: float = 0.0) -> Answer:
        """Return the present result document of a task, or the final one if it ends within `wait_s`."""
        question = {"chain": chain_id, "task": task_id, "wait_s": wait_s}
        return answer_of(await api.ask(self.log, "result", question, timeout_s=wait_s + api.ANSWER_S))

    async def result_whole(self, handle: Handle) -> Result:
        """Return the present result of a task with contents that are too large for one answer."""
        return await self.whole(await self.result_now(handle.chain_id, handle.task_id))

    async def wait_for(self, handle: Handle) -> Result:
        """Return the result of a task when it has ended and is charged. Raises NotReachable after `patience_s`."""
        patience = _Patience(self.patience_s)
        while True:
            answer = await self._asked(handle, patience)
            if answer is not None and answer.settled():
                return await self.whole(answer)
            if answer is not None and answer.status == "unknown" and handle.say_again is not None:
                # It was acknowledged, and a power cut under `100ms` took it, or an older log was put back. Saying it twice is
                # harmless.
                with suppress(BusError):
                    await handle.say_again()

    async def hear_end(self, handle: Handle) -> Subscription:
        """Subscribe the result of a task on core NATS."""
        return await self._ends.hear(handle.chain_id, handle.task_id, handle.hear_end)

    async def hear_live(self, chain_id: str, task_id: str, on: Callable[[str, bytes], None]) -> Subscription:
        """Subscribe the live text of a task."""
        return await self.log.listen(subjects.live_filter(chain_id, task_id), on)

    async def close(self) -> None:
        """Let go of the bus. Tasks go on."""
        await self.log.close()

    async def _asked(self, handle: Handle, patience: _Patience) -> Answer | None:
        """Ask once. An end that is heard meanwhile shortens the wait for an answer that may be lost."""
        await _heard(handle)
        wait_s = ENDING_S if handle.ended.is_set() else POLL_S
        asking = asyncio.create_task(self.result_now(handle.chain_id, handle.task_id, wait_s))
        heard = asyncio.create_task(handle.ended.wait())
        try:
            await asyncio.wait({asking, heard}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({asking}, timeout=ENDING_S if wait_s == POLL_S else wait_s + api.ANSWER_S)
            return await patience.of(asking) if asking.done() else None
        finally:
            asking.cancel()
            heard.cancel()
            await asyncio.gather(asking, heard, return_exceptions=True)

    async def whole(self, answer: Answer) -> Result:
        """Return the result of an answer, with contents that were too large for it."""
        output = answer.output
        partial = answer.partial_output
        if answer.output_ref is not None:
            output = (await self.log.get_blob(answer.output_ref)).decode()
        if answer.partial_ref is not None:
            partial = (await self.log.get_blob(answer.partial_ref)).decode()
        return msgspec.structs.replace(answer.result(), output=output, partial_output=partial)

    async def _known_platforms(self) -> api.Json | None:
        now = time.monotonic()
        if self._platforms is None or now - self._platforms[0] > CHOICES_S:
            try:
                self._platforms = (now, await api.ask(self.log, "platforms", {}))
            except NotReachable:
                return None
        return self._platforms[1]


async def _heard(handle: Handle) -> None:
    """Wait a while for the end of a task that was sent just now, and for its charge: the engine need not be asked before."""
    if not handle.fresh:
        return
    handle.fresh = False
    for event, wait_s in ((handle.ended, FRESH_S), (handle.charged, CHARGE_S)):
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await event.wait()


class _Patience:
    """Bears an engine that is away for a while."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._since: float | None = None

    async def of(self, asking: asyncio.Task[Answer]) -> Answer | None:
        """Return the answer, None (after a pause) while nobody answers. Raises NotReachable when it takes too long."""
        try:
            answer = asking.result()
        except NotReachable:
            now = time.monotonic()
            self._since = now if self._since is None else self._since
            if now - self._since >= self._patience_s:
                raise
            await asyncio.sleep(RETRY_S)
            return None
        self._since = None
        return answer


@asynccontextmanager
async def connect(
    server: str | None = None,
    *,
    context: str | None = None,
    store: str | Path | None = None,
    user: str | None = None,
    password: str | None = None,
    config: Config | None = None,
    start: bool = True,
) -> AsyncGenerator[Client]:
    """Connect to a server, else to the engine of the store, else to one started in this process (unless `start` is False).

    Where it looks is written at the top of discovery.py. Raises NotReachable, AccessDenied, LogUnfit, BadSettings.
    """
    settings = config or load_config()
    place = discovery.store_of(store, settings.store.dir)
    where = discovery.find(
        server, context, place, store_given=store is not None, user=user, password=password, bus=settings.bus
    )
    if where is not None:
        async with joined(where) as client:
            yield client
        return
    if not start:
        raise NotReachable(f"No farebox engine runs on {place}.", hint="Start one: farebox up --detach")
    from farebox.engines import embedded  # noqa: PLC0415 - an engine only where one is started

    async with embedded(place, config):
        where = discovery.of_store(place)
        assert where is not None, "an engine that runs has said where"
        async with joined(where) as client:
            client.origin = "an engine in this process"
            yield client


@asynccontextmanager
async def joined(where: discovery.Where) -> AsyncGenerator[Client]:
    """Connect to a bus whose place is known. Raises NotReachable, AccessDenied."""
    from farebox.log.jetstream import JetStreamLog  # noqa: PLC0415 - nats costs 260 ms

    log = await JetStreamLog.connect(
        where.url,
        user=where.user,
        password=where.password,
        credentials=where.credentials,
        inbox_prefix=where.inbox_prefix,
        tls=where.tls,
        name="farebox client",
    )
    client = Client(log, origin=where.origin)
    try:
        yield client
    finally:
        await client.close()


def _spec(task: str | Mapping[str, Any] | TaskSpec, number: int) -> TaskSpec:
    if isinstance(task, TaskSpec):
        return task
    try:
        return spec_of(located({"prompt": task} if isinstance(task, str) else task))
    except BadInput as error:
        raise BadInput(f"task {number}: {error.message}", hint=error.hint, code=error.code) from error


def _given(**values: object) -> dict[str, object]:
    return {name: value for name, value in values.items() if value is not None}
