"""TLS for connections to a server: its context, its handshake, and its faults in words."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from contextlib import suppress

HANDSHAKE_TIMEOUT_S = 5.0
NOT_TRUSTED = (18, 19, 20, 21)
"""OpenSSL's numbers for certificates without a trusted authority."""
NOT_YET_VALID, EXPIRED = 9, 10
OTHER_NAME = (62, 64)
PLAIN = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")
"""OpenSSL's words for bytes that are no TLS. The second is a server's, and the last two are those
of some of its versions."""
CERTIFICATE_REQUIRED = "CERTIFICATE_REQUIRED"
OTHER_CERTIFICATE = ("HANDSHAKE_FAILURE", "BAD_CERTIFICATE")
UNKNOWN_AUTHORITY = "UNKNOWN_CA"
ALERT = b"\x15\x03"
"""Begins what a server with TLS replies to plain HTTP, if it replies."""
UNTRUSTED = "its certificate was issued by an authority that this machine does not trust"
SPEAKS_TLS = "it speaks TLS; write https://"


class NoHandshake(TimeoutError):
    """There is a connection, but TLS has not begun in time."""


class FilesRefused(ValueError):
    """A file of a certificate or a key cannot be used. The text names it."""


def client_context(ca: str = "", cert: str = "", key: str = "") -> ssl.SSLContext:
    """Make the context of connections to servers, whose certificates are checked.

    Args:
        ca: a file with the certificates of trusted authorities; empty for those of the system.
        cert: a file with the certificate to show to a server that demands one.
        key: a file with its key; empty if `cert` has it too.

    Raises:
        FilesRefused: a file cannot be read, or has something else.
    """
    try:
        context = ssl.create_default_context(cafile=ca or None)
    except OSError as error:
        raise FilesRefused(_of_file(ca, "no certificate of an authority", error)) from None
    context.options |= ssl.OP_NO_RENEGOTIATION
    load_pair(context, cert, key)
    return context


def load_pair(context: ssl.SSLContext, cert: str, key: str) -> None:
    """Load a certificate and its key, if there are any.

    Raises:
        FilesRefused: a file cannot be read, or has something else.
    """
    if not cert:
        if key:
            raise FilesRefused(f"{key} is a key without a certificate; give both")
        return
    for file in filter(None, (cert, key)):
        try:
            with open(file, "rb"):
                pass
        except OSError as error:
            raise FilesRefused(f"cannot read {file}: {error.strerror}") from None
    try:
        # Without a password, OpenSSL would ask for one on the terminal.
        context.load_cert_chain(cert, key or None, password="")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise FilesRefused(f"the key in {key or cert} is not the one of {cert}") from None
        where = f"{cert} and {key} have" if key else f"{cert} has"
        raise FilesRefused(f"{where} no certificate and key in PEM without a password") from None


def _of_file(file: str, lacks: str, error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return f"{file} has {lacks} in PEM"
    return f"cannot read {file}: {os.strerror(error.errno) if error.errno else error}"


async def begin(connection: socket.socket, context: ssl.SSLContext, host: str) -> ssl.SSLSocket:
    """Begin TLS on a connected socket that does not block, and check the server's certificate.

    Raises:
        OSError: the handshake failed; the socket is closed.
        NoHandshake: the server has not replied in time.
    """
    try:
        async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
            return await _begin(connection, context, host)
    except TimeoutError:
        raise NoHandshake from None


async def _begin(connection: socket.socket, context: ssl.SSLContext, host: str) -> ssl.SSLSocket:
    secure = context.wrap_socket(connection, server_hostname=host, do_handshake_on_connect=False)
    try:
        while True:
            try:
                secure.do_handshake()
                return secure
            except ssl.SSLWantReadError:
                await _ready(secure, writes=False)
            except ssl.SSLWantWriteError:
                await _ready(secure, writes=True)
    except BaseException:
        secure.close()
        raise


async def _ready(connection: socket.socket, *, writes: bool) -> None:
    """Wait until a socket can be read or written."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    add, remove = (
        (loop.add_writer, loop.remove_writer) if writes else (loop.add_reader, loop.remove_reader)
    )
    add(connection, ready.set)
    try:
        await ready.wait()
    finally:
        with suppress(OSError, ValueError):
            remove(connection)


def is_alert(received: bytes) -> bool:
    """True if a reply to plain HTTP begins as one of TLS does."""
    return received.startswith(ALERT)


def fault(error: BaseException, host: str) -> str | None:
    """Say in words why there is no secure connection, and what to do; None for other errors."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _of_certificate(error, host)
    if isinstance(error, NoHandshake):
        return "TLS has not begun in time; if it does not speak TLS, write http://"
    if not isinstance(error, ssl.SSLError):
        return None
    reason = error.reason or ""
    if reason in PLAIN:
        return "it does not speak TLS; if that is right, write http://"
    if CERTIFICATE_REQUIRED in reason:
        return "it demands a certificate; give one with --tls-cert and --tls-key"
    if any(word in reason for word in OTHER_CERTIFICATE):
        return (
            "it demands a certificate, or another one than that of this program; give one with "
            "--tls-cert and --tls-key"
        )
    if UNKNOWN_AUTHORITY in reason:
        return (
            "it does not trust the authority of this program's certificate; its --tls-client-ca "
            "must have that authority"
        )
    if isinstance(error, ssl.SSLEOFError):
        return (
            "it ended the connection while TLS began; perhaps it does not speak TLS, or demands a "
            "certificate"
        )
    return f"TLS failed: {reason.lower().replace('_', ' ') or error}"


def _of_certificate(error: ssl.SSLCertVerificationError, host: str) -> str:
    code = error.verify_code
    if code in NOT_TRUSTED:
        return (
            f"{UNTRUSTED}; name a file with the certificate of that authority in --tls-ca or "
            "DTE_TLS_CA"
        )
    if code in OTHER_NAME:
        return f"its certificate is not for {host}; use a name that the certificate has"
    if code == EXPIRED:
        return "its certificate has expired; it must be renewed there"
    if code == NOT_YET_VALID:
        return "its certificate is not valid yet; check the clocks of both machines"
    return f"its certificate is refused: {error.verify_message}"
