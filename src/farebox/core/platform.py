"""The contract of a platform: how to ask it and how to read it, sans-IO. `runtime/caller.py` does all waiting.

A platform kind answers four questions, all pure: what to send (`ask`), how to read the bytes that come (`reader`), how to
find out whether it is there (`probe`, `read_probe`), and, inside the reader, what it tells about quota.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from msgspec import Struct

from farebox.core.events import PlatformReported, QuotaLearned, TaskSubmitted
from farebox.core.quotas import QuotaSettings
from farebox.core.settings import PlatformSettings
from farebox.core.terms import CallRecord, Charged, Fault, Ref, Usage


class Ask(Struct, frozen=True, kw_only=True):
    """One task for one platform. `prompt` is the whole text to send: files and context are already framed into it."""

    platform: str
    settings: PlatformSettings
    model: str
    prompt: str
    system: str = ""
    task: TaskSubmitted


class HttpCall(Struct, frozen=True, kw_only=True):
    """An HTTP request. The value of the environment variable `key_env` goes into `key_header`; a pure file never sees it."""

    method: Literal["GET", "POST"]
    url: str
    headers: dict[str, str] = {}
    body: bytes = b""
    key_env: str = ""
    key_header: str = "authorization"
    key_prefix: str = "Bearer "


SCRATCH = "{scratch}"
"""Stands in `argv` and in values of `environment` for the folder that a call has for itself."""


class ProcessCall(Struct, frozen=True, kw_only=True):
    """A program to start in its own process group, the prompt on stdin. Its environment is an allowlist,
    the variables named in `keep` and `environment`. It runs in `directory`, where the engine runs if that is empty.

    `scratch` names files (relative path: content) of a folder that only this call has, gone with it; None for no folder.
    `talks`: standard input stays open, and the reader is a `Talker` that says what is written there and when it is over.
    """  # noqa: D205

    argv: tuple[str, ...]
    stdin: bytes = b""
    environment: dict[str, str] = {}
    keep: tuple[str, ...] = ()
    directory: str = ""
    scratch: dict[str, bytes] | None = None
    talks: bool = False


class InlineCall(Struct, frozen=True, kw_only=True):
    """An answer computed here, for rehearsals and benchmarks: the chunks, as they would stream."""

    chunks: tuple[bytes, ...] = ()


class PersonCall(Struct, frozen=True, kw_only=True):
    """Somebody is asked: the answer is a fact that a client says (TaskAnswered). They get `wait_s`, and no clock besides."""

    wait_s: float


Call = HttpCall | ProcessCall | InlineCall | PersonCall


class Head(Struct, frozen=True, kw_only=True):
    """The status line and headers of an HTTP answer; header names in lower case."""

    status: int
    headers: Mapping[str, str] = {}


class End(Struct, frozen=True, kw_only=True):
    """How the stream of bytes ended. `cut` names the reason if it did not end by itself.

    `sent` is False where surely nothing left this machine: such a call cannot have cost anything.
    """

    exit_code: int | None = None
    stderr_tail: str = ""
    cut: Literal["", "network", "timeout", "stalled", "first_byte", "cancelled", "overflow", "missing", "unsent", "no_key"] = ""
    detail: str = ""
    sent: bool = True

    @property
    def surely_unsent(self) -> bool:
        """Whether the call cannot have reached the platform."""
        return not self.sent or self.cut in {"missing", "unsent", "no_key"}


class Verdict(Struct, frozen=True, kw_only=True):
    """What a call came to. `ok` only if the platform's own final signal was seen.

    `text` is the authoritative answer where the platform repeats it whole; None means the sum of the texts read.
    `charged` says whether it can have cost money, `retry_after_ms` what the platform asked for. What it did to files, and
    `worktree`, is found by the runtime; a reader may name files that only its program knows.
    """

    ok: bool
    text: str | None = None
    model: str = ""
    usage: Usage | None = None
    finish_reason: str = ""
    fault: Fault | None = None
    charged: Charged = "none"
    retry_after_ms: int | None = None
    provider_usd: str | None = None
    files_created: tuple[str, ...] = ()
    files_changed: tuple[str, ...] = ()
    files_more: bool = False
    worktree: str = ""
    base_commit: str = ""


class CallEnded(Struct, frozen=True, kw_only=True):
    """How the call of one attempt ended: the outcome that comes back into the adapter's `decide`, and what the spool keeps.

    `epoch` is the sequence of the attempt's TaskStarted and `cause` its id. `text` is all that came; above 256 KiB it is in
    the object store and `text_ref` stands for it.
    """

    epoch: int
    cause: str
    attempt: int
    verdict: Verdict
    text: str = ""
    text_ref: Ref | None = None
    duration_ms: int = 0
    calls: tuple[CallRecord, ...] = ()


class Piece(Struct, frozen=True):
    """Text that came in, whole characters only."""

    text: str


class Say(Struct, frozen=True):
    """What a `Talker` wants written to its program."""

    data: bytes


class Done(Struct, frozen=True):
    """A `Talker` has all it wanted: its program's standard input is closed, and the program may take some seconds to go."""


