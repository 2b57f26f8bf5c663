"""Reading what people hand in: text files, a prompt on stdin, JSON Lines, a JSON array. Mistakes name file, line and field."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import msgspec
from msgspec import Struct

from farebox.core.errors import BadInput
from farebox.core.terms import FileInput
from farebox.places import located
from farebox.tasks import PROMPT_BYTES_MAX, TaskSpec, spec_of

STDIN = "-"
BATCH_BYTES_MAX = 1024 * 1024 * 1024


class BadLine(Struct, frozen=True):
    """One unusable line (from 1) of a batch file: what is wrong and what to type."""

    line: int
    message: str
    hint: str = ""


class Lines(Struct, frozen=True):
    """A batch file as read: its tasks, in order, with the line of each, and its bad lines."""

    name: str
    tasks: tuple[TaskSpec, ...]
    numbers: tuple[int, ...]
    bad: tuple[BadLine, ...]


def text_file(path: str) -> str:
    """Return the text of a UTF-8 file, `-` for stdin. Raises BadInput when it is missing, not text or too large."""
    return _text(path, _bytes(path, PROMPT_BYTES_MAX))


def file_input(path: str) -> FileInput:
    """Return a text file as a task carries it, under the name that was given."""
    return FileInput(name=path, content=text_file(path))


def json_option(text: str, option: str) -> dict[str, Any]:
    """Return the object that `text` (JSON, or @FILE) holds. Raises BadInput."""
    source = f"{option} {text[1:]}" if text.startswith("@") else option
    body = text_file(text[1:]) if text.startswith("@") else text
    try:
        value = _strict(body)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{source}: not JSON: {error}.") from error
    if not isinstance(value, dict):
        raise BadInput(f"{source}: a JSON object is expected, not {_kind(value)}.")
    return value  # pyright: ignore[reportUnknownVariableType]


def pairs_option(pairs: Sequence[str], option: str) -> dict[str, str]:
    """Return K=V options as a mapping. Raises BadInput for a pair without a name or given twice."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise BadInput(f"{option} {pair[:60]!r}: write it as NAME=VALUE.")
        if name in found:
            raise BadInput(f"{option} {name[:60]!r} is given twice.")
        found[name] = value
    return found


def batch_file(path: str) -> Lines:
    """Return a batch file (JSON Lines, or one JSON array) without a bad line. Raises BadInput for its first bad line."""
    lines = read_batch(path)
    if lines.bad:
        raise refusal(lines)
    if not lines.tasks:
        raise BadInput(f"{lines.name} holds no task.", hint='One JSON object a line: {"prompt": "..."}')
    return lines


def refusal(lines: Lines) -> BadInput:
    """Return the error for a file with bad lines: the first one, and how many more."""
    first, more = lines.bad[0], len(lines.bad) - 1
    others = f" ({more} more bad line{'s' if more > 1 else ''}.)" if more else ""
    hint = f"{first.hint} Nothing was sent.{others} Check all: farebox batch {lines.name} --dry-run".strip()
    return BadInput(f"{lines.name} line {first.line}: {first.message}", hint=hint)


def read_batch(path: str) -> Lines:
    """Read a batch file whole, good and bad lines. Raises BadInput when it cannot be read at all.

    Paths in `files` and `directory` are relative to the batch file.
    """
    name = "stdin" if path == STDIN else path
    body = _bytes(path, BATCH_BYTES_MAX)
    folder = Path() if path == STDIN else Path(path).parent
    tasks: list[TaskSpec] = []
    numbers: list[int] = []
    bad: list[BadLine] = []
    raws = _array(body) if body.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"[" else _json_lines(body)
    for line, raw in raws:
        try:
            tasks.append(_spec(raw, folder))
            numbers.append(line)
        except BadInput as error:
            bad.append(BadLine(line, error.message, error.hint))
    return Lines(name, tuple(tasks), tuple(numbers), tuple(bad))


def _spec(raw: object, folder: Path) -> TaskSpec:
    if isinstance(raw, BadInput):
        raise raw
    if not isinstance(raw, dict):
        raise BadInput(f"a JSON object is expected, not {_kind(raw)}.")
    fields: dict[str, Any] = dict(raw)  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(fields.get("files"), list):
        fields["files"] = [_file(one, folder) for one in fields["files"]]
    return spec_of(located(fields, folder))


def _file(given: object, folder: Path) -> object:
    if not isinstance(given, str):
        return given
    content = text_file(str(folder / given))
    return {"name": given, "content": content}


