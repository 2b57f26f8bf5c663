"""A small scripted engine over the memory log: it reads real submissions, writes real facts, answers from what it read.

What a task comes to is written in its prompt: "fail", "slow" (until it is cancelled), "held" (until `LET_GO` is set), "gap",
"shuffled", "twice" (a first attempt that is thrown away), "late" (the charge comes later), "big"; anything else is answered
with the prompt in capitals.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator

import msgspec
import pytest

from farebox.client import Client
from farebox.core import events, money, subjects, wire
from farebox.core.terms import Fault, Usage
from farebox.log.memory import MemoryLog, MemoryStore
from farebox.log.port import Entry

PLATFORMS = [
    {
        "platform": "rehearsal",
        "kind": "rehearsal",
        "tier": 0,
        "billing": "rehearsal",
        "available": True,
        "models": ["parrot", "owl"],
    },
    {
        "platform": "ollama",
        "kind": "compatible",
        "tier": 0,
        "billing": "free",
        "available": False,
        "models": [],
        "mend": "ollama serve",
    },
]
PAID = "0.0125"
LET_GO = threading.Event()


class ScriptedEngine:
    """Answers what stands in the log of `store`."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.log = MemoryLog(store)
        self.tasks: dict[str, events.TaskSubmitted] = {}
        self.ends: dict[str, events.TaskCompleted] = {}
        self.costs: dict[str, events.CostRecorded] = {}
        self.cancelled: set[str] = set()
        self.news = asyncio.Condition()
        self.asked: list[str] = []
        self.seq = 0
        self._work: set[asyncio.Task[None]] = set()
        self._following: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Fold the past first, as the real one does, then answer."""
        past = self.store.position().last_seq
        self._following = asyncio.create_task(self._follow())
        async with self.news:
            await self.news.wait_for(lambda: self.seq >= past)
        for name in ("result", "results", "status", "costs", "batch", "platforms", "replay", "info", "quota", "why"):
            await self.log.serve(f"{subjects.API}.{name}", self._answering(name))

    async def stop(self) -> None:
        await self.log.close()
        for task in (*self._work, self._following):
            task.cancel()
        await asyncio.gather(*self._work, self._following, return_exceptions=True)

    def _answering(self, name):
        async def answer(body: bytes) -> bytes:
            self.asked.append(name)
            question = msgspec.json.decode(body)
            return msgspec.json.encode(await getattr(self, f"_{name}")(question))

        return answer

    async def _follow(self) -> None:
        async for facts in self.log.follow(1):
            for stored in facts:
                fact = wire.decode(stored.subject, stored.body, stored.seq, stored.at_ms)
                async with self.news:
                    self._fold(fact)
                    self.seq = stored.seq
                    self.news.notify_all()

    def _fold(self, fact: events.AnyFact) -> None:
        match fact:
            case events.TaskSubmitted():
                self.tasks[fact.task] = fact
                work = asyncio.create_task(self._run(fact))
                self._work.add(work)
            case events.TaskCompleted():
                self.ends[fact.task] = fact
            case events.CostRecorded():
                self.costs[fact.task] = fact
            case events.TaskCancelRequested():
                self.cancelled.add(fact.task)

    async def _run(self, task: events.TaskSubmitted) -> None:
        prompt = task.prompt or (await self.log.get_blob(task.prompt_ref)).decode()
        if self.store.last(subjects.exact("adapter", "completed", task.chain, task.task, lane="rehearsal")):
            return
        if prompt.startswith("held"):
            await self._held(task)
        if prompt.startswith("slow"):
            await self._chunk(task, 1, "so f")
            await self._chunk(task, 2, "ar")
            async with self.news:
                await self.news.wait_for(lambda: task.task in self.cancelled)
            await self._end(task, "cancelled", partial="so far")
        elif prompt.startswith("fail"):
            fault = Fault(error_class="server_error", message="rehearsal answered 500")
            await self._end(task, "failed", fault=fault)
        else:
            await self._answer(task, prompt)

    async def _held(self, task: events.TaskSubmitted) -> None:
        while not LET_GO.is_set() and task.task not in self.cancelled:
            await asyncio.sleep(0.005)

    async def _answer(self, task: events.TaskSubmitted, prompt: str) -> None:
        output = prompt.upper()
        size = max(1, -(-len(output) // 4)) if len(output) < 10_000 else 100_000
        parts = [(number + 1, output[at : at + size]) for number, at in enumerate(range(0, len(output), size))]
        attempt = 1
        if prompt.startswith("gap"):
            del parts[1]
        if prompt.startswith("shuffled"):
            parts = [parts[1], parts[0], *parts[2:], parts[0]]
        if prompt.startswith("twice"):
            await self._chunk(task, 1, "THROWN AWAY")
            attempt = 2
        for number, text in parts:
            await self._chunk(task, number, text, attempt)
        await self._end(task, "completed", output=output, attempt=attempt)
        if prompt.startswith("late"):
            await asyncio.sleep(0.05)
        await self._charge(task, attempt)

    async def _chunk(self, task: events.TaskSubmitted, number: int, text: str, attempt: int = 1) -> None:
        chunk = events.ChunkStreamed(
            chain=task.chain, task=task.task, attempt=attempt, platform="rehearsal", number=number, text=text
        )
        await self.log.publish(subjects.live_subject(chunk), wire.encode(chunk))

    async def _end(self, task, status, *, output="", partial="", fault=None, attempt=1) -> None:
        ref = await self.log.put_blob(output.encode()) if len(output) > wire.INLINE_BYTES_MAX else None
        end = events.TaskCompleted(
            chain=task.chain,
            task=task.task,
            batch=task.batch,
            attempt=attempt,
            platform="rehearsal",
            model=task.model or "parrot",
            billing="rehearsal",
            charged="known" if status == "completed" else "none",
            status=status,
            output="" if ref else output,
            output_ref=ref,
            partial_output=partial,
            usage=Usage(input_tokens=10, output_tokens=5) if status == "completed" else None,
            duration_ms=1500,
            fault=fault,
        )
        await self._say("adapter", end)

    async def _charge(self, task, attempt) -> None:
        cost = events.CostRecorded(
            chain=task.chain, task=task.task, attempt=attempt, platform="rehearsal", status="priced", paid_usd=PAID
        )
        await self._say("cost", cost)

    async def _say(self, writer: str, fact: events.Fact) -> None:
        await self.log.append([Entry(subjects.subject_of(writer, fact), wire.encode(fact))])

    async def _result(self, question) -> dict:
        name = question["task"]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(question["wait_s"]), self.news:
                await self.news.wait_for(lambda: self._settled(name))
        return self._document(question["chain"], name)

    async def _results(self, question) -> dict:
        """Two at a time, so that many pages are asked for."""
        ends = sorted((end.seq, end.chain, end.task) for end in self.ends.values() if end.batch == question["batch"])
        rows = [{"seq": seq, **self._document(chain, task)} for seq, chain, task in ends if seq > question["after"]]
        return {"schema": "farebox.results/1", "results": rows[:2]}

    def _settled(self, name: str) -> bool:
        end = self.ends.get(name)
        return end is not None and (end.charged == "none" or name in self.costs)

    def _document(self, chain: str, name: str) -> dict:
        task, end, cost = self.tasks.get(name), self.ends.get(name), self.costs.get(name)
        document = {"schema": "farebox.result/1", "task_id": name, "chain_id": chain, "status": "unknown"}
        if task is not None:
            document |= {"status": "running", "batch_id": task.batch, "label": task.label}
        if end is not None:
            document |= {
                "status": end.status,
                "platform": end.platform,
                "model": end.model,
                "billing": end.billing,
                "output": end.output,
                "output_ref": end.output_ref,
                "partial_output": end.partial_output,
                "duration_s": end.duration_ms / 1000,
                "attempts": end.attempt,
                "error": end.fault and {"class": end.fault.error_class, "message": end.fault.message},
                "usage": {"input_tokens": 10, "output_tokens": 5, "source": "provider"} if end.usage else {},
                "cost": {"status": "none" if end.charged == "none" else "pending"},
            }
        if cost is not None:
            document["cost"] = {"status": cost.status, "paid_usd": cost.paid_usd}
        return document

    async def _status(self, question) -> dict:
        if name := question.get("task"):
            if name not in self.tasks:
                return {"error": {"code": "FB407", "message": f"There is no task {name}.", "hint": ""}}
            return {"schema": "farebox.task/1", **self._row(name), "attempts": [], "candidates": [], "due_ms": None}
        rows = [self._row(name) for name in reversed(self.tasks)]
        wanted = question.get("state")
        rows = [row for row in rows if wanted in {None, row["result"]["status"]}]
        engine = {"version": "0.1.0", "bus": "memory", "store": "-", "running": 0, "pending": 0, "pid": 1}
        return {"schema": "farebox.status/1", "engine": engine, "tasks": rows[: question.get("limit") or 100]}

    def _row(self, name: str) -> dict:
        task = self.tasks[name]
        return {"result": self._document(task.chain, name), "type": task.type, "submitted_ms": task.at_ms, "ended_ms": None}

    async def _costs(self, question) -> dict:
        paid = money.text(money.total(money.parse(cost.paid_usd) for cost in self.costs.values()))
        sums = {
            "tasks": len(self.ends), "completed": len(self.costs), "input_tokens": 10 * len(self.costs),
            "output_tokens": 5 * len(self.costs), "paid_usd": None, "plan_value_usd": None, "possible_usd": None,
            "rehearsal_usd": paid, "unpriced": 0, "possible": 0, "possible_unknown": 0,
            "estimated": 0, "p50_ms": 1500, "p95_ms": 1500,
        }  # fmt: skip
        rows = [{"key": "rehearsal", "billing": "rehearsal", **sums}]
        total = {"key": "total", "billing": "", **sums}
        if question.get("since") == "yesterdayish":
            return {"error": {"code": "FB401", "message": "'yesterdayish' is no moment.", "hint": "Write 7d, 12h, or a date."}}
        return {"schema": "farebox.costs/1", **question, "rows": rows, "total": total, "unpriced_models": []}

    async def _batch(self, question) -> dict:
        ended = [name for name, end in self.ends.items() if end.batch == question["batch"]]
        return {"schema": "farebox.batch/1", "batch_id": question["batch"], "ended": ended}

    async def _platforms(self, _) -> dict:
        return {"schema": "farebox.platforms/1", "platforms": PLATFORMS}

    async def _quota(self, _) -> dict:
        return {"schema": "farebox.quota/1", "now_ms": 1_790_000_000_000, "warn_at_percent": 90, "quotas": []}

    async def _why(self, question) -> dict:
        if question["task"] not in self.tasks:
            return {"error": {"code": "FB409", "message": f'There is no task "{question["task"]}".', "hint": ""}}
        return {"schema": "farebox.why/1", "task": question["task"], "facts": []}

    async def _replay(self, _) -> dict:
        return {
            "schema": "farebox.replay/1", "facts": len(self.store.facts), "rows": {"tasks": len(self.tasks)},
            "digest": "ab" * 32, "seconds": 0.1, "same_as_before": True,
        }  # fmt: skip

    async def _info(self, _) -> dict:
        return {
            "schema": "farebox.info/1", "version": "0.1.0", "bus": "memory", "store": "-", "credentials": "-",
            "durability": "always", "log": {"first": 1, "last": len(self.store.facts), "created": "memory"}, "pid": 1,
        }  # fmt: skip


@contextlib.asynccontextmanager
async def engine_on(store: MemoryStore) -> AsyncIterator[ScriptedEngine]:
    engine = ScriptedEngine(store)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """An end that nobody says is not waited for: the engine is asked."""
    monkeypatch.setattr("farebox.client.FRESH_S", 0.1)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
async def engine(store: MemoryStore) -> AsyncIterator[ScriptedEngine]:
    async with engine_on(store) as running:
        yield running


@pytest.fixture
async def fb(store: MemoryStore, engine: ScriptedEngine) -> AsyncIterator[Client]:
    client = Client(MemoryLog(store), patience_s=2)
    yield client
    await client.close()
