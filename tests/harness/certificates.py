"""Certificates for tests, made by the program openssl."""

from __future__ import annotations

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


@dataclass(frozen=True)
class Pair:
    """The files of a certificate and of its key."""

    cert: str
    key: str


def serving(pair: Pair, client_ca: str = "") -> ssl.SSLContext:
    """The context of a server; with `client_ca`, clients need a certificate of that authority."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=client_ca or None)
    context.load_cert_chain(pair.cert, pair.key)
    if client_ca:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


class Authority:
    """An authority that signs certificates, with its files in a folder.

    Attributes:
        file: the file with its own certificate.
    """

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self.file, self._key = str(folder / f"{name}.pem"), str(folder / f"{name}.key")
        self._openssl(
            *("req", "-x509", *CURVE, "-keyout", self._key, "-out", self.file, "-days", "30"),
            *("-subj", f"/CN={name}", "-addext", "keyUsage=critical,keyCertSign"),
        )

    def issue(self, *names: str, file: str = "server") -> Pair:
        """Sign a certificate for names, such as ``DNS:localhost`` and ``IP:127.0.0.1``."""
        base = self._folder / file
        pair = Pair(f"{base}.pem", f"{base}.key")
        request, extensions = f"{base}.csr", Path(f"{base}.ext")
        lines = (f"subjectAltName={','.join(names)}", "basicConstraints=CA:FALSE")
        lines += ("subjectKeyIdentifier=hash", "authorityKeyIdentifier=keyid")
        extensions.write_text("\n".join((*lines, "")))
        subject = ("-subj", f"/CN={names[0].partition(':')[2]}")
        self._openssl("req", "-new", *CURVE, "-keyout", pair.key, "-out", request, *subject)
        self._openssl(
            *("x509", "-req", "-in", request, "-out", pair.cert, "-days", "30"),
            *("-CA", self.file, "-CAkey", self._key, "-CAcreateserial"),
            *("-extfile", str(extensions)),
        )
        return pair

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)
