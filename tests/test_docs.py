"""The documentation says what the code does: generated pages are current, links lead somewhere, examples run."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from farebox.cli.app import COMMANDS, build
from farebox.core.events import FACTS
from farebox.core.subjects import TABLE

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
CODE = re.compile(r"\bFB\d{3}\b")
LINK = re.compile(r"(?<!\!)\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} +(.+)$", re.MULTILINE)
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND_LINE = re.compile(r"^ {4,}(?:uv run )?(farebox [^#\n]*)", re.MULTILINE)
HINTED = re.compile(r"(?::|&&|—) farebox ([a-z][a-z-]*)")
PARTS = ("**What happened.**", "**Why.**", "**What to type.**")


@cache
def generator() -> ModuleType:
    """docs/generate.py, which is no module of a package."""
    spec = importlib.util.spec_from_file_location("farebox_docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def text_of(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


@cache
def strings_of_the_sources() -> tuple[tuple[str, str], ...]:
    """Every text in the sources (docstrings too) with the file it stands in."""
    return tuple(
        (path.relative_to(ROOT).as_posix(), node.value)
        for folder in ("src", "actors")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def test_the_generated_pages_are_current():
    assert not generator().stale(), "run: uv run python docs/generate.py"


def test_every_setting_has_a_sentence_and_every_sentence_a_setting():
    page = generator().settings_page()
    assert {key for key in generator().SETTINGS_SAID if f"`{key}`" not in page} == set()


def test_every_fact_and_every_subject_is_documented():
    page = text_of("docs/events.md")
    assert not [kind.__name__ for kind in FACTS if f"\n## {kind.__name__}\n" not in page]
    assert not [row.token for row in TABLE if f"`farebox.log.{row.writer}.{row.token}.{row.place.value}`" not in page]


def test_every_fact_has_a_docstring_that_says_who_says_it():
    mute = [kind.__name__ for kind in FACTS if len((kind.__doc__ or "").split()) < 5]
    assert not mute


def test_the_way_of_a_task_meets_every_fact():
    way = text_of("docs/way-of-a-task.md")
    assert not [kind.__name__ for kind in FACTS if kind.__name__ not in way]


def test_every_question_that_the_engine_answers_is_documented():
    names = re.findall(r'^ +"(\w+)": self\.\w+,$', text_of("src/farebox/runtime/service.py"), re.MULTILINE)
    assert len(names) >= 9
    page = text_of("docs/bus.md")
    assert not [name for name in names if f"| `farebox.api.{name}` |" not in page]


def test_every_command_and_option_is_documented():
    page = text_of("docs/commands.md")
    for name in COMMANDS:
        section = page.partition(f"\n## farebox {name}\n")[2].partition("\n## ")[0]
        assert section, name
        for option in options_of(name):
            assert f"`{option}`" in page, f"{name} {option}"


@cache
def options_of(name: str) -> frozenset[str]:
    """Every option of a command that is shown."""
    arguments: Any = build()[name].assemble_argument_collection()
    return frozenset(
        option
        for one in arguments
        if one.show
        for option in one.names
        if option.startswith("-") and not option.startswith("--empty-")
    )


def test_every_error_code_in_the_sources_has_a_page_and_every_page_a_code():
    used = {code for _, text in strings_of_the_sources() for code in CODE.findall(text)}
    assert set(generator().error_titles()) == used


@pytest.mark.parametrize("code", sorted(generator().error_titles()))
def test_a_page_about_an_error_says_what_happened_why_and_what_to_type(code: str):
    page = text_of(f"docs/errors/{code}.md")
    places = [page.find(part) for part in PARTS]
    assert -1 not in places, PARTS[places.index(-1)]
    assert places == sorted(places)
    assert len(page) > 250, "real content"


def test_every_command_line_in_the_documentation_names_commands_and_options_that_exist():
    wrong: list[str] = []
    for page in PAGES:
        for line in COMMAND_LINE.findall(page.read_text("utf-8")):
            wrong += [f"{page.relative_to(ROOT)}: {fault}" for fault in faults_of(line)]
    assert not wrong


def faults_of(line: str) -> Iterator[str]:
    """What is wrong in one line that begins with farebox; several commands may stand in it."""
    for part in re.split(r"&&|\|", line):
        words = shlex.split(part.strip().replace("'", "").replace("…", "text"))
        if words[:1] != ["farebox"] or words[1:2] in (["--version"], ["--help"], ["COMMAND"], []):
            continue
        if words[1] not in COMMANDS:
            yield f"no command in {part!r}"
            continue
        known = options_of(words[1]) | {"--help"}
        yield from (f"no option {word} in {part!r}" for word in words[2:] if re.match(r"-[-a-z]", word) and word not in known)


def test_every_hint_in_the_sources_names_a_command_that_exists():
    hinted = [(path, name) for path, text in strings_of_the_sources() for name in HINTED.findall(text)]
    assert len(hinted) > 10, "hints are found"
    assert not [f"{path}: farebox {name}" for path, name in hinted if name not in COMMANDS]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path):
    broken = [target for target in LINK.findall(prose_of(page)) if not _leads_somewhere(page, target)]
    assert not broken


def prose_of(page: Path) -> str:
    """The page without its code."""
    return re.sub(r"`[^`\n]*`", "", FENCED.sub("", page.read_text("utf-8")))


def _leads_somewhere(page: Path, target: str) -> bool:
    if re.match(r"https?://|mailto:", target):
        return True
    place, _, anchor = target.partition("#")
    found = (page.parent / place).resolve() if place else page
    if not found.exists() or not found.is_relative_to(ROOT):
        return False
    return not anchor or anchor in _anchors(found)


@cache
def _anchors(page: Path) -> frozenset[str]:
    headings = HEADING.findall(FENCED.sub("", page.read_text("utf-8")))
    plain = (re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()) for heading in headings)
    return frozenset(heading.strip().replace(" ", "-") for heading in plain)


def test_every_decision_is_listed_and_has_its_parts():
    listed = text_of("docs/adr/README.md")
    pages = sorted((DOCS / "adr").glob("0*.md"))
    assert len(pages) >= 12
    for number, page in enumerate(pages, start=1):
        assert page.name.startswith(f"{number:04}-"), "numbers without gaps"
        assert f"({page.name})" in listed
        text = page.read_text("utf-8")
        assert [part for part in ("## Context", "## Decision", "## Consequences") if part not in text] == []


def test_the_changelog_has_a_section_for_what_comes():
    assert re.search(r"^## \[(Unreleased|0\.1\.0)\]", text_of("CHANGELOG.md"), re.MULTILINE)


def test_the_readme_is_one_screen_that_begins_with_the_two_commands():
    readme = text_of("README.md")
    assert readme.count("\n") <= 75
    first = readme[:800]
    assert "pip install uv && uv run farebox demo" in first
    assert "uv run pytest" in first


def test_the_price_of_the_faster_durability_is_said_in_full():
    plain = " ".join(text_of("docs/guides/operate.md").split())
    words = (
        "A power cut or a kernel crash may take the facts acknowledged in the last tenth of a second, paid answers among them"
    )
    assert f"{words}; killing the server takes none." in plain


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The store of an engine that runs as a process of its own, started and stopped as a person would."""
    folder = tmp_path_factory.mktemp("home")
    started = farebox(folder, "up", "--detach", "--json")
    assert json.loads(started)["store"] == str(folder)
    try:
        yield folder
    finally:
        farebox(folder, "down")


