"""The ledger: what the log says about tasks, attempts and money, as tables in one DuckDB file that can be thrown away.

Facts go in as they stand in the log, many in one transaction together with the sequence they reach, without a Python object
for each: DuckDB reads the bodies itself. What its reading cannot vouch for is read again by core/wire.py, fact by fact.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from farebox.core import subjects, wire
from farebox.core.errors import BadFact, BusError, LogFull, StoreInUse
from farebox.core.trail import Mark, id_of, step
from farebox.log.port import Stored
from farebox.views import seal
from farebox.views.digest import digest

if TYPE_CHECKING:
    import duckdb

MEMORY = ":memory:"
CHUNK_BYTES_MAX = 16 * 1024 * 1024
CHUNK_FACTS_MAX = 20_000
"""What goes into one transaction: more is no faster and takes more memory."""
ROWS_MAX = 10_000
"""Rows that are in memory at once when all are read."""
TABLES: dict[str, tuple[str, ...]] = {
    "submissions": ("TaskSubmitted",),
    "routes": ("TaskRouted",),
    "quota_words": ("QuotaReserved", "QuotaDeferred", "QuotaRefused"),
    "starts": ("TaskStarted",),
    "endings": ("TaskCompleted", "AttemptFailed", "AttemptInterrupted", "LateResult"),
    "charges": ("CostRecorded",),
    "batch_submissions": ("BatchSubmitted",),
    "batch_ends": ("BatchCompleted",),
    "cancels": ("TaskCancelRequested",),
}
"""Tables and the facts they hold; all other facts are only counted, in `other_facts`."""
TAILS = {subjects.Place.TASK: "task", subjects.Place.LANE_TASK: "task", subjects.Place.BATCH: "batch"}
LANED = {subjects.Place.LANE, subjects.Place.LANE_TASK}
REASON_CHARS_MAX = 500
Refused = tuple[int, int, str, str, bool]
"""A row of `quarantine`."""


Checkpoint = Mark
"""Which log (`created`, as its position says) the tables hold, whole up to `seq`; empty and 0 for none yet."""


class Ledger:
    """One DuckDB file. One thread writes; questions may be asked from any other at the same time."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, notices: tuple[str, ...], path: Path | None = None) -> None:
        self.notices = notices
        self._path = path
        self._spoiled = False
        self._connection = connection
        self._writing = threading.Lock()
        _prepare(connection)
        self._checkpoint = Mark()
        if self._shape() != shape():
            self.forget()
        self._checkpoint = Mark(*self._one("SELECT created, seq, id, before, digest FROM ledger"))

    @classmethod
    def open(cls, path: Path | str) -> Ledger:
        """Open or make the file at `path` (or ":memory:"). A damaged one is moved aside, and `notices` says so.

        Tables of another version of farebox are emptied. Raises StoreInUse when another process has the file open, BusError
        when it may not be read and written.
        """
        where = str(path)
        if where == MEMORY:
            return cls(_connect(where), ())
        file = Path(where)
        file.parent.mkdir(parents=True, exist_ok=True)
        notice = _move_aside(file, "its checksum is not the one of the last stop") if seal.broken(file) else ""
        seal.take_off(file)
        try:
            return cls(_connect(where), (notice,) if notice else (), file)
        except _duckdb().Error as error:
            if "Could not set lock" in str(error):
                raise StoreInUse(
                    f"The ledger {where} is in use by another process.", hint="Stop it with: farebox down"
                ) from error
            notice = _move_aside(file, str(error).splitlines()[0])
        return cls(_connect(where), (notice,), file)

    @property
    def checkpoint(self) -> Checkpoint:
        """Which log the tables hold and how much of it."""
        return self._checkpoint

    def begin(self, created: str) -> int:
        """Get ready for the log `created`: forget another one's facts. Return the sequence to go on from."""
        if self._checkpoint == Mark():
            self._connection.execute("UPDATE ledger SET created = ?", [created])
            self._checkpoint = Mark(created)
        elif self._checkpoint.created != created:
            self.forget(created)
        return self._checkpoint.seq + 1

    def forget(self, created: str = "") -> None:
        """Throw everything away, in one transaction. Raises BusError when the file cannot be written."""
        mark = Mark(created)
        values = [shape(), mark.created, mark.seq, mark.id, mark.before, mark.digest]
        try:
            with self._writing, _Transaction(self._connection):
                for file in ("schema", "views"):
                    self._connection.execute(_text(file))
                self._connection.execute("INSERT INTO ledger VALUES (?, ?, ?, ?, ?, ?)", values)
        except _duckdb().Error as error:
            raise self._blamed(error) from error
        self._checkpoint = mark
        if self._spoiled and self._path is not None:
            seal.take_off(self._path)
            self._spoiled = False

    def ingest(self, batch: Sequence[Stored]) -> int:
        """Add facts in log order, each chunk with its sequence in one transaction. Return how many were new.

        Facts up to the checkpoint are passed over. What is no fact goes to `quarantine` and never fails the others. Raises
        BusError when the file cannot be written (LogFull: no room); nothing of that chunk is there then.
        """
        new = [stored for stored in batch if stored.seq > self._checkpoint.seq]
        for chunk in _chunks(new):
            self._step(chunk, lambda chunk=chunk: self._add(chunk))
        return len(new)

    def put_aside(self, fact: Stored, reason: str) -> None:
        """Go past the next fact without taking it in; `quarantine` keeps it. Raises BusError when that cannot be written."""
        row = (fact.seq, fact.at_ms, fact.subject, reason[:REASON_CHARS_MAX], False)
        self._step([fact], lambda: self._connection.execute("INSERT INTO quarantine VALUES (?, ?, ?, ?, ?)", row))

    def _step(self, chunk: Sequence[Stored], write: Callable[[], Any]) -> None:
        """Write in one transaction with the checkpoint at the end of the chunk."""
        mark = _moved(self._checkpoint, chunk)
        values = [mark.seq, mark.id, mark.before, mark.digest]
        try:
            with self._writing, _Transaction(self._connection):
                write()
                self._connection.execute("UPDATE ledger SET seq = ?, id = ?, before = ?, digest = ?", values)
        except _duckdb().Error as error:
            raise self._blamed(error) from error
        self._checkpoint = mark

    @contextmanager
    def snapshot(self) -> Generator[Snapshot]:
        """Hold still what the tables say now, for as many questions as are asked inside. Safe from any thread.

        Raises BusError when the file cannot be read.
        """
        try:
            with self._connection.cursor() as cursor:
                cursor.execute("BEGIN")
                try:
                    yield Snapshot(cursor)
                finally:
                    cursor.execute("ROLLBACK")
        except _duckdb().Error as error:
            raise self._blamed(error, "read") from error

    def digest(self) -> str:
        """Return the SHA-256 over the canonical rows of every view (views/digest.py)."""
        with self.snapshot() as now:
            return digest(now.stream)

    def close(self) -> None:
        """Close the file and seal it (views/seal.py). Safe to call twice."""
        self._connection.close()
        path, self._path = self._path, None
        if path is not None and not self._spoiled:
            seal.put_on(path)

    def _blamed(self, error: Exception, deed: str = "written") -> BusError:
        """Return what is wrong with the file; damage that a read meets is noted for the next opening, too."""
        text = str(error).partition("\n")[0]
        if "No space left" in text:
            return LogFull(f"No room for the ledger: {text}", hint="Make room; it goes on by itself then.")
        if "orrupt" in text and self._path is not None:
            self._spoiled = True
            seal.spoil(self._path)
        return BusError(f"The ledger cannot be {deed}: {text}", hint="Rebuild it: farebox replay")

    def _add(self, chunk: Sequence[Stored]) -> None:
        """Stage the chunk; what is not sound is judged one by one, and staged again as wire.py wrote it."""
        doubted = self._take(chunk, _bodies(chunk))
        if not doubted:
            return
        sound, refused = _judge([stored for stored in chunk if stored.seq in doubted])
        still: set[int] = set()
        if sound:
            still = self._take([stored for stored, _ in sound], "\n".join([body for _, body in sound]))
        refused += [
            (one.seq, one.at_ms, one.subject, "The tables cannot hold it.", False) for one, _ in sound if one.seq in still
        ]
        for row in refused:
            self._connection.execute("INSERT INTO quarantine VALUES (?, ?, ?, ?, ?)", row)

    def _take(self, chunk: Sequence[Stored], bodies: str) -> set[int]:
        """Stage the facts and move them to their tables. Return the sequences of those that were left out."""
        named, lines = _named("ingest"), "\n".join
        self._connection.execute(
            named["stage"],
            {
                "bodies": bodies,
                "subjects": lines([stored.subject for stored in chunk]),
                "seqs": lines([str(stored.seq) for stored in chunk]),
                "times": lines([str(stored.at_ms) for stored in chunk]),
            },
        )
        found = self._connection.execute(named["doubted"]).fetchall()
        doubted = [seq for _, seqs in found for seq in seqs]
        if doubted:
            self._connection.execute(named["drop_doubted"], {"seqs": doubted})
        self._fill({kind for kind, _ in found})
        return set(doubted)

    def _fill(self, kinds: set[str]) -> None:
        """Move what is staged to the tables of the facts that are there: a statement costs 1 ms even for nothing."""
        named = _named("ingest")
        for table, facts in TABLES.items():
            if kinds.intersection(facts):
                self._connection.execute(named[table])
        if kinds.difference(*TABLES.values()):
            self._connection.execute(named["other_facts"])

    def _shape(self) -> str:
        found = self._connection.execute("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'ledger'").fetchone()
        return self._one("SELECT shape FROM ledger")[0] if found and found[0] else ""

    def _one(self, query: str) -> tuple[Any, ...]:
        row = self._connection.execute(query).fetchone()
        assert row is not None, "the ledger has one row"
        return row


