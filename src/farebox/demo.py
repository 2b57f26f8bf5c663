"""The demo: a real server, a real run over real files, a real kill -9, and the bill that still adds up. No key, no model.

The engine runs as a process of its own, so that it can be killed; the stand-ins of the providers run here and keep their own
books, with which the bill is compared in the end.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from farebox import __version__, client, discovery
from farebox.core import money
from farebox.core.errors import BadInput, NotReachable
from farebox.core.results import Result
from farebox.rehearsal.books import Price, read
from farebox.rehearsal.faults import Faults
from farebox.rehearsal.server import StandIn

MODULES = (
    "abc", "argparse", "ast", "base64", "bisect", "calendar", "cmd", "code", "colorsys", "configparser", "contextlib",
    "copy", "csv", "dataclasses", "difflib", "dis", "enum", "filecmp", "fnmatch", "fractions", "functools", "getopt",
    "graphlib", "gzip",
)  # fmt: skip
"""Modules of the standard library that the demo reads when no folder is given."""
CHEAP, STRONG = "gpt-5-mini", "claude-sonnet-4-5"
PRICES = {CHEAP: Price(Decimal("0.25"), Decimal(2)), STRONG: Price(Decimal(3), Decimal(15))}
"""US dollars for a million tokens, as the stand-ins bill; farebox must find the same amounts in its own price list."""
AGENT_BOOKS = "agent-books.jsonl"
FILE_CHARS_MAX = 24_000
READY_S = 60.0
ENGINE_TOML = """
[engine]
billed_attempts_max = 4

[platforms.agent]
kind = "rehearsal"
billing = "rehearsal"
tier = 0
limit = 2
model = "{strong}"
argv = ["{python}", "-m", "farebox.rehearsal.program", "--delay-ms", "900", "--seed", "{seed}",
        "--books", "{books}", "--prices", "{strong}=3/15"]
options = {{ wire = "stream-json" }}

[platforms.cheap-api]
kind = "rehearsal"
billing = "rehearsal"
tier = 1
limit = 3
model = "{cheap}"
url = "{cheap_url}"

[platforms.strong-api]
kind = "rehearsal"
billing = "rehearsal"
tier = 2
limit = 1
model = "{strong}"
url = "{strong_url}"
open = false

