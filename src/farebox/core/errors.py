"""The tree of what can go wrong; whose fault it was is part of the type, data stands in fields.

FareboxError                 code, hint, exit_code
 ├── CallerFault             what was asked cannot be done as asked; nothing was sent
 │    ├── BadInput           a value, a file, a line
 │    ├── BadSettings        farebox.toml, the environment
 │    └── SpendingRefused    a quota or a budget says no, or nobody said yes
 ├── BusError                the event log or its server
 │    ├── NotReachable       no server, no engine
 │    ├── LogUnfit           too old, without JetStream, wrong settings, a stream is missing
 │    ├── AccessDenied       the server refused the credentials or a subject
 │    ├── StoreInUse         another engine owns the store
 │    ├── AppendRefused      a fence: somebody wrote first
 │    ├── AppendBusy         a cluster is still applying; try again
 │    ├── AppendUnknown      no answer; stored or not: read back
 │    ├── LogFull            no room for more facts
 │    │    └── LogFilling    room for the ends of tasks, and none for new ones
 │    └── LogDamaged         a hole
 │         ├── LogMissing    the stream of a store that had one is not there
 │         ├── LogReplaced   it is another log
 │         ├── LogShortened  its end is gone
 │         ├── LogChanged    a fact is not the one that stood there
 │         ├── LogBeheaded   its beginning is gone
 │         └── BackupUnfit   a copy of the log that is not whole, or of another log
 ├── BadFact                 bytes that are no fact, or a fact that lies about itself: quarantined
 │    └── BrokenChain        it follows a fact that is not there
 └── TaskFailed              the task ran and did not succeed
"""

from __future__ import annotations


class FareboxError(Exception):
    """Anything farebox says no to. `code` is stable (docs/errors/), `hint` is what to type next."""

    code = "FB000"
    exit_code = 1

    def __init__(self, message: str, *, hint: str = "", code: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if code:
            self.code = code

    def __str__(self) -> str:
        """One line: what happened and what to type."""
        return f"{self.message} {self.hint}".strip()


class CallerFault(FareboxError):
    """What was asked cannot be done as asked. Nothing was sent."""

    code, exit_code = "FB400", 2


class BadInput(CallerFault):
    """A value, a file or a line of it is not usable."""

    code = "FB401"


class BadSettings(CallerFault):
    """farebox.toml or the environment holds something unusable."""

    code, exit_code = "FB410", 3


class SpendingRefused(CallerFault):
    """A quota, a budget or a price that is missing says no before anything was spent, or nobody was there to say yes."""

    code, exit_code = "FB301", 5


class BusError(FareboxError):
    """The event log or its server."""

    code, exit_code = "FB100", 4


class NotReachable(BusError):
    """Nobody answers at the address."""

    code = "FB101"


class LogUnfit(BusError):
    """The server is there but cannot carry the log (version, JetStream, settings, missing stream)."""

    code, exit_code = "FB102", 3


class AccessDenied(BusError):
    """The server refused the credentials or a subject."""

    code, exit_code = "FB103", 3


class StoreInUse(BusError):
    """Another engine owns the store."""

    code, exit_code = "FB104", 3


class AppendRefused(BusError):
    """A fence refused the append (JetStream 10071): somebody wrote below its filter. Nothing was stored.

    `last_seq` is the last sequence below the filter as the log says it, None when it does not say.
    """

    code = "FB110"

    def __init__(self, message: str, *, last_seq: int | None = None) -> None:
        super().__init__(message)
        self.last_seq = last_seq


class AppendBusy(BusError):
    """The cluster still applies an earlier write below the filter (JetStream 10164). Nothing was stored; try again."""

    code = "FB111"


class AppendUnknown(BusError):
    """No answer came: the facts may be stored or not. Read back before anything else."""

    code = "FB112"


class LogFull(BusError):
    """The log has no room (JetStream 10077 and kin), or the disk below the store is full. Nothing was stored."""

    code, exit_code = "FB113", 3


class LogFilling(LogFull):
    """The log is so full that it takes no new tasks; what it has goes on to its end. Nothing was stored."""

    code = "FB114"


class LogDamaged(BusError):
    """The log is not the one that was written: a hole, or what the subclasses say."""

    code, exit_code = "FB801", 8


class LogMissing(LogDamaged):
    """A stream of a store that had one is not there; its data may be. It is never made anew."""

    code = "FB804"


class LogReplaced(LogDamaged):
    """It is another log than the one this store worked with."""

    code = "FB805"


class LogShortened(LogDamaged):
    """The log ends before facts that were acknowledged or read."""

    code = "FB806"


class LogChanged(LogDamaged):
    """At a sequence stands another fact than the one that stood there."""

    code = "FB807"


class LogBeheaded(LogDamaged):
    """The log begins later than it did."""

    code = "FB808"


class BackupUnfit(LogDamaged):
    """A copy of the log that is not whole, or of another log."""

    code = "FB810"


class BadFact(FareboxError):
    """Bytes that are no fact, or a fact whose subject, writer and body disagree. It is quarantined, never processed."""

    code, exit_code = "FB802", 8


class BrokenChain(BadFact):
    """A fact that was written on top of one which its task never had. The task stops there."""

    code = "FB809"


class TaskFailed(FareboxError):
    """The task ended without success."""

    code, exit_code = "FB001", 1