class Snapshot:
    """The tables as they were at one moment."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection) -> None:
        self._cursor = cursor

    def rows(self, question: str, **parameters: Any) -> list[dict[str, Any]]:
        """Return the answer to a named question of questions.sql."""
        self._cursor.execute(_named("questions")[question], parameters or None)
        names = [str(column[0]) for column in self._cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in self._cursor.fetchall()]

    def stream(self, query: str) -> Iterator[list[tuple[Any, ...]]]:
        """Yield the rows of a SELECT, many at a time."""
        self._cursor.execute(query)
        while rows := self._cursor.fetchmany(ROWS_MAX):
            yield rows


class _Transaction:
    """All or nothing."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.execute("BEGIN")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._connection.execute("COMMIT" if kind is None else "ROLLBACK")


@cache
def shape() -> str:
    """Return a hash of all that decides what the tables hold: another one means that they must be rebuilt."""
    parts = [_text(name) for name in ("schema", "views", "ingest")]
    return hashlib.sha256(msgspec.json.encode([parts, wire.VERSIONS], order="sorted")).hexdigest()


def _duckdb() -> Any:
    import duckdb  # noqa: PLC0415 - 0.3 s that most commands need not spend

    return duckdb


def _connect(where: str) -> duckdb.DuckDBPyConnection:
    return _duckdb().connect(where, config={"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"})


