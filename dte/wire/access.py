"""How a program gets at its master: the URL, the token that it sends, and the certificates.

What is not given comes from the environment, so that programs, commands, and handlers that ask the
master find the same: DTE_TOKEN or DTE_TOKEN_FILE, DTE_TLS_CA, DTE_TLS_CERT and DTE_TLS_KEY.
"""

from __future__ import annotations

import logging
import os
import ssl
import stat
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from typing import TypedDict

from dte.core.errors import Unauthorized
from dte.wire.http.address import parse
from dte.wire.http.tls import FilesRefused, client_context
from dte.wire.tokens import CHARS_MAX, checked, checked_file, doubt

log = logging.getLogger("dte")

TOKEN, TOKEN_FILE = "DTE_TOKEN", "DTE_TOKEN_FILE"
TLS_CA, TLS_CERT, TLS_KEY = "DTE_TLS_CA", "DTE_TLS_CERT", "DTE_TLS_KEY"
VARIABLES = {
    "tls_ca": TLS_CA,
    "tls_cert": TLS_CERT,
    "tls_key": TLS_KEY,
}
OTHERS = 0o077
"""What the group and all others may do with a file."""

_warned: set[str] = set()
"""What has been logged; once is enough, however many clients a program makes."""


_own_token = _own_file = ""
"""The token of this process, and the file with it. The processes that it starts do not get them."""


def use_token(token: str = "", *, file: str = "") -> None:
    """Have this process send a token, or that in a file, wherever it is given no other."""
    global _own_token, _own_file
    _own_token, _own_file = checked(token, "the token"), checked_file(file, "--token-file")


class Shown(TypedDict, total=False):
    """What a program may give of an `Access`, besides the URL."""

    token: str | None
    token_file: str | None
    tls_ca: str | None
    tls_cert: str | None
    tls_key: str | None


class NoToken(Unauthorized):
    """The file with the token cannot be used. The text names it."""


class Access:
    """A master's URL, and what must be shown there.

    Args:
        token: the token; empty for none.
        token_file: a file with the token, which may be replaced at any time. It is used unless
            `token` is given.
        tls_ca: a file with the certificates of trusted authorities; empty for the system's.
        tls_cert, tls_key: files with the certificate, and its key, that this program shows to a
            master that demands one.

    Raises:
        TypeError: the token is no text.
        ValueError: the URL, the token, or the name of its file is wrong.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        token_file: str | None = None,
        tls_ca: str | None = None,
        tls_cert: str | None = None,
        tls_key: str | None = None,
    ) -> None:
        self.url = url
        self.address = parse(url)
        self._given = checked(token, "the token") if token is not None else None
        self._file = checked_file(token_file or "", "the name of the token's file")
        if token is None and not token_file:
            self._given, self._file = _own_token or None, _own_file
            if not (_own_token or _own_file):
                self._given = checked(os.environ.get(TOKEN, ""), TOKEN) or None
                self._file = checked_file(os.environ.get(TOKEN_FILE, ""), TOKEN_FILE)
        self._headers: dict[str, str] | None = None
        self._files = tuple(
            os.environ.get(name, "") if file is None else file
            for name, file in ((TLS_CA, tls_ca), (TLS_CERT, tls_cert), (TLS_KEY, tls_key))
        )

    def __repr__(self) -> str:
        return f"Access({self.url!r})"  # Without the token.

    @cached_property
    def tls(self) -> ssl.SSLContext | None:
        """The context of connections; None for ``http``.

        Raises:
            FilesRefused: a file cannot be used.
        """
        return client_context(*self._files) if self.address.is_secure else None

    def check(self) -> None:
        """Read the token and the certificates.

        Raises:
            NoToken: the file with the token cannot be used.
            FilesRefused: a file of a certificate cannot be used.
        """
        self.headers()
        _ = self.tls

    def renew_tls(self) -> None:
        """Read the certificates again, after one was refused; keep them if that fails."""
        with suppress(FilesRefused):
            self.__dict__["tls"] = client_context(*self._files)

    def path(self, path: str) -> str:
        """The path of a route behind the prefix of the URL."""
        return f"{self.address.prefix}{path}"

    def headers(self) -> dict[str, str]:
        """The header with the token; empty without one.

        Raises:
            NoToken: the file with the token cannot be used.
        """
        headers = self._headers
        if headers is None:
            headers = self._headers = self._new_headers()
        return headers

    def _new_headers(self) -> dict[str, str]:
        token = self._given
        if token is None:
            token = self._read() if self._file else ""
        if not token:
            return {}
        if not self.address.is_secure and not self.address.is_loopback:
            host = self.address.host_field
            _warn_once(f"the token is sent to {host} without TLS, where others may read it")
        return {"Authorization": f"Bearer {token}"}

    def doubt(self) -> str:
        """Say what may be wrong with the token that was sent, after a 401; "" for nothing."""
        return doubt(self._headers)

    def renew(self, refused: Mapping[str, str]) -> bool:
        """Read the file with the token again, after a 401; return True if there is another one.

        Args:
            refused: the headers of the request. Another thread may have read the file since.
        """
        if self._given is not None or not self._file:
            return False
        if self._headers is None or self._headers == refused:
            try:
                self._headers = self._new_headers()
            except NoToken:
                self._headers = None
                return False
        return self._headers != refused

    def _read(self) -> str:
        try:
            with open(self._file, "rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                raw = file.read(CHARS_MAX + 2)
        except OSError as error:
            raise NoToken(f"cannot read the token in {self._file}: {error.strerror}") from None
        if os.name == "posix" and stat.S_IMODE(mode) & OTHERS:
            text = f"others may read the token in {self._file} (mode {stat.S_IMODE(mode):04o})"
            _warn_once(f"{text}; to prevent that: chmod 600 {self._file}")
        try:
            token = checked(raw.decode("latin-1").strip(), self._file)
        except ValueError as error:
            raise NoToken(str(error)) from None
        if not token:
            raise NoToken(f"{self._file} is empty; it must have a token")
        return token


def _warn_once(text: str) -> None:
    if text not in _warned:
        _warned.add(text)
        log.warning("%s", text)
