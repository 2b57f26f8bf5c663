"""One connection to a server: it comes back by itself, matches answers to questions, and says who was denied what."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

from farebox.core.errors import AccessDenied, BadFact, BusError, NotReachable
from farebox.core.subjects import LOG
from farebox.log.raw_client import Ear, MaxPayloadError, NatsError, NatsSubscription, RawClient, Reply

Health = Callable[[str], None]
"""Called with what is wrong now, in one sentence; with an empty text when all is well again."""

ANSWER_WAIT_S = 5.0
"""So long an answer of the server is waited for."""
CONNECT_WAIT_S = 5
CLOSE_WAIT_S = 2.0
PING_INTERVAL_S = 10
PINGS_MAX = 2
"""A server silent for two pings is given up; nats-py alone would wait 4 minutes."""
RECONNECT_PAUSE_S = 0.25

_FACTS = f"{LOG}."
_VIOLATION = re.compile(r'permissions violation for (publish|subscription) to "([^"]+)"')
_PASSWORD = re.compile(r"//[^@/]*@")
_AUTHORITY = "Name the authority that signed it: FAREBOX_BUS__CA_FILE=FILE, or ca_file in [bus] of farebox.toml"
_LOGIN = "Set NATS_USER and NATS_PASSWORD, or name a context of the nats CLI: --nats-context NAME"


class Unanswered(NotReachable):
    """The question was sent, but no answer came: nobody knows what became of it."""


class Connection:
    """A connection to one of the servers at `url`, mended without end until it is closed."""

    def __init__(self, on_health: Health | None) -> None:
        self.client = RawClient()
        self.on_reconnect: set[Callable[[], None]] = set()
        self._on_health = on_health
        self._up = asyncio.Event()
        self._closing = False
        self._base = ""
        self._counter = itertools.count(1)
        self._answers: dict[bytes, Ear] = {}
        self._waiting: dict[asyncio.Future[Any], frozenset[str]] = {}
        self._denied: set[str] = set()
        self._quiet: set[str] = set()
        self._user = ""
        self._denials: dict[str, str] = {}
        self._first_faults: asyncio.Queue[Exception] | None = None

    async def open(self, url: str, options: Mapping[str, Any], inbox_prefix: str) -> None:
        """Connect. Raises NotReachable or AccessDenied at once; later breaks are mended without end."""
        urls = [part.strip() for part in url.split(",") if part.strip()]
        prefix = inbox_prefix or "_INBOX"
        self._base = f"{prefix}.{os.urandom(9).hex()}"
        self._user = options.get("user") or inbox_prefix.removeprefix("_INBOX_") or "that logged in here"
        self._first_faults = asyncio.Queue()
        await self._connect(urls, {**options, "inbox_prefix": prefix})
        self._first_faults = None
        self._up.set()
        try:
            await self.hear(f"{self._base}.r.*", self._answered)
        except BusError:
            await self.close()
            raise

    async def hear(self, subject: str, ear: Ear, queue: str = "") -> NatsSubscription:
        """Subscribe and come back when the server knows it. Raises AccessDenied, NotReachable."""
        await self.connected()
        self._denied.discard(subject.lower())
        subscription = await _sent(self.client.hear(subject, ear, queue))
        await self._flush()
        if subject.lower() in self._denied:
            await self.client.unhear(subscription)
            raise AccessDenied(f"The server does not let this user listen on {subject}.")
        return subscription

    async def unhear(self, subscription: NatsSubscription) -> None:
        """End a subscription; nothing happens when the connection is gone."""
        await self.client.unhear(subscription)

    async def connected(self, wait_s: float = ANSWER_WAIT_S) -> None:
        """Wait for the connection. Raises NotReachable when it does not come back in time."""
        if not self._up.is_set():
            try:
                async with asyncio.timeout(wait_s):
                    await self._up.wait()
            except TimeoutError as late:
                raise NotReachable("The server is away.") from late
        if self.client.is_closed:
            raise NotReachable("The connection is closed.")

    async def send(self, subject: str, body: bytes, reply: str = "", headers: dict[str, str] | None = None) -> None:
        """Send without waiting. Raises NotReachable when there is no connection now: nothing was sent."""
        await _sent(self.client.publish(subject, body, reply=reply, headers=headers))

    async def ask(
        self,
        subject: str,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        *,
        wait_s: float = ANSWER_WAIT_S,
        beside: Collection[str] = (),
        quiet: bool = False,
    ) -> Reply:
        """Send and wait for one answer; a denial of `subject`, or of one `beside` it, is an answer too (`quiet`: not told).

        Raises AccessDenied, NotReachable (not sent), Unanswered (sent, but no answer came).
        """
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def on_answer(_subject: bytes, _reply: bytes, data: bytes, head: bytes) -> None:
            if not answer.done():
                answer.set_result(Reply(data, head))

        inbox, forget = self.expect(answer, on_answer, (subject, *beside))
        if quiet:
            self._quiet.add(subject.lower())
        try:
            async with asyncio.timeout(wait_s):
                await self.send(subject, body, inbox, headers)
                reply = await answer
        except TimeoutError as late:
            raise Unanswered(f"No answer on {subject} in {wait_s} s.") from late
        else:
            if self._denials:
                self._allowed((subject, *beside))
            return reply
        finally:
            forget()
            self._quiet.discard(subject.lower())

    def expect(self, answer: asyncio.Future[Any], ear: Ear, subjects: Sequence[str]) -> tuple[str, Callable[[], None]]:
        """Return an inbox for `ear` and how to give it up; a cut or a denial of `subjects` fails `answer`."""
        token = b"%x" % next(self._counter)
        self._answers[token] = ear
        self._waiting[answer] = frozenset(subject.lower() for subject in subjects)

        def forget() -> None:
            self._answers.pop(token, None)
            self._waiting.pop(answer, None)

        return f"{self._base}.r.{token.decode()}", forget

    def new_inbox(self) -> str:
        """Return a subject of our own for messages that are not answers to `ask`."""
        return f"{self._base}.p.{next(self._counter):x}"

    def complain(self, text: str) -> None:
        """Tell what is wrong; an empty text: all is well."""
        if self._on_health is not None and not self._closing:
            self._on_health(text)

    @property
    def denial(self) -> str:
        """The fact that this user was not let say, in one sentence; empty when there is none, or it is said by now."""
        return next(iter(self._denials.values()), "")

    async def close(self) -> None:
        """Close at once; who waits for an answer learns that it will not come."""
        self._closing = True
        if self.client.is_cut:
            self.client.forget_unsent()  # asyncio's transport breaks over what is written after its end (Python 3.13)
        try:
            async with asyncio.timeout(CLOSE_WAIT_S):
                await self._end_client()
        except TimeoutError:
            self.client.forget_unsent()  # a frozen server took nothing more
        self.client.hang_up()
        self._cut("The log is closed.")

    async def _end_client(self) -> None:
        """Let nats-py close. Its reconnecting, cancelled amid a wait for the socket's end, cancels that for it, too."""
        try:
            await self.client.close()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            self.client.forget_unsent()

    async def _connect(self, urls: list[str], options: Mapping[str, Any]) -> None:
        connecting = asyncio.ensure_future(
            self.client.connect(
                urls,
                error_cb=self._on_error,
                disconnected_cb=self._on_disconnected,
                reconnected_cb=self._on_reconnected,
                closed_cb=self._on_closed,
                max_reconnect_attempts=-1,
                reconnect_time_wait=RECONNECT_PAUSE_S,  # pyright: ignore[reportArgumentType] - it goes to asyncio.sleep
                connect_timeout=CONNECT_WAIT_S,
                ping_interval=PING_INTERVAL_S,
                max_outstanding_pings=PINGS_MAX,
                pending_size=-1,
                **options,
            )
        )
        faults = asyncio.ensure_future(self._faults(len(urls)))
        await asyncio.wait({connecting, faults}, timeout=CONNECT_WAIT_S + 1, return_when=asyncio.FIRST_COMPLETED)
        done = connecting.done()
        for task in (connecting, faults):
            task.cancel()
        results = await asyncio.gather(connecting, faults, return_exceptions=True)
        if done and results[0] is None:
            return
        self._closing = True
        await self._end_client()
        self.client.hang_up()
        raise _why_not(",".join(urls), results[0] if done else results[1])

    async def _faults(self, count: int) -> Exception:
        """Return the fault that tells most, when each of the servers had its turn."""
        assert self._first_faults is not None
        found = [await self._first_faults.get() for _ in range(count)]
        return max(found, key=lambda fault: "auth" in str(fault).lower())

    async def _flush(self) -> None:
        """Wait until the server has read what was sent: nats-py's first ping overtakes what is not written yet."""
        try:
            for _ in range(2):
                await _sent(self.client.flush(timeout=round(ANSWER_WAIT_S)))
        except TimeoutError as late:
            raise NotReachable("The server does not answer.") from late

    def _answered(self, subject: bytes, reply: bytes, data: bytes, head: bytes) -> None:
        ear = self._answers.get(subject[subject.rindex(b".") + 1 :])
        if ear is not None:
            ear(subject, reply, data, head)

    async def _on_error(self, error: Exception) -> None:
        if self._first_faults is not None:
            self._first_faults.put_nowait(error)
            return
        violation = _VIOLATION.search(str(error))
        if violation is None:
            return  # breaks and failed attempts: _on_disconnected told them already
        kind, subject = violation.groups()
        if subject not in self._quiet:
            self._say_denied(kind, subject)
        self._denied.add(subject)
        for answer, subjects in tuple(self._waiting.items()):
            if kind == "publish" and subject in subjects and not answer.done():
                answer.set_exception(AccessDenied(f"The server does not let this user publish on {subject}."))

    def _say_denied(self, kind: str, subject: str) -> None:
        """Tell it, once for all facts of a kind: who is not let say one tries again and again."""
        text = f"The server denies the user {self._user}: {kind} to {subject}."
        sort = _sort_of(subject) if kind == "publish" else ""
        if sort and sort in self._denials:
            return
        if sort:
            self._denials[sort] = text
        self.complain(text)

    def _allowed(self, subjects: Sequence[str]) -> None:
        """Forget denials of facts that the server takes now."""
        for subject in subjects:
            self._denials.pop(_sort_of(subject), None)

    async def _on_disconnected(self) -> None:
        self._up.clear()
        self.client.forget_unsent()
        self._cut("The connection broke before the answer came.")
        self.complain("The connection to the server is broken.")

    async def _on_reconnected(self) -> None:
        self._denied.clear()
        self._up.set()
        self.complain("")
        for mend in tuple(self.on_reconnect):
            mend()

    async def _on_closed(self) -> None:
        self._cut("The connection is closed.")
        self.complain(f"The server closed the connection for good: {self.client.last_error}")
        self._up.set()
        for mend in tuple(self.on_reconnect):
            mend()

    def _cut(self, text: str) -> None:
        for answer in tuple(self._waiting):
            if not answer.done():
                answer.set_exception(Unanswered(text))


