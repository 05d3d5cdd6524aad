"""The certificates by which a master knows its workers, and they know it."""

from __future__ import annotations

import ssl

from dte.master.settings import Settings
from dte.wire.http.tls import client_context


def worker_context(settings: Settings) -> ssl.SSLContext:
    """The context of calls to workers that speak TLS.

    The master shows them its own certificate. It calls them by the address that they announced
    themselves from, which few certificates name; so it takes any certificate of its --tls-ca, and
    only without one checks the name.

    Raises:
        FilesRefused: a file cannot be used.
    """
    context = client_context(settings.tls_ca, settings.tls_cert, settings.tls_key)
    context.check_hostname = not settings.tls_ca
    return context