def _prepare(connection: duckdb.DuckDBPyConnection) -> None:
    """Tell DuckDB which version each fact has and on which subjects it may stand: the table of core/subjects.py."""
    said: dict[str, list[Any]] = {}
    for row in subjects.TABLE:
        prefix, name = f"{subjects.LOG}.{row.writer}.{row.token}.", row.fact.__name__
        if name in said:
            said[name][5:] = [prefix, row.place in LANED]
        else:
            said[name] = [name, wire.VERSIONS[name], prefix, row.place in LANED, TAILS.get(row.place, "none"), None, False]
    connection.execute(
        "CREATE TEMP TABLE said_where (fact VARCHAR, current BIGINT,"
        " prefix VARCHAR, laned BOOLEAN, tail VARCHAR, other_prefix VARCHAR, other_laned BOOLEAN)"
    )
    # One statement: each costs half a millisecond.
    places = ", ".join(["(?, ?, ?, ?, ?, ?, ?)"] * len(said))
    said_where = f"INSERT INTO said_where VALUES {places}"  # noqa: S608  question marks only
    connection.execute(said_where, [value for row in said.values() for value in row])


def _move_aside(path: Path, why: str) -> str:
    """Rename a file that cannot be believed, and its write-ahead log. Raises BusError for one that nobody may read."""
    try:
        path.open("r+b").close()
    except OSError as refused:
        raise BusError(f"The ledger {path} cannot be opened: {refused.strerror}.") from refused
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    path.rename(aside)
    journal = path.with_name(path.name + ".wal")
    if journal.exists():
        journal.rename(aside.with_name(aside.name + ".wal"))
    return f"{path} could not be read ({why}); it is now {aside.name} and the ledger is rebuilt."