def _json_lines(body: bytes) -> Iterator[tuple[int, object]]:
    for number, line in enumerate(body.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if line.strip():
            yield number, _parsed(line)


def _parsed(line: bytes) -> object:
    """Return the JSON of one line, or the BadInput that says why not."""
    try:
        return _strict(line.decode())
    except UnicodeDecodeError as error:
        return BadInput(f"not UTF-8 at byte {error.start + 1}.")
    except json.JSONDecodeError as error:
        return BadInput(f"not JSON: {error.msg} at column {error.colno}.")
    except (ValueError, RecursionError) as error:
        return BadInput(f"not JSON: {error}.")


def _array(body: bytes) -> Iterator[tuple[int, object]]:
    """Yield the elements of a JSON array with the line on which each begins; after broken JSON nothing can follow."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        yield body[: error.start].count(b"\n") + 1, BadInput(f"not UTF-8 at byte {error.start + 1} of the file.")
        return
    reader = _ArrayReader(text)
    try:
        yield from reader.elements()
    except json.JSONDecodeError as error:
        yield error.lineno, BadInput(f"not JSON: {error.msg} at column {error.colno}.")
    except (ValueError, RecursionError) as error:
        yield reader.line(), BadInput(f"not JSON: {error}.")


class _ArrayReader:
    """Walks over a JSON array, one element at a time."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = text.index("[") + 1
        self._lines_to, self._lines = 0, 1

    def line(self) -> int:
        """Return the line of the present place, counting each newline once."""
        self._lines += self._text.count("\n", self._lines_to, self._at)
        self._lines_to = self._at
        return self._lines

    def elements(self) -> Iterator[tuple[int, object]]:
        self._skip()
        if self._peek() == "]":
            self._finish()
            return
        while True:
            line = self.line()
            value, self._at = _DECODER.raw_decode(self._text, self._at)
            yield line, value
            self._skip()
            if self._peek() == "]":
                self._finish()
                return
            if self._peek() != ",":
                self._fail("Expecting ',' or ']'")
            self._at += 1
            self._skip()

    def _skip(self) -> None:
        while self._at < len(self._text) and self._text[self._at] in " \t\r\n":
            self._at += 1

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _finish(self) -> None:
        self._at += 1
        self._skip()
        if self._at < len(self._text):
            self._fail("Extra data after the array")

    def _fail(self, message: str) -> NoReturn:
        raise json.JSONDecodeError(message, self._text, self._at)


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON number")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)
"""The standard library's decoder keeps lone surrogates (msgspec refuses them), so that they can be counted and replaced."""


def _strict(text: str) -> object:
    return json.loads(text, parse_constant=_no_constant)


def _kind(value: object) -> str:
    match value:
        case dict():
            return "an object"
        case list():
            return "an array"
        case str():
            return "a string"
        case bool():
            return "a boolean"
        case None:
            return "null"
        case _:
            return "a number"


def _bytes(path: str, bytes_max: int) -> bytes:
    if path == STDIN:
        return _bounded(path, sys.stdin.buffer, bytes_max)
    try:
        with Path(path).open("rb") as stream:
            return _bounded(path, stream, bytes_max)
    except FileNotFoundError as error:
        raise BadInput(f"{path}: there is no such file.", code="FB406") from error
    except IsADirectoryError as error:
        raise BadInput(f"{path} is a folder, not a file.", code="FB406") from error
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: cannot be read: {error}.", code="FB406") from error


def _bounded(path: str, stream: BinaryIO, bytes_max: int) -> bytes:
    body = stream.read(bytes_max + 1)
    if len(body) > bytes_max:
        raise BadInput(f"{path} is larger than {bytes_max} bytes.", code="FB403")
    return body


def _text(path: str, body: bytes) -> str:
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        name = "stdin" if path == STDIN else path
        raise BadInput(f"{name} is no UTF-8 text (byte {error.start + 1}).", code="FB406") from error


def canonical_lines(tasks: Sequence[TaskSpec]) -> bytes:
    """Return the tasks of a batch in their one form, a JSON line each: what a batch keeps and its hash is made of."""
    return b"".join(msgspec.json.encode(task, order="sorted") + b"\n" for task in tasks)


def restored_lines(body: bytes) -> tuple[TaskSpec, ...]:
    """Return the tasks that `canonical_lines` wrote."""
    return tuple(msgspec.json.decode(line, type=TaskSpec) for line in body.splitlines())
