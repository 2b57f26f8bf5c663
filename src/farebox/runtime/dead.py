"""Dead letters: facts that stopped. What could not be read, decided or carried is shown, and put back to work once mended.

    quarantined   nobody can read it, or subject, writer and body disagree: nobody acts on it
    parked        a later farebox wrote it: nobody decides about its task until a farebox knows it
    unchained     it follows a fact that is not there: its task stops
    undecided     an actor broke over it: its task stays where it is, the others go on
    unfolded      an actor could not take it in, or the views could not: its task stops there, the others go on
    halted        an actor cannot go on without it, and decides about nothing any more: what others do goes on
    given up      a reservation that is handed out no more, as the dead stream says, whether anybody listened or not

A letter is open while it stops something. Nothing is ever removed: what was mended is closed by the facts that followed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct

from farebox.core import wire
from farebox.core.chains import FREE
from farebox.core.errors import BadFact, BadInput, BrokenChain, BusError
from farebox.core.ids import NONE
from farebox.log.port import Log, Stored
from farebox.runtime.mind import Mind
from farebox.runtime.projection import UNSEEN, Projection
from farebox.runtime.stopped import Broken, Unchained

log_ = logging.getLogger("farebox.dead")

BODY_CHARS = 20_000
"""So much of a body is shown."""
BEHIND_S = 1.0
VIEWS = "views"
UPDATE = "Update this farebox, then start the engine: it reads the whole log again."
Kind = Literal["quarantined", "parked", "unchained", "undecided", "unfolded", "halted", "given_up"]
Json = dict[str, Any]


class Letter(Struct, frozen=True, kw_only=True):
    """One fact that stopped. `who` could not go on with it; `open`: it stops its task still."""

    seq: int
    kind: Kind
    who: str
    reason: str
    subject: str = ""
    chain: str = ""
    task: str = ""
    attempt: int = 0
    tries: int = 0
    at_ms: int | None = None
    open: bool = True


def alarm(letters: Sequence[Letter]) -> Json | None:
    """Return how many facts were not what their place says, and the last: somebody wrote what was not his to say. Else None."""
    lies = [letter for letter in letters if letter.kind == "quarantined"]
    if not lies:
        return None
    last = max(lies, key=lambda letter: letter.seq)
    return {"count": len(lies), "last_seq": last.seq, "last_subject": last.subject, "last_reason": last.reason}


class DeadLetters:
    """Finds them in views, minds and dead stream, and puts them back. `again` decides anew, `take_up` carries anew."""

    def __init__(
        self, log: Log, projection: Projection, minds: Sequence[Mind], again: Callable[[int], bool] | None = None,
        take_up: Callable[[str, str, str], bool] | None = None, doubted: Mapping[int, Unchained] | None = None,
    ) -> None:  # fmt: skip
        self._log = log
        self._projection = projection
        self._minds = minds
        self._again = again
        self._take_up = take_up
        self._doubted: Mapping[int, Unchained] = {} if doubted is None else doubted

    async def all(self, *, behind_s: float = 0.0) -> list[Letter]:
        """Return all letters, the latest first; wait so long for views that are behind what was read."""
        await self._projection.wait_for(self._projection.heard, behind_s)
        unread = await self._projection.ask(self._projection.views.quarantined)
        found = [_unread(row) for row in unread]
        found += [letter for mind in self._minds for letter in _stopped(mind)]
        found += [_unchained(one) for one in self._doubted.values()]
        found += await self._given_up({letter.seq for letter in found})
        return sorted(found, key=lambda letter: letter.seq, reverse=True)

    async def show(self, seq: int) -> Json:
        """Return one letter with the raw body of its fact and what it stops. Raises BadInput where there is none."""
        letter = await self._one(seq)
        stored = await self._log.at(seq)
        body = b"" if stored is None else stored.body
        told = msgspec.to_builtins(letter)
        told["subject"] = letter.subject or (stored.subject if stored else "")
        told["at_ms"] = letter.at_ms if stored is None else stored.at_ms
        text = body.decode("utf-8", "backslashreplace")
        return {**told, "stops": stops(letter), "body": text[:BODY_CHARS], "body_bytes": len(body)}

    async def retry(self, seq: int) -> Json:
        """Put one back to work and say what came of it. Raises BadInput where there is none, or it cannot be mended so."""
        letter = await self._one(seq)
        stored = await self._log.at(seq)
        if letter.kind in {"quarantined", "parked", "unchained", "unfolded"}:
            return {"seq": seq, "outcome": self._read_again(letter, stored)}
        if letter.kind in {"undecided", "halted"}:
            return {"seq": seq, "outcome": self._decided_again(letter)}
        if not letter.open:
            raise BadInput(f"Fact {seq} stops nothing any more: attempt {letter.attempt} has ended.", code="FB415")
        platform = letter.who.removeprefix("adapter-")
        if self._take_up is None or not self._take_up(platform, letter.chain, letter.task):
            raise BadInput(f"No adapter of {platform} runs in this engine.", hint="See: farebox platforms", code="FB415")
        return {"seq": seq, "outcome": f"The adapter of {platform} was handed task {letter.task} again."}

    def _decided_again(self, letter: Letter) -> str:
        if self._again is None:
            raise BadInput("No actor runs here.", hint="Start the engine: farebox up --detach", code="FB415")
        tried = self._again(letter.seq)
        still = [one for mind in self._minds for one in _stopped(mind) if (one.seq, one.kind) == (letter.seq, letter.kind)]
        if still and tried:
            raise BadInput(f"{still[0].who} broke over fact {letter.seq} again: {still[0].reason}", code="FB415")
        if still:
            raise BadInput(f"{letter.who} cannot go on without fact {letter.seq}: {letter.reason}", hint=UPDATE, code="FB415")
        return f"{letter.who} decided about it."

    def _read_again(self, letter: Letter, stored: Stored | None) -> str:
        """Try to read, or to take in, what could not be. Raises BadInput when that is no better now."""
        number = f"Fact {letter.seq}"
        if stored is None:
            raise BadInput(f"{number} is not in the log any more.", code="FB415")
        try:
            fact = wire.decode(stored.subject, stored.body, stored.seq, stored.at_ms)
        except BadFact as bad:
            hint = UPDATE if letter.kind == "parked" else ""
            raise BadInput(f"{number} still does not read: {bad.message}", hint=hint, code="FB415") from bad
        if letter.kind == "unchained":
            raise BadInput(
                f"{number} follows one that is not there, and always will.", code="FB415",
                hint="See whether more is wrong: farebox audit verify. Submit the task again if its answer is needed.",
            )  # fmt: skip
        if letter.who == VIEWS:
            return "The views try it again when they are made anew: farebox replay"
        why = next((mind.folds(fact) for mind in self._minds if mind.actor.name == letter.who), "")
        if letter.kind == "unfolded" and why:
            raise BadInput(f"{letter.who} still cannot take in fact {letter.seq}: {why}", hint=UPDATE, code="FB415")
        return "It can be read now; the next start of the engine takes it in."

    async def _one(self, seq: int) -> Letter:
        letter = next((one for one in await self.all(behind_s=BEHIND_S) if one.seq == seq), None)
        if letter is None:
            raise BadInput(f"Fact {seq} is no dead letter.", hint="See: farebox dead list", code="FB413")
        return letter

    async def _place(self, seq: int) -> dict[int, Json]:
        """Return of which task a reservation is that the views do not know yet; nothing where it cannot be read."""
        try:
            stored = await self._log.at(seq)
            return {} if stored is None else {seq: _place_of(stored)}
        except (BadFact, BusError):
            return {}

    async def _given_up(self, known: set[int]) -> list[Letter]:
        try:
            given_up = {one.seq: one for one in await self._log.given_up()}
        except BusError as error:
            log_.warning("the dead stream cannot be read: %s", error)
            return []
        rows = await self._projection.ask(lambda: self._projection.views.reservations(list(given_up)))
        places: dict[int, Json] = {row["seq"]: row for row in rows}
        for seq in given_up.keys() - places.keys() - known:
            places |= await self._place(seq)  # the views are behind
        return [
            Letter(
                seq=one.seq, kind="given_up", who=one.consumer, reason=one.reason, tries=one.tries, at_ms=one.at_ms,
                open=not places.get(one.seq, {}).get("ended", False),
                **{name: places[one.seq][name] for name in ("chain", "task", "attempt") if one.seq in places},
            )
            for one in given_up.values() if one.seq not in known
        ]  # fmt: skip


def _place_of(stored: Stored) -> Json:
    fact = wire.decode(stored.subject, stored.body, stored.seq, stored.at_ms)
    return {"chain": fact.chain, "task": fact.task, "attempt": fact.attempt, "ended": False}


def stops(letter: Letter) -> str:
    """Say what a letter stops."""
    task = f"task {letter.task}" if letter.task not in {"", "-"} else "what it tells"
    if letter.kind == "parked":
        return f"Nobody decides about {task} until a farebox that knows this fact reads the log. Update, and start the engine."
    if letter.kind == "unchained":
        return f"{BrokenChain.code}: nobody decides about {task} any more." if letter.open else "Nothing: it is passed over."
    if letter.kind == "halted":
        return f"{letter.who} decides about no task any more. What was given to adapters runs on, and is booked."
    if letter.kind == "unfolded" and letter.who == VIEWS:
        return "Results and costs leave it out, until they are made anew by a farebox that can hold it: farebox replay"
    if letter.kind == "unfolded":
        return f"{letter.who} decides nothing about {task} any more. Update, and start the engine."
    if letter.kind == "undecided":
        return f"{letter.who} has not answered it: {task} stays where it is, unless somebody moves or cancels it."
    if not letter.open:
        return f"Nothing any more: {task} has gone on, or ended."
    if letter.kind == "given_up":
        return f"{letter.who} does not get it any more: {task} keeps its slot and does not end by itself."
    return f"Nobody acts on it; {task} stays as it was before."


def _unread(row: Json) -> Letter:
    """Return the letter of a fact that no view could read. Who lies about a task of his own stops nobody else's."""
    writer = row["subject"].split(".")[2] if row["subject"].count(".") >= 2 else ""
    kind: Kind = "parked" if row["newer"] else "quarantined"
    unseen = row["reason"].startswith(UNSEEN)
    return Letter(
        seq=row["seq"], kind="unfolded" if unseen else kind, who=VIEWS if unseen else writer, reason=row["reason"],
        subject=row["subject"], chain=row["chain"], task=row["task"], at_ms=row["at_ms"], open=unseen or not row["ended"],
    )  # fmt: skip


