"""Who may say, ask and hear what: the users of the server, made from the table of subjects. Pure; no clock, no IO.

Each confined user has an account of his own and imports exactly what he may do. Permissions inside one shared account do not
hold him: whoever may publish anything chooses where the answer goes, and the server delivers answers without asking for rights.
A publisher's acknowledgement can so be stored as another actor's fact, and a message read back from the log can be delivered
to `$JS.API.STREAM.UPDATE` (seen with nats-server 2.15.0, 2026-11). Answers that cross accounts come back on the side of the
asker, where they reach nothing that he may not reach himself.

`init` and `engine` live in the account of the log: they are trusted with all of it.

The JetStream calls that the server itself answers (CONSUMER.CREATE, .INFO, .DELETE, STREAM.INFO) have, for confined users, the
prefix CONTROL instead of `$JS.API`: on the usual one their own account, which has no JetStream, would answer as well.

What a confined user hears is what the streams say again once it is stored (`REPUBLISHED` in log/names.py): one confined user
never hears another one's publish itself, and nobody so hears what the log refused. It arrives under its usual subject.

Not kept apart: all who log in as `client` see each other's answers and own facts; a direct get may hold wildcards.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from farebox.core import ids
from farebox.core.subjects import ALL, API, LIVE, LIVE_ROW, LOG, TABLE, WRITERS, Row
from farebox.log.names import (
    BUCKET_STREAM,
    CHUNKS,
    DEAD_STREAM,
    LIVE_STREAM,
    METAS,
    READERS_MAX,
    REPUBLISHED,
    STREAM,
    durable_of,
)

CONTROL = "$JS.farebox.API"
"""The prefix under which a confined user asks what the server itself answers."""

_SYSTEM, _HOME = "SYS", "LOG"
_API = "$JS.API"
_LAST = f"{_API}.DIRECT.GET.{STREAM}"
_BLOB = f"{_API}.DIRECT.GET.{BUCKET_STREAM}"
_WORKERS = ("adapter", "late")
_FOLLOWERS = tuple(writer for writer in WRITERS if writer not in {"engine", "client", *_WORKERS})
_RESULTS = (f"{LOG}.*.completed.>", f"{LOG}.cost.recorded.>", f"{LOG}.aggregator.batch_completed.>")
_CANCELS = f"{LOG}.client.cancel_requested.>"
_ANSWERS = f"{LOG}.client.answered.>"


class User(Struct, frozen=True, kw_only=True):
    """One login. `says` has one answer or none, `draws` many; `controls` (without prefix) is answered by the server itself.

    `free` users are held by nothing, `at_home` ones live in the account of the log.
    """

    name: str
    says: tuple[str, ...] = ()
    draws: tuple[str, ...] = ()
    controls: tuple[str, ...] = ()
    hears: tuple[str, ...] = ()
    at_home: bool = False
    free: bool = False

    @property
    def inbox_prefix(self) -> str:
        """The prefix of all inboxes of this user; no other user hears them."""
        return inbox_prefix(self.name)

    @property
    def publishes(self) -> tuple[str, ...]:
        """All subjects on which the user may publish, as he writes them."""
        prefix = _API if self.at_home else CONTROL
        return (*self.says, *self.draws, *(f"{prefix}.{call}" for call in self.controls))

    @property
    def subscribes(self) -> tuple[str, ...]:
        """All subjects to which the user may subscribe."""
        return (f"{self.inbox_prefix}.>", *self.hears)


def inbox_prefix(user: str) -> str:
    """Return the inbox prefix with which `user` must connect."""
    return f"_INBOX_{user}"


def control_prefix(user: str) -> str:
    """Return the prefix under which `user` asks what the server itself answers."""
    return _API if user in {"init", "engine"} else CONTROL


def is_user(name: str) -> bool:
    """Say whether our nats.conf may know this user, whatever the platforms are."""
    return name in names(()) or name.startswith(durable_of(""))


def names(platforms: Iterable[str]) -> tuple[str, ...]:
    """Return the names of all users that need a seed, the system user included."""
    return ("sys", *(user.name for user in users(platforms)))


def users(platforms: Iterable[str]) -> tuple[User, ...]:
    """Return all users for these platforms. Raises BadInput when the name of a platform cannot stand in a subject."""
    lanes = tuple(sorted({ids.check(platform, "The name of a platform") for platform in platforms}))
    followers = tuple(_follower(writer) for writer in _FOLLOWERS)
    adapters = tuple(_adapter(lane) for lane in lanes)
    return (User(name="init", at_home=True, free=True), _engine(lanes), *followers, _views(), _client(), *adapters)


def render(platforms: Iterable[str], keys: Mapping[str, str]) -> str:
    """Return the text of users.conf. `keys` holds the public key for each of `names`: nothing in the text is secret."""
    all_users = users(platforms)
    confined = [user for user in all_users if not user.at_home]
    blocks = [
        _block(_SYSTEM, [_list("users", [f"{{ nkey: {keys['sys']} }}"])]),
        _block(_HOME, [_JETSTREAM, *_residents(all_users, keys), _exports(confined)]),
        *(_block(user.name, [_login(user, keys), _imports(user)]) for user in confined),
    ]
    return f"{_HEAD}accounts {{\n{''.join(blocks)}}}\nsystem_account: {_SYSTEM}\n"


def _engine(lanes: Sequence[str]) -> User:
    """All actors in one process. `_R_` is where the questions of confined users want their answers."""
    durables = [durable_of(lane) for lane in lanes]
    return User(
        name="engine",
        at_home=True,
        says=(*_said(WRITERS, "*"), _live("*"), "_R_.>", *_keeps_blobs(), *(_ack(name) for name in durables)),
        draws=(*_reads_all(), f"{_API}.DIRECT.GET.{DEAD_STREAM}", *_follows("engine"), *(_next(name) for name in durables)),
        controls=(
            *_keeps("engine"),
            *(f"CONSUMER.INFO.{STREAM}.{name}" for name in durables),
            *(f"STREAM.INFO.{name}" for name in (STREAM, LIVE_STREAM, DEAD_STREAM, BUCKET_STREAM)),
        ),
        hears=(f"{API}.>", _CANCELS, _ANSWERS),
    )


def _follower(writer: str) -> User:
    own = _said((writer,), "*")
    large = writer == "handoff"
    return User(
        name=writer,
        says=(*own, *_reads(own), *(_keeps_blobs() if large else ())),
        draws=_follows(writer),
        controls=(*_keeps(writer), f"STREAM.INFO.{STREAM}"),
    )


def _adapter(lane: str) -> User:
    """One lane: its reserved tasks, its facts, and what it must read to work on a task."""
    name = durable_of(lane)
    own = _said(_WORKERS, lane)
    needed = (*_tokens("submitted", "ready", "cancel_requested", "answered", "decided", "settings"), *_given(lane))
    return User(
        name=name,
        says=(*own, _live(lane), *_reads((*own, *needed)), _ack(name), *_keeps_blobs()),
        draws=(_next(name),),
        controls=(f"CONSUMER.INFO.{STREAM}.{name}",),
        hears=(_CANCELS, _ANSWERS),
    )


def _views() -> User:
    return User(
        name="views",
        says=_finds_blobs(),
        draws=(*_reads_all(), *_follows("views")),
        controls=(*_keeps("views"), f"STREAM.INFO.{STREAM}"),
    )


def _client() -> User:
    """Submits, cancels, decides, asks the engine, hears results; reads back its own facts and results."""
    own = _said(("client",), "*")
    results = _tokens("completed", "recorded", "batch_completed")
    return User(
        name="client",
        says=(*own, f"{API}.>", *_reads((*own, *results)), *_keeps_blobs()),
        hears=(*_RESULTS, f"{LIVE}.>"),
    )


def _said(writers: Iterable[str], lane: str) -> tuple[str, ...]:
    chosen = set(writers)
    return tuple(_pattern(row, lane) for row in TABLE if row.writer in chosen)


def _tokens(*tokens: str) -> tuple[str, ...]:
    return tuple(_pattern(row, "*") for row in TABLE if row.token in tokens)


def _given(lane: str) -> tuple[str, ...]:
    """What was reserved in a lane, and what quota booked as over: its adapter looks what is in its hands."""
    return tuple(_pattern(row, lane) for row in TABLE if row.token in {"reserved", "settled"})


def _pattern(row: Row, lane: str, root: str = LOG) -> str:
    place = re.sub(r"<\w+>", "*", row.place.value.replace("<platform>", lane))
    return f"{root}.{row.writer}.{row.token}.{place}"


def _live(lane: str) -> str:
    return _pattern(LIVE_ROW, lane, LIVE)


def _reads(subjects: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"{_LAST}.{subject}" for subject in subjects)


def _reads_all() -> tuple[str, ...]:
    return (_LAST, f"{_LAST}.{ALL}")


def _keeps_blobs() -> tuple[str, ...]:
    """Write large contents and look whether they are there; read them by exact subject: who reads must know the hash."""
    return (f"{CHUNKS}.>", f"{METAS}.>", *_finds_blobs())


def _finds_blobs() -> tuple[str, ...]:
    return (f"{_BLOB}.{METAS}.>", f"{_BLOB}.{CHUNKS}.>")


def _own_consumers(user: str) -> tuple[str, ...]:
    return tuple(f"{STREAM}.{user}-{place}" for place in range(1, READERS_MAX + 1))


def _follows(user: str) -> tuple[str, ...]:
    return tuple(f"{_API}.CONSUMER.MSG.NEXT.{name}" for name in _own_consumers(user))


def _keeps(user: str) -> tuple[str, ...]:
    """Make, look at and remove one's own readers: long form, so that the body cannot name another consumer or filter."""
    made = tuple(f"CONSUMER.CREATE.{name}.{ALL}" for name in _own_consumers(user))
    return (*made, *(f"CONSUMER.{call}.{name}" for call in ("INFO", "DELETE") for name in _own_consumers(user)))