def _moved(mark: Mark, chunk: Sequence[Stored]) -> Mark:
    """Return the mark at the end of the chunk."""
    before = digest = bytes.fromhex(mark.digest)
    for one in chunk:
        before, digest = digest, step(digest, one.seq, one.at_ms, one.subject, one.body)
    return Mark(mark.created, chunk[-1].seq, id_of(chunk[-1].body), before.hex(), digest.hex())


def _chunks(batch: Sequence[Stored]) -> Iterator[list[Stored]]:
    chunk: list[Stored] = []
    size = 0
    for stored in batch:
        if chunk and (size + len(stored.body) > CHUNK_BYTES_MAX or len(chunk) == CHUNK_FACTS_MAX):
            yield chunk
            chunk, size = [], 0
        chunk.append(stored)
        size += len(stored.body)
    if chunk:
        yield chunk


def _bodies(chunk: Sequence[Stored]) -> str:
    """Return the bodies as lines of text; one that is no line is left empty, so that wire.py judges it."""
    bodies = [stored.body for stored in chunk]
    joined = b"\n".join(bodies)
    plain = joined.count(b"\n") == len(bodies) - 1 and max(map(len, bodies)) <= wire.BODY_BYTES_MAX
    text = _decoded(joined) if plain else None
    return "\n".join(map(_line, bodies)) if text is None else text


def _line(body: bytes) -> str:
    return "" if b"\n" in body or len(body) > wire.BODY_BYTES_MAX else _decoded(body) or ""


def _decoded(body: bytes) -> str | None:
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None


def _judge(doubted: Sequence[Stored]) -> tuple[list[tuple[Stored, str]], list[Refused]]:
    """Return the facts that wire.py reads, as it writes them now, and those it refuses, with its reason."""
    sound: list[tuple[Stored, str]] = []
    refused: list[Refused] = []
    for one in doubted:
        try:
            sound.append((one, wire.encode(wire.decode(one.subject, one.body)).decode()))
        except BadFact as bad:
            newer = isinstance(bad, wire.NewerFact)
            refused.append((one.seq, one.at_ms, one.subject, str(bad)[:REASON_CHARS_MAX], newer))
    return sound, refused


@cache
def _text(name: str) -> str:
    return Path(__file__).with_name(f"{name}.sql").read_text(encoding="utf-8")


@cache
def _named(name: str) -> Mapping[str, str]:
    """Return the statements of a file by the names that stand above them."""
    parts = re.split(r"^-- name: (\w+)\n", _text(name), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))
