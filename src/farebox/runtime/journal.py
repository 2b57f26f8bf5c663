"""The journal's lines: what the spool says about attempts, how it stands in a file, and how a file is read, damaged or not."""

from __future__ import annotations

import logging
import zlib
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from farebox.core.platform import CallEnded

log_ = logging.getLogger("farebox.spool")


PLACE = Path("spool", "journal")
"""Where a store has its journal."""


class Line(Struct, omit_defaults=True):
    """One line of the journal about one attempt; `key` is `<platform>.<chain>.<task>.<epoch>`.

    `unclaimed`: the log knows nothing of the attempt whose outcome stands in a line before.
    """

    key: str
    what: Literal["sending", "ended", "unclaimed", "done"]
    outcome: CallEnded | None = None


_decoder = msgspec.json.Decoder(Line)


class Journal:
    """What a journal says: calls that were about to leave, how calls ended, which of those the log knows nothing of."""

    def __init__(self) -> None:
        self.sending: set[str] = set()
        self.outcomes: dict[str, CallEnded] = {}
        self.unclaimed: set[str] = set()

    def take(self, line: Line) -> None:
        """Fold one line."""
        match line.what:
            case "sending":
                self.sending.add(line.key)
            case "ended" if line.outcome is not None:
                self.outcomes[line.key] = line.outcome
            case "unclaimed":
                self.unclaimed.add(line.key)
            case _:
                self.forget(line.key)

    def forget(self, key: str) -> None:
        """Know nothing of an attempt any more."""
        self.sending.discard(key)
        self.outcomes.pop(key, None)
        self.unclaimed.discard(key)

    def answers(self) -> dict[str, CallEnded]:
        """Return the outcomes that nobody claims, by key."""
        return {key: outcome for key, outcome in self.outcomes.items() if key in self.unclaimed}

    def lines(self) -> bytes:
        """Return all that is open, as it is written."""
        lines = [Line(key, "sending") for key in self.sending]
        lines += [Line(key, "ended", outcome) for key, outcome in self.outcomes.items()]
        lines += [Line(key, "unclaimed") for key in self.unclaimed]
        return b"".join(map(framed, lines))

    def read(self, path: Path) -> bool:
        """Take in a file. False if it is not there, or damaged elsewhere than at its torn end. Raises OSError."""
        if not path.exists():
            return False
        whole, damaged = True, False
        for raw in filter(None, path.read_bytes().split(b"\n")):
            line = _parsed(raw)
            if line is None:
                damaged = True
                continue
            whole = whole and not damaged
            self.take(line)
        if not whole:
            log_.warning("%s is damaged: what it held of earlier attempts counts as perhaps charged", path)
        return whole


def answers(path: Path) -> dict[str, CallEnded]:
    """Return the outcomes that nobody claims, by key, as the file stands: whoever writes it goes on meanwhile."""
    journal = Journal()
    journal.read(path)
    return journal.answers()


def told(key: str, outcome: CallEnded) -> dict[str, Any]:
    """Return what a person is told of an outcome that is kept."""
    platform, chain, task, _ = key.split(".")
    fault = outcome.verdict.fault
    return {
        "answer": key, "chain": chain, "task": task, "platform": platform, "attempt": outcome.attempt,
        "charged": outcome.verdict.charged, "bytes": len(outcome.text.encode()), "error": fault.message if fault else None,
    }  # fmt: skip


def framed(line: Line) -> bytes:
    """Return a line as it is written: a checksum and a JSON object."""
    data = msgspec.json.encode(line)
    return b"%08x %s\n" % (zlib.crc32(data), data)


def _parsed(raw: bytes) -> Line | None:
    """Return a line, None for one that is torn, damaged, or of a farebox that wrote another form."""
    checksum, _, data = raw.partition(b" ")
    if not data or checksum != b"%08x" % zlib.crc32(data):
        return None
    try:
        return _decoder.decode(data)
    except msgspec.ValidationError as error:
        log_.warning("a line of the spool does not read: %s", error)
        return None