def _sort_of(subject: str) -> str:
    """Return writer, kind and lane of a fact's subject, on which rights hang; empty for what is no fact."""
    return ".".join(subject.lower().split(".")[:5]) if subject.lower().startswith(_FACTS) else ""


async def _sent[Result](sending: Awaitable[Result]) -> Result:
    try:
        return await sending
    except MaxPayloadError as error:
        raise BadFact("The server takes no message of this size.") from error
    except (NatsError, OSError) as error:
        raise NotReachable(f"Nothing was sent: {error or type(error).__name__}") from error


def _why_not(urls: str, fault: object) -> BusError:
    shown = _PASSWORD.sub("//", urls)
    if "auth" in str(fault).lower():
        return AccessDenied(f"The server at {shown} refused the credentials.", hint=_LOGIN)
    if "CERTIFICATE_VERIFY_FAILED" in str(fault):
        why = str(fault).partition("CERTIFICATE_VERIFY_FAILED]")[2].partition("(_ssl")[0].strip(" :")
        return AccessDenied(f"The certificate of {shown} is not trusted: {why}.", hint=_AUTHORITY)
    reason = str(fault) if isinstance(fault, Exception) and str(fault) else "no answer"
    return NotReachable(f"No server answers at {shown}: {reason}.", hint="Start one with: farebox up")
