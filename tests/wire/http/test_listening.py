from __future__ import annotations

import errno
import gc
import os
import socket
import warnings
from collections.abc import Iterator

import pytest
from harness.http import HOST

from dte.wire.http.listening import CannotListen, listen


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


def test_an_address_of_another_machine_is_what_is_wrong() -> None:
    """192.0.2.1 is nobody's: it is for documents."""
    with pytest.raises(CannotListen, match=r"cannot listen on 192\.0\.2\.1:0: ") as caught:
        listen("192.0.2.1", 0)
    assert not caught.value.port_is_wrong