def _stopped(mind: Mind) -> Iterable[Letter]:
    kinds: tuple[tuple[Kind, Mapping[int, Broken]], ...] = (
        ("undecided", mind.stopped.broken), ("unfolded", mind.stopped.unfolded),
    )  # fmt: skip
    for kind, left in kinds:
        for seq, broken in left.items():
            heard = broken.heard
            yield Letter(
                seq=seq, kind=kind, who=mind.actor.name, reason=broken.reason, chain=heard.key[0], task=heard.key[1],
                attempt=getattr(heard, "attempt", 0), at_ms=heard.at_ms,
            )  # fmt: skip
    for halt in mind.stopped.halts():
        yield Letter(seq=halt.seq, kind="halted", who=mind.actor.name, reason=halt.reason)


def _unchained(found: Unchained) -> Letter:
    """Return the letter of a fact that follows one which is not there; what a client said so is only passed over."""
    fact, subject = found.fact, found.subject
    reason = f"{BrokenChain.code} {found.reason}"
    return Letter(
        seq=fact.seq, kind="unchained", who=subject.split(".", 3)[2], reason=reason, subject=subject,
        chain=fact.chain, task=fact.task, attempt=fact.attempt, at_ms=fact.at_ms,
        open=fact.task != NONE and not subject.startswith(FREE),
    )  # fmt: skip