[platforms.rehearsal]
kind = "rehearsal"
billing = "rehearsal"
enabled = false
"""


class Options(Struct, frozen=True, kw_only=True):
    """What the command line may set. `kill` is whether the engine is killed in the middle."""

    path: str = ""
    tasks: int = 24
    seed: int = 7
    keep: bool = False
    kill: bool = True
    out: str = "farebox-demo.md"


class Report(Struct, frozen=True, kw_only=True):
    """What the demo found (`farebox.demo/1`). Money as text, US dollars of a rehearsal: nobody is charged."""

    schema: str = "farebox.demo/1"
    tasks: int
    completed: int
    killed: bool
    seconds: float
    facts: int
    paid_usd: str
    possible_usd: str
    billed_usd: str
    reconciled: bool
    digest: str
    replay_same: bool
    out: str
    store: str

    @property
    def good(self) -> bool:
        """Whether every task completed, the bill adds up and the views were rebuilt alike."""
        return self.completed == self.tasks and self.reconciled and self.replay_same


Say = Callable[[str], None]


async def run(options: Options, say: Say) -> Report:
    """Run the demo, telling it through `say`, and return what was found. Raises FareboxError."""
    prompts = _prompts(options)
    began = time.monotonic()
    async with AsyncExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="farebox-demo-"))
        if not options.keep:
            stack.callback(_remove, folder)
        say(f"farebox {__version__} · demo · seed {options.seed} · {'store' if options.keep else 'temporary store'} {folder}")
        cheap, strong = await _stand_ins(stack, options)
        config = folder / "farebox.toml"
        config.write_text(_toml(options, cheap, strong, folder / AGENT_BOOKS))
        engine = await stack.enter_async_context(_engine(folder, config))
        _greet(engine.ready, say)
        results = await _work(folder, prompts, engine, options, say)
        report = await _prove(folder, results, [cheap, strong], options, engine, began, say)
        _write_digests(Path(options.out), prompts, results)
    return report


class _Child:
    """The engine as a process of its own."""

    def __init__(self, folder: Path, config: Path) -> None:
        self._folder = folder
        self._config = config
        self.process: asyncio.subprocess.Process | None = None
        self.ready: dict[str, Any] = {}
        self.killed = 0

    async def start(self) -> None:
        """Start it and wait for the line that says it is ready. Raises NotReachable with its last words."""
        command = ("-m", "farebox", "up", "--json", "--store", str(self._folder), "--config", str(self._config))
        with (self._folder / "engine.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=log
            )
        assert self.process.stdout is not None, "asked for"
        line = await asyncio.wait_for(self.process.stdout.readline(), READY_S)
        if not line:
            words = (self._folder / "engine.log").read_text(errors="replace").strip().splitlines()[-1:]
            raise NotReachable(f"The demo's engine did not start: {' '.join(words)}", hint="See: farebox up")
        self.ready = msgspec.json.decode(line, type=dict[str, Any])

    async def kill(self) -> int:
        """Kill it, as a crash would, and return its process number."""
        assert self.process is not None, "started"
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()
        self.killed += 1
        return self.process.pid

    async def stop(self) -> None:
        """End it in order."""
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            await self.process.wait()


@asynccontextmanager
async def _engine(folder: Path, config: Path) -> AsyncGenerator[_Child]:
    child = _Child(folder, config)
    try:
        await child.start()
        yield child
    finally:
        await child.stop()


async def _stand_ins(stack: AsyncExitStack, options: Options) -> tuple[StandIn, StandIn]:
    faults = Faults({"429": 0.15, "503": 0.1}, attempts_max=1)
    cheap = StandIn(models=(CHEAP,), seed=options.seed, faults=faults, delay_ms=700, prices=PRICES, retry_after_s=0.5)
    strong = StandIn(models=(STRONG,), seed=options.seed, delay_ms=900, prices=PRICES)
    for stand_in in (cheap, strong):
        await stack.enter_async_context(stand_in)
    return cheap, strong


def _toml(options: Options, cheap: StandIn, strong: StandIn, books: Path) -> str:
    return ENGINE_TOML.format(
        python=sys.executable,
        seed=options.seed,
        cheap=CHEAP,
        strong=STRONG,
        cheap_url=cheap.url,
        strong_url=strong.url,
        books=books,
    )


def _greet(ready: Mapping[str, Any], say: Say) -> None:
    say(f" ✓ nats-server started on {str(ready.get('bus', '')).removeprefix('nats://')}, every fact synced to disk")
    say(" ✓ 3 rehearsal platforms on loopback: real wire formats, no model behind them")
    say("     agent       a program that streams JSON, 2 at once          used first")
    say(f"     cheap-api   HTTP, {CHEAP} prices, 3 at once, some 429    when the first is full")
    say(f"     strong-api  HTTP, {STRONG} prices             only when asked for: the review")


async def _work(folder: Path, prompts: Mapping[str, str], engine: _Child, options: Options, say: Say) -> list[Result]:
    """Digest every file as a batch, killing the engine in the middle, then review all digests with one task."""
    say(f"\nJob: digest {len(prompts)} files, then one review of all · {len(prompts) + 1} tasks")
    where = discovery.of_store(folder)
    assert where is not None, "an engine that is ready has said where"
    async with client.joined(where) as bus:
        tasks = [{"prompt": prompt, "label": name, "max_tokens": 600} for name, prompt in prompts.items()]
        kill_at = len(tasks) // 2 if options.kill else -1
        batch = bus.batch(tasks, parallel=6)
        shown = 0  # `batch.done` counts also those that came while this line was written
        async for result in batch:
            shown += 1
            say(_line(shown, batch.total, result))
            if shown == kill_at:
                await _kill(engine, batch.running, say)
        ordered = [batch.results[line] for line in sorted(batch.results)]
        review = "Review these digests:\n\n" + "\n\n".join(f"{one.label}: {one.output}" for one in ordered)
        handle = await bus.submit(review, platform="strong-api", chain=batch.id, type="review")
        reviewed = await handle.result()
        say(_line(1, 1, msgspec.structs.replace(reviewed, label="review of all")))
    return [*ordered, reviewed]


async def _kill(engine: _Child, running: int, say: Say) -> None:
    pid = await engine.kill()
    say(f" KILL     engine {pid}, kill -9, on purpose ({running} tasks were under way; its nats-server goes with it)")
    await engine.start()
    assert engine.process is not None, "started"
    say(f" recover  engine {engine.process.pid} read the log and goes on; finished tasks stay finished")


def _line(done: int, total: int, result: Result) -> str:
    cost = f"${result.cost.paid_usd}" if result.cost.paid_usd is not None else "unpriced"
    again = f" · attempt {result.attempts}" if result.attempts > 1 else ""
    sign = "✓" if result.ok else "✗"
    return (
        f" {sign} {done:>2}/{total} {result.label:<16.16} {result.platform:<10} {result.duration_s or 0:4.1f} s  {cost}{again}"
    )


async def _prove(
    folder: Path, results: list[Result], stand_ins: list[StandIn], options: Options, engine: _Child, began: float, say: Say
) -> Report:
    """Ask for the costs, rebuild the views, and hold the bill against the books of those who would have sent it."""
    where = discovery.of_store(folder)
    assert where is not None, "the engine runs"
    async with client.joined(where) as bus:
        replay = await bus.replay()
        costs = await bus.costs(["platform"])
        info = await bus.info()
    rows = [row for row in costs["rows"] if row["billing"] == "rehearsal"]
    _table(rows, say)
    paid, possible = _sums(rows)
    lines = [line for stand_in in stand_ins for line in stand_in.books.lines] + read(folder / AGENT_BOOKS)
    billed = money.total(money.parse(line.usd) for line in lines if line.charged and line.usd)
    completed = sum(result.ok for result in results)
    report = Report(
        tasks=len(results), completed=completed, killed=bool(engine.killed), seconds=round(time.monotonic() - began, 1),
        facts=int(info["log"]["last_seq"]), paid_usd=money.text(paid), possible_usd=money.text(possible),
        billed_usd=money.text(billed), reconciled=paid <= billed <= paid + possible, digest=str(replay["digest"]),
        replay_same=bool(replay["same_as_before"]), out=str(Path(options.out)), store=str(folder) if options.keep else "",
    )  # fmt: skip
    _conclude(report, say)
    return report


def _table(rows: list[dict[str, Any]], say: Say) -> None:
    say(f"\nWhere it went   {'tasks':>6} {'tokens in / out':>18} {'rehearsal $':>14}   possibly charged")
    for row in rows:
        tokens = f"{row['input_tokens'] or 0} / {row['output_tokens'] or 0}"
        possible = f"at most ${row['rehearsal_possible_usd']}" if row.get("rehearsal_possible_usd") not in {None, "0"} else "–"
        paid = "–" if row.get("rehearsal_usd") is None else f"${row['rehearsal_usd']}"
        say(f" {row['platform']:<14} {row['tasks']:>6} {tokens:>18} {paid:>14}   {possible}")
    say(" Rehearsal dollars. You were charged nothing.")


def _sums(rows: list[dict[str, Any]]) -> tuple[Decimal, Decimal]:
    paid = money.total(money.parse(row["rehearsal_usd"]) for row in rows if row.get("rehearsal_usd") is not None)
    possible = money.total(
        money.parse(row["rehearsal_possible_usd"]) for row in rows if row.get("rehearsal_possible_usd") is not None
    )
    return paid, possible


def _conclude(report: Report, say: Say) -> None:
    band = f"${report.paid_usd} … ${money.text(money.parse(report.paid_usd) + money.parse(report.possible_usd))}"
    sign = {True: "✓", False: "✗"}
    say(f"\n {sign[report.completed == report.tasks]} {report.completed} of {report.tasks} tasks, {report.seconds} s")
    alike = "the same" if report.replay_same else "ANOTHER"
    say(f" {sign[report.replay_same]} {report.facts} facts; views rebuilt from nothing: digest {report.digest[:8]}, {alike}")
    say(f" {sign[report.reconciled]} the three providers' own books say ${report.billed_usd}; farebox says {band}")
    say(f" Digests: {report.out}")
    say(" Real here: NATS, routing, slots, retries, the kill, recovery, log, costs.   Not real: the models.")
    say(' Next:  farebox platforms · farebox up --detach · farebox submit "hello" --platform rehearsal')


def _prompts(options: Options) -> dict[str, str]:
    """Return what to digest by name: files of a folder, or modules of the standard library."""
    if options.path:
        files = _files_of(Path(options.path))
    else:
        library = Path(asyncio.__file__).parent.parent
        files = [library / f"{name}.py" for name in MODULES]
    texts = {file.name: file.read_text("utf-8", "replace")[:FILE_CHARS_MAX] for file in files if file.is_file()}
    chosen = dict(list(texts.items())[: options.tasks])
    if not chosen:
        raise BadInput(f"There is nothing to digest in {options.path or 'the standard library'}.", hint="farebox demo FOLDER")
    return {name: f"Digest the file {name}:\n\n{text}" for name, text in chosen.items()}


def _files_of(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise BadInput(f"{folder} is no folder.", hint="farebox demo FOLDER")
    kinds = {".py", ".md", ".txt", ".rst", ".toml", ".json", ".js", ".ts", ".go", ".rs", ".c", ".java"}
    return sorted(file for file in folder.rglob("*") if file.suffix in kinds and file.stat().st_size > 0)


def _write_digests(path: Path, prompts: Mapping[str, str], results: list[Result]) -> None:
    names = [*prompts, "Review"]
    parts = [f"## {name}\n\n{result.output or result.partial_output}\n" for name, result in zip(names, results, strict=True)]
    path.write_text("# Digests\n\nComputed from the files by stand-ins, no model behind them.\n\n" + "\n".join(parts), "utf-8")


def _remove(folder: Path) -> None:
    import shutil  # noqa: PLC0415 - only when it ends

    shutil.rmtree(folder, ignore_errors=True)
