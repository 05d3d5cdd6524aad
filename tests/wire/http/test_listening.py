from __future__ import annotations

import errno
import gc
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from harness.http import HOST

from dte.wire.http.listening import LOOPBACK, CannotListen, is_local, listen


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


HAS_IPV6 = has_ipv6()


@pytest.fixture(autouse=True)
def sockets_are_collected() -> Iterator[None]:
    """Tornado leaves a socket that it could not bind to the garbage collector."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()


def test_any_free_port_is_had_and_told() -> None:
    sockets, port = listen(HOST, 0)
    try:
        assert port > 0
        assert {listening.getsockname() for listening in sockets} == {(HOST, port)}
        socket.create_connection((HOST, port)).close()
    finally:
        for listening in sockets:
            listening.close()


def test_a_port_that_is_taken_is_what_is_wrong() -> None:
    (taken,), port = listen(HOST, 0)
    with taken, pytest.raises(CannotListen) as caught:
        listen(HOST, port)
    reason = os.strerror(errno.EADDRINUSE)
    assert str(caught.value) == f"cannot listen on {HOST}:{port}: {reason}"
    assert caught.value.port_is_wrong


@pytest.mark.parametrize("host", ["\u202e", "a..b", "x" * 100 + ".example", "\x1b"])
def test_what_cannot_be_the_name_of_a_host_is_what_is_wrong(host: str) -> None:
    with pytest.raises(CannotListen) as caught:
        listen(host, 0)
    assert not caught.value.port_is_wrong
    assert is_local(host), "nobody reaches it"


def test_an_address_of_another_machine_is_what_is_wrong() -> None:
    """192.0.2.1 is nobody's: it is for documents."""
    with pytest.raises(CannotListen, match=r"cannot listen on 192\.0\.2\.1:0: ") as caught:
        listen("192.0.2.1", 0)
    assert not caught.value.port_is_wrong


def closed(sockets: list[socket.socket]) -> ExitStack:
    """A context at whose end listening sockets are closed."""
    stack = ExitStack()
    for listening in sockets:
        stack.enter_context(listening)
    return stack


@pytest.mark.parametrize("host", ["*", ""])
@pytest.mark.parametrize("address", [HOST, "::1"])
def test_every_address_is_listened_on_of_both_families(host: str, address: str) -> None:
    if address == "::1" and not HAS_IPV6:
        pytest.skip("this machine has no IPv6")
    sockets, port = listen(host, 0)
    with closed(sockets):
        assert {listening.getsockname()[1] for listening in sockets} == {port}
        socket.create_connection((address, port)).close()


def test_an_explicit_address_is_one_of_ipv4_alone() -> None:
    sockets, port = listen("0.0.0.0", 0)
    with closed(sockets):
        assert [listening.family for listening in sockets] == [socket.AF_INET]
        with socket.socket(socket.AF_INET6) as other:
            assert other.connect_ex(("::1", port)) != 0


@pytest.mark.parametrize("address", [HOST, "::1"])
def test_this_machine_alone_is_listened_to_on_both_families(address: str) -> None:
    if address == "::1" and not HAS_IPV6:
        pytest.skip("this machine has no IPv6")
    sockets, port = listen(LOOPBACK, 0)
    with closed(sockets):
        places = {listening.getsockname()[:2] for listening in sockets}
        assert places == {(HOST, port), ("::1", port)} if HAS_IPV6 else {(HOST, port)}
        socket.create_connection((address, port)).close()


def test_several_hosts_are_listened_on_at_one_port() -> None:
    sockets, port = listen((HOST, "127.0.0.2", HOST), 0)
    with closed(sockets):
        places = [listening.getsockname() for listening in sockets]
        assert places == [(HOST, port), ("127.0.0.2", port)]


def test_one_of_several_hosts_that_cannot_be_listened_on_is_what_is_wrong() -> None:
    with pytest.raises(CannotListen, match=r"cannot listen on 127\.0\.0\.1,192\.0\.2\.1:0: "):
        listen((HOST, "192.0.2.1"), 0)


@pytest.mark.parametrize(
    ("host", "local"),
    [
        (LOOPBACK, True),
        (HOST, True),
        ("127.9.9.9", True),
        ("::1", True),
        ("*", False),
        ("", False),
        ("0.0.0.0", False),
        ("::", False),
        ("192.0.2.1", False),
        ("fe80::1%lo", False),
        ("nobody.invalid", True),
    ],
)
def test_a_host_is_local_if_only_this_machine_reaches_it(host: str, local: bool) -> None:
    assert is_local(host) is local


@pytest.mark.parametrize(("host", "first"), [("*", "0.0.0.0"), (LOOPBACK, HOST)])
@pytest.mark.parametrize("number", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
def test_ipv6_may_be_switched_off(
    number: int, host: str, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = socket.create_server

    def without_ipv6(address: Any, *, family: int, backlog: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(number, os.strerror(number))
        return create(address, family=family, backlog=backlog)

    monkeypatch.setattr(socket, "create_server", without_ipv6)
    sockets, port = listen(host, 0)
    with closed(sockets):
        assert [listening.getsockname() for listening in sockets] == [(first, port)]


def test_a_port_that_is_taken_on_either_family_is_what_is_wrong() -> None:
    for family, host in [(socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")]:
        if family == socket.AF_INET6 and not HAS_IPV6:
            continue
        with socket.create_server((host, 0), family=family) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(CannotListen) as caught:
                listen("*", port)
        reason = os.strerror(errno.EADDRINUSE)
        assert str(caught.value) == f"cannot listen on *:{port}: {reason}"
        assert caught.value.port_is_wrong


def test_a_free_port_is_free_on_both_families(monkeypatch: pytest.MonkeyPatch) -> None:
    create, taken = socket.create_server, [errno.EADDRINUSE, errno.EADDRINUSE]

    def taken_twice(address: Any, *, family: int, backlog: int) -> socket.socket:
        if family == socket.AF_INET6 and taken:
            number = taken.pop()
            raise OSError(number, os.strerror(number))
        return create(address, family=family, backlog=backlog)

    monkeypatch.setattr(socket, "create_server", taken_twice)
    sockets, _ = listen("*", 0)
    with closed(sockets):
        assert not taken
