"""The seal of a ledger that nobody has open: a checksum beside its file, so that damage is noticed before anything is asked.

DuckDB looks at a block only when it is read: of single flipped bits about half pass the opening, and a question meets them
much later (DuckDB 2.0.0, seen 2026-11). Without a seal, as after a kill, its own checksums have to do.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

_SPOILED = "damaged"


def of(path: Path) -> Path:
    """Return where the seal of the file at `path` stands."""
    return path.with_name(f"{path.name}.sha256")


def put_on(path: Path) -> None:
    """Seal a file that was just closed; where that is not possible it has none."""
    if not path.with_name(f"{path.name}.wal").exists():  # else the closing did not come to its end
        with suppress(OSError):
            of(path).write_text(_sum(path), encoding="ascii")


def spoil(path: Path) -> None:
    """Note that the file was found damaged, whatever becomes of this process: the next opening makes it anew."""
    with suppress(OSError):
        of(path).write_text(_SPOILED, encoding="ascii")


def take_off(path: Path) -> None:
    """Remove the seal of a file that is about to be written. One that stays only means that the file is made anew."""
    with suppress(OSError):
        of(path).unlink(missing_ok=True)


def broken(path: Path) -> bool:
    """Say whether the file is not the one that was sealed. Reads all of it: 1 s for about 1.5 GB."""
    try:
        return of(path).read_text(encoding="ascii", errors="replace") != _sum(path)
    except OSError:  # no seal or no file; what may not be read is said by who opens it
        return False


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
