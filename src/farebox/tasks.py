"""What a caller asks for: one task with its options, checked before anything is sent.

Everything comes through `spec_of`: arguments of Python, options of the command line, lines of a batch file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypedDict, get_args

import msgspec
from msgspec import Meta, Struct

from farebox import amounts
from farebox.core import ids
from farebox.core.directories import is_whole
from farebox.core.errors import BadInput
from farebox.core.events import Seconds, Tags
from farebox.core.money import Usd
from farebox.core.terms import Constraints, FileInput, OnInterrupt, OnQuota, TaskType
from farebox.nearest import did_you_mean

TASK_TYPES: tuple[str, ...] = get_args(TaskType)
TIMEOUT_S = 300.0
PROMPT_BYTES_MAX = 64 * 1024 * 1024
"""Prompts, files and contexts above this are refused: no platform reads them."""
SMALL_BYTES_MAX = 64 * 1024
"""System prompt, metadata and tags travel inside the fact, so each of them is bounded."""
ALIASES = {"id": "label", "timeout": "timeout_s", "tag": "tags", "task_type": "type", "file": "files"} | {
    "max_cost": "max_cost_usd",
    "batch_max_cost": "batch_max_cost_usd",
    "chain_max_cost": "chain_max_cost_usd",
    "need": "capabilities",
}
"""What a batch line may say instead of the field's own name."""
REPLACED = "farebox.replaced_surrogates"
"""Metadata key: how many lone surrogates became U+FFFD, because no UTF-8 can carry them."""


Tier = Literal["", "free", "plan", "metered"]
CONSTRAINTS: tuple[str, ...] = Constraints.__struct_fields__
LISTS = ("allow", "deny", "capabilities")
BOUNDS: tuple[str, ...] = tuple(name for name in CONSTRAINTS if name.endswith("_usd"))


