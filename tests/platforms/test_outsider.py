"""The package of docs/guides/add-a-platform.md, as it stands there: proven by recordings, installed, used by an engine."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from farebox import conformance
from farebox.core.platform import Piece, Verdict
from farebox.core.terms import Usage

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "add-a-platform.md"
FILE = re.compile(r"^`([\w./]+)`[^\n]*(?:\n[^\n`]+)*:\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)

FILES = {
    *("pyproject.toml", "lines_platform.py", "sayer", "farebox.toml"),
    *("record.sh", "recordings/expected.toml", "test_lines.py"),
}


@pytest.fixture
def package(tmp_path):
    """Write down each file of the guide and run its recorder."""
    files = dict(FILE.findall(GUIDE.read_text("utf-8")))
    assert set(files) == {
        *(
            "pyproject.toml",
            "lines_platform.py",
            "sayer",
            "farebox.toml",
            "record.sh",
            "recordings/expected.toml",
            "test_lines.py",
        ),
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "sayer").chmod(0o755)
    subprocess.run(["/bin/sh", "record.sh"], cwd=tmp_path, check=True)
    return tmp_path


@pytest.fixture
def lines(package):
    """The kind of platform that the package brings."""
    spec = importlib.util.spec_from_file_location("lines_platform", package / "lines_platform.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.LINES


def test_the_guides_platform_conforms(package, lines):
    assert conformance.wrong(package / "recordings", lines) == []


def test_what_is_missing_or_means_something_else_is_said(package, lines):
    place = package / "recordings"
    (place / "garbage.txt").unlink()
    (place / "refused.txt").write_text("exit 0\n\n")
    said = conformance.wrong(place, lines)
    assert "recordings: there is no recording garbage.txt, and [not_applicable] does not say why" in said
    assert "recordings/refused: recorded, and not applicable" in said
    assert "recordings/garbage: a recording and what it means belong together" in said


def test_a_verdict_that_is_not_the_expected_one_is_said(package, lines):
    path = package / "recordings" / "expected.toml"
    path.write_text(path.read_text().replace('words = "boom"', 'words = "bang"\nlearned = 2').replace("7000", "8000"))
    said = conformance.wrong(package / "recordings", lines)
    assert len(said) == 3, said
    assert "recordings/rate_limited: retry_after_ms is 7000, not 8000" in said
    assert "recordings/cut: learned is 0, not 2" in said
    assert any(text.startswith("recordings/cut: 'bang' is not in Fault") for text in said)


class Credulous:
    """Believes everything, and reads each part for itself."""

    def __init__(self, ask):
        self.said = []

    def head(self, head):
        return []

    def feed(self, data):
        self.said.append(data.decode("utf-8", "replace"))
        return [Piece(self.said[-1])] if self.said[-1] else []

    def end(self, end):
        if end.cut == "cancelled" or not self.said:
            return Verdict(ok=False, text="")
        return Verdict(ok=True, text="".join(self.said), usage=Usage(input_tokens=1, output_tokens=len(self.said)))


def test_a_reader_that_believes_everything_is_found_out(package, lines):
    said = "\n".join(conformance.wrong(package / "recordings", replace(lines, reader=Credulous)))
    for words in (
        "ok: usage is",
        "ok: what a success used is known",
        "unicode: read byte by byte it is something else",
        "cut at byte 1 it is something else",
        "broken off at byte 1 it is a success without the whole text",
        "a run that ends well at byte 1, without its final word, is a success",
        "is a success",
    ):
        assert words in said, words


class Forgetful(Credulous):
    """Believes nothing, and forgets what it heard."""

    def end(self, end):
        return Verdict(ok=not end.cut and end.exit_code == 0, text="", charged="none")


def test_a_reader_that_loses_text_and_charges_is_found_out(package, lines):
    said = "\n".join(conformance.wrong(package / "recordings", replace(lines, reader=Forgetful)))
    assert "ok: success has text and usage" in said
    assert "broken off at byte 1 it loses text" in said
    assert "broken off at byte 1 it says that nothing was charged" in said


def uv(*arguments: str) -> None:
    """Run uv with what is on this machine; with the registry only where that is not enough."""
    program = os.environ.get("UV") or shutil.which("uv")
    assert program, "uv installs packages; see README.md"
    for words in ((program, "--offline", *arguments), (program, *arguments)):
        said = subprocess.run(words, capture_output=True, text=True, check=False)
        if said.returncode == 0:
            return
    raise AssertionError(said.stderr)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_an_installed_package_adds_a_platform_that_an_engine_uses(package, tmp_path):
    uv("pip", "install", "--python", sys.executable, "--no-deps", "--target", str(tmp_path / "installed"), str(package))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FAREBOX", "NATS"))}
    environment |= {"HOME": str(tmp_path), "PYTHONPATH": str(tmp_path / "installed"), "FAREBOX_HOME": str(tmp_path / "store")}

    def farebox(*arguments: str) -> dict:
        done = subprocess.run(
            [sys.executable, "-m", "farebox", *arguments, "--json"],
            cwd=package, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    farebox("up", "--detach")
    try:
        (row,) = (row for row in farebox("platforms")["platforms"] if row["platform"] == "sayer")
        assert (row["kind"], row["available"], row["detail"]) == ("lines", True, "version 1.0")
        result = farebox("submit", "Hello.", "-p", "sayer", "--no-fallback")
        assert (result["status"], result["output"], result["platform"]) == ("completed", "You said: Hello.", "sayer")
        assert result["usage"]["output_tokens"] == 5
    finally:
        farebox("down")
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_lines.py"],
        cwd=package, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout
