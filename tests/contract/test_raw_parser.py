"""The parser of our own reads what nats-py's reads, wherever the bytes were cut."""

import asyncio
from collections.abc import Callable

import pytest
from nats.aio.client import Client
from nats.errors import BadSubjectError, ConnectionClosedError, MaxPayloadError, OutboundBufferLimitError, ProtocolError
from nats.protocol.parser import Parser

from farebox.log.raw_client import RawClient

WIRE = (
    b"+OK\r\n"
    b"MSG farebox.log.x 1 5\r\nhello\r\n"
    b"MSG farebox.log.x 1 $JS.ACK.a 4\r\n\r\n\r\n\r\n"
    b"PONG\r\n"
    b"HMSG inbox.1 2 12 17\r\nNATS/1.0\r\n\r\nworld\r\n"
    b"HMSG inbox.1 2 reply.to 16 16\r\nNATS/1.0 404\r\n\r\n\r\n"
    b"MSG farebox.log.x 7 2\r\nno\r\n"
    b"MSG farebox.log.x 1 0\r\n\r\n"
)
Said = list[tuple[bytes, bytes, bytes, bytes]]


class Witness(Client):
    """nats-py's own client, which tells what its own parser handed out."""

    def __init__(self) -> None:
        super().__init__()
        self.said: Said = []

    async def _process_msg(self, sid, subject, reply, data, headers) -> None:
        if sid in {1, 2}:
            self.said.append((subject, reply, data, headers or b""))


def ours() -> tuple[RawClient, Said]:
    client, said = RawClient(), []
    client._ears = {sid: lambda *message: said.append(message) for sid in (1, 2)}
    return client, said


async def test_every_cut_gives_what_the_parser_of_nats_py_gives():
    witness = Witness()
    await Parser(witness).parse(WIRE)
    assert len(witness.said) == 5
    for first in range(len(WIRE) + 1):
        client, said = ours()
        for part in (WIRE[:first], WIRE[first : first + 9], WIRE[first + 9 :]):
            await client._ps.parse(part)
        assert said == witness.said, first
        assert not client._ps.buf


async def test_byte_by_byte_is_enough():
    client, said = ours()
    for place in range(len(WIRE)):
        await client._ps.parse(WIRE[place : place + 1])
    assert len(said) == 5


@pytest.mark.parametrize("line", [b"MSG a b c\r\n", b"MSG\r\n", b"MOST a 1 1\r\n", b"HMSG a 1 x 3\r\n", b"WHAT\r\n"])
async def test_what_is_no_protocol_ends_the_connection(line: bytes):
    with pytest.raises(ProtocolError):
        await ours()[0]._ps.parse(line)


async def test_nothing_is_read_after_the_connection_was_given_up():
    client, said = ours()
    give_up: Callable[[], None] = lambda: setattr(client, "_status", Client.RECONNECTING)  # noqa: E731

    async def broken(_text: str) -> None:
        give_up()

    client._process_err = broken
    await client._ps.parse(b"-ERR 'Stale Connection'\r\nMSG a 1 1\r\nx\r\nMSG a 1 1")
    assert said == []
    assert not client._ps.buf


async def test_nothing_is_sent_that_cannot_be_sent():
    client = RawClient()
    with pytest.raises(OutboundBufferLimitError):
        await client.publish("a", b"")
    client._status = Client.CLOSED
    with pytest.raises(ConnectionClosedError):
        await client.publish("a", b"")
    client._status = Client.CONNECTED
    with pytest.raises(MaxPayloadError):
        await client.publish("a", b"x" * (client._max_payload + 1))
    for subject in ("", "a b", "a\r\nPUB b 0"):
        with pytest.raises(BadSubjectError):
            await client.publish(subject, b"")
    assert not client._pending


async def test_a_connection_that_came_to_nothing_is_closed_and_not_left_lying():
    """A server that is being killed takes connections and says nothing; the client tries again and again."""
    taken = 0

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal taken
        taken += 1
        if taken == 1:
            writer.write(b'INFO {"server_id":"x","version":"2.15.0","headers":true,"max_payload":1000}\r\n')
            await reader.readuntil(b"PING\r\n")
            writer.write(b"PONG\r\n")
            await writer.drain()
        writer.close()

    opened: list[asyncio.StreamWriter] = []
    client = RawClient()

    async def said(_error: Exception) -> None:
        opened.append(client._transport._io_writer)

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    url = f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    await client.connect(url, error_cb=said, max_reconnect_attempts=-1, reconnect_time_wait=0.01)
    async with asyncio.timeout(100):
        while taken < 4:
            await asyncio.sleep(0.01)
    await client.close()
    client.hang_up()
    server.close()
    assert len(set(map(id, opened))) > 1
    assert all(writer.is_closing() for writer in opened)