Read = Piece | QuotaLearned | Say | Done
"""What a reader makes of bytes."""


class Reader(Protocol):
    """Reads one answer. Bytes in, pieces out; cut anywhere, it gives the same verdict."""

    def head(self, head: Head) -> Sequence[Read]:
        """Read status and headers (HTTP only)."""
        ...

    def feed(self, data: bytes) -> Sequence[Read]:
        """Read more bytes."""
        ...

    def end(self, end: End) -> Verdict:
        """Say what it came to. Called once, last."""
        ...


@runtime_checkable
class Talker(Reader, Protocol):
    """Reads a program that is talked with: what it says may be answered by `Say`, and `Done` ends the talk."""

    def interrupt(self) -> bytes:
        """Return what asks the program to stop its work now; empty if nothing does (then signals do)."""
        ...


class Probe(Struct, frozen=True, kw_only=True):
    """How to find out whether a platform is there: something to call, or a program to look up on PATH.

    `ask` are command lines of that program (without its name) that cost nothing, as `--version`, asked with the variables of
    `keep` and `environment`; `paths` files whose being there tells something (`~` is the user's home). They are looked for,
    never read: they may hold somebody's login.
    """

    call: HttpCall | None = None
    program: str = ""
    ask: tuple[tuple[str, ...], ...] = ()
    keep: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    paths: tuple[str, ...] = ()
    timeout_s: float = 1.5


class ProgramAnswer(Struct, frozen=True, kw_only=True):
    """What a program said to one question of a probe; `exit_code` is None when it did not end in time or did not start."""

    exit_code: int | None = None
    out: str = ""
    errors: str = ""


class ProbeAnswer(Struct, frozen=True, kw_only=True):
    """What the probe found: an HTTP answer, the path of the program, whether the key's variable is set, or a fault.

    `said` answers `Probe.ask` in its order (empty when the program is not there), `found` names those of `paths` that exist.
    """

    status: int = 0
    body: bytes = b""
    path: str = ""
    said: tuple[ProgramAnswer, ...] = ()
    found: tuple[str, ...] = ()
    key_set: bool = False
    fault: str = ""


@dataclass(frozen=True)
class PlatformKind:
    """One file of actors/platforms/, one name in PLATFORMS. `defaults` are platforms that exist without any setting.

    `quotas` are the limits that its provider published, by the name of their section.
    """

    name: str
    ask: Callable[[Ask], Call]
    reader: Callable[[Ask], Reader]
    probe: Callable[[str, PlatformSettings], Probe]
    read_probe: Callable[[str, PlatformSettings, ProbeAnswer], PlatformReported]
    check: Callable[[str, PlatformSettings], None]
    defaults: Mapping[str, PlatformSettings]
    quotas: Mapping[str, QuotaSettings] = field(default_factory=dict[str, QuotaSettings])
