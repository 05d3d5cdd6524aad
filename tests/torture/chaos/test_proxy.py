"""Each fault of a link does what it says, to real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from random import Random

import pytest
from harness.machine import HOST, free_ports
from harness.until import until
from torture.chaos.proxy import LATENCY_S, Fault, Link

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Echo:
    """A server that answers each line with the same line, and notes what it was asked."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.asked: list[bytes] = []
        self._writers: list[asyncio.StreamWriter] = []

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, HOST, self._port)

    async def stop(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        try:
            while line := await reader.readline():
                self.asked.append(line)
                writer.write(line)
        except OSError:
            pass
        writer.close()


class Rig:
    """A link to an echo server."""

    def __init__(self, cleanup: AsyncExitStack) -> None:
        self._cleanup = cleanup
        link_port, echo_port = free_ports(2)
        self.link = Link("test", link_port, echo_port, Random(1))
        self.echo = Echo(echo_port)

    async def connect(self) -> Pair:
        """A connection through the link."""
        reader, writer = await asyncio.open_connection(HOST, self.link.port)
        self._cleanup.callback(writer.close)
        return reader, writer


@pytest.fixture
def start_rig(cleanup: AsyncExitStack) -> Callable[[], Awaitable[Rig]]:
    async def start() -> Rig:
        rig = Rig(cleanup)
        await rig.echo.start()
        cleanup.push_async_callback(rig.echo.stop)
        await rig.link.open()
        cleanup.push_async_callback(rig.link.close)
        return rig

    return start


StartRig = Callable[[], Awaitable[Rig]]


async def ask(pair: Pair, line: bytes) -> bytes:
    """The reply to a line; b"" when the other side closes."""
    reader, writer = pair
    writer.write(line)
    return await asyncio.wait_for(reader.readline(), 30)


async def is_silent(reader: asyncio.StreamReader) -> bool:
    """True when nothing comes for a while, not even the end."""
    try:
        await asyncio.wait_for(reader.read(1), 0.1)
    except TimeoutError:
        return True
    return False


async def test_without_a_fault_everything_passes_both_ways(start_rig: StartRig) -> None:
    rig = await start_rig()
    pair = await rig.connect()
    line = b"x" * 50_000 + b"\n"
    assert await ask(pair, line) == line
    assert await ask(pair, b"again\n") == b"again\n"
    assert not rig.link.suffered


async def test_the_end_of_either_side_is_passed_on(start_rig: StartRig) -> None:
    rig = await start_rig()
    reader, writer = await rig.connect()
    writer.write(b"last\n")
    writer.write_eof()
    assert await asyncio.wait_for(reader.read(), 30) == b"last\n"


async def test_latency_delays_each_piece(start_rig: StartRig) -> None:
    rig = await start_rig()
    pair = await rig.connect()
    rig.link.set_fault(Fault.LATENCY)
    asked_at = asyncio.get_running_loop().time()
    assert await ask(pair, b"late\n") == b"late\n"
    assert asyncio.get_running_loop().time() - asked_at >= 2 * LATENCY_S[0]
    assert rig.link.suffered == {Fault.LATENCY: 1}


async def test_slow_passes_everything_in_small_pieces(start_rig: StartRig) -> None:
    rig = await start_rig()
    reader, writer = await rig.connect()
    rig.link.set_fault(Fault.SLOW)
    line = bytes(range(97, 123)) * 20 + b"\n"
    writer.write(line)
    first = await asyncio.wait_for(reader.read(len(line)), 30)
    assert len(first) < len(line)
    assert first + await asyncio.wait_for(reader.readline(), 30) == line


async def test_reset_ends_connections_and_new_ones_until_it_is_over(start_rig: StartRig) -> None:
    rig = await start_rig()
    pair = await rig.connect()
    assert await ask(pair, b"before\n") == b"before\n"
    rig.link.set_fault(Fault.RESET)
    with pytest.raises(ConnectionResetError):
        await ask(pair, b"during\n")
    with pytest.raises(ConnectionResetError):
        await ask(await rig.connect(), b"during\n")
    rig.link.set_fault(Fault.NONE)
    assert await ask(await rig.connect(), b"after\n") == b"after\n"
    assert rig.echo.asked == [b"before\n", b"after\n"]
    assert rig.link.suffered == {Fault.RESET: 2}


async def test_cut_refuses_and_holds_back_until_it_is_over(start_rig: StartRig) -> None:
    rig = await start_rig()
    pair = await rig.connect()
    assert await ask(pair, b"before\n") == b"before\n"
    rig.link.set_fault(Fault.CUT)
    with pytest.raises(ConnectionRefusedError):
        await rig.connect()
    pair[1].write(b"during\n")
    assert await is_silent(pair[0])
    rig.link.set_fault(Fault.NONE)
    assert await asyncio.wait_for(pair[0].readline(), 30) == b"during\n"
    await until(lambda: rig.link.listens, "the link listens again")
    assert await ask(await rig.connect(), b"after\n") == b"after\n"


async def test_half_open_takes_everything_and_answers_nothing(start_rig: StartRig) -> None:
    rig = await start_rig()
    rig.link.set_fault(Fault.HALF_OPEN)
    reader, writer = await rig.connect()
    writer.write(b"lost\n")
    assert await is_silent(reader)
    assert rig.echo.asked == []
    rig.link.heal()
    with pytest.raises(ConnectionResetError):
        await reader.read(1)
    assert await ask(await rig.connect(), b"after\n") == b"after\n"


async def test_mute_passes_the_request_and_keeps_the_connection_silent(start_rig: StartRig) -> None:
    rig = await start_rig()
    rig.link.set_fault(Fault.MUTE)
    reader, writer = await rig.connect()
    writer.write(b"heard\n")
    assert await is_silent(reader)
    assert rig.echo.asked == [b"heard\n"]
    writer.close()
    await until(lambda: not rig.link.connections, "who gives up ends the dead connection")


async def test_reply_lost_does_the_request_and_resets_before_the_reply(start_rig: StartRig) -> None:
    rig = await start_rig()
    rig.link.set_fault(Fault.REPLY_LOST)
    with pytest.raises(ConnectionResetError):
        await ask(await rig.connect(), b"done\n")
    assert rig.echo.asked == [b"done\n"]
    assert rig.link.suffered == {Fault.REPLY_LOST: 1}


async def test_reply_torn_gives_half_of_the_reply_and_a_proper_end(start_rig: StartRig) -> None:
    rig = await start_rig()
    rig.link.set_fault(Fault.REPLY_TORN)
    assert await ask(await rig.connect(), b"1234567\n") == b"1234"


async def test_a_link_to_nobody_refuses_until_somebody_listens(start_rig: StartRig) -> None:
    rig = await start_rig()
    await rig.echo.stop()
    rig.link.target_gone()
    with pytest.raises(ConnectionRefusedError):
        await rig.connect()
    await rig.echo.start()
    await until(lambda: rig.link.listens, "the link listens again")
    assert await ask(await rig.connect(), b"back\n") == b"back\n"


async def test_a_link_finds_out_by_itself_that_its_target_has_gone(start_rig: StartRig) -> None:
    rig = await start_rig()
    await rig.echo.stop()
    with pytest.raises(ConnectionResetError):
        await ask(await rig.connect(), b"hello\n")
    with pytest.raises(ConnectionRefusedError):
        await rig.connect()


async def test_a_target_that_is_killed_is_heard_of_at_once(start_rig: StartRig) -> None:
    rig = await start_rig()
    pair = await rig.connect()
    assert await ask(pair, b"before\n") == b"before\n"
    await rig.echo.stop()
    assert await asyncio.wait_for(pair[0].read(), 30) == b""
