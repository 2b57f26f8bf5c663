"""The version a program says of itself, and how it stands to the one that was tested. Pure."""

from __future__ import annotations

import re

_VERSION = re.compile(r"(\d{1,6})\.(\d{1,6})\.(\d{1,6})", re.ASCII)


def release_in(said: str, tested: tuple[int, int, int]) -> tuple[str, str]:
    """Return the version and a remark like `, newer than the tested 2.1.329`; both empty where `said` holds none."""
    found = _VERSION.search(said)
    if found is None:
        return "", ""
    release = tuple(int(part) for part in found.groups())
    if release == tested:
        return found[0], ""
    return found[0], f", {'newer' if release > tested else 'older'} than the tested {'.'.join(map(str, tested))}"
