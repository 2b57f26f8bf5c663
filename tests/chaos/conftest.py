"""Real processes to kill: `farebox up` over a temporary store, its nats-server, and a provider with books of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections import Counter, defaultdict
from pathlib import Path

import psutil
import pytest

from farebox import client, discovery
from farebox.core import events, wire
from farebox.core.errors import BadFact
from farebox.rehearsal.books import read as read_books
from farebox.runtime.store import Store
from farebox.simulation import recorded

ACCIDENT = Path(__file__).with_name("inside_accident.py")
READY_S = 60
TOML = """
[engine]
billed_attempts_max = {billed}

[platforms.far]
kind = "rehearsal"
billing = "rehearsal"
model = "{model}"
limit = {limit}
first_byte_timeout_s = 3
idle_timeout_s = 3
url = "{url}"

[platforms.rehearsal]
kind = "rehearsal"
billing = "rehearsal"
enabled = false
""" + "".join(
    # What happens to listen on this machine must not take part.
    f'\n[platforms.{name}]\nkind = "compatible"\nenabled = false\n'
    for name in ("ollama", "lmstudio", "llamacpp", "vllm")
)
MODEL = "gpt-5-mini"
ENDINGS = events.TaskCompleted | events.AttemptFailed | events.AttemptInterrupted


class Scene:
    """A provider, a store and the processes over it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "store"
        self.books = folder / "books.jsonl"
        self.engine: asyncio.subprocess.Process | None = None
        self.provider: asyncio.subprocess.Process | None = None
        self.adapters: dict[int, asyncio.subprocess.Process] = {}
        self.options: list[str] = []
        """More words for the engine's `up`."""
        self.cut = False
        """Whether there was a power cut: then not all that was acknowledged need stand, where the setting allows it."""
        self.login: dict[str, str] | None = None
        """Who reads the log of a server that is not the engine's own."""
        self.accident: dict | None = None
        """What happens to the engine, once (inside_accident.py)."""
        self._environ = {**os.environ, "HOME": str(folder), "FAREBOX_HOME": str(self.store)}

    async def open(self, *, delay_ms=150, limit=6, billed=5, faults="", more=()) -> None:
        self.store.mkdir()
        arguments = ["--books", str(self.books), "--models", MODEL, "--prices", f"{MODEL}=0.25/2", "--delay-ms", str(delay_ms)]
        self.provider = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "farebox.rehearsal", *arguments, *(["--faults", faults] if faults else []), *more,
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        url = json.loads(await asyncio.wait_for(self.provider.stdout.readline(), READY_S))["url"]
        self.settle(url, limit=limit, billed=billed)
        await self.up()

    def settle(self, url: str, *, limit: int = 6, billed: int = 5) -> None:
        """Write the settings for a provider at `url`."""
        (self.folder / "farebox.toml").write_text(TOML.format(url=url, limit=limit, billed=billed, model=MODEL))

    async def up(self, ready_s: float = READY_S) -> None:
        with (self.folder / "engine.log").open("ab") as log:
            self.engine = await asyncio.create_subprocess_exec(
                *self._program(self.accident), "up", "--json", "--store", str(self.store),
                "--config", str(self.folder / "farebox.toml"), *self.options,
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=log, env=self._with(self.accident),
            )  # fmt: skip
        line = await asyncio.wait_for(self.engine.stdout.readline(), ready_s)
        assert line, (self.folder / "engine.log").read_text()

    @staticmethod
    def _program(accident: dict | None) -> list[str]:
        return [sys.executable, *(["-m", "farebox"] if accident is None else [str(ACCIDENT)])]

    def _with(self, accident: dict | None) -> dict[str, str]:
        told = {"said": str(self.happened), "acked": str(self.folder / "acked"), "point": "", "how": "nothing"}
        return self._environ if accident is None else {**self._environ, "FAREBOX_ACCIDENT": json.dumps(told | accident)}

    @property
    def happened(self) -> Path:
        """The file that is there once the accident has happened."""
        return self.folder / "happened"

    def acknowledged(self, before_s: float = float("inf")) -> dict[int, str]:
        """The ids of all that processes with an accident were told is stored, by sequence; until `before_s` (since 1970)."""
        path = self.folder / "acked"
        lines = path.read_text().split("\n")[:-1] if path.exists() else []
        told = (line.split(" ") for line in lines)
        return {int(seq): fact_id for seq, fact_id, at_s in told if float(at_s) < before_s}

    async def start_adapter(self, number: int, url: str, accident: dict | None = None) -> None:
        """Start an adapter of the platform in a process and with a store of its own; it waits for a server by itself."""
        folder = self.folder / f"adapter-{number}"
        folder.mkdir(exist_ok=True)
        with (folder / "log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *self._program(accident), "up", "--json", "--only", "adapter-far", "--server", url,
                "--store", str(folder / "store"), "--config", str(self.folder / "farebox.toml"),
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=log, env=self._with(accident),
            )  # fmt: skip
        self.adapters[number] = process
        line = await asyncio.wait_for(process.stdout.readline(), READY_S)
        assert b'"only"' in line, (folder / "log").read_text()

    async def kill_adapter(self, number: int) -> None:
        self.adapters[number].kill()
        await self.adapters[number].wait()

    def adapter_url(self) -> str:
        """The address of the engine's bus with the login of the adapter."""
        password = Store(self.store).seeds(["adapter-far"])["adapter-far"]
        return discovery.of_store(self.store).url.replace("nats://", f"nats://adapter-far:{password}@")

    async def kill_engine(self) -> None:
        """kill -9; its nats-server ends with it."""
        servers = [one for one in psutil.Process(self.engine.pid).children() if "nats-server" in one.name()]
        self.engine.kill()
        await self.engine.wait()
        for server in servers:
            with contextlib.suppress(psutil.NoSuchProcess):
                await asyncio.to_thread(server.wait, 10)

    def server(self) -> psutil.Process:
        """The nats-server of the engine. Raises ValueError while there is none."""
        (found,) = [one for one in psutil.Process(self.engine.pid).children() if "nats-server" in one.name()]
        if found.status() == psutil.STATUS_ZOMBIE:
            raise ValueError("It is dead.")
        return found

    def freeze(self) -> None:
        self.engine.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.engine.send_signal(signal.SIGCONT)

    async def stop(self) -> int:
        self.engine.terminate()
        return await asyncio.wait_for(self.engine.wait(), 30)

    @contextlib.asynccontextmanager
    async def joined(self):
        """A client as any program has it."""
        where = discovery.of_store(self.store)
        assert where is not None
        async with client.joined(where) as found:
            yield found

    async def facts(self):
        """Everything in the log that can be read."""
        found = []
        for one in await self.stored():
            with contextlib.suppress(BadFact):
                found.append(wire.decode(one.subject, one.body, one.seq, one.at_ms))
        return found

    @contextlib.asynccontextmanager
    async def as_init(self):
        """The log of the running server as the user who may do everything."""
        from farebox.log.jetstream import JetStreamLog

        login = self.login
        if login is None:
            password = Store(self.store).seeds(["init"])["init"]
            url = discovery.of_store(self.store).url
            login = {"url": url, "user": "init", "password": password, "inbox_prefix": "_INBOX_init"}
        log = await JetStreamLog.connect(**login)
        try:
            yield log
        finally:
            await log.close()

    async def stored(self):
        """Everything in the log as it stands there."""
        async with self.as_init() as log:
            last, found = (await log.position()).last_seq, []
            reading = log.follow(1)
            async for batch in reading:
                found += batch
                if batch[-1].seq >= last:
                    break
            await reading.aclose()
        return found

    def calls(self) -> int:
        """How many calls stand in the provider's books."""
        return len(read_books(self.books))

    async def run_cli(self, *arguments) -> dict:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "farebox", *arguments, "--json", "--store", str(self.store),
            "--config", str(self.folder / "farebox.toml"),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=self._environ,
        )  # fmt: skip
        out, errors = await asyncio.wait_for(child.communicate(), 60)
        assert child.returncode == 0, errors.decode()
        return json.loads(out)

    async def quiet(self, timeout_s=60) -> None:
        """Until each end of an attempt that may have cost something has its charge, and each grant is settled."""
        async with asyncio.timeout(timeout_s):
            while True:
                facts = await self.facts()
                owed = {(f.task, f.attempt) for f in facts if isinstance(f, ENDINGS) and f.attempt and f.chargeable}
                booked = {(f.task, f.attempt) for f in facts if isinstance(f, events.CostRecorded)}
                grants = sum(isinstance(f, events.QuotaReserved) for f in facts)
                settled = sum(isinstance(f, events.QuotaSettled) for f in facts)
                if owed <= booked and grants == settled:
                    return
                await asyncio.sleep(0.1 + len(facts) / 20_000)

    def broken(self, stored, *, ended: bool = True, books=None) -> list[str]:
        """What breaks one of the ten invariants. While calls go on, the `books` must have been read before the log was."""
        acked = {} if "100ms" in self.options and self.cut else self.acknowledged()
        return recorded.broken(stored, read_books(self.books) if books is None else books, acked, ended=ended)

    async def verify(self, tasks: int) -> Counter:
        """What must hold after any kill. Returns what happened, to be looked at."""
        await self.quiet()
        facts = await self.facts()
        assert self.broken(await self.stored()) == []
        self._each_task_ended_once(facts, tasks)
        self._each_attempt_is_one_call_at_most(facts)
        self._the_bill_covers_the_books(facts)
        first = await self.run_cli("replay")
        assert first["same_as_before"]
        assert (await self.run_cli("replay"))["digest"] == first["digest"]
        return Counter(type(fact).__name__ for fact in facts)

    @staticmethod
    def _each_task_ended_once(facts, tasks) -> None:
        submitted = {fact.task for fact in facts if isinstance(fact, events.TaskSubmitted)}
        ends = Counter(fact.task for fact in facts if isinstance(fact, events.TaskCompleted))
        assert len(submitted) == tasks
        assert ends == Counter(submitted)

    @staticmethod
    def _each_attempt_is_one_call_at_most(facts) -> None:
        """An attempt starts once and ends once; another one starts only after the one before has its end."""
        by_task = defaultdict(list)
        for fact in facts:
            if isinstance(fact, events.TaskStarted | ENDINGS) and fact.attempt:
                by_task[fact.task].append(fact)
        for told in by_task.values():
            open_attempt = 0
            for fact in told:
                if isinstance(fact, events.TaskStarted):
                    assert open_attempt == 0
                    open_attempt = fact.attempt
                elif fact.epoch:
                    assert fact.attempt == open_attempt
                    open_attempt = 0
            assert open_attempt == 0

    def _the_bill_covers_the_books(self, facts) -> None:
        """Each call that the provider charged is known to us, as a charge or as one that may have been charged."""
        marks = self._marks(facts)
        charged = Counter(line.mark for line in read_books(self.books) if line.charged)
        known, possible = Counter(), Counter()
        last_cost = {(fact.task, fact.attempt): fact for fact in facts if isinstance(fact, events.CostRecorded)}
        for fact in last_cost.values():
            (possible if fact.status == "possible" else known)[marks[fact.task]] += 1
        for mark, count in charged.items():
            assert known[mark] <= count <= known[mark] + possible[mark], (mark, count, known[mark], possible[mark])
        completed = Counter(
            marks[f.task] for f in facts if isinstance(f, events.TaskCompleted) and f.status == "completed" and f.attempt
        )
        for mark, count in completed.items():
            assert charged[mark] >= count

    @staticmethod
    def _marks(facts) -> dict[str, str]:
        from farebox.core.digest import mark

        return {fact.task: mark(fact.prompt, fact.system) for fact in facts if isinstance(fact, events.TaskSubmitted)}

    async def close(self) -> None:
        for process in (*self.adapters.values(), self.engine, self.provider):
            if process is not None and process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGCONT)
                    process.terminate()
                try:
                    await asyncio.wait_for(process.wait(), 15)
                except TimeoutError:
                    process.kill()
                    await process.wait()


@pytest.fixture
async def scene(tmp_path):
    found = Scene(tmp_path)
    yield found
    await found.close()


@pytest.fixture
def prompts():
    def make(count):
        return [f"Prompt number {number}: what does the owl say?" for number in range(count)]

    return make
