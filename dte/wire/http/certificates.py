"""The certificate that a server shows, and those that it demands of its clients."""

from __future__ import annotations

import asyncio
import logging
import signal
import ssl
from collections.abc import Mapping
from typing import Any

from dte.wire.http.tls import FilesRefused, load_pair

log = logging.getLogger("dte.wire")


class ServerTls:
    """The TLS of a server.

    Args:
        cert: a file with the certificate, and those between it and its authority.
        key: a file with its key; empty if `cert` has it too.
        client_ca: a file with the authorities of the certificates that clients need; empty if they
            need none.

    Attributes:
        context: for new connections.

    Raises:
        FilesRefused: a file cannot be used.
    """

    def __init__(self, cert: str, key: str = "", client_ca: str = "") -> None:
        self._cert, self._key, self._client_ca = cert, key, client_ca
        self.context = self._read()

    def reload(self) -> None:
        """Read the files again, for new connections; keep what they had if they are refused."""
        try:
            self.context = self._read()
        except FilesRefused as error:
            log.error("the previous certificate stays in use: %s", error)
        else:
            log.info("the certificate was read again from %s", self._cert)

    def reload_on_hangup(self) -> None:
        """Have SIGHUP read the files again, on the running loop."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.reload)

    def _read(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION
        context.set_alpn_protocols(["http/1.1"])
        load_pair(context, self._cert, self._key)
        if self._client_ca:
            _load_authorities(context, self._client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def server_tls(cert: str, key: str, client_ca: str) -> ServerTls | None:
    """The TLS of a server with these settings; None if it speaks plain HTTP.

    Raises:
        FilesRefused: a file cannot be used, or a setting makes no sense without another.
    """
    if cert:
        return ServerTls(cert, key, client_ca)
    for name, file in (("--tls-key", key), ("--tls-client-ca", client_ca)):
        if file:
            raise FilesRefused(f"{name} needs --tls-cert, the certificate of this server")
    return None


def common_name(connection: ssl.SSLSocket) -> str:
    """The common name in the certificate of a peer; empty if it has none, or several."""
    shown: Mapping[str, Any] = connection.getpeercert() or {}
    pairs = [pair for part in shown.get("subject", ()) for pair in part]
    names = [str(value) for name, value in pairs if name == "commonName"]
    return names[0] if len(names) == 1 else ""


def _load_authorities(context: ssl.SSLContext, file: str) -> None:
    try:
        context.load_verify_locations(file)
    except ssl.SSLError:
        raise FilesRefused(f"{file} has no certificate of an authority in PEM") from None
    except OSError as error:
        raise FilesRefused(f"cannot read {file}: {error.strerror}") from None
