r"""The trail: a digest that runs through the log, fact by fact, so that two who read the same log end at the same 64 digits.

    digest(0) = 32 zero bytes
    digest(n) = SHA-256( digest(n - 1) + "<sequence> <time, ms since 1970> <subject>\n" + body )

Whoever kept a `Mark` knows a log again by one fact: the last step of the digest is made anew with what stands there now.
"""

from __future__ import annotations

import hashlib

import msgspec
from msgspec import Struct

BEGIN = bytes(32)


class Mark(Struct, frozen=True):
    """A place in one log: which log (its `created`), the fact there, and the digest before it and with it (hex)."""

    created: str = ""
    seq: int = 0
    id: str = ""
    before: str = BEGIN.hex()
    digest: str = BEGIN.hex()

    def fits(self, seq: int, at_ms: int, subject: str, body: bytes) -> bool:
        """Say whether that is the fact that stood here when the mark was made."""
        return seq == self.seq and step(bytes.fromhex(self.before), seq, at_ms, subject, body).hex() == self.digest


def step(digest: bytes, seq: int, at_ms: int, subject: str, body: bytes) -> bytes:
    """Return the digest with one fact more."""
    return hashlib.sha256(b"%b%d %d %b\n%b" % (digest, seq, at_ms, subject.encode(), body)).digest()


class _Named(Struct, gc=False):
    id: str = ""


_named = msgspec.json.Decoder(_Named)


def id_of(body: bytes) -> str:
    """Return the id in a body, empty where there is none: it is for people, nothing depends on it."""
    try:
        return _named.decode(body).id[:64]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