def farebox(home: Path, *arguments: str) -> str:
    return run(home, "-m", "farebox", *arguments)


def run(home: Path, *arguments: str) -> str:
    """Run Python in that home and return what it printed."""
    measured = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    environment = {"PATH": os.defpath, "HOME": str(home), "FAREBOX_HOME": str(home), **measured}
    said = subprocess.run(
        [sys.executable, *arguments], cwd=home, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert said.returncode == 0, said.stderr
    return said.stdout


def example(page: str, language: str) -> str:
    """The first example in that language on a page."""
    return next(code for found, code in FENCED.findall(text_of(page)) if found == language)


def test_the_example_of_the_bus_runs_as_it_stands_and_imports_nothing_of_farebox(home: Path, tmp_path: Path):
    code = example("docs/bus.md", "python")
    assert "import farebox" not in code
    assert "from farebox" not in code
    script = tmp_path / "hello.py"
    script.write_text(code, "utf-8")
    said = run(home, "-I", str(script), str(home / "client.json"))
    assert "stored: {'stream': 'FAREBOX', 'seq': " in said
    assert "completed\nrehearsal\n" in said
    assert "'fact': 'CostRecorded'" in said
    assert said.endswith("result document: completed\n")


def test_the_example_of_the_readme_runs_as_it_stands(home: Path, tmp_path: Path):
    body = "".join(f"    {line}\n" for line in example("README.md", "python").splitlines())
    script = tmp_path / "readme.py"
    script.write_text(f"import asyncio\nimport farebox\n\nasync def main():\n{body}\nasyncio.run(main())\n", "utf-8")
    said = run(home, str(script))
    assert said.startswith("About: Say hello.")
    assert "completed" in said.splitlines()[-1]
