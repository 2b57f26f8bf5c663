"""What is shipped: the wheel and the source archive hold all that is needed and nothing else, and run in a bare environment."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from farebox import __version__

ROOT = Path(__file__).parents[1]
DATA = (".sql", ".typed", ".py")
SHIPPED = {
    *("src", "actors", "tests", "docs", "benchmarks"),
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "nats.conf", "pyproject.toml", ".gitignore", "PKG-INFO"),
}
pytestmark = pytest.mark.timeout(180)


def uv(*arguments: str | Path, cwd: Path = ROOT) -> str:
    """Run uv: with what is on this machine first, with the registry only where something is missing."""
    program = os.environ.get("UV") or shutil.which("uv")
    assert program, "uv builds and installs; see README.md"
    said = subprocess.run([program, "--offline", *arguments], cwd=cwd, capture_output=True, text=True, check=False)
    if said.returncode:
        said = subprocess.run([program, *arguments], cwd=cwd, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    return said.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source archive and the wheel that was made from it."""
    folder = tmp_path_factory.mktemp("dist")
    uv("build", "--out-dir", folder)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (found,) = built.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of an environment that holds the wheel and what it depends on, and nothing else."""
    place = tmp_path_factory.mktemp("bare") / "venv"
    uv("venv", "--python", sys.executable, place)
    uv("pip", "install", "--python", place / "bin" / "python", wheel)
    return place / "bin"


def run(program: Path, *arguments: str, home: Path, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    """Run a program where nothing of this checkout and nothing of its user is known."""
    environment = {"PATH": os.defpath, "HOME": str(home), "FAREBOX_HOME": str(home / "store")}
    return subprocess.run(
        [program, *arguments], cwd=home, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
    )


def test_the_wheel_holds_both_packages_their_data_and_the_servers_configuration(wheel: Path):
    names = set(zipfile.ZipFile(wheel).namelist())
    needed = {
        path.relative_to(base).as_posix()
        for base, package in ((ROOT / "src", "farebox"), (ROOT, "actors"))
        for path in (base / package).rglob("*")
        if path.suffix in DATA
    }
    assert {"farebox/nats.conf", "farebox/py.typed", "actors/py.typed", *needed} <= names
    packed = {name for name in names if ".dist-info/" not in name}
    assert packed == needed | {"farebox/nats.conf"}, "nothing stray"
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_source_archive_holds_tests_documents_and_benchmarks(built: Path):
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    assert {"tests/test_wheel.py", "docs/architecture.md", "benchmarks/latency.py"} <= names
    assert {name.partition("/")[0] for name in names} == SHIPPED, "all that is needed, nothing stray"


def test_the_installed_program_says_its_version(bare: Path, tmp_path: Path):
    said = run(bare / "farebox", "--version", home=tmp_path)
    assert (said.returncode, said.stdout) == (0, f"farebox {__version__}\n"), said.stderr


def test_the_installed_program_prints_the_schema_of_every_fact(bare: Path, tmp_path: Path):
    said = run(bare / "farebox", "schema", home=tmp_path)
    assert said.returncode == 0, said.stderr
    assert {"TaskSubmitted", "TaskCompleted", "CostRecorded"} <= json.loads(said.stdout)["$defs"].keys()


def test_the_installed_program_finds_its_actors_and_platforms_by_entry_point(bare: Path, tmp_path: Path):
    code = "from farebox.engines import actors, platform_kinds as kinds; print([one.name for one in (*actors(), *kinds())])"
    said = run(bare / "python", "-c", code, home=tmp_path)
    assert "['router', 'quota', 'adapter', 'cost', 'aggregator', " in said.stdout, said.stderr
    assert {"'compatible'", "'command'", "'rehearsal'"} <= set(said.stdout.strip(" []\n").split(", "))


def test_without_the_extra_the_missing_server_is_one_line_with_the_command_that_installs_it(bare: Path, tmp_path: Path):
    said = run(bare / "farebox", "up", home=tmp_path)
    assert said.returncode == 3, said.stderr
    assert said.stderr.count("\n") == 1
    assert "farebox[local]" in said.stderr


def test_nothing_of_this_checkout_can_be_imported_there(bare: Path, tmp_path: Path):
    said = run(bare / "python", "-c", "import tests", home=tmp_path)
    assert "No module named 'tests'" in said.stderr


@pytest.mark.slow
def test_the_installed_demo_runs_with_the_extra_alone(wheel: Path, tmp_path: Path):
    place = tmp_path / "venv"
    uv("venv", "--python", sys.executable, place)
    uv("pip", "install", "--python", place / "bin" / "python", f"farebox[local] @ {wheel.as_uri()}")
    said = run(place / "bin" / "farebox", "demo", "--tasks", "6", "--json", home=tmp_path, timeout_s=120)
    assert said.returncode == 0, said.stderr
    assert json.loads(said.stdout)["schema"] == "farebox.demo/1"