def _next(durable: str) -> str:
    return f"{_API}.CONSUMER.MSG.NEXT.{STREAM}.{durable}"


def _ack(durable: str) -> str:
    return f"$JS.ACK.{STREAM}.{durable}.>"


_HEAD = """# Made by farebox from its table of facts; changed by hand it is written anew at the next start.
# One account for the log, one for each user that is confined: he reaches what he imports and nothing else.
"""
_JETSTREAM = """    jetstream: {
      max_mem: 64M, max_file: $FAREBOX_MAX_FILE, max_streams: 8, max_consumers: 1000, max_bytes_required: true
    }
"""


def _residents(all_users: Sequence[User], keys: Mapping[str, str]) -> tuple[str]:
    return (_list("users", [_entry(user, keys) for user in all_users if user.at_home]),)


def _login(user: User, keys: Mapping[str, str]) -> str:
    return _list("users", [_entry(user, keys)])


def _entry(user: User, keys: Mapping[str, str]) -> str:
    head = f"nkey: {keys[user.name]}, allowed_connection_types: [STANDARD]"
    if user.free:
        return f"{{ {head} }}"
    rights = f"publish: {{ allow: {_subjects(user.publishes)} }}, subscribe: {{ allow: {_subjects(user.subscribes)} }}"
    return f"{{ {head},\n        permissions: {{ {rights} }} }}"


