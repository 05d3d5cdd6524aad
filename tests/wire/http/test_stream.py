"""The bytes of a connection, over real sockets."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest
from harness.until import until

from dte.wire.http.stream import Stream, is_silent

MUCH = bytes(range(256)) * 40_000


class Ends:
    """A stream and the socket at its other end.

    Attributes:
        came: what the stream told of.
        lost: what it told of its end.
    """

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.other = socket.create_connection(listening.getsockname())
            own, _ = listening.accept()
        self.own = own
        self.other.setblocking(False)
        self.came = b""
        self.lost: list[OSError | None] = []
        self.stream = Stream(own, self._received, self.lost.append)

    def _received(self, data: bytes) -> None:
        self.came += data

    def take(self, taken: bytearray) -> bool:
        """Take some of what was sent; whether the stream has closed the connection."""
        try:
            data = self.other.recv(1_000_000)
        except BlockingIOError:
            return False
        taken += data
        return not data

    def close(self) -> None:
        self.stream.close()
        self.other.close()


@pytest.fixture
def open_ends(cleanup: AsyncExitStack) -> Callable[[], Ends]:
    def opened() -> Ends:
        both = Ends()
        cleanup.callback(both.close)
        return both

    return opened


async def test_what_comes_is_told(open_ends: Callable[[], Ends]) -> None:
    ends = open_ends()
    ends.other.send(b"one")
    await until(lambda: ends.came == b"one", "it comes")
    ends.other.send(b", two")
    await until(lambda: ends.came == b"one, two", "more comes")
    assert not ends.lost


async def test_what_is_sent_leaves_in_order_however_slowly_it_is_taken(
    open_ends: Callable[[], Ends],
) -> None:
    ends = open_ends()
    for part in (b"first", MUCH, b"", b"last"):
        ends.stream.send(part)
    assert ends.stream.unsent
    taken = bytearray()
    await until(lambda: ends.take(taken) or len(taken) == len(MUCH) + 9, "all is taken")
    assert taken == b"first" + MUCH + b"last"
    await until(lambda: not ends.stream.unsent, "nothing is left")


async def test_who_finishes_closes_when_all_is_sent(open_ends: Callable[[], Ends]) -> None:
    ends = open_ends()
    ends.stream.send(MUCH)
    ends.stream.finish()
    ends.stream.send(b"too late")
    taken = bytearray()
    await until(lambda: ends.take(taken), "it is closed")
    assert taken == MUCH
    assert not ends.lost, "who closes it is not told"


async def test_closing_closes_at_once(open_ends: Callable[[], Ends]) -> None:
    ends = open_ends()
    ends.stream.send(MUCH)
    ends.stream.close()
    assert ends.own.fileno() < 0
    ends.stream.close()
    ends.stream.send(b"too late")
    ends.stream.receive(True)
    assert not ends.lost


async def test_the_end_at_the_other_side_is_told(open_ends: Callable[[], Ends]) -> None:
    ends = open_ends()
    ends.other.close()
    await until(lambda: ends.lost, "it is told")
    assert ends.lost == [None]
    assert ends.own.fileno() < 0


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "sending"])
async def test_a_reset_is_told_once(busy: bool, open_ends: Callable[[], Ends]) -> None:
    ends = open_ends()
    if busy:
        ends.stream.send(MUCH)
    ends.other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    ends.other.close()
    ends.stream.send(b"x")
    assert not ends.lost, "not before it has returned"
    await until(lambda: ends.lost, "it is told")
    (error,) = ends.lost
    assert isinstance(error, ConnectionError)


async def test_nothing_is_received_for_a_while(open_ends: Callable[[], Ends]) -> None:
    ends, other = open_ends(), open_ends()
    ends.stream.receive(False)
    ends.other.send(b"one")
    other.other.send(b"two")
    await until(lambda: other.came, "the other's comes")
    assert not ends.came
    assert not ends.stream.is_silent
    ends.stream.receive(True)
    await until(lambda: ends.came == b"one", "it comes")
    assert ends.stream.is_silent


@pytest.mark.parametrize(
    ("does", "silent"),
    [
        (lambda other: None, True),
        (lambda other: other.sendall(b"x"), False),
        (lambda other: other.close(), False),
    ],
    ids=["nothing", "speaks", "closes"],
)
def test_a_socket_is_silent_while_the_other_side_does_nothing(
    does: Callable[[socket.socket], None], silent: bool
) -> None:
    """And it stays as it was: it still waits as long as it did."""
    one, other = socket.socketpair()
    with one, other:
        one.settimeout(7)
        does(other)
        assert is_silent(one) is silent
        assert not silent or one.gettimeout() == 7


def test_a_closed_socket_is_not_silent() -> None:
    one, other = socket.socketpair()
    other.close()
    one.close()
    assert not is_silent(one)


async def test_what_is_sent_behind_long_and_short_bytes_comes_in_order(
    open_ends: Callable[[], Ends],
) -> None:
    both = open_ends()
    parts = [MUCH, b"short", b"other", MUCH, b"last"]
    for part in parts:
        both.stream.send(part)
    assert both.stream.unsent > len(MUCH)
    told: list[str] = []
    both.stream.when_sent(lambda: told.append("sent"))
    whole, taken = b"".join(parts), bytearray()
    await until(lambda: both.take(taken) or len(taken) == len(whole), "all has come")
    assert bytes(taken) == whole
    assert told == ["sent"]
    assert both.stream.unsent == 0


async def test_who_asks_when_all_is_sent_is_told_at_once(open_ends: Callable[[], Ends]) -> None:
    both = open_ends()
    both.stream.send(b"short")
    told: list[str] = []
    both.stream.when_sent(lambda: told.append("sent"))
    assert told == ["sent"]
