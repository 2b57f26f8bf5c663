"""Writes the pages of the documentation that follow from the code: facts, commands, settings, platforms, the list of errors.

    uv run python docs/generate.py             write them
    uv run python docs/generate.py --check     say which are not current (exit code 1)

tests/test_docs.py holds that they are current. What is written by hand stands in the other pages.
"""  # noqa: INP001 - a folder of documents, no package

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect as shape
from msgspec.structs import FieldInfo, fields

from actors.platforms import PLATFORMS, rehearsal
from farebox import config
from farebox.cli import options
from farebox.cli.app import COMMANDS, build
from farebox.core import events, money, subjects, terms
from farebox.core.ids import Id
from farebox.core.settings import NAMED, Settings

HERE = Path(__file__).parent
GENERATED = "<!-- Made by docs/generate.py from the code. Do not edit: change the code and run it again. -->\n\n"
Rows = Iterable[Sequence[str]]


def _beside(name: str) -> Any:
    """Return a file that stands beside this one."""
    spec = importlib.util.spec_from_file_location(f"farebox_docs_{name}", HERE / f"{name}.py")
    assert spec is not None and spec.loader is not None, "it stands beside this file"  # noqa: PT018 - one fact
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_SAID = _beside("settings_said")
SETTINGS_SAID: dict[str, str] = _SAID.SETTINGS_SAID
OPTIONS_SAID: dict[str, str] = _SAID.OPTIONS_SAID
VARIABLES: tuple[tuple[str, str], ...] = _SAID.VARIABLES


FACTS_BEGIN = """Everything that happens is one of these facts in the log, in the order a task meets them. `farebox schema`
prints the same as JSON Schema. Who may say what, where it stands and what guards it is one table in
[core/subjects.py](../src/farebox/core/subjects.py); the facts are in [core/events.py](../src/farebox/core/events.py).

A fence is the server's own check at the append: it stores the fact only if nobody has written below the given filter since
the writer last looked. How a fact travels is told in [way-of-a-task.md](way-of-a-task.md).

"""
ENVELOPE_END = """
`seq` and `at_ms` are filled in by the reader: the sequence and the time (ms since 1970) of the stream. A written value is
ignored. A client need not say `id`: a fact without one is called after its sequence.
"""
VALUES = (
    terms.Ref,
    terms.FileInput,
    terms.Usage,
    terms.Fault,
    terms.CallRecord,
    terms.Candidate,
    terms.Rejected,
    terms.Constraints,
    terms.Allowance,
    terms.Take,
)


def events_page() -> str:
    """Return the page of all facts."""
    parts = [f"# Facts\n\n{GENERATED}{FACTS_BEGIN}", _table(("fact", "subject", "fence over"), _subject_rows())]
    parts += ["\n## The envelope of every fact\n\n", _paragraph(events.Fact), _fields(fields(events.Fact)), ENVELOPE_END]
    parts += [_fact(kind) for kind in events.FACTS]
    parts.append("\n## Values inside facts\n")
    parts += [f"\n### {kind.__name__}\n\n{_paragraph(kind)}{_fields(fields(kind))}" for kind in (*VALUES, events.PlatformSum)]
    return "".join(parts)


def _subject_rows() -> Rows:
    for row in (*subjects.TABLE, subjects.LIVE_ROW):
        root = subjects.LIVE if row is subjects.LIVE_ROW else subjects.LOG
        name = row.fact.__name__
        yield f"[{name}](#{name.lower()})", f"`{root}.{row.writer}.{row.token}.{row.place.value}`", row.guard.value


def _fact(kind: type[events.Fact]) -> str:
    known = set(events.Fact.__struct_fields__)
    own = [field for field in fields(kind) if field.name not in known]
    return f"\n## {kind.__name__}\n\n{_paragraph(kind)}{_fields(own)}"


def _paragraph(kind: type) -> str:
    return re.sub(r"\n(?!\n)", " ", inspect.getdoc(kind) or "").replace("\n ", "\n\n").strip() + "\n\n"


def _fields(infos: Iterable[FieldInfo]) -> str:
    return _table(("field", "type", "default"), ((f"`{one.encode_name}`", _type(one.type), _default(one)) for one in infos))


def _type(kind: Any) -> str:
    if kind == money.Usd:
        return "US dollars, decimal text"
    if kind == Id:
        return "id"
    return _shape(shape.type_info(kind))