def _exports(confined: Sequence[User]) -> str:
    """One export for each subject, open only to the accounts that import it."""
    takers: dict[str, list[str]] = {}
    for user in confined:
        for kind, subject, _ in _crossings(user):
            many = ", response_type: stream" if kind == "draws" else ""
            what = "stream" if kind == "hears" else "service"
            takers.setdefault(f"{what}: {_quoted(subject)}{many}", []).append(user.name)
    return _list("exports", [f"{{ {what}, accounts: [{', '.join(who)}] }}" for what, who in takers.items()])


def _imports(user: User) -> str:
    lines: list[str] = []
    for kind, subject, local in _crossings(user):
        what = "stream" if kind == "hears" else "service"
        rename = "" if local == subject else f", to: {_quoted(local)}"
        lines.append(f"{{ {what}: {{ account: {_HOME}, subject: {_quoted(subject)} }}{rename} }}")
    return _list("imports", lines)


def _crossings(user: User) -> Iterable[tuple[str, str, str]]:
    """Yield kind, subject in the account of the log and subject in the user's own for all that crosses between them."""
    yield from (("says", subject, subject) for subject in user.says)
    yield from (("draws", subject, subject) for subject in user.draws)
    yield from (("controls", f"{_API}.{call}", f"{CONTROL}.{call}") for call in user.controls)
    for subject in user.hears:
        yield "hears", _said_again(subject), subject


def _said_again(subject: str) -> str:
    for source, destination in REPUBLISHED.values():
        root, again = source.removesuffix(">"), destination.removesuffix(">")
        if subject.startswith(root):
            return again + subject.removeprefix(root)
    raise AssertionError(f"no stream says {subject} again")


def _block(name: str, parts: Iterable[str]) -> str:
    return f"  {_quoted(name)}: {{\n{''.join(parts)}  }}\n"


def _list(name: str, items: Iterable[str]) -> str:
    return f"    {name}: [\n{''.join(f'      {item}\n' for item in items)}    ]\n"


def _subjects(subjects: Iterable[str]) -> str:
    return f"[{', '.join(_quoted(subject) for subject in subjects)}]"


def _quoted(text: str) -> str:
    assert '"' not in text, "subjects and names hold no quotes"
    assert "\\" not in text, "nor backslashes"
    return f'"{text}"'