class TaskSpec(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One task as a caller asks for it. `timeout_s` is for the whole attempt; `label` is the caller's own name for it.

    `directory` is where a program works on files, as the machine of the engine names it; with `worktree` on a git worktree of
    its own, made from there. From `max_cost_usd` on it says what the task allows (terms.Constraints): the bounds are US dollars
    for the task with all its attempts, for all tasks of its batch, of its chain.
    """

    prompt: str
    system: str = ""
    context: dict[str, Any] = {}
    files: tuple[FileInput, ...] = ()
    metadata: Tags = {}
    tags: Tags = {}
    type: TaskType = "general"
    platform: str = ""
    fallback: bool = True
    model: Annotated[str, Meta(max_length=200)] = ""
    priority: Annotated[int, Meta(ge=-1000, le=1000)] = 0
    timeout_s: Seconds = TIMEOUT_S
    max_tokens: Annotated[int, Meta(ge=1, le=10**9)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=10)] | None = None
    needs: tuple[str, ...] = ()
    on_interrupt: OnInterrupt | None = None
    directory: Annotated[str, Meta(max_length=4096)] = ""
    worktree: bool = False
    chain: str = ""
    label: Annotated[str, Meta(max_length=1024)] = ""
    max_cost_usd: Usd | None = None
    batch_max_cost_usd: Usd | None = None
    chain_max_cost_usd: Usd | None = None
    on_quota: OnQuota | None = None
    tier: Tier = ""
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    local: bool = False
    allow_unpriced: bool = False

    @property
    def constraints(self) -> Constraints:
        """What it allows, as its fact says it."""
        return Constraints(**{name: getattr(self, name) for name in CONSTRAINTS})


class TaskOptions(TypedDict, total=False):
    """What `submit` takes beside the prompt, as Python writes it."""

    system: str
    context: Mapping[str, Any]
    files: Sequence[FileInput]
    metadata: Mapping[str, str]
    tags: Mapping[str, str]
    type: TaskType
    platform: str
    fallback: bool
    model: str
    priority: int
    timeout_s: float
    max_tokens: int | None
    temperature: float | None
    needs: Sequence[str]
    on_interrupt: OnInterrupt | None
    directory: str
    worktree: bool
    chain: str
    label: str
    max_cost_usd: str | float | None
    batch_max_cost_usd: str | float | None
    chain_max_cost_usd: str | float | None
    on_quota: OnQuota | None
    tier: Tier
    allow: Sequence[str]
    deny: Sequence[str]
    capabilities: Sequence[str]
    local: bool
    allow_unpriced: bool


FIELDS: tuple[str, ...] = TaskSpec.__struct_fields__


def spec_of(fields: Mapping[str, Any]) -> TaskSpec:
    """Return the task that `fields` ask for. Raises BadInput that names the field; nothing was sent."""
    named, replaced = _mended(_named(fields))
    _check_type(named.get("type", "general"))
    try:
        spec = msgspec.convert(named, TaskSpec)
    except msgspec.ValidationError as error:
        written = {ALIASES.get(given, given): given for given in fields}
        raise BadInput(_say(str(error), named, written)) from error
    _check(spec)
    if not replaced:
        return spec
    return msgspec.structs.replace(spec, metadata={**spec.metadata, REPLACED: str(replaced)})


def _named(fields: Mapping[str, Any]) -> dict[str, Any]:
    named: dict[str, Any] = {}
    for given, value in fields.items():
        name = ALIASES.get(given, given)
        if name not in FIELDS:
            shown = given if len(given) <= 60 else given[:57] + "..."
            raise BadInput(f'unknown field "{shown}".', hint=did_you_mean(given, (*FIELDS, "id")) or _all_fields())
        if name in named:
            raise BadInput(f'field "{given}" is given twice.')
        if name in BOUNDS and value is not None:
            value = amounts.usd(value, f'field "{given}"')  # noqa: PLW2901 - as it is kept
        elif name in LISTS and isinstance(value, str):
            value = (value,)  # noqa: PLW2901 - one of them
        named[name] = str(value) if given == "id" and type(value) is int else value
    if "prompt" not in named:
        raise BadInput('field "prompt" is missing.')
    return named


def _all_fields() -> str:
    return "Known: " + ", ".join(FIELDS) + "."


def _check_type(given: object) -> None:
    if given not in TASK_TYPES:
        near = did_you_mean(str(given), TASK_TYPES)
        raise BadInput(f"{str(given)[:60]!r} is no task type.", hint=f"{near} Choose one of: {', '.join(TASK_TYPES)}.".strip())


def _say(message: str, named: Mapping[str, Any], written: Mapping[str, str]) -> str:
    """Turn msgspec's words into ours: which field, as it was `written`, what was expected."""
    found = re.search(r"^(.*?) - at `\$\.?(?:key in )?([^`]*)`$", message)
    if not found:
        return message.replace("`", "")
    field = re.split(r"[.\[]", found[2])[0]
    value = named.get(field)
    got = f" (it is {value!r})" if isinstance(value, (int, float, bool)) else ""
    return f'field "{written.get(field, field)}{found[2][len(field) :]}": {found[1].replace("`", "")}{got}.'


def _check(spec: TaskSpec) -> None:
    if not spec.prompt.strip():
        raise BadInput("the prompt is empty.", code="FB405")
    for name in ("chain", "platform"):
        if getattr(spec, name):
            ids.check(getattr(spec, name), name)
    for parent in spec.needs:
        ids.check(parent, "needs")
    _check_allowed(spec)
    if spec.worktree and not spec.directory:
        raise BadInput("a worktree is made from a directory, and there is none.", hint="Say which repository: --directory DIR")
    if spec.directory and not is_whole(spec.directory):
        raise BadInput(
            f"the directory {spec.directory[:80]!r} is no whole path.", hint="Write it from the root on, without `..`."
        )
    _bounded("prompt", spec.prompt, PROMPT_BYTES_MAX)
    _bounded("system", spec.system, SMALL_BYTES_MAX)
    for name in ("metadata", "tags"):
        _bounded(name, msgspec.json.encode(getattr(spec, name)).decode(), SMALL_BYTES_MAX)
    _bounded("context", _context_text(spec.context), PROMPT_BYTES_MAX)
    for file in spec.files:
        _bounded(f"file {file.name}", file.content or "", PROMPT_BYTES_MAX)


def _check_allowed(spec: TaskSpec) -> None:
    for platform in (*spec.allow, *spec.deny):
        ids.check(platform, "platform")
    if both := sorted({*spec.allow} & {*spec.deny}):
        raise BadInput(f"{both[0]} is allowed and denied.", hint="Leave out one of the two.")


def _context_text(context: dict[str, Any]) -> str:
    try:
        return msgspec.json.encode(context).decode()
    except (TypeError, ValueError, RecursionError) as error:
        raise BadInput(f'field "context" is no JSON: {error}.') from error


def _bounded(name: str, text: str, bytes_max: int) -> None:
    size = len(text.encode())
    if size > bytes_max:
        raise BadInput(f"{name} has {size} bytes; the most is {bytes_max}.", code="FB403")


def _mended(fields: dict[str, Any]) -> tuple[dict[str, Any], int]:
    replaced = 0

    def mend(value: Any) -> Any:
        nonlocal replaced
        match value:
            case str():
                clean, count = mended_text(value)
                replaced += count
                return clean
            case dict():
                return {mend(key): mend(one) for key, one in value.items()}  # pyright: ignore[reportUnknownVariableType]
            case list() | tuple():
                return [mend(one) for one in value]  # pyright: ignore[reportUnknownVariableType]
            case FileInput():
                return mend(msgspec.to_builtins(value))
            case _:
                return value

    return mend(fields), replaced


def mended_text(text: str) -> tuple[str, int]:
    """Return `text` with each lone surrogate replaced by U+FFFD, and how many there were. Pairs become one character."""
    if text.isascii():
        return text, 0
    try:
        text.encode()
    except UnicodeEncodeError:
        clean = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        return clean, clean.count("\ufffd") - text.count("\ufffd")
    return text, 0