def _shape(known: shape.Type) -> str:
    """Return a type in words."""
    match known:
        case shape.Metadata(type=inner, extra_json_schema=extra):
            return "US dollars, decimal text" if "US dollars" in str(extra) else _shape(inner)
        case shape.UnionType(types=kinds):
            words = [_shape(one) for one in kinds if not isinstance(one, shape.NoneType)]
            return " or ".join([*words, "null"] if len(words) < len(kinds) else words)
        case shape.VarTupleType(item_type=item):
            return f"list of: {_shape(item)}"
        case shape.DictType(value_type=value):
            return f"object of: {_shape(value)}"
        case shape.StructType(cls=cls):
            return f"[{cls.__name__}](#{cls.__name__.lower()})"
        case _:
            return _plain(known)


def _plain(known: shape.Type) -> str:
    match known:
        case shape.StrType(pattern=pattern, max_length=longest):
            words = "64 hex digits" if pattern == "^[0-9a-f]{64}$" else "id" if pattern else "text"
            return f"{words}, up to {longest} characters" if longest else words
        case shape.IntType(ge=low, le=high):
            return _number("integer", low, high, None)
        case shape.FloatType(ge=low, le=high, gt=above):
            return _number("number", low, high, above)
        case shape.LiteralType(values=values):
            return ", ".join(f"`{value}`" for value in values)
        case _:
            return "true or false" if isinstance(known, shape.BoolType) else "anything"


def _number(name: str, low: float | None, high: float | None, above: float | None) -> str:
    first = f"> {above}" if above is not None else f"{low}" if low is not None else ""
    if high is None or high >= 10**12:
        return f"{name} {first if above is not None else f'>= {first}'}" if first else name
    return f"{name}, {first} to {high}" if first else name


def _default(field: FieldInfo) -> str:
    if field.required:
        return "*required*"
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    return "" if value in ("", (), {}, "0" * 64) else f"`{msgspec.json.encode(value).decode()}`"


def commands_page() -> str:
    """Return the page of all commands."""
    app = build()
    parts = [
        "# Commands\n\n" + GENERATED,
        "Results go to stdout, progress and notes to stderr. In a clone write `uv run` in front.\n\n",
        _table(("command", "does"), ((f"[farebox {name}](#farebox-{name})", about) for name, about in COMMANDS.items())),
        "\n## Exit codes\n\n" + _table(("code", "means"), EXIT_CODES),
        "\n## Options of every command\n\n",
        _table(("option", "does", "default"), _common(app)),
        "\n`submit` takes the task's own `--context`, so there the nats CLI's context is `--nats-context` alone.\n",
    ]
    parts += [_command(name, app[name]) for name in COMMANDS]
    return "".join(parts)


EXIT_CODES: tuple[tuple[str, str], ...] = (
    ("0", "done"),
    ("1", "the work ran and failed"),
    ("2", "wrong usage, or input that cannot be used; nothing was sent"),
    ("3", "settings or environment"),
    ("4", "bus or engine not reachable"),
    ("5", "a quota, a budget or a missing price said no before anything was spent, or nobody was there to be asked"),
    ("6", "a batch with some failures"),
    ("7", "timed out, or cancelled by somebody else"),
    ("8", "a check of the log or of the views failed"),
    ("130, 143", "Ctrl-C, SIGTERM"),
)


def _common(app: Any) -> Rows:
    shared = set(options.Common.__dataclass_fields__)
    for one in app["status"].assemble_argument_collection(parse_docstring=True):
        if one.show and one.field_info.name in shared:
            yield _option(one)


def _option(one: Any) -> tuple[str, str, str]:
    names = ", ".join(f"`{name}`" for name in one.names if not name.startswith("--empty-"))
    known = one.field_info.default
    shown = "" if known in (None, (), "", False, inspect.Parameter.empty) else f"`{known}`"
    return names, (one.parameter.help or "").strip(), "*required*" if one.required else shown


def _command(name: str, command_app: Any) -> str:
    shared = set(options.Common.__dataclass_fields__)
    arguments = command_app.assemble_argument_collection(parse_docstring=True)
    own = [one for one in arguments if one.show and one.field_info.name not in shared]
    about = (inspect.getdoc(command_app.default_command) or "").partition("Parameters\n---")[0].strip()
    table = _table(("argument or option", "does", "default"), map(_option, own)) if own else "No options of its own.\n"
    return f"\n## farebox {name}\n\n{about}\n\n{table}"


SETTINGS_BEGIN = """In this order, the first wins: options of the command, `FAREBOX_SECTION__KEY` in the environment,
the limits that `farebox quota set` wrote (`limits.toml` beside the user's file), `farebox.toml` of the project (this folder or
the nearest above), the user's own `farebox.toml`, what is built in. An unknown key is refused with its file and the nearest
known one. Limits and policies are told with examples in [guides/quotas.md](guides/quotas.md).

`[engine]`, `[platforms]`, `[quotas]`, `[budgets]` and `[policies]` are adopted into the log (`SettingsAdopted`), so
that a replay knows under which settings a task was routed. Passwords and keys are never settings: settings name the environment
variable that holds them.
"""


