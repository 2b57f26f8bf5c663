"""HTTP to platforms: one shared client, one try a time, and the retries of what surely never reached the model.

A try that was refused before its first byte left, a 429 with a short retry-after, a 503 and a 529 are made again by
tenacity, with jitter, at most 5 s in sum; everything else, and every longer wait, is the router's business.
"""

from __future__ import annotations

import asyncio
import random
import time
import weakref
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any

import tenacity
from msgspec import Struct

from farebox.core.platform import End, Head, HttpCall
from farebox.core.retry_after import retry_after_ms
from farebox.core.terms import CallRecord
from farebox.runtime.intake import Intake
from farebox.runtime.unpack import UnknownPackingError, Unpacker
from farebox.runtime.watch import Limits, Watch, until

if TYPE_CHECKING:
    import httpx2

RETRY_S_MAX = 5.0
"""All waits of one attempt together (architecture, section 3)."""
TRIES_MAX = 4
FIRST_WAIT_S = 0.1
JITTER = 0.25
CONNECT_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 1.0
REJECTION_BYTES_MAX = 64 * 1024
UNPACKED = {"accept-encoding": "identity"}
"""Answers are small and stream: packing them saves nothing, and unpacking what a stranger packed has to be watched."""
_RECORDED = {0: "network", 429: "rate_limited", 503: "server_error", 529: "server_error"}

_clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, httpx2.AsyncClient] = weakref.WeakKeyDictionary()


class Exchange(Struct, kw_only=True):
    """One HTTP call with all its tries: what is asked, where the answer goes, what was done."""

    call: HttpCall
    intake: Intake
    watch: Watch
    cancelled: asyncio.Event
    headers: dict[str, str]
    sent: bool = False
    calls: list[CallRecord] = []


class NotReachedError(Exception):
    """This try surely did not reach the model. Holds the answer that said so, or why there is none; `final`: for ever."""

    def __init__(self, *, head: Head | None = None, body: bytes = b"", detail: str = "", final: bool = False) -> None:
        super().__init__(detail)
        self.final = final
        self.head = head
        self.body = body
        self.detail = detail
        self.retry_after_ms = None if head is None else retry_after_ms(head.headers)


async def run(
    call: HttpCall, intake: Intake, limits: Limits, cancelled: asyncio.Event, environ: Mapping[str, str]
) -> tuple[End, list[CallRecord]]:
    """Make the call and return how it ended, with a record of every try that left this machine."""
    headers = {**UNPACKED, **call.headers}
    if call.key_env:
        key = environ.get(call.key_env, "").strip()
        if not key or not key.isascii() or not key.isprintable():
            return End(cut="no_key", detail=f"{call.key_env} is {'unusable' if key else 'not set'}."), []
        headers[call.key_header] = f"{call.key_prefix}{key}"
    exchange = Exchange(call=call, intake=intake, watch=Watch(limits), cancelled=cancelled, headers=headers)
    try:
        end: End = await _retrying(limits, cancelled)(_try, exchange)
    except NotReachedError as error:
        end = _rejected(intake, error)
    return end, exchange.calls


def _retrying(limits: Limits, cancelled: asyncio.Event) -> tenacity.AsyncRetrying:
    async def pause(seconds: float) -> None:
        await asyncio.wait({waiting := asyncio.ensure_future(cancelled.wait())}, timeout=seconds)
        waiting.cancel()

    return tenacity.AsyncRetrying(
        sleep=pause,
        stop=tenacity.stop_after_attempt(TRIES_MAX) | tenacity.stop_before_delay(min(RETRY_S_MAX, limits.timeout_s)),
        wait=_wait_s,
        retry=tenacity.retry_if_exception(_is_worth_another_try),
        reraise=True,
    )


def _wait_s(state: tenacity.RetryCallState) -> float:
    """Return how long to wait: what the server asked for, else 0.1 s and doubling; a little more by chance."""
    error = state.outcome.exception() if state.outcome else None
    asked_ms = error.retry_after_ms if isinstance(error, NotReachedError) else None
    wait_s = FIRST_WAIT_S * 2 ** (state.attempt_number - 1) if asked_ms is None else asked_ms / 1000
    return wait_s * random.uniform(1, 1 + JITTER)  # noqa: S311  jitter is no secret


def _is_worth_another_try(error: BaseException) -> bool:
    """Whether to try again: a 429 must say when, and an address that is none will never be one."""
    if not isinstance(error, NotReachedError) or error.final:
        return False
    return error.head is None or error.head.status != 429 or error.retry_after_ms is not None


def _rejected(intake: Intake, error: NotReachedError) -> End:
    """Hand the last rejection to the reader: it knows what the words mean."""
    if error.head is None:
        return End(cut="unsent", detail=error.detail)
    intake.head(error.head)
    intake.feed(error.body)
    return End()


