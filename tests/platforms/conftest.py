"""Recorded answers, one folder a platform, read as farebox.conformance says: what came over the wire, and what it means."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from actors.platforms import PLATFORMS
from farebox import conformance

FOLDER = Path(__file__).parent.parent / "golden" / "platforms"


@cache
def recorded(name: str) -> conformance.Recording:
    """Return the recording `folder/case`."""
    folder, case = name.split("/")
    return conformance.recorded(FOLDER / folder, case, *PLATFORMS)


@pytest.fixture(name="recorded", scope="session")
def recorded_fixture():
    return recorded


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`recording` runs over all recordings, `folder` over all folders."""
    if "recording" in metafunc.fixturenames:
        names = sorted(f"{path.parent.name}/{path.stem}" for path in FOLDER.glob("*/*.txt"))
        metafunc.parametrize("recording", [recorded(name) for name in names], ids=names)
    if "folder" in metafunc.fixturenames:
        metafunc.parametrize("folder", sorted(path.name for path in FOLDER.iterdir() if path.is_dir()))