def settings_page() -> str:
    """Return the page of all settings."""
    sections = {
        "engine": [(f"engine.{one.name}", one) for one in fields(Settings) if one.name not in NAMED],
        "bus": [(f"bus.{one.name}", one) for one in fields(config.Bus)],
        "store": [(f"store.{one.name}", one) for one in fields(config.StorePlace)],
        **{f"{section}.NAME": _of_each(section, kind) for section, kind in NAMED.items()},
    }
    parts = [f"# Settings\n\n{GENERATED}{SETTINGS_BEGIN}"]
    for section, rows in sections.items():
        table = _table(
            ("setting", "type", "default", "means"),
            ((f"`{key}`", _type(one.type), _default(one), SETTINGS_SAID[key]) for key, one in rows),
        )
        parts.append(f"\n## [{section}]\n\n{table}")
    parts += [_options_part(), _built_in_part(), "\n## Environment\n\n", _table(("variable", "means"), VARIABLES)]
    return "".join(parts)


def _of_each(section: str, kind: type[msgspec.Struct]) -> list[tuple[str, FieldInfo]]:
    return [(f"{section}.NAME.{one.name}", one) for one in fields(kind)]


def _options_part() -> str:
    known: dict[str, dict[str, Sequence[str]]] = {
        **{kind.name: getattr(sys.modules[kind.ask.__module__], "OPTIONS", {}) for kind in PLATFORMS},
        "rehearsal": {"wire": rehearsal.WIRES},
    }
    rows = [
        (f"`{kind}`", f"`{name}`", ", ".join(f"`{value}`" for value in values) or "text", OPTIONS_SAID.get(name, ""))
        for kind, each in known.items()
        for name, values in each.items()
    ]
    note = "\nA rehearsal also knows the options of the kind whose wire it speaks.\n"
    return "\n## Options by kind of platform\n\n" + _table(("kind", "option", "values", "means"), rows) + note


def _built_in_part() -> str:
    rows = [
        (
            f"`{name}`",
            f"`{kind.name}`",
            one.billing,
            one.url or "started by the engine",
            str(one.limit),
            "yes" if one.open else "only by name",
        )
        for kind in PLATFORMS
        for name, one in kind.defaults.items()
    ]
    head = ("platform", "kind", "billing", "where", "at once", "used")
    return "\n## Platforms that need no settings\n\n" + _table(head, rows)


ERRORS_BEGIN = """Each message begins with a code that stays the same. Each code has a page: what happened, why, what to type.

"""


def errors_page() -> str:
    """Return the list of all pages about errors."""
    rows = [(f"[{code}]({code}.md)", title) for code, title in error_titles().items()]
    return f"# Errors\n\n{GENERATED}{ERRORS_BEGIN}{_table(('code', 'what happened'), rows)}"


def platforms_page() -> str:
    """Return the page about platforms, which a file beside this one writes."""
    return f"# Platforms\n\n{GENERATED}{_beside('platforms_page').page()}"


def error_titles() -> dict[str, str]:
    """Return the title of each page about an error, by its code."""
    titles: dict[str, str] = {}
    for path in sorted((HERE / "errors").glob("FB*.md")):
        code, _, title = path.read_text("utf-8").partition("\n")[0].removeprefix("# ").partition(" ")
        assert code == path.stem, f"{path.name} must begin with '# {path.stem} '"
        titles[code] = title
    return titles


def _table(head: Sequence[str], rows: Rows) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |\n" for line in lines)


PAGES: dict[str, Callable[[], str]] = {
    "events.md": events_page,
    "commands.md": commands_page,
    "settings.md": settings_page,
    "errors/README.md": errors_page,
    "platforms.md": platforms_page,
}


def stale() -> list[str]:
    """Return the pages that do not say what the code says now."""
    texts = {name: HERE / name for name in PAGES}
    return [name for name, path in texts.items() if not path.exists() or path.read_text("utf-8") != PAGES[name]()]


def main(arguments: Sequence[str]) -> int:
    """Write the pages, or check them."""
    if "--check" in arguments:
        for name in (old := stale()):
            sys.stderr.write(f"docs/{name} is not current. Run: uv run python docs/generate.py\n")
        return 1 if old else 0
    for name, page in PAGES.items():
        (HERE / name).write_text(page(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