async def _try(exchange: Exchange) -> End:
    """Make one try under the clocks. Raises NotReachedError when the model surely was not reached."""
    if exchange.cancelled.is_set():
        return End(cut="cancelled", sent=False)
    exchange.watch.begin()
    exchange.sent = False
    started_s = time.monotonic()
    status = 0
    work = asyncio.ensure_future(_exchange(exchange))
    done: asyncio.Future[None] = asyncio.ensure_future(_settled(work))
    try:
        cut = await until(done, exchange.watch, exchange.cancelled)
        if cut and not work.done():
            return End(cut=cut, sent=exchange.sent)
        return work.result()
    except NotReachedError as error:
        status = error.head.status if error.head else 0
        raise
    finally:
        work.cancel()
        await asyncio.wait({work, done}, timeout=CLOSE_TIMEOUT_S)
        status = status or exchange.intake.status
        duration_ms = round((time.monotonic() - started_s) * 1000)
        exchange.calls.append(CallRecord(status=status, error_class=_RECORDED.get(status, ""), duration_ms=duration_ms))


async def _settled(work: asyncio.Future[End]) -> None:
    await asyncio.wait({work})


async def _exchange(exchange: Exchange) -> End:
    """Send the request and feed the answer to the reader. Closing the task closes the connection."""
    import httpx2  # noqa: PLC0415  0.2 s that a command line without a call need not pay

    async def trace(event: str, _info: Mapping[str, Any]) -> None:
        # The last moment at which nothing has left: headers go before the body.
        exchange.sent = exchange.sent or event.endswith("send_request_headers.started")

    call = exchange.call
    try:
        async with client().stream(
            call.method, call.url, content=call.body, headers=exchange.headers, extensions={"trace": trace}
        ) as answer:
            return await _receive(answer, exchange)
    except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError) as error:
        detail = f"{type(error).__name__}: {error}".removesuffix(": ")
        if exchange.sent:
            return End(cut="network", detail=detail)
        final = isinstance(error, httpx2.InvalidURL | httpx2.UnsupportedProtocol | httpx2.LocalProtocolError)
        raise NotReachedError(detail=detail, final=final) from error


async def _receive(answer: httpx2.Response, exchange: Exchange) -> End:
    head = Head(status=answer.status_code, headers={name.lower(): value for name, value in answer.headers.items()})
    if head.status in _RECORDED:
        body = await _read(answer, exchange.watch.touch, REJECTION_BYTES_MAX)
        raise NotReachedError(head=head, body=body)
    exchange.intake.head(head)
    try:
        async with aclosing(_unpacked(answer, exchange.watch.touch)) as pieces:
            async for data in pieces:
                if not exchange.intake.feed(data):
                    return End(cut="overflow")
                if exchange.intake.held is not None:
                    await asyncio.wait({exchange.intake.held})
    except UnknownPackingError as error:
        return End(cut="network", detail=str(error))
    return End()


async def _unpacked(answer: httpx2.Response, touch: Callable[[], None]) -> AsyncGenerator[bytes]:
    """Yield the answer's bytes. Raises UnknownPackingError."""
    unpacker = Unpacker(answer.headers.get("content-encoding", ""))
    async for packed in answer.aiter_raw():
        touch()
        for data in unpacker.feed(packed):
            yield data


async def _read(answer: httpx2.Response, touch: Callable[[], None], bytes_max: int) -> bytes:
    body = bytearray()
    with suppress(UnknownPackingError):
        async with aclosing(_unpacked(answer, touch)) as pieces:
            async for data in pieces:
                body += data
                if len(body) >= bytes_max:
                    break
    return bytes(body[:bytes_max])


async def look(
    call: HttpCall, timeout_s: float, environ: Mapping[str, str], bytes_max: int = 4 * 1024 * 1024
) -> tuple[int, bytes, str]:
    """Make a short call without retries: status, body and, where there was no answer, why not."""
    import httpx2  # noqa: PLC0415  as above

    headers = {**UNPACKED, **call.headers}
    if call.key_env:
        headers[call.key_header] = f"{call.key_prefix}{environ.get(call.key_env, '').strip()}"
    try:
        async with asyncio.timeout(timeout_s), client().stream(call.method, call.url, headers=headers) as answer:
            return answer.status_code, await _read(answer, lambda: None, bytes_max), ""
    except TimeoutError:
        return 0, b"", f"no answer within {timeout_s:g} s"
    except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, ValueError) as error:
        return 0, b"", f"{type(error).__name__}: {error}".removesuffix(": ")


def client() -> httpx2.AsyncClient:
    """Return the shared client of the running loop. Proxies of the environment are used, except on the way to this machine."""
    import httpx2  # noqa: PLC0415  as above

    loop = asyncio.get_running_loop()
    found = _clients.get(loop)
    if found is None:
        found = _clients[loop] = httpx2.AsyncClient(
            timeout=httpx2.Timeout(None, connect=CONNECT_TIMEOUT_S),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=15.0),
            follow_redirects=False,
            mounts={"all://127.0.0.1": None, "all://localhost": None, "all://[::1]": None},
        )
    return found


async def close() -> None:
    """Close the shared client of the running loop, if there is one."""
    found = _clients.pop(asyncio.get_running_loop(), None)
    if found is not None:
        await found.aclose()
